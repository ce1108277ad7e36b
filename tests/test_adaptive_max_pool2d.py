"""adaptive_max_pool2d: samples and rejections for the questions of `conformance`, values and indices against ATen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import catalog

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import LAYOUTS, OpInfo, Rejection, Sample, laid_out
from .test_adaptive_avg_pool2d import SAMPLES, rejections_of
from .test_max_pool2d import ARCHS, hard_images


class TestAdaptiveMaxPool2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["adaptive_max_pool2d"],
        archs=ARCHS,
        samples=SAMPLES,
        rejections=(
            *rejections_of(torchops.adaptive_max_pool2d),
            Rejection(
                "indices",
                lambda: torchops.adaptive_max_pool2d(torch.rand(1, 4, 4), 2, return_indices="offset"),  # type: ignore[call-overload]
                TypeError,
                r"`return_indices` must be True or False, got 'offset'",
            ),
        ),
        module=(torchops.nn.AdaptiveMaxPool2d, {"output_size": (3, None)}),
        outputs=2,
        registered=("adaptive_max_pool2d", "adaptive_max_unpool2d"),
    )


def check_against_aten(x: Tensor, size: Any) -> None:
    """Values and indices, bit for bit."""
    expected = F.adaptive_max_pool2d(x.cpu(), size, return_indices=True)
    y, positions = torchops.adaptive_max_pool2d(x, size, return_indices=True)
    torch.testing.assert_close(y.cpu(), expected[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(positions.cpu(), expected[1])
    assert (positions.stride(), positions.dtype) == (y.stride(), torch.int64)
    torch.testing.assert_close(torchops.adaptive_max_pool2d(x, size), y, rtol=0, atol=0, equal_nan=True)


class TestIndices:
    @EVERY_TIER
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.id)
    def test_match_aten(self, sample: Sample, device: torch.device) -> None:
        check_against_aten(hard_images(sample.shape).to(device), sample.kwargs["output_size"])

    @EVERY_TIER
    @pytest.mark.parametrize("size", [(4, 5), 1, (1, 2)], ids=str)
    @pytest.mark.parametrize("layout", list(LAYOUTS))
    def test_match_aten_in_any_layout(self, layout: str, size: Any, device: torch.device) -> None:
        check_against_aten(laid_out(hard_images((2, 8, 9, 13)).to(device), layout), size)

    @EVERY_TIER
    def test_match_aten_in_every_dtype(self, device: torch.device, tier: str) -> None:
        for dtype in (torch.float16, torch.float64 if tier == "interpreter" else torch.bfloat16):
            for size in ((4, 5), 1):
                check_against_aten(hard_images((2, 8, 9, 13)).to(device, dtype), size)

    @EVERY_TIER
    def test_last_nan_wins_and_the_first_of_equals(self, device: torch.device) -> None:
        for width in (5, 50):
            x = torch.zeros(1, 3, 1, width, device=device)
            x[:, 0, :, [1, 3]] = torch.nan
            x[:, 1] = -torch.inf
            x[:, 2, :, [2, 4]] = 7.0
            y, positions = torchops.adaptive_max_pool2d(x, 1, return_indices=True)
            assert y.flatten().isnan().tolist() == [True, False, False]
            assert y.flatten().tolist()[1:] == [-torch.inf, 7.0]
            assert positions.flatten().tolist() == [3, 0, 2]

    @EVERY_TIER
    @pytest.mark.parametrize("size", [(4, 5), 1, (12, 20)], ids=str)
    def test_gradient_with_indices(self, size: Any, device: torch.device) -> None:
        """What overlapping windows send to a pixel is added; gradients of gradients fetch it from there."""
        x = torch.randn(2, 3, 9, 13, device=device, requires_grad=True)
        theirs = x.detach().cpu().requires_grad_()
        y, _ = torchops.adaptive_max_pool2d(x, size, return_indices=True)
        expected = F.adaptive_max_pool2d(theirs, size)
        grad = torch.randn_like(y).requires_grad_()
        (dx,) = torch.autograd.grad(y, x, grad, create_graph=True)
        close(dx, torch.autograd.grad(expected, theirs, grad.detach().cpu())[0], torch.float32)
        v = torch.randn_like(dx).requires_grad_()
        (back,) = torch.autograd.grad(dx, grad, v, create_graph=True)
        _, positions = torchops.adaptive_max_pool2d(x, size, return_indices=True)
        assert torch.equal(back, v.flatten(2).gather(2, positions.flatten(2)).view_as(back))
        (again,) = torch.autograd.grad(back, v, grad.detach())
        assert torch.equal(again, dx)

    @OPERATOR
    def test_have_no_gradient(self, device: torch.device) -> None:
        y, indices = torchops.adaptive_max_pool2d(torch.randn(1, 1, 4, 4, device=device, requires_grad=True), 2, True)
        assert y.requires_grad
        assert not indices.requires_grad

    @OPERATOR
    def test_compile_and_vmap(self, device: torch.device) -> None:
        torch._dynamo.reset()
        x = torch.randn(3, 2, 3, 8, 9, device=device)
        whole = torchops.adaptive_max_pool2d(x.flatten(0, 1), 3, return_indices=True)
        mapped = torch.vmap(lambda t: torchops.adaptive_max_pool2d(t, 3, return_indices=True))(x)
        compiled = torch.compile(torchops.adaptive_max_pool2d, backend="aot_eager", fullgraph=True)(
            x.flatten(0, 1), 3, return_indices=True
        )
        for a, b, c in zip(whole, mapped, compiled, strict=True):
            assert torch.equal(a, b.flatten(0, 1))
            assert torch.equal(a, c)

    @EVERY_TIER
    def test_unpooling_by_them(self, device: torch.device) -> None:
        """They are positions as those of any pool."""
        x = torch.randn(2, 3, 8, 12, device=device)
        y, indices = torchops.adaptive_max_pool2d(x, 4, return_indices=True)
        up = torchops.max_unpool2d(y, indices, (2, 3))
        assert torch.equal(up[up != 0], x[up != 0])
        assert torch.equal(torchops.adaptive_max_pool2d(up.where(up != 0, -torch.inf), 4), y)
