"""What a GPU would launch, seen on a machine without one while everything is computed by ATen on the CPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C import DispatchKey

import torchops
from torchops.kernels.launch import Launch, current_recording, record
from torchops.kernels.planning.hardware import Device
from torchops.ops import registration


class _Here(threading.local):
    inside = False


@contextlib.contextmanager
def rehearsing(device: Device) -> Iterator[list[Launch]]:
    """Operators on CPU tensors record what they would launch on `device`, and are computed by ATen.

    What is launched in another way is recorded and not run. The block is for the whole process, and for nothing else in it.

    Yields:
        The launches so far.
    """
    found: list[Launch] = []
    here = _Here()
    ours = None

    def rehearsed(operator: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            def implementation() -> Any:
                return operator._op_dk(DispatchKey.CompositeExplicitAutograd, *args)

            # an operator that is called by another is that one's affair, and what somebody else records is theirs
            if here.inside or current_recording() is not ours:
                return implementation()
            here.inside = True
            try:
                with record(device) as launches, torchops.use_backend("triton"), torch.no_grad(), _unfilled():
                    implementation()
                found.extend(launches)
                with torchops.use_backend("aten"):
                    return implementation()
            finally:
                here.inside = False

        return call

    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("torchops::")]
    library = torch.library.Library("torchops", "IMPL")
    for name in names:
        short = name.removeprefix("torchops::")
        library.impl(short, rehearsed(getattr(torch.ops.torchops, short).default), "CPU")
    # so that every call goes through the dispatcher
    watched, registration.is_watched = registration.is_watched, lambda args: True
    try:
        # what is decided before an operator is called is decided as for a GPU
        with record(device) as launches, torchops.use_backend("triton"):
            ours = current_recording()
            yield found
        found.extend(launches)
    finally:
        registration.is_watched = watched
        library._destroy()


@contextlib.contextmanager
def _unfilled() -> Iterator[None]:
    """Fresh memory is not written, and so takes none, where nothing will be computed in it."""
    settings = torch.utils.deterministic
    before, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
