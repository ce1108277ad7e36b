"""max_unpool2d: which of several values stays, agreement with ATen, and indices that point to nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops.kernels import geometry
from torchops.kernels import max_unpool2d as kernels
from torchops.ops.cpu import unpooling

from .conformance import EVERY_TIER
from .opinfo import LAYOUTS, laid_out
from .test_max_unpool2d import pool_made
from .windows import Window


def sequential(x: Tensor, positions: Tensor, size: tuple[int, ...]) -> Tensor:
    """What a program of one thread does."""
    y = torch.zeros(*x.shape[:2], size[0] * size[1], dtype=x.dtype)
    for plane, values, where in zip(y.flatten(0, 1), x.flatten(0, 1), positions.flatten(0, 1), strict=True):
        for value, position in zip(values.flatten(), where.flatten(), strict=True):
            plane[position] = value
    return y.unflatten(2, size)


def sequential_backward(dy: Tensor, positions: Tensor) -> Tensor:
    """The gradient goes to the value that stayed."""
    dx = torch.zeros(positions.shape, dtype=dy.dtype)
    planes = zip(dx.flatten(0, 1), dy.flatten(0, 1), positions.flatten(0, 1), strict=True)
    for out, grad, where in planes:
        winner = {int(position): k for k, position in enumerate(where.flatten())}
        for position, k in winner.items():
            out.view(-1)[k] = grad.flatten()[position]
    return dx


class TestDuplicates:
    """The last window in row-major order wins, forward and backward."""

    @EVERY_TIER
    @pytest.mark.parametrize("layout", list(LAYOUTS))
    def test_positions_that_point_anywhere(self, layout: str, device: torch.device) -> None:
        for shape, size in (((2, 3, 6, 7), (12, 14)), ((1, 8, 9, 5), (18, 10))):
            x = laid_out(torch.randn(shape), layout)
            # a quarter of the pixels: most are hit more than once
            positions = laid_out(torch.randint(0, size[0] * size[1] // 4, shape), layout)
            self.check(x, positions, size, device, kernel_size=2)

    @EVERY_TIER
    def test_few_strays_among_windows(self, device: torch.device) -> None:
        shape, size = (2, 3, 8, 8), (16, 16)
        w = Window.of(kernel_size=2)
        positions = pool_made(shape, size, w, "position", torch.Generator().manual_seed(1))
        positions[1, 2, 3, 4] = positions[1, 2, 0, 0]
        positions[0, 1, 0, 0] = positions[0, 1, 7, 7]
        self.check(torch.randn(shape), positions, size, device, kernel_size=2)

    @EVERY_TIER
    def test_overlapping_windows(self, device: torch.device) -> None:
        image = torch.randn(2, 8, 11, 13).round()
        positions = F.max_pool2d(image, 3, 2, 1, return_indices=True)[1]
        assert positions[0, 0].unique().numel() < positions[0, 0].numel()
        # a decoder has changed the values: those that came from one pixel are no longer equal
        self.check(torch.randn(positions.shape), positions, (11, 13), device, kernel_size=3, stride=2, padding=1)

    @EVERY_TIER
    def test_windows_outside_the_output(self, device: torch.device) -> None:
        """A smaller output than usual: the last windows lie beyond it, and point back into it."""
        x, positions = torch.randn(1, 2, 3, 3), torch.randint(0, 30, (1, 2, 3, 3))
        self.check(x, positions, (5, 6), device, kernel_size=1, stride=3, output_size=(5, 6))

    def check(self, x: Tensor, positions: Tensor, size: tuple[int, ...], device: torch.device, **kwargs: Any) -> None:
        kwargs = {"output_size": size, **kwargs}
        leaf = x.to(device).detach().requires_grad_()
        y = torchops.max_unpool2d(leaf, positions.to(device), **kwargs)
        assert torch.equal(y.cpu(), sequential(x, positions, size))
        dy = torch.randn(y.shape)
        (dx,) = torch.autograd.grad(y, leaf, dy.to(device), retain_graph=True)
        assert torch.equal(dx.cpu(), sequential_backward(dy, positions))

    @EVERY_TIER
    def test_same_bits_a_hundred_times(self, device: torch.device, tier: str) -> None:
        x = torch.randn(2, 3, 8, 9, device=device)
        positions = torch.randint(0, 50, x.shape, device=device)
        first = torchops.max_unpool2d(x, positions, 2)
        for _ in range(100 if tier in ("aten", "gpu") else 3):
            assert torch.equal(torchops.max_unpool2d(x, positions, 2), first)

    @pytest.mark.tiers("aten")
    def test_threads_do_not_change_it(self) -> None:
        x, positions = torch.randn(1, 2, 64, 64), torch.randint(0, 999, (1, 2, 64, 64))
        before = torch.get_num_threads()
        results = []
        try:
            for count in (1, 2, 4):
                torch.set_num_threads(count)
                forms = [x, x.contiguous(memory_format=torch.channels_last)]
                results += [torchops.max_unpool2d(form, positions, 2) for form in forms]
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(result, results[0]) for result in results)

    @pytest.mark.tiers("aten")
    def test_the_way_of_other_devices(self) -> None:
        """Where scatter goes in no order, the winners are found by an integer maximum."""
        positions, pixels = torch.randint(0, 20, (2, 3, 80)), torch.empty(2, 3, 20)
        numbers = unpooling._numbers(positions, 2)
        none = torch.full(pixels.shape, -1, dtype=numbers.dtype)
        by_order = unpooling._winners(positions, numbers, pixels, 2)
        hit = none.scatter(2, positions, numbers) >= 0
        assert torch.equal(by_order[hit], none.scatter_reduce(2, positions, numbers, "amax")[hit])


@EVERY_TIER
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_agrees_with_aten_bit_for_bit_without_overlap(layout: str, device: torch.device) -> None:
    # ATen's refuses to run otherwise: it leaves duplicates to chance
    torch.use_deterministic_algorithms(False)
    image = torch.randn(2, 8, 9, 14)
    for kwargs in ({"kernel_size": 2}, {"kernel_size": (3, 2)}, {"kernel_size": 2, "stride": 3}):
        image_here = laid_out(image, layout)
        y, positions = F.max_pool2d(image_here, **kwargs, return_indices=True)
        expected = F.max_unpool2d(y, positions, **kwargs, output_size=image.shape)
        for kind in (True, "offset"):
            pooled = torchops.max_pool2d(image_here.to(device), **kwargs, return_indices=kind)
            assert torch.equal(torchops.max_unpool2d(*pooled, **kwargs, output_size=image.shape).cpu(), expected)
        # ATen's indices here, ours there
        assert torch.equal(
            torchops.max_unpool2d(y.to(device), positions.to(device), **kwargs, output_size=image.shape).cpu(), expected
        )
        ours = torchops.max_pool2d(image_here.to(device), **kwargs, return_indices=True)
        assert torch.equal(F.max_unpool2d(ours[0].cpu(), ours[1].cpu(), **kwargs, output_size=image.shape), expected)


class TestHostileIndices:
    """Nothing is written outside the output, and nothing read: the IR tier fails at the first access out of bounds."""

    WINDOW = geometry.Window((3, 3), (2, 2), (1, 1))
    HOSTILE = (-1, -(2**63), 2**63 - 1, 2**32, 2**31, 77, 78)

    @pytest.mark.tiers("interpreter", "ir", "gpu")
    @pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
    @pytest.mark.parametrize("kind", [torch.int64, torch.uint8], ids=["positions", "offsets"])
    def test_point_to_nothing(self, kind: torch.dtype, channels_last: bool, device: torch.device) -> None:
        form = torch.channels_last if channels_last else torch.contiguous_format

        def dense(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device).contiguous(memory_format=form)

        x, y, dy, dx = dense(2, 8, 4, 6), dense(2, 8, 7, 11), dense(2, 8, 7, 11), dense(2, 8, 4, 6)
        x.copy_(torch.randn(x.shape))
        dy.copy_(torch.randn(dy.shape))
        indices = dense(2, 8, 4, 6, dtype=kind)
        if kind == torch.uint8:
            # most point beyond the window, and 0 of the first windows into the padding
            indices.copy_(torch.randint(0, 256, x.shape))
            positions = unpooling.positions_of((7, 11), x.shape[2:], self.WINDOW, torch.device("cpu"))(indices.cpu())
        else:
            indices.copy_(torch.tensor(self.HOSTILE)[torch.randint(0, len(self.HOSTILE), x.shape)])
            indices[0, :, 1, 1] = 5
            positions = indices.cpu()
        inside = (positions >= 0) & (positions < 77)
        kernels.max_unpool2d_fwd(x, indices, y, self.WINDOW, False)
        kernels.max_unpool2d_bwd(dy, indices, dx, self.WINDOW, False)
        # those that point to nothing go to a pixel of their own, which is cut off
        somewhere = torch.where(inside, positions, 77)
        expected = sequential(x.cpu(), somewhere, (1, 78))[..., :77].reshape(y.shape)
        assert torch.equal(y.cpu(), expected)
        grads = torch.cat((dy.cpu().flatten(2), torch.zeros(2, 8, 1)), dim=2)
        assert torch.equal(dx.cpu(), sequential_backward(grads, somewhere))

    @pytest.mark.tiers("ir", "gpu")
    def test_are_ignored_on_a_gpu_unless_checks_are_on(
        self, device: torch.device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = torch.ones(1, 1, 2, 2, device=device)
        positions = torch.tensor([[[[-1, 99], [16, 2]]]], device=device)
        y = torchops.max_unpool2d(x, positions, 2)
        assert y.cpu().flatten().nonzero().flatten().tolist() == [2]
        monkeypatch.setenv("TORCHOPS_CHECK_INDICES", "1")
        with pytest.raises(RuntimeError, match=r"`indices` must lie in \[0, 16\), .* got -1"):
            torchops.max_unpool2d(x, positions, 2)
