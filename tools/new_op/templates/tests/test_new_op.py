"""new_op: samples and rejections for the questions of `conformance`, and what is particular to it."""

from __future__ import annotations

import pytest
import torch

import torchops
from torchops import catalog

from .conformance import EVERY_TIER, Conformance
from .opinfo import OpInfo, Rejection, Sample

_X = torch.rand(1, 3, 4, 5)


class TestNewOp(Conformance):
    info = OpInfo(
        op=catalog.OPS["new_op"],
        samples=(
            Sample((2, 3, 5, 7), {"scale": 0.3}),
            Sample((2, 17, 4, 6), {"scale": -3}),
            Sample((1, 1, 1, 300)),
        ),
        rejections=(
            Rejection("not_a_tensor", lambda: torchops.new_op([1.0]), TypeError, r"`input` must be a tensor, got list"),
            Rejection(
                "rank", lambda: torchops.new_op(_X[0, 0]), ValueError, r"`input` must have shape .* got \(4, 5\)"
            ),
            Rejection(
                "integers", lambda: torchops.new_op(_X.long()), TypeError, r"`input` must be floating .* torch\.int64"
            ),
            Rejection("word", lambda: torchops.new_op(_X, "2"), TypeError, r"`scale` must be a number, got '2'"),
            Rejection(
                "infinite", lambda: torchops.new_op(_X, torch.inf), ValueError, r"`scale` must be finite, got inf"
            ),
        ),
        registered=("new_op",),
    )


@EVERY_TIER
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_matches_aten(channels_last: bool, device: torch.device) -> None:
    x = torch.randn(2, 3, 9, 11, device=device)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    assert torch.equal(torchops.new_op(x, 0.5), x * 0.5)


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_moves_128_bits(channels_last: bool) -> None:
    from torchops.inspect import inspect

    for report in inspect("new_op", "sm_90", channels_last=channels_last):
        assert set(report.loads) == set(report.stores) == {128}
