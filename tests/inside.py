"""What a model would do on a GPU that is not there: its launches, and every operator that runs, inside torchops's own too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

import torchops
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.hardware import DEVICES
from torchops.ops.registration import IMPLEMENTATIONS


class Inside(TorchDispatchMode):
    """Every operator that runs, those inside torchops's own too; by whether it is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.calls: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[self.depth > 0][func._schema.name.partition("::")[2]] += 1
        if func.namespace != "torchops":
            return func(*args, **(kwargs or {}))
        # a mode sees an operator, but not what that calls
        self.depth += 1
        try:
            with self:
                return IMPLEMENTATIONS[func._schema.name.partition("::")[2]](*args, **(kwargs or {}))
        finally:
            self.depth -= 1


@contextmanager
def on_a_gpu_that_is_not_there() -> Iterator[tuple[list[Launch], Inside]]:
    """Launches for an H100, and every operator that runs. What the kernels would write stays uninitialised."""
    with record(DEVICES["sm_90"]) as launches, torchops.use_backend("triton"), Inside() as inside:
        yield launches, inside
