"""What an op's test file declares; the package `conformance` asks the questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchops import catalog
from torchops.kernels.planning.hardware import DEVICES


@dataclass(frozen=True)
class Sample:
    """One problem: the (N, C, H, W) of the input and the keyword arguments of the op."""

    shape: tuple[int, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[tuple[int, ...], ...] | None = None
    """Sizes of the further tensors; None: those that the catalog has for the shape."""

    @property
    def id(self) -> str:
        n, c, h, w = self.shape
        weight = [] if self.parameters is None else ["w" + "x".join(map(str, self.parameters[0]))]
        words = (f"{k}={v}" if isinstance(v, (int, tuple)) else str(v) for k, v in self.kwargs.items())
        return "-".join((f"N{n}", f"C{c}", f"{h}x{w}", *weight, *words)).replace(" ", "")

    def resized(self, shape: tuple[int, ...]) -> Sample:
        """The same question of another input. Further tensors keep their sizes, so the channels have to stay."""
        return replace(self, shape=shape)


@dataclass(frozen=True)
class Rejection:
    """One bad call, its error and what its message says: the argument and its value."""

    id: str
    call: Callable[[], Any]
    error: type[Exception]
    match: str


@dataclass(frozen=True)
class OpInfo:
    """An op, and what is particular to it; everything else is asked of all ops alike."""

    op: catalog.Op
    samples: tuple[Sample, ...]
    """The first one is also asked the expensive questions: make it typical."""
    rejections: tuple[Rejection, ...]
    module: tuple[type[nn.Module], dict[str, Any]] | None = None
    """Its module, with arguments that are not those of the catalog's example."""
    launches: tuple[int, int] = (1, 1)
    """Kernel launches of a forward and, at most, of a backward."""
    outputs: int = 1
    """What the forward returns: tensors, whether they are wanted or not."""
    reports: bool = False
    """Whether the forward takes a number a program besides its output."""
    indices: str | None = None
    """The kind of indices it takes, where there are several."""
    streams: bool = True
    """Whether memory is what bounds it: then little may move more than once."""
    archs: tuple[str, ...] = tuple(DEVICES)
    """The GPUs that `test_gates` compiles for."""
    registered: tuple[str, ...] = ()
    """Names of its registered operators, `torch.ops.torchops.<name>`."""
    further: bool = False
    """Whether it takes tensors after its input."""
    format_of_all: bool = True
    """Whether the memory format of its result follows these tensors too."""
    lowers_in_autocast: bool = False
    """Whether it runs in the low precision under autocast, or keeps its input's."""


def _sliced(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    larger = x.new_zeros((n, c + 2, h + 1, 2 * w + 3))
    part = larger[:, 1 : c + 1, 1:, 1 : 2 * w + 1 : 2]
    return part.copy_(x)


def _channels_of_channels_last(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    larger = x.new_zeros((n, c + 3, h, w)).to(memory_format=torch.channels_last)
    return larger[:, 2 : c + 2].copy_(x)


# A tensor of the same values, laid out differently. Gradients arrive in all of these: sum() expands, cat() slices.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": _sliced,
    "sliced_channels_last": _channels_of_channels_last,
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "expanded": lambda x: x[:1].expand(x.shape),
}


def laid_out(x: Tensor, layout: str) -> Tensor:
    """x in another layout. "expanded" repeats the first image, so its values differ from x's. Vectors stay as they are."""
    return LAYOUTS[layout](x) if x.dim() == 4 else x


def _channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.dim() > 1 else x


def _stepped(x: Tensor) -> Tensor:
    larger = x.new_zeros((*x.shape[:-1], 2 * x.shape[-1] + 3))
    return larger[..., 1 : 2 * x.shape[-1] + 1 : 2].copy_(x)


def _negative(x: Tensor) -> Tensor:
    """As `fft2(x).conj().imag` is one: its memory holds -x, and a bit says so."""
    if x.dtype in (torch.float32, torch.float64):
        return torch.complex(torch.zeros_like(x), -x).conj().imag
    return torch._neg_view(-x) if x.is_floating_point() else x


def _shifted(x: Tensor) -> Tensor:
    """Its first element lies on no boundary of 16 bytes."""
    return x.new_zeros(x.numel() + 3)[3:].view(x.shape).copy_(x)


def _strides_of_one(x: Tensor) -> Tensor:
    """Dimensions of one element have strides that mean nothing."""
    return x.as_strided(
        x.shape, [step if size > 1 else 999_983 for size, step in zip(x.shape, x.stride(), strict=True)]
    )


def _overlapping(x: Tensor) -> Tensor:
    """Windows of one line of values, as `unfold` makes them."""
    step = [1]
    for size in x.shape[:0:-1]:
        step.insert(0, max(1, step[0] * size // 2))
    return x.flatten().clone().as_strided(x.shape, step)


# Further views, of any number of dimensions. What drawn tests call an op with.
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": LAYOUTS["contiguous"],
    "channels_last": _channels_last,
    "sliced": lambda x: laid_out(x, "sliced"),
    "sliced_channels_last": lambda x: laid_out(x, "sliced_channels_last"),
    "rows_of_channels_last": lambda x: _channels_last(F.pad(x, (2, 0, 1, 1)))[..., 1:-1, 2:] if x.dim() > 3 else x,
    "transposed": lambda x: x.mT.contiguous().mT if x.dim() > 1 else x,
    "batch_last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "stepped": _stepped,
    "shifted": _shifted,
    "strides_of_one": lambda x: _strides_of_one(x.contiguous()),
    "strides_of_one_channels_last": lambda x: _strides_of_one(_channels_last(x)),
    "negative": _negative,
    "negative_channels_last": lambda x: _negative(_channels_last(x)),
    "real": lambda x: torch.complex(x, x).conj().real if x.dtype in (torch.float32, torch.float64) else x,
}
# these repeat values, so that theirs differ from x's
REPEATING: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": lambda x: x[:1].expand(x.shape),
    "expanded_columns": lambda x: x[..., :1].expand(x.shape),
    "one_value": lambda x: x.flatten()[:1].expand(x.shape) if x.numel() else x,
    "overlapping": _overlapping,
}


def strides(x: Tensor) -> tuple[int, ...]:
    """The strides that matter: those of dimensions of more than one element."""
    return tuple(step for size, step in zip(x.shape, x.stride(), strict=True) if size > 1)
