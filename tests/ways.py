"""Which of two ways a call takes on a CPU, the quick one or the long one, and whether they do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import torchops
from torchops.ops.cpu import quick


class Special(Tensor):
    pass


def positions(x: Tensor) -> Tensor:
    """Of the first pixel in windows of 2 x 2."""
    rows, cols = torch.arange(x.shape[-2]) * 2, torch.arange(x.shape[-1]) * 2
    return (rows[:, None] * 2 * x.shape[-1] + cols).expand(x.shape).contiguous()


@contextmanager
def the_long_way() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "is_quiet", lambda x: False)
        yield


def note_quick_calls(patch: pytest.MonkeyPatch) -> list[str]:
    """A list that gets the names of the calls that go the quick way."""
    names: list[str] = []

    def noting(name: str, function: Callable[..., Any], *args: Any) -> Any:
        y = function(*args)
        names.extend([name] * (y is not None))
        return y

    for module in (torchops.functional.convolution, torchops.functional.pooling, torchops.functional.adaptive):
        for name in [n for n in vars(module) if n.startswith("quick_")]:
            patch.setattr(module, name, partial(noting, name, getattr(module, name)))
    return names


def same(a: Tensor, b: Tensor) -> bool:
    return (a.stride(), a.dtype) == (b.stride(), b.dtype) and torch.equal(a.nan_to_num(), b.nan_to_num())


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error), str(error)
