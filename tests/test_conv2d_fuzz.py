"""Convolutions of any geometry, over problems that hypothesis draws: values and gradients, from tensors in any memory.

Every problem drawn is valid: what would not be is repaired, by a smaller padding or a larger image. `make fuzz` draws ten
times as many as `make test`, and anew every time. A problem that ever failed stays, as an `@example`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import torchops
from torchops.activations import ACTIVATIONS
from torchops.functional import PADDING_MODES

from . import independent
from .conformance import EVERY_TIER
from .drawn import Manner, drawn, examine, manners

Pair = tuple[int, int]
# where an activation has a kink, float32 and float64 may stand on different sides of it
KINKS = {"relu": (0,), "relu6": (0, 6), "leaky_relu": (0,), "hardsigmoid": (-3, 3), "hardswish": (-3, 3)}
MARGIN = 0.05
"""Around a kink: as much as an output in bfloat16 may be off, of which some gradients are computed."""


@dataclass(frozen=True)
class Problem:
    """One call of conv2d or, with `output_padding`, conv_transpose2d, but for the values of its tensors."""

    size: tuple[int, int, int]
    """N, H, W."""
    channels: tuple[int, int, int]
    """Groups, channels in and channels out of a group."""
    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[int, ...] | str = (0, 0)
    output_padding: Pair | None = None
    padding_mode: str = "zeros"
    padding_value: float = 0.0
    bias: bool = False
    residual: bool = False
    activation: str | None = None
    manner: Manner = field(default_factory=Manner)

    @property
    def transposed(self) -> bool:
        return self.output_padding is not None

    def kwargs(self) -> dict[str, Any]:
        kwargs = {"stride": self.stride, "dilation": self.dilation, "padding": self.padding, "groups": self.channels[0]}
        if self.transposed:
            return {**kwargs, "output_padding": self.output_padding}
        further = "padding_mode", "padding_value", "activation"
        return {**kwargs, **{name: getattr(self, name) for name in further}}

    def of(self, module: Any, **other: Any) -> Callable[..., Tensor]:
        function = module.conv_transpose2d if self.transposed else module.conv2d
        return partial(function, **{**self.kwargs(), **other})

    def tensors(self) -> dict[str, Tensor]:
        """Normal values; weights such that sums over them are of the order of 1."""
        (n, h, w), (groups, i, o) = self.size, self.channels
        sizes = [(n, groups * i, h, w), (groups * o, i, *self.kernel)]
        if self.transposed:
            sizes[1] = (groups * i, o, *self.kernel)
        found = {"input": torch.randn(sizes[0]), "weight": torch.randn(sizes[1]) * (i * math.prod(self.kernel)) ** -0.5}
        if self.bias:
            found["bias"] = torch.randn(groups * o)
        found = {name: t.double() for name, t in found.items()}
        if self.residual and not self.transposed:
            found["residual"] = torch.randn_like(self.of(independent)(**found))
        return found

    def is_smooth(self, **tensors: Tensor) -> Tensor:
        z = self.of(independent, activation=None)(**tensors)
        return torch.stack([(z - kink).abs() > MARGIN for kink in KINKS[self.activation]]).all(0)


def _pairs(least: int, most: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


CHANNELS = st.one_of(
    st.tuples(st.just(1), st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(1, 4)),
    # depthwise, with a multiplier
    st.tuples(st.integers(2, 24), st.just(1), st.integers(1, 3)),
    # groups wide enough for a matrix product each
    st.tuples(st.just(2), st.integers(16, 18), st.integers(16, 18)),
)
# lines and single pixels are where libraries err
SIDES = st.one_of(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
PIXELS = 320
"""About as many outputs as an image has: with any larger size up to 40 on one side, the other is smaller."""


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    n, h, w = draw(st.tuples(st.sampled_from((1, 2, 1, 2, 1, 2, 3, 0)), SIDES, SIDES))
    kernel, stride, dilation = draw(_pairs(1, 7)), draw(_pairs(1, 4)), draw(_pairs(1, 4))
    # of a window that lies wholly in the padding, too
    padding = draw(st.one_of(_pairs(0, 4), _pairs(0, 4), st.tuples(*(st.integers(0, 9),) * 4)))
    mode = draw(st.sampled_from(PADDING_MODES))
    return _repaired(
        Problem(
            (n, h, w),
            draw(CHANNELS),
            kernel,
            stride,
            dilation,
            draw(st.sampled_from((padding, padding, padding, padding, "same", "valid"))),
            padding_mode=mode,
            padding_value=draw(st.integers(-8, 8)) / 4 if mode == "constant" else 0.0,
            bias=draw(st.booleans()),
            residual=draw(st.booleans()),
            activation=draw(st.sampled_from((None, *ACTIVATIONS))),
            manner=draw(manners("input", "weight", "bias", "residual")),
        )
    )


def _repaired(problem: Problem) -> Problem:
    """Padding no larger than the border mode allows, an image no smaller than the kernel needs."""
    n, *size = problem.size
    reach = [d * (k - 1) for d, k in zip(problem.dilation, problem.kernel, strict=True)]
    size[1] = min(size[1], max(1, PIXELS // size[0]))
    most = {"reflect": -1, "circular": 0}.get(problem.padding_mode, 9)
    if problem.padding == "same":
        # the larger side has to fit
        size = [max(s, (r + 1) // 2 - most) for s, r in zip(size, reach, strict=True)]
        return replace(problem, size=(n, *size), stride=(1, 1))
    if problem.padding == "valid":
        return replace(problem, size=(n, *(max(s, r + 1) for s, r in zip(size, reach, strict=True))))
    sides = len(problem.padding) // 2
    # the four sides begin with the columns
    limits = size if sides == 1 else [size[1], size[1], size[0], size[0]]
    padding = tuple(min(p, s + most) for p, s in zip(problem.padding, limits, strict=True))
    both = [2 * p for p in padding] if sides == 1 else [padding[2] + padding[3], padding[0] + padding[1]]
    size = [max(s, r + 1 - b) for s, r, b in zip(size, reach, both, strict=True)]
    return replace(problem, size=(n, *size), padding=padding)


@st.composite
def transposed_problems(draw: st.DrawFn) -> Problem:
    """Some output left, and of it no more than of the others."""
    n, h, w = draw(st.tuples(st.sampled_from((1, 2, 1, 2, 3, 0)), SIDES, SIDES))
    kernel, stride, dilation = draw(_pairs(1, 7)), draw(_pairs(1, 4)), draw(_pairs(1, 4))
    w = min(w, max(1, PIXELS // (h * stride[0] * stride[1])))
    below = tuple(min(o, max(s, d) - 1) for o, s, d in zip(draw(_pairs(0, 3)), stride, dilation, strict=True))
    most = (
        (z - 1) * s + d * (k - 1) + o for z, s, d, k, o in zip((h, w), stride, dilation, kernel, below, strict=True)
    )
    padding = draw(st.one_of(_pairs(0, 4), _pairs(0, 9)))
    return Problem(
        (n, h, w), draw(CHANNELS), kernel, stride, dilation,
        tuple(min(p, m // 2) for p, m in zip(padding, most, strict=True)), below,
        bias=draw(st.booleans()), manner=draw(manners("input", "weight", "bias")),
    )  # fmt: skip


ODD_STRIDES = Manner(views={"input": "channels_last", "weight": "strides_of_one_channels_last"})


def _try(problem: Problem, device: torch.device, tier: str) -> None:
    smooth = problem.is_smooth if problem.activation in KINKS else None
    with drawn("conv_transpose2d" if problem.transposed else "conv2d", problem):
        functions = problem.of(torchops), problem.of(independent)
        examine(*functions, problem.tensors(), problem.manner, device, tier, smooth=smooth)


@EVERY_TIER
# a window that lies wholly in the padding, above one column
@example(
    Problem(
        (7, 4, 1), (1, 9, 6), (2, 1), stride=(2, 2), dilation=(2, 2), padding=(1, 1), bias=True,
        manner=Manner(views={"weight": "channels_last"}),
    )
)  # fmt: skip
@example(
    Problem(
        (1, 3, 29), (2, 1, 1), (2, 1), dilation=(2, 1), padding_mode="replicate",
        manner=Manner(torch.bfloat16, {"weight": "sliced_channels_last"}),
    )
)  # fmt: skip
# a gradient that overlaps itself, which ATen's GELU refuses
@example(Problem((1, 1, 2), (1, 1, 2), (1, 1), activation="gelu", manner=Manner(views={"grad": "overlapping"})))
# ATen computes something else where a dimension of one element has an odd stride
@example(Problem((2, 5, 6), (2, 2, 2), (1, 3), manner=ODD_STRIDES))
@given(problems())
def test_convolution_is_its_formula(device: torch.device, tier: str, problem: Problem) -> None:
    _try(problem, device, tier)


@EVERY_TIER
@example(Problem((2, 5, 6), (2, 2, 2), (1, 3), output_padding=(0, 0), manner=ODD_STRIDES))
# whose copy in float32 has such a stride
@example(
    Problem(
        (1, 1, 2), (2, 2, 2), (1, 3), output_padding=(0, 0),
        manner=Manner(torch.float16, {"input": "channels_last", "weight": "overlapping"}),
    )
)  # fmt: skip
# a filter of fewer rows than the stride, whose weight gradient slides
@example(Problem((1, 5, 1), (1, 1, 1), (1, 2), stride=(2, 2), output_padding=(0, 0)))
# the gradient of the input is a convolution whose only row lies between the taps, where oneDNN crashed
@example(
    Problem(
        (2, 1, 16), (2, 17, 16), (4, 4), dilation=(4, 3), padding=(6, 5), output_padding=(0, 2),
        manner=Manner(torch.bfloat16),
    )
)  # fmt: skip
@given(transposed_problems())
def test_transposed_convolution_is_its_formula(device: torch.device, tier: str, problem: Problem) -> None:
    _try(problem, device, tier)
