"""interpolate: samples and rejections for the questions of `conformance`, and torch's own where it rounds as it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import catalog

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import OpInfo, Rejection, Sample
from .test_max_pool2d import ARCHS

_X = torch.rand(1, 3, 6, 7)


def _rejection(name: str, error: type[Exception], match: str, *args: Any, **kwargs: Any) -> Rejection:
    return Rejection(name, lambda: torchops.interpolate(*args, **kwargs), error, match)


class TestInterpolate(Conformance):
    info = OpInfo(
        op=catalog.OPS["interpolate"],
        archs=ARCHS,
        samples=(
            Sample((2, 3, 5, 7), {"scale_factor": 2}),
            Sample((2, 8, 4, 6), {"scale_factor": (3, 1)}),
            Sample((1, 3, 5, 6), {"scale_factor": 1}),
            Sample((2, 17, 1, 1), {"size": 7}),
            Sample((1, 4, 3, 4), {"size": (6, 12), "mode": "nearest-exact"}),
        ),
        rejections=(
            _rejection("not_a_tensor", TypeError, r"`input` must be a tensor, got list", [1.0], scale_factor=2),
            _rejection("unbatched", ValueError, r"`input` must have shape \(N, C, H, W\), .* \(3, 6, 7\)", _X[0], 12),
            _rejection("integers", TypeError, r"`input` must be floating .* torch\.int64", _X.long(), scale_factor=2),
            _rejection("mode", ValueError, r"`mode` must be 'nearest' .* got 'bilinear'", _X, 12, mode="bilinear"),
            _rejection("corners", ValueError, r"`align_corners` .* got True", _X, (12, 14), align_corners=True),
            _rejection("antialias", ValueError, r"`antialias` .* got True", _X, (12, 14), antialias=True),
            _rejection("neither", ValueError, r"one of `size` and `scale_factor` .* got None and None", _X),
            _rejection("both", ValueError, r"one of `size` and `scale_factor` .* got 12 and 2", _X, 12, 2),
            _rejection(
                "no_multiple", ValueError, r"`size` must be a multiple of \(6, 7\), .* \(12, 15\)", _X, (12, 15)
            ),
            _rejection("smaller", ValueError, r"`size` must be a multiple of \(6, 7\), .* \(3, 7\)", _X, (3, 7)),
            _rejection("size_float", TypeError, r"`size` must be an integer .* got 12\.0", _X, 12.0),
            _rejection("half", ValueError, r"`scale_factor` must be a whole number .* got 0\.5", _X, None, 0.5),
            _rejection("broken", ValueError, r"`scale_factor` .* got \(2, 1\.5\)", _X, None, (2, 1.5)),
            _rejection("three", ValueError, r"`scale_factor` .* got \(2, 2, 2\)", _X, None, (2, 2, 2)),
            _rejection("nan", ValueError, r"`scale_factor` .* got nan", _X, None, float("nan")),
        ),
        module=(torchops.nn.Upsample, {"scale_factor": (1, 3)}),
        registered=("avg_unpool2d", "avg_pool2d"),
    )

    def call(self, inputs: Any, sample: Sample) -> Tensor:
        """An image alone, which torch would take for rows of pixels, and which is refused, is given as a batch of one."""
        (x,) = inputs
        return super().call((x,), sample) if x.dim() == 4 else super().call((x.unsqueeze(0),), sample).squeeze(0)


@EVERY_TIER
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_matches_torch(channels_last: bool, device: torch.device) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=form)
    for kwargs in ({"scale_factor": 2}, {"scale_factor": (2.0, 3.0)}, {"size": (8, 5)}, {"size": torch.Size((12, 10))}):
        for mode in ("nearest", "nearest-exact"):
            ours, theirs = x.to(device).requires_grad_(), x.clone().requires_grad_()
            y = torchops.interpolate(ours, **kwargs, mode=mode)  # type: ignore[arg-type]
            expected = F.interpolate(theirs, **kwargs, mode=mode)  # type: ignore[arg-type]
            assert torch.equal(y.cpu(), expected)
            assert y.is_contiguous(memory_format=form)
            grad = torch.randn_like(expected)
            (dx,) = torch.autograd.grad(y, ours, grad.to(device))
            close(dx, torch.autograd.grad(expected, theirs, grad)[0], torch.float32)


@OPERATOR
def test_every_pixel_is_its_own(device: torch.device) -> None:
    """Also where the position times float32(1 / factor) falls short of a whole number, as 41 / 41 does."""
    x = torch.arange(1.0, 9.0, device=device).view(1, 2, 2, 2)
    for factor in (41, 47, 55, 61, 83):
        expected = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        assert torch.equal(torchops.interpolate(x, scale_factor=factor), expected)
        assert torch.equal(torchops.avg_unpool2d(x, factor), expected)


@OPERATOR
def test_module_of_the_nearest(device: torch.device) -> None:
    x = torch.randn(1, 2, 3, 3, device=device)
    for layer in (torchops.nn.UpsamplingNearest2d(scale_factor=2), torchops.nn.UpsamplingNearest2d(size=(6, 6))):
        assert isinstance(layer, torch.nn.UpsamplingNearest2d)
        assert torch.equal(layer(x), torchops.interpolate(x, scale_factor=2))


def test_other_dimensions_are_torchs() -> None:
    for shape in ((2, 3, 5), (2, 3, 2, 5, 4)):
        x = torch.randn(shape)
        assert torch.equal(torchops.nn.Upsample(scale_factor=2)(x), torch.nn.Upsample(scale_factor=2)(x))
