"""Pools whose windows overlap: tiles that slide down strips against tiles that stay, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchops.kernels import avg_pool2d, max_pool2d, max_unpool2d
from torchops.kernels.layout.windows import slides
from torchops.kernels.planning.windows import Config

from .drawn import STAND_INS, drawn
from .test_max_pool2d import hard_images
from .windows import Window, windows

FORMS = (torch.contiguous_format, torch.channels_last)
EXAMPLES = 12
"""Each is computed twice, and windows of up to 7 x 7 taps take an interpreter a while."""
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Case:
    """A pool, or the gradient of one, and the tiles that it is computed in."""

    window: Window
    dtype: torch.dtype
    forms: tuple[torch.memory_format, torch.memory_format]
    """Of the input and of the output; indices of a gradient lie as its output."""
    tile: tuple[int, int]
    strip: int
    strided: bool
    """Whether every other column of the input is one of something else."""

    def input(self, values: Tensor) -> Tensor:
        values = values.to(self.dtype).contiguous(memory_format=self.forms[0])
        if not self.strided:
            return values
        wide = torch.zeros((*values.shape[:3], 2 * values.shape[3]), dtype=values.dtype, device=values.device)
        wide[..., ::2] = values
        return wide[..., ::2]

    def output(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        form = self.forms[1]
        return torch.empty(shape, dtype=dtype or self.dtype, device=device).contiguous(memory_format=form)

    def compare(self, run: Callable[[Config], tuple[Tensor, ...]]) -> None:
        """Bits, so that zeros have signs and NaN are told apart."""
        stays, sliding = (run(Config(*self.tile, 4, strip)) for strip in (0, self.strip))
        for a, b in zip(stays, sliding, strict=True):
            assert torch.equal(_bits(a), _bits(b)), (a, b)


def _bits(t: Tensor) -> Tensor:
    return t.contiguous().view(BITS[t.element_size()]) if t.is_floating_point() else t


@st.composite
def cases(draw: st.DrawFn) -> Case:
    window = draw(windows())
    assume(slides(window.geometry))
    return Case(
        window,
        draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16, torch.float64))),
        draw(st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS))),
        (draw(st.sampled_from((2, 8))), draw(st.sampled_from((32, 128)))),
        draw(st.integers(1, window.pooled[0] + 1)),
        draw(st.booleans()),
    )


RESNET = Case(Window((2, 3, 9, 11), (3, 3), (2, 2), (1, 1), (1, 1), True), torch.float32, FORMS, (2, 32), 2, False)
"""Its last row of taps is the first of two rows that a turn of the loop reads."""


def _computable(case: Case, tier: str) -> Case:
    dtype = STAND_INS.get((tier, case.dtype), case.dtype)
    return Case(case.window, dtype, case.forms, case.tile, case.strip, case.strided)


def _hard(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Hard ones, of which no two NaN are the same."""
    x = hard_images(shape).to(dtype)
    bits = x.view(BITS[x.element_size()])
    bits += torch.randint(0, 64, shape).to(bits.dtype) * x.isnan()
    return x


@pytest.mark.tiers("interpreter", "ir")
@settings(max_examples=EXAMPLES)
@example(RESNET, False, torch.uint8)
@given(cases(), st.booleans(), st.sampled_from((None, torch.uint8, torch.int64)))
def test_maxima_are_those_of_tiles_that_stay(
    device: torch.device, tier: str, case: Case, smallest: bool, kind: torch.dtype | None
) -> None:
    case = _computable(case, tier)
    w = case.window
    with drawn("max_pool2d", case):
        x = case.input(_hard(w.shape, case.dtype).to(device))

        def run(config: Config) -> tuple[Tensor, ...]:
            y = case.output(w.pooled_shape, device)
            indices = None if kind is None else case.output(w.pooled_shape, device, kind)
            max_pool2d.max_pool2d_fwd(x, y, indices, w.geometry, smallest, config=config)
            return (y,) if indices is None else (y, indices)

        case.compare(run)


@pytest.mark.tiers("interpreter", "ir")
@settings(max_examples=EXAMPLES)
@example(RESNET, False, "inside")
@example(RESNET, True, "padded")
@given(cases(), st.booleans(), st.sampled_from(("padded", "inside", "fixed", "cover")))
def test_means_are_those_of_tiles_that_stay(device: torch.device, tier: str, case: Case, back: bool, mean: str) -> None:
    case = _computable(case, tier)
    w = case.window
    shapes = (w.pooled_shape, w.shape) if back else (w.shape, w.pooled_shape)
    launch: Any = avg_pool2d.avg_unpool2d if back else avg_pool2d.avg_pool2d
    with drawn("avg_pool2d", case):
        x = case.input(torch.randn(shapes[0]).to(device))

        def run(config: Config) -> tuple[Tensor, ...]:
            y = case.output(shapes[1], device)
            launch(x, y, w.geometry, mean, 3, config=config)
            return (y,)

        case.compare(run)


@pytest.mark.tiers("interpreter", "ir")
@settings(max_examples=EXAMPLES)
@example(RESNET, False, False)
@given(cases(), st.booleans(), st.booleans())
def test_gradients_of_maxima_are_those_of_tiles_that_stay(
    device: torch.device, tier: str, case: Case, offsets: bool, hostile: bool
) -> None:
    """Indices are those of a pool, or any."""
    case = _computable(case, tier)
    w = case.window
    with drawn("max_unpool2d", case):
        dy = case.input(torch.randn(w.pooled_shape).to(device))
        indices = case.output(w.pooled_shape, device, torch.uint8 if offsets else torch.int64)
        if hostile:
            indices.copy_(
                torch.randint(0 if offsets else -5, 256 if offsets else w.shape[2] * w.shape[3], indices.shape)
            )
        else:
            x = torch.randn(w.shape, device=device)
            max_pool2d.max_pool2d_fwd(x, case.output(w.pooled_shape, device, x.dtype), indices, w.geometry, False)

        def run(config: Config) -> tuple[Tensor, ...]:
            dx = case.output(w.shape, device)
            max_unpool2d.max_unpool2d_fwd(dy, indices, dx, w.geometry, True, config=config)
            return (dx,)

        case.compare(run)
