"""Convolutions of any geometry: properties of all three passes, over problems that hypothesis draws.

Every problem drawn is valid: what would not be is repaired, by a smaller padding or a larger image. `make fuzz` draws ten
times as many as `make test`, and anew every time. A problem that ever failed stays, as an `@example`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import torchops
from torchops import reference
from torchops.functional import PADDING_MODES
from torchops.ops.conv2d import ACTIVATIONS

from .conformance import EVERY_TIER, close
from .opinfo import LAYOUTS, laid_out

Pair = tuple[int, int]
# the dtypes that a tier cannot compute, and what stands in for them
STAND_INS = {
    ("interpreter", torch.bfloat16): torch.float16,
    ("ir", torch.float64): torch.float32,
}
# where an activation has a kink, float32 and float64 may stand on different sides of it
SMOOTH = (None, "silu", "gelu", "tanh", "sigmoid")


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
    padding: Pair | str = (0, 0)
    output_padding: Pair | None = None
    padding_mode: str = "zeros"
    padding_value: float = 0.0
    bias: bool = False
    residual: bool = False
    activation: str | None = None
    dtype: torch.dtype = torch.float32
    layouts: tuple[str, str, str] = ("contiguous", "contiguous", "contiguous")
    """Of the input, the weight, and the gradient or residual."""

    @property
    def transposed(self) -> bool:
        return self.output_padding is not None

    def kwargs(self) -> dict[str, Any]:
        kwargs = {"stride": self.stride, "dilation": self.dilation, "padding": self.padding, "groups": self.channels[0]}
        if self.transposed:
            return {**kwargs, "output_padding": self.output_padding}
        further = "padding_mode", "padding_value", "activation"
        return {**kwargs, **{name: getattr(self, name) for name in further}}

    def call(self, module: Any, tensors: dict[str, Tensor]) -> Tensor:
        function = module.conv_transpose2d if self.transposed else module.conv2d
        out: Tensor = function(**tensors, **self.kwargs())
        return out

    def tensors(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """Normal values; weights such that sums over them are of the order of 1."""
        (n, h, w), (groups, i, o) = self.size, self.channels
        sizes = [(n, groups * i, h, w), (groups * o, i, *self.kernel)]
        if self.transposed:
            sizes[1] = (groups * i, o, *self.kernel)
        scale = (i * math.prod(self.kernel)) ** -0.5
        found = {
            "input": laid_out(torch.randn(sizes[0]).to(device, dtype), self.layouts[0]),
            "weight": laid_out(torch.randn(sizes[1]).mul(scale).to(device, dtype), self.layouts[1]),
        }
        if self.bias:
            found["bias"] = torch.randn(groups * o).to(device, dtype)
        if self.residual and not self.transposed:
            shape = self.call(reference, _exact(found)).shape
            found["residual"] = laid_out(torch.randn(shape).to(device, dtype), self.layouts[2])
        return found


def _exact(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().double().cpu() for name, t in tensors.items()}


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
PIXELS = 320
"""About as many outputs as an image has: with any larger size up to 40 on one side, the other is smaller."""


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    n, h, w = draw(st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)))
    kernel, stride, dilation, padding = draw(_pairs(1, 7)), draw(_pairs(1, 4)), draw(_pairs(1, 4)), draw(_pairs(0, 4))
    mode = draw(st.sampled_from(PADDING_MODES))
    problem = Problem(
        (n, h, w),
        draw(CHANNELS),
        kernel,
        stride,
        dilation,
        draw(st.sampled_from((padding, padding, padding, "same"))),
        padding_mode=mode,
        padding_value=draw(st.integers(-8, 8)) / 4 if mode == "constant" else 0.0,
        bias=draw(st.booleans()),
        residual=draw(st.booleans()),
        activation=draw(st.sampled_from((None, *ACTIVATIONS))),
        dtype=draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16, torch.float64))),
        layouts=tuple(draw(st.sampled_from(tuple(LAYOUTS))) for _ in range(3)),
    )
    if draw(st.sampled_from((False, False, True))):
        return _transposed(problem, padding, draw(_pairs(0, 3)))
    return _repaired(problem)


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
    padding = [min(p, s + most) for p, s in zip(problem.padding, size, strict=True)]
    size = [max(s, r + 1 - 2 * p) for s, r, p in zip(size, reach, padding, strict=True)]
    return replace(problem, size=(n, *size), padding=tuple(padding))


def _transposed(problem: Problem, padding: Pair, output_padding: Pair) -> Problem:
    """Some output left, and of it no more than of the others."""
    (n, h, w), stride, dilation, kernel = problem.size, problem.stride, problem.dilation, problem.kernel
    w = min(w, max(1, PIXELS // (h * stride[0] * stride[1])))
    below = tuple(min(o, max(s, d) - 1) for o, s, d in zip(output_padding, stride, dilation, strict=True))
    most = (
        (z - 1) * s + d * (k - 1) + o for z, s, d, k, o in zip((h, w), stride, dilation, kernel, below, strict=True)
    )
    return Problem(
        (n, h, w), problem.channels, kernel, stride, dilation,
        tuple(min(p, m // 2) for p, m in zip(padding, most, strict=True)), below,
        bias=problem.bias, dtype=problem.dtype, layouts=problem.layouts,
    )  # fmt: skip


def _compare_gradients(problem: Problem, wanted: tuple[str, ...], device: torch.device, tier: str) -> None:
    if problem.activation not in SMOOTH:
        problem = replace(problem, activation=None)
    dtype = STAND_INS.get((tier, problem.dtype), problem.dtype)
    tensors = problem.tensors(dtype, device)
    exact = _exact(tensors)
    names = [name for name in wanted if name in tensors]
    for name in names:
        tensors[name].requires_grad_()
        exact[name].requires_grad_()
    # of this pass only, the kernels
    with torchops.use_backend("aten"):
        out = problem.call(torchops, tensors)
    grad = laid_out(torch.randn(out.shape).to(device, dtype), problem.layouts[2])
    expected = torch.autograd.grad(problem.call(reference, exact), [exact[n] for n in names], grad.double().cpu())
    actual = torch.autograd.grad(out, [tensors[n] for n in names], grad)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        close(a, e, dtype, factor=4)


@EVERY_TIER
@given(problems())
def test_results_match_the_reference(device: torch.device, tier: str, problem: Problem) -> None:
    torch.manual_seed(0)
    dtype = STAND_INS.get((tier, problem.dtype), problem.dtype)
    tensors = problem.tensors(dtype, device)
    out = problem.call(torchops, tensors)
    assert out.dtype == dtype
    close(out, problem.call(reference, _exact(tensors)), dtype)


@EVERY_TIER
@given(problems())
def test_gradients_of_the_input_match_the_reference(device: torch.device, tier: str, problem: Problem) -> None:
    torch.manual_seed(0)
    _compare_gradients(problem, ("input",), device, tier)


@EVERY_TIER
@example(
    Problem(
        (1, 3, 29), (2, 1, 1), (2, 1), dilation=(2, 1), padding_mode="replicate", dtype=torch.bfloat16,
        layouts=("contiguous", "sliced_channels_last", "contiguous"),
    )
)  # fmt: skip
@given(problems())
def test_gradients_of_weight_and_bias_match_the_reference(device: torch.device, tier: str, problem: Problem) -> None:
    torch.manual_seed(0)
    _compare_gradients(problem, ("weight", "bias"), device, tier)
