"""Flat convolutions, pools and unpools of any shape, compiled for an H100: ptxas drops no constant of their index arithmetic.

Filters, strides and trip counts are constants there, which LLVM may pack into 16-bit additions (see kernels/canary.py). Of 300
shapes drawn once for triton 3.6 and 3.8 none was hit. `make fuzz` draws ten times as many as `make test`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from torchops import inspect

pytestmark = pytest.mark.tiers("compile")
FLOATS = st.sampled_from((torch.float32, torch.float16, torch.bfloat16))
SIZES = st.tuples(st.sampled_from((1, 8)), st.sampled_from((28, 33, 41, 224)), st.sampled_from((28, 32, 57, 224)))
Case = tuple[str, torch.dtype, dict[str, Any]]


def _pairs(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def flat(draw: st.DrawFn) -> Case:
    """Fewer than 16 channels: they and the taps make one axis."""
    (n, h, w), (groups, i) = draw(SIZES), draw(st.tuples(st.sampled_from((1, 1, 1, 2)), st.integers(1, 15)))
    mode = draw(st.sampled_from(("zeros", "zeros", "reflect", "replicate", "circular")))
    return "conv2d", draw(FLOATS), {
        "shape": (n, groups * i, h, w),
        "weight": (groups * 64, i, *draw(_pairs(1, 11))),
        "groups": groups,
        "stride": draw(_pairs(1, 4)),
        "padding": draw(_pairs(0, 5)),
        "dilation": draw(st.integers(1, 2)),
        "padding_mode": mode,
        "channels_last": draw(st.booleans()),
    }  # fmt: skip


@st.composite
def windowed(draw: st.DrawFn) -> Case:
    ops = "max_pool2d", "min_pool2d", "avg_pool2d", "max_unpool2d", "avg_unpool2d"
    op, kernel, (n, h, w) = draw(st.sampled_from(ops)), draw(_pairs(1, 9)), draw(SIZES)
    further: dict[str, Any] = {}
    if "pool2d" in op and op[:3] in ("max", "min"):
        further["dilation"] = draw(_pairs(1, 3))
        if op == "max_unpool2d":
            further["indices"] = draw(st.sampled_from(("offset", "position")))
        else:
            further["return_indices"] = draw(st.sampled_from((False, True, "offset")))
    return op, draw(FLOATS), {
        "shape": (n, draw(st.sampled_from((1, 3, 8, 20))), h, w),
        "kernel_size": kernel,
        "stride": draw(_pairs(1, 4)),
        "padding": draw(st.tuples(*(st.integers(0, k // 2) for k in kernel))),
        "channels_last": draw(st.booleans()),
        **further,
    }  # fmt: skip


def _check(case: Case) -> None:
    op, dtype, kwargs = case
    launches = [launch for part in inspect.plan(op, "sm_90", dtype, **kwargs) for launch in part]
    # of a convolution, the product of the other gradient and the sums are left out: sizes are arguments there
    asked = [launch for launch in launches if op != "conv2d" or "_flat_" in launch.name]
    assert asked
    for launch in asked:
        assert not inspect.report(launch).dropped_constants, launch


TELLING: tuple[Case, ...] = (
    # 34 packed additions, 14 of them of a constant, with triton 3.8
    ("conv2d", torch.float32, {"shape": (2, 13, 33, 32), "weight": (16, 13, 2, 7), "stride": (1, 2), "padding": (4, 3),
                               "dilation": 2}),
    # one of a constant each in the pool and in its gradient
    ("avg_pool2d", torch.float32, {"shape": (8, 16, 28, 64), "kernel_size": (4, 3), "stride": (2, 1), "padding": (2, 0)}),
)  # fmt: skip


@given(flat())
@example(TELLING[0])
def test_flat_convolutions_keep_their_constants(case: Case) -> None:
    _check(case)


@given(windowed())
@example(TELLING[1])
def test_pools_and_unpools_keep_their_constants(case: Case) -> None:
    _check(case)
