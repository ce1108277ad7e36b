"""Pools and unpools of any window, over problems that hypothesis draws: values, indices and gradients, from any memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor

import torchops

from . import independent
from .conformance import EVERY_TIER
from .drawn import Manner, drawn, examine, manners
from .pieces import Pieces
from .windows import Window, windows

PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1))
OFFSETS = 256
TERMS = 33
"""Equal values are rounded the same way again and again: as many, added one by one, stay within the tolerance of float32."""


def _values(shape: tuple[int, ...], hard: bool) -> Tensor:
    """Normal ones, or hard: many are equal, and some infinite or not a number."""
    if not hard:
        return torch.randn(shape, dtype=torch.float64)
    values = torch.tensor([-1.0, 0.0, 0.0, 1.0, 1.0, torch.inf, -torch.inf, torch.nan], dtype=torch.float64)
    return values[torch.randint(len(values), shape)]


def _of_sums(manner: Manner, terms: int) -> Manner:
    """The same, but without repeated values where sums have more terms than that."""
    return manner if terms <= TERMS else manner.without_repeated("input").without_repeated("grad")


@dataclass(frozen=True)
class MaxPool:
    window: Window
    smallest: bool
    indices: bool | str
    hard: bool
    manner: Manner


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


@dataclass(frozen=True)
class AdaptivePool:
    shape: tuple[int, ...]
    output_size: tuple[int, int]
    hard: bool
    manner: Manner


@dataclass(frozen=True)
class Enlargement:
    shape: tuple[int, ...]
    factors: tuple[int, int]
    sized: bool
    """Whether it is asked for by its size."""
    manner: Manner

    @property
    def kwargs(self) -> dict[str, Any]:
        if not self.sized:
            return {"scale_factor": self.factors}
        return {"size": tuple(n * factor for n, factor in zip(self.shape[2:], self.factors, strict=True))}


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
    window = draw(windows())
    return AvgPool(window, mean, _of_sums(draw(manners("input")), window.taps))


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
    manner = draw(manners(*names))
    return Unpool(window, size, kind, manner if of_maxima else _of_sums(manner, window.taps))


BATCHES, CHANNELS = st.sampled_from((1, 2, 3, 1, 2, 3, 0)), st.sampled_from((1, 3, 4, 8, 17))
# pixels and windows of one dimension
ADAPTED = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 12)),
    st.tuples(st.integers(1, 40), st.just(1)),
    # windows that do not overlap
    st.tuples(st.integers(1, 6), st.integers(1, 7)).map(lambda pair: (pair[0] * pair[1], pair[0])),
    # as many windows as pixels, or more
    st.tuples(st.integers(1, 8), st.integers(0, 24)).map(lambda pair: (pair[0], sum(pair))),
)


@st.composite
def adaptive_pools(draw: st.DrawFn, *, of_maxima: bool) -> AdaptivePool:
    (h, p), (w, q) = draw(st.tuples(ADAPTED, ADAPTED))
    names = ("input", "indices") if of_maxima else ("input",)
    hard, manner = of_maxima and draw(st.booleans()), draw(manners(*names))
    if not of_maxima:
        # of the pixels of a window, or of the windows of a pixel
        manner = _of_sums(manner, max((h // p + 2) * (w // q + 2), (p // h + 2) * (q // w + 2)))
    return AdaptivePool((draw(BATCHES), draw(CHANNELS), h, w), (p, q), hard, manner)


@st.composite
def enlargements(draw: st.DrawFn) -> Enlargement:
    rows, cols = draw(st.tuples(*(st.tuples(st.integers(1, 12), st.integers(1, 9)),) * 2))
    # a (C, H, W) is no image to it
    manner = replace(draw(manners("input")), batched=True)
    shape, factors = zip(rows, cols, strict=True)
    return Enlargement((draw(BATCHES), draw(CHANNELS), *shape), factors, draw(st.booleans()), manner)


def _examine_maxima(pool: MaxPool, device: torch.device, tier: str) -> None:
    kwargs = {**pool.window.kwargs, "dilation": pool.window.dilation, "return_indices": pool.indices}
    function = torchops.min_pool2d if pool.smallest else torchops.max_pool2d

    def specified(input: Tensor) -> Any:
        y, indices = independent.max_pool2d(input, **kwargs, smallest=pool.smallest)
        return (y, indices) if pool.indices else y

    with drawn("max_pool2d", pool):
        tensors = {"input": _values(pool.window.shape, pool.hard)}
        examine(partial(function, **kwargs), specified, tensors, pool.manner, device, tier, factors=(0, 2))


def _examine_means(pool: AvgPool, device: torch.device, tier: str) -> None:
    functions = (partial(module.avg_pool2d, **pool.window.kwargs, **pool.mean) for module in (torchops, independent))
    with drawn("avg_pool2d", pool):
        tensors = {"input": torch.randn(pool.window.shape, dtype=torch.float64)}
        examine(*functions, tensors, pool.manner, device, tier, factors=(1, 2), unit=pool.unit)


def _examine_unpool(unpool: Unpool, device: torch.device, tier: str) -> None:
    name, factors = ("max_unpool2d", (0, 0)) if unpool.indices else ("avg_unpool2d", (1, 2))
    functions = (partial(getattr(module, name), **unpool.kwargs) for module in (torchops, independent))
    with drawn(name, unpool):
        examine(*functions, unpool.tensors(), unpool.manner, device, tier, factors=factors)


@EVERY_TIER
@example(MaxPool(Window((2, 3, 9, 11), (3, 3), (2, 2), (1, 1), (1, 1), True), False, True, True, Manner()))
@given(max_pools())
def test_maxima_and_minima_are_their_formula(device: torch.device, tier: str, pool: MaxPool) -> None:
    _examine_maxima(pool, device, tier)


@EVERY_TIER
@given(avg_pools())
def test_means_are_their_formula(device: torch.device, tier: str, pool: AvgPool) -> None:
    _examine_means(pool, device, tier)


@EVERY_TIER
@given(unpools(of_maxima=True))
def test_maxima_go_back_by_their_formula(device: torch.device, tier: str, unpool: Unpool) -> None:
    _examine_unpool(unpool, device, tier)


@EVERY_TIER
@given(unpools(of_maxima=False))
def test_means_go_back_by_their_formula(device: torch.device, tier: str, unpool: Unpool) -> None:
    _examine_unpool(unpool, device, tier)


PIECES = st.builds(Pieces, st.sampled_from((40, 300, 1 << 17)), st.sampled_from((1, 2, 3)))
ON_CPU = pytest.mark.tiers("aten")


@ON_CPU
@given(max_pools(), PIECES)
def test_maxima_of_large_images_are_their_formula(
    device: torch.device, tier: str, pool: MaxPool, pieces: Pieces
) -> None:
    with pieces.of_any_image():
        _examine_maxima(pool, device, tier)


@ON_CPU
@given(avg_pools(), PIECES)
def test_means_of_large_images_are_their_formula(
    device: torch.device, tier: str, pool: AvgPool, pieces: Pieces
) -> None:
    with pieces.of_any_image():
        _examine_means(pool, device, tier)


@ON_CPU
@given(st.one_of(unpools(of_maxima=True), unpools(of_maxima=False)), PIECES)
def test_what_goes_back_to_large_images_does_by_its_formula(
    device: torch.device, tier: str, unpool: Unpool, pieces: Pieces
) -> None:
    with pieces.of_any_image():
        _examine_unpool(unpool, device, tier)


@EVERY_TIER
@given(adaptive_pools(of_maxima=True), st.booleans())
def test_maxima_of_as_many_windows_are_their_formula(
    device: torch.device, tier: str, pool: AdaptivePool, indices: bool
) -> None:
    function = partial(torchops.adaptive_max_pool2d, output_size=pool.output_size, return_indices=indices)

    def specified(input: Tensor) -> Any:
        y, found = independent.adaptive_max_pool2d(input, pool.output_size)
        return (y, found) if indices else y

    with drawn("adaptive_max_pool2d", pool):
        tensors = {"input": _values(pool.shape, pool.hard)}
        examine(function, specified, tensors, pool.manner, device, tier, factors=(0, 2))


@EVERY_TIER
@given(adaptive_pools(of_maxima=False))
def test_means_of_as_many_windows_are_their_formula(device: torch.device, tier: str, pool: AdaptivePool) -> None:
    functions = (partial(m.adaptive_avg_pool2d, output_size=pool.output_size) for m in (torchops, independent))
    with drawn("adaptive_avg_pool2d", pool):
        examine(*functions, {"input": _values(pool.shape, pool.hard)}, pool.manner, device, tier, factors=(1, 2))


@EVERY_TIER
@given(enlargements())
def test_enlarged_images_are_their_formula(device: torch.device, tier: str, problem: Enlargement) -> None:
    functions = (
        partial(torchops.interpolate, **problem.kwargs),
        partial(independent.interpolate, factors=problem.factors),
    )
    with drawn("interpolate", problem):
        examine(*functions, {"input": _values(problem.shape, False)}, problem.manner, device, tier, factors=(0, 2))
