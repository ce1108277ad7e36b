"""max_unpool2d on a CPU: which positions need no search for duplicates, and the integers that positions and offsets fit in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import torchops
from torchops.ops.cpu import unpooling

from . import independent
from .opinfo import LAYOUTS, laid_out
from .test_max_unpool2d_indices import sequential, sequential_backward
from .windows import Window, windows

pytestmark = pytest.mark.tiers("aten")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# that of 2 x 128 pixels is the last whose positions differ by less than a byte, that of 2 x 2**14 by less than 15 bits
WIDTHS = (126, 128, 130, 2**14, 2**14 + 2)


def _in_windows(size: tuple[int, int], w: Window) -> tuple[Tensor, Tensor]:
    """A pixel of the image for every window, flat, (N, C, windows), and all that it may be, (windows, taps)."""
    positions = independent.positions(size, w.pooled, *w.geometry).flatten(0, -2)
    taps = torch.rand(*w.pooled_shape[:2], *positions.shape).masked_fill(positions < 0, -1.0).argmax(-1, keepdim=True)
    return positions.expand(*taps.shape[:3], -1).gather(-1, taps).squeeze(-1), positions


@st.composite
def strays(draw: st.DrawFn) -> tuple[Window, tuple[int, int], int]:
    """Windows in an image of that size, most without overlap, and how far one position is beside that of its window."""
    sides = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride = draw(sides), draw(sides)
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 3)), *(n + draw(st.integers(0, 9)) for n in kernel)
    w = Window(shape, kernel, (max(stride[0], kernel[0] - draw(st.integers(0, 1))), stride[1]), (0, 0), (1, 1), False)
    if draw(st.booleans()):
        w = replace(w, stride=kernel)
    width = shape[3]
    return w, shape[2:], draw(st.sampled_from((0, -width, -2, -1, 1, 2, 3, width - 1, width, 2 * width)))


@given(strays(), st.booleans())
def test_positions_surely_differ_where_each_is_in_its_window(
    problem: tuple[Window, tuple[int, int], int], channels_last: bool
) -> None:
    w, size, distance = problem
    positions, allowed = _in_windows(size, w)
    stray = positions.view(-1)[torch.randint(positions.numel(), ())]
    stray.copy_((stray + distance) % (size[0] * size[1]))
    inside = bool((positions.unsqueeze(-1) == allowed).any(-1).all())
    flat = positions.transpose(1, 2).contiguous() if channels_last else positions
    said = unpooling._are_apart(size, w.pooled, w.geometry, channels_last)(flat)
    assert said == (inside and not w.geometry.overlap())
    assert not said or all(plane.unique().numel() == plane.numel() for plane in positions.flatten(0, 1))


@given(windows(dilated=True), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_positions_surely_differ_where_that_is_said(w: Window, place: tuple[float, float]) -> None:
    """Also where windows are padded, dilated, or reach beyond the image."""
    size = w.output_size(place)
    assume(min(size) > 0)
    positions, allowed = _in_windows(size, w)
    assume((allowed >= 0).any(-1).all())
    said = unpooling._are_apart(size, w.pooled, w.geometry, False)(positions)
    assert not said or all(plane.unique().numel() == plane.numel() for plane in positions.flatten(0, 1))


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_stray_is_found_among_windows_without_overlap(dtype: torch.dtype, layout: str) -> None:
    """Of float16 as of float64, the gradient of a lost value is 0, also where that of its pixel is not a number."""
    x = laid_out(torch.randn(2, 3, 8, 9).to(dtype), layout)
    _, positions = F.max_pool2d(torch.randn(2, 3, 16, 18), 2, return_indices=True)
    positions[1, 2, 3, 4] = positions[1, 2, 0, 0]
    positions[0, 1, 0, 0] = positions[0, 1, 7, 8]
    for where in (positions, positions[:1].expand_as(positions), laid_out(positions, layout)):
        leaf = x.detach().requires_grad_()
        y = torchops.max_unpool2d(leaf, where, 2, output_size=(16, 18))
        assert torch.equal(y, sequential(x, where, (16, 18)))
        dy = torch.randn(y.shape).to(dtype)
        dy.view(-1)[::5] = torch.nan
        (dx,) = torch.autograd.grad(y, leaf, dy)
        assert torch.equal(dx.nan_to_num(), sequential_backward(dy, where).nan_to_num())
        assert torch.equal(dx.isnan(), sequential_backward(dy, where).isnan())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kernel", [(2, 2), (3, 2), (1, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
def test_offsets_and_positions_of_wide_images(form: Any, kernel: tuple[int, int], width: int) -> None:
    """Ties go to the first, and the last that is not a number wins, as in ATen's pool; overlapping windows too."""
    image = torch.randint(-1, 2, (1, 9, 7, width)).float()
    image[torch.rand(image.shape) < 0.1] = torch.nan
    image[torch.rand(image.shape) < 0.1] = -0.0
    image = image.contiguous(memory_format=form)
    for stride in (kernel, (1, 2)):
        expected, positions = F.max_pool2d(image, kernel, stride, return_indices=True)
        rows, cols = (torch.arange(n) * step for n, step in zip(expected.shape[2:], stride, strict=True))
        offsets = (positions // width - rows[:, None]) * kernel[1] + positions % width - cols
        y, found = torchops.max_pool2d(image, kernel, stride, return_indices="offset")
        assert torch.equal(y.view(torch.int32), expected.view(torch.int32))
        assert torch.equal(found.long(), offsets)
        assert found.is_contiguous(memory_format=form)
        assert y.is_contiguous(memory_format=form)
        smallest, where = torchops.min_pool2d(image, kernel, stride, return_indices="offset")
        lowest, positions = F.max_pool2d(-image, kernel, stride, return_indices=True)
        assert torch.equal(smallest.nan_to_num(), -lowest.nan_to_num())
        assert torch.equal(where.long(), (positions // width - rows[:, None]) * kernel[1] + positions % width - cols)
        back = torchops.max_unpool2d(y, found, kernel, stride, output_size=(7, width))
        again = torchops.max_unpool2d(y, (offsets // kernel[1] + rows[:, None]) * width + offsets % kernel[1] + cols,
                                      kernel, stride, output_size=(7, width))  # fmt: skip
        assert torch.equal(back.nan_to_num(), again.nan_to_num())


class TestSmallImages:
    """ATen's own unpooling takes those without duplicates, but in deterministic mode."""

    @pytest.fixture(autouse=True, params=[False, True], ids=["any_mode", "deterministic"])
    def mode(self, request: pytest.FixtureRequest) -> None:
        torch.use_deterministic_algorithms(request.param)

    @pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
    @pytest.mark.parametrize("kind", ["windows", "anywhere", "zeros", "nan"])
    def test_have_the_gradients_of_the_last(self, kind: str, dtype: torch.dtype) -> None:
        x = torch.randn(2, 3, 4, 5).to(dtype)
        if kind in ("zeros", "nan"):
            x[torch.rand(x.shape) < 0.3] = 0.0 if kind == "zeros" else torch.nan
        _, positions = F.max_pool2d(torch.randn(2, 3, 8, 10), 2, return_indices=True)
        if kind == "anywhere":
            positions.random_(80)
        leaf = x.detach().requires_grad_()
        y = torchops.max_unpool2d(leaf, positions, 2)
        assert torch.equal(y.nan_to_num(), sequential(x, positions, (8, 10)).nan_to_num())
        assert not y._is_view()
        dy = torch.randn(y.shape).to(dtype).requires_grad_()
        (dx,) = torch.autograd.grad(y, leaf, dy, create_graph=True)
        assert torch.equal(dx, sequential_backward(dy.detach(), positions))
        assert dx.is_contiguous()
        v = torch.randn(dx.shape).to(dtype)
        (ddy,) = torch.autograd.grad(dx, dy, v)
        assert torch.equal(ddy, sequential(v, positions, (8, 10)))

    def test_refuse_what_points_beyond(self) -> None:
        leaf = torch.randn(1, 1, 2, 2, requires_grad=True)
        for position in (-1, 16):
            with pytest.raises(RuntimeError, match=rf"`indices` must lie in \[0, 16\), .* got {position}"):
                torchops.max_unpool2d(leaf, torch.full((1, 1, 2, 2), position), 2)
