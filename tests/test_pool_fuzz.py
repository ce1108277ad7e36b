"""Pools and unpools of any window, over problems that hypothesis draws: values, indices and gradients, from any memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor

import torchops

from . import independent
from .conformance import EVERY_TIER
from .drawn import Manner, drawn, examine, manners
from .windows import Window, windows

PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1))
OFFSETS = 256


@dataclass(frozen=True)
class MaxPool:
    window: Window
    smallest: bool
    indices: bool | str
    hard: bool
    """Whether many values are equal, and some infinite or not a number."""
    manner: Manner

    def input(self) -> Tensor:
        if not self.hard:
            return torch.randn(self.window.shape, dtype=torch.float64)
        values = torch.tensor([-1.0, 0.0, 0.0, 1.0, 1.0, torch.inf, -torch.inf, torch.nan], dtype=torch.float64)
        return values[torch.randint(len(values), self.window.shape)]


@dataclass(frozen=True)
class AvgPool:
    window: Window
    mean: dict[str, Any]
    manner: Manner

    @property
    def unit(self) -> float:
        return 1 / abs(self.mean.get("divisor_override", 1))


@dataclass(frozen=True)
class Unpool:
    window: Window
    size: tuple[int, int]
    indices: str | None
    """Offsets, positions in the windows, or positions anywhere; None for the mean."""
    manner: Manner

    @property
    def kwargs(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", *(("dilation",) if self.indices else ()))
        return {**{name: getattr(self.window, name) for name in names}, "output_size": self.size}

    def tensors(self) -> dict[str, Tensor]:
        shape = self.window.pooled_shape
        found = {"input": torch.randn(shape, dtype=torch.float64)}
        if self.indices == "anywhere":
            found["indices"] = torch.randint(0, self.size[0] * self.size[1], shape)
        elif self.indices:
            positions = independent.positions(self.size, self.window.pooled, *self.window.geometry)
            positions = positions.expand(*shape, -1)
            # a tap of each window that lies in the output, whichever
            taps = torch.rand(positions.shape).masked_fill(positions < 0, -1.0).argmax(-1, keepdim=True)
            found["indices"] = (taps.to(torch.uint8) if self.indices == "offset" else positions.gather(-1, taps))[
                ..., 0
            ]
        return found


@st.composite
def max_pools(draw: st.DrawFn) -> MaxPool:
    window = draw(windows(dilated=True))
    kinds = (False, True, "offset") if window.taps <= OFFSETS else (False, True)
    return MaxPool(
        window,
        draw(st.booleans()),
        draw(st.sampled_from(kinds)),
        draw(st.booleans()),
        draw(manners("input", "indices")),
    )


@st.composite
def avg_pools(draw: st.DrawFn) -> AvgPool:
    divisors = st.sampled_from((1, 3, -2, 70_000)).map(lambda divisor: {"divisor_override": divisor})
    mean = draw(st.one_of(st.sampled_from(({}, {"count_include_pad": False})), divisors))
    return AvgPool(draw(windows()), mean, draw(manners("input")))


@st.composite
def unpools(draw: st.DrawFn, *, of_maxima: bool) -> Unpool:
    window = draw(windows(dilated=of_maxima))
    size = window.output_size(draw(PLACES))
    assume(min(size) > 0)
    kind, names = None, ("input",)
    if of_maxima:
        # every window has to have a pixel of the output
        assume((independent.positions(size, window.pooled, *window.geometry) >= 0).any(-1).all())
        kinds = ("position", "anywhere", "offset") if window.taps <= OFFSETS else ("position", "anywhere")
        kind, names = draw(st.sampled_from(kinds)), ("input", "indices")
    return Unpool(window, size, kind, draw(manners(*names)))


@EVERY_TIER
@example(MaxPool(Window((2, 3, 9, 11), (3, 3), (2, 2), (1, 1), (1, 1), True), False, True, True, Manner()))
@given(max_pools())
def test_maxima_and_minima_are_their_formula(device: torch.device, tier: str, pool: MaxPool) -> None:
    kwargs = {**pool.window.kwargs, "dilation": pool.window.dilation, "return_indices": pool.indices}
    function = torchops.min_pool2d if pool.smallest else torchops.max_pool2d

    def specified(input: Tensor) -> Any:
        y, indices = independent.max_pool2d(input, **kwargs, smallest=pool.smallest)
        return (y, indices) if pool.indices else y

    with drawn("max_pool2d", pool):
        tensors = {"input": pool.input()}
        examine(partial(function, **kwargs), specified, tensors, pool.manner, device, tier, factors=(0, 2))


@EVERY_TIER
@given(avg_pools())
def test_means_are_their_formula(device: torch.device, tier: str, pool: AvgPool) -> None:
    functions = (partial(module.avg_pool2d, **pool.window.kwargs, **pool.mean) for module in (torchops, independent))
    with drawn("avg_pool2d", pool):
        tensors = {"input": torch.randn(pool.window.shape, dtype=torch.float64)}
        examine(*functions, tensors, pool.manner, device, tier, factors=(1, 2), unit=pool.unit)


@EVERY_TIER
@given(unpools(of_maxima=True))
def test_maxima_go_back_by_their_formula(device: torch.device, tier: str, unpool: Unpool) -> None:
    functions = (partial(module.max_unpool2d, **unpool.kwargs) for module in (torchops, independent))
    with drawn("max_unpool2d", unpool):
        examine(*functions, unpool.tensors(), unpool.manner, device, tier, factors=(0, 0))


@EVERY_TIER
@given(unpools(of_maxima=False))
def test_means_go_back_by_their_formula(device: torch.device, tier: str, unpool: Unpool) -> None:
    functions = (partial(module.avg_unpool2d, **unpool.kwargs) for module in (torchops, independent))
    with drawn("avg_unpool2d", unpool):
        examine(*functions, unpool.tensors(), unpool.manner, device, tier, factors=(1, 2))
