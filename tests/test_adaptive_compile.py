"""What the kernels of adaptive pools become for GPUs that are not there, and how much memory they move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torchops import inspect
from torchops.kernels import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d
from torchops.kernels.geometry import Window
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning import adaptive
from torchops.kernels.planning.compilers import compiler_version
from torchops.kernels.planning.hardware import DEVICES, memory_us
from torchops.kernels.planning.windows import Config

from .gates import assert_fits
from .test_pooling_compile import CHANNELS_LAST, NCHW
from .traffic import count_traffic

FORMS = pytest.mark.parametrize("form", [CHANNELS_LAST, NCHW], ids=["channels_last", "nchw"])
PASSES = ("avg_pool", "avg_pool_bwd", "max_pool", "max_pool_bwd")


def run(name: str, image: Tensor, pooled: Tensor, config: Config | None = None) -> None:
    indices = torch.zeros_like(pooled, dtype=torch.int64)
    if name == "avg_pool":
        adaptive_avg_pool2d.adaptive_avg_pool2d(image, pooled, False, config=config)
    elif name == "avg_pool_bwd":
        adaptive_avg_pool2d.adaptive_avg_pool2d(pooled, image, True, config=config)
    elif name == "max_pool":
        adaptive_max_pool2d.adaptive_max_pool2d(image, pooled, indices, config=config)
    else:
        adaptive_max_pool2d.adaptive_max_unpool2d(pooled, indices, image, config=config)


def tensors(shape: tuple[int, ...], size: Any, form: torch.memory_format, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        torch.empty(shape, dtype=dtype, memory_format=form),
        torch.empty((*shape[:2], *size), dtype=dtype, memory_format=form),
    )


def launched(
    name: str, shape: tuple[int, ...], size: Any, form: torch.memory_format, dtype: torch.dtype, arch: str = "sm_90",
    config: Config | None = None,
) -> Launch:  # fmt: skip
    with record(DEVICES[arch]) as found:
        run(name, *tensors(shape, size, form, dtype), config)
    (launch,) = found
    return launch


def whole_image(planes: int, pixels: int, interleaved: bool, *, itemsize: int, bytes_out: int) -> adaptive.Problem:
    """One window of all pixels, in one row."""
    return adaptive.Problem(
        planes=planes, rows=adaptive.Axis(size=1, size_in=1), cols=adaptive.Axis(size=1, size_in=pixels),
        interleaved=interleaved, itemsize=itemsize, bytes_out=bytes_out,
    )  # fmt: skip


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("name", ["avg_pool", "max_pool"])
@FORMS
def test_every_config_of_large_windows_fits(name: str, form: torch.memory_format, arch: str) -> None:
    """In bfloat16, which has the most elements a thread."""
    shape, dtype = (32, 256, 28, 28), torch.bfloat16
    problem = whole_image(shape[0] * shape[1], 28 * 28, form == CHANNELS_LAST, itemsize=dtype.itemsize, bytes_out=8)
    for config in adaptive.candidates(problem, DEVICES[arch]):
        assert_fits(launched(name, shape, (1, 1), form, dtype, arch, config))


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("size", [(6, 6), (1, 1)], ids=str)
def test_picked_configs_fit(name: str, size: Any, arch: str) -> None:
    """Windows of 3x3 pixels, which overlap, and of 13x13: no vector fits a row."""
    for form in (CHANNELS_LAST, NCHW):
        for dtype in (torch.bfloat16, torch.float64):
            assert_fits(launched(name, (32, 256, 13, 13), size, form, dtype, arch))


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", PASSES)
@FORMS
def test_one_window_moves_wide(name: str, form: torch.memory_format, dtype: torch.dtype) -> None:
    """What there is more of, the image, is read and written 128 bits at a time."""
    r = inspect.report(launched(name, (32, 256, 56, 56), (1, 1), form, dtype))
    if name.endswith("bwd"):
        assert set(r.stores) == {128}, r
    else:
        assert set(r.loads) == {128}, r
    # the windows, with 8 bytes for each index, are read again by every tile of an image, from a cache that holds them
    assert r.traffic <= (1.2 if (name, form) == ("max_pool_bwd", CHANNELS_LAST) else 1.05), r


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("shape", [(256, 2048, 7, 7), (32, 256, 56, 56), (8, 2048, 64, 64)], ids=str)
@FORMS
def test_one_window_takes_little_longer_than_memory(form: torch.memory_format, shape: tuple[int, ...]) -> None:
    """By the model, in bfloat16; a window a thread, pixel after pixel, took up to 260 times as long."""
    for name in ("avg_pool", "avg_pool_bwd"):
        r = inspect.report(launched(name, shape, (1, 1), form, torch.bfloat16))
        floor = memory_us(r.bytes_least, DEVICES["sm_90"])
        # rows of 49 columns are read and written one by one, with a few instructions more by an older Triton
        narrow = 2.5 if compiler_version() >= (3, 7) else 2.55
        assert r.modelled_us <= (1.3 if shape[3] > 7 or form == CHANNELS_LAST else narrow) * floor, r


@pytest.mark.tiers("compile")
@FORMS
def test_a_pool_of_the_whole_image_is_an_adaptive_one(form: torch.memory_format) -> None:
    image, pooled = tensors((32, 256, 28, 28), (1, 1), form, torch.bfloat16)
    whole = Window((28, 28), (28, 28), (0, 0))
    with record(DEVICES["sm_90"]) as found:
        for mean in ("inside", "padded", "cover", "fixed"):
            avg_pool2d.avg_pool2d(image, pooled, whole, mean, 7)
            avg_pool2d.avg_unpool2d(pooled, image, whole, mean, 7)
    names = [launch.name for launch in found]
    assert names[:6:2] == ["adaptive_avg_pool2d_large_kernel"] * 3
    assert set(names[1:6:2]) == {
        "adaptive_avg_pool2d_kernel" if form == CHANNELS_LAST else "adaptive_avg_pool2d_spread_kernel"
    }
    assert names[6:] == ["avg_pool2d_kernel", "avg_unpool2d_kernel"]


@pytest.mark.tiers("interpreter")
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (2, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("name", PASSES)
@FORMS
def test_memory_is_touched_as_often_as_the_cost_says(
    name: str, form: torch.memory_format, size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count, program by program, the distinct elements that are read and written, and compare with the bytes of `cost`."""
    image, pooled = tensors((2, 4, 16, 24), size, form, torch.float32)
    image.normal_()
    pooled.normal_()
    config = Config(4, 32, 1)
    with record(DEVICES["sm_90"]) as found:
        run(name, image, pooled, config)
    (launch,) = found
    elements = count_traffic(monkeypatch)
    run(name, image, pooled, config)
    out = image if name.endswith("bwd") else pooled
    assert elements["written"] == out.numel() * (2 if name == "max_pool" else 1)
    moved = elements["bytes_read"] + elements["bytes_written"]
    # tiles that begin in the middle of a plane, and corners, are what the cost leaves out
    assert moved <= 1.05 * launch.cost.bytes_moved, (moved, launch.cost)
    assert moved >= 0.9 * launch.cost.bytes_moved, (moved, launch.cost)


def test_configs_are_pure_and_no_larger_than_the_problem() -> None:
    for device in DEVICES.values():
        for interleaved in (False, True):
            for planes, pixels in ((1, 40), (3, 10_000), (65_536, 49), (64, 3136)):
                problem = whole_image(planes, pixels, interleaved, itemsize=2, bytes_out=2)
                config = adaptive.pick_config(problem, device)
                assert config in adaptive.candidates(problem, device)
                assert config.rows < 2 * planes
                assert config.cols < 2 * pixels
