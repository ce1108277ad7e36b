"""Sobel gradients and magnitudes of any image, over problems that hypothesis draws: values and gradients, from any memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import torchops
from torchops.functional import PADDING_MODES

from . import independent
from .conformance import EVERY_TIER
from .drawn import FLOATS, Manner, drawn, examine, manners

STEEP = 0.1


@dataclass(frozen=True)
class Problem:
    shape: tuple[int, int, int, int]
    kwargs: dict[str, Any]
    manner: Manner

    def input(self) -> Tensor:
        if self.manner.dtype == torch.uint8:
            return torch.randint(0, 256, self.shape, dtype=torch.uint8)
        return torch.randn(self.shape, dtype=torch.float64)

    def is_steep(self, input: Tensor) -> Tensor:
        """Whether rounding of the gradients can hardly turn their direction, which is what a gradient of the magnitude is."""
        return independent.sobel(input, **self.kwargs) > STEEP


@st.composite
def problems(draw: st.DrawFn, *, magnitude: bool) -> Problem:
    rows = st.one_of(st.integers(1, 9), st.integers(1, 40), st.integers(1, 2))
    cols = st.one_of(st.integers(1, 40), st.integers(1, 70), st.integers(1, 2))
    shape = draw(st.tuples(st.sampled_from((1, 2, 3, 1, 2, 3, 0)), st.integers(1, 5), rows, cols))
    mode = draw(st.sampled_from(PADDING_MODES))
    if mode == "reflect" and min(shape[2:]) < 2:
        mode = "circular"
    kwargs: dict[str, Any] = {"normalized": draw(st.booleans()), "padding_mode": mode}
    if mode == "constant":
        kwargs["padding_value"] = draw(st.integers(-8, 8)) / 4
    if magnitude:
        kwargs["eps"] = draw(st.sampled_from((1e-6, 1e-2, 1.0)))
    return Problem(shape, kwargs, draw(manners("input", dtypes=(*FLOATS, torch.uint8))))


def _try(family: str, problem: Problem, device: torch.device, tier: str) -> None:
    functions = (partial(getattr(module, family), **problem.kwargs) for module in (torchops, independent))
    smooth = problem.is_steep if problem.kwargs.get("eps", 1.0) < STEEP**2 else None
    with drawn(family, problem):
        examine(*functions, {"input": problem.input()}, problem.manner, device, tier, smooth=smooth)


@EVERY_TIER
# one row of halves is copied to float32 in one loop, which forgets the sign
@example(
    Problem((1, 1, 1, 2), {"normalized": False, "eps": 1e-6}, Manner(dtype=torch.float16, views={"input": "negative"}))
)
@given(problems(magnitude=True))
def test_magnitudes_are_their_formula(device: torch.device, tier: str, problem: Problem) -> None:
    _try("sobel", problem, device, tier)


@EVERY_TIER
# a result that is a view could not be written to
@example(Problem((2, 3, 5, 7), {}, Manner(views={"input": "channels_last"}, written="output")))
@given(problems(magnitude=False))
def test_gradients_are_their_formula(device: torch.device, tier: str, problem: Problem) -> None:
    _try("spatial_gradient", problem, device, tier)
