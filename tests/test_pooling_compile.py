"""What the kernels of pooling and unpooling become for GPUs that are not there, and how much memory they move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from torchops import inspect
from torchops.kernels import avg_pool2d, max_pool2d, max_unpool2d
from torchops.kernels.geometry import Window
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning import windows
from torchops.kernels.planning.compilers import Version
from torchops.kernels.planning.hardware import DEVICES, Device
from torchops.kernels.planning.windows import Config, Slide

from .gates import assert_fits
from .traffic import count_traffic

CHANNELS_LAST, NCHW = torch.channels_last, torch.contiguous_format
TWO = Window((2, 2), (2, 2), (0, 0))
THREE = Window((3, 3), (2, 2), (1, 1))
"""ResNet's."""
DENSE = Window((3, 3), (1, 1), (1, 1))
"""GoogLeNet's: as many windows as pixels."""
SEVEN = Window((7, 7), (1, 1), (3, 3))


@dataclass(frozen=True)
class Pass:
    """One call of a launcher."""

    name: str
    window: Window
    indices: torch.dtype | None = torch.uint8

    def __call__(self, image: Tensor, pooled: Tensor, config: Config | None = None) -> None:
        indices = None if self.indices is None else torch.empty_like(pooled, dtype=self.indices)
        if indices is not None:
            # for what is not only compiled
            indices.zero_()
        calls: dict[str, Callable[[], None]] = {
            "max_pool": lambda: max_pool2d.max_pool2d_fwd(image, pooled, indices, self.window, False, config=config),
            "max_unpool": lambda: max_unpool2d.max_unpool2d_fwd(
                pooled, indices, image, self.window, False, config=config
            ),
            "max_unpool_bwd": lambda: max_unpool2d.max_unpool2d_bwd(
                image, indices, pooled, self.window, False, config=config
            ),
            "max_pool_bwd": lambda: max_unpool2d.max_unpool2d_fwd(
                pooled, indices, image, self.window, True, config=config
            ),
            "avg_pool": lambda: avg_pool2d.avg_pool2d(image, pooled, self.window, "inside", 1, config=config),
            "avg_unpool": lambda: avg_pool2d.avg_unpool2d(pooled, image, self.window, "cover", 1, config=config),
        }
        calls[self.name]()

    @property
    def is_heavy(self) -> bool:
        """Whether its threads may not have two outputs."""
        anywhere = self.indices == torch.int64 and "unpool" in self.name
        return anywhere or self.window == THREE or self.name in ("max_pool", "avg_pool")

    @property
    def is_hard(self) -> bool:
        """Whether it has the most registers of its kind: windows overlap, positions may point anywhere, or a thread may have
        two outputs."""
        return self.window == THREE or (self.name, self.indices) == ("max_unpool", torch.int64) or not self.is_heavy

    @property
    def id(self) -> str:
        kind = {None: "", torch.uint8: "-offsets", torch.int64: "-positions"}[self.indices]
        return f"{self.name}-{self.window.kernel[0]}x{self.window.kernel[1]}{kind}"


PASSES = (
    Pass("max_pool", TWO, None),
    Pass("max_pool", TWO),
    Pass("max_pool", THREE),
    Pass("max_pool", THREE, torch.int64),
    Pass("max_unpool", TWO),
    Pass("max_unpool", THREE),
    Pass("max_unpool", TWO, torch.int64),
    Pass("max_unpool_bwd", TWO),
    Pass("max_unpool_bwd", THREE),
    Pass("max_unpool_bwd", THREE, torch.int64),
    Pass("max_pool_bwd", TWO, torch.int64),
    Pass("max_pool_bwd", THREE),
    Pass("avg_pool", TWO, None),
    Pass("avg_pool", THREE, None),
    Pass("avg_unpool", TWO, None),
    Pass("avg_unpool", THREE, None),
)


SLIDING = (
    *(Pass("max_pool", THREE, kind) for kind in (None, torch.uint8)),
    *(Pass(name, window, torch.int64) for name in ("max_pool", "max_pool_bwd") for window in (DENSE, SEVEN)),
    *(Pass(name, window, None) for name in ("avg_pool", "avg_unpool") for window in (THREE, DENSE, SEVEN)),
    *(Pass("max_pool_bwd", window) for window in (THREE, DENSE)),
)
"""Those of windows that overlap, whose tiles can slide."""


def tensors(
    shape: tuple[int, ...], form: torch.memory_format, dtype: torch.dtype, window: Window
) -> tuple[Tensor, Tensor]:
    """An image, and its windows."""
    image = torch.empty(shape, dtype=dtype, memory_format=form)
    pooled = (*shape[:2], *window.output_size(shape[2:]))
    return image, torch.empty(pooled, dtype=dtype, memory_format=form)


def launches(p: Pass, device: Device, form: torch.memory_format, dtype: torch.dtype, **kwargs: Any) -> list[Launch]:
    shape = kwargs.pop("shape", (8, 64, 128, 128))
    with record(device) as found:
        for config in kwargs.pop("configs", (None,)):
            p(*tensors(shape, form, dtype, p.window), config)
    return found


def candidates(
    device: Device, itemsize: int, heavy: bool, compiler: Version | None = None, slide: Slide | None = None
) -> list[Config]:
    """Of any problem of such outputs."""
    axis = windows.Axis(size=64, size_in=128, extent=2, stride=2, padding=0, windows=True)
    problem = windows.Problem(
        planes=512, lanes=1, rows=axis, cols=axis, bytes_in=itemsize, bytes_out=itemsize, itemsize=itemsize,
        taps=4, unroll=4, heavy=heavy, slide=slide,
    )  # fmt: skip
    return windows.candidates(problem, device, compiler)


def _assert_every_config_fits(p: Pass, arch: str, dtype: torch.dtype) -> None:
    """NCHW keeps most single elements in registers."""
    device = DEVICES[arch]
    configs = candidates(device, dtype.itemsize, p.is_heavy)
    found = launches(p, device, NCHW, dtype, configs=configs)
    assert len({launch.config for launch in found}) == len(configs)
    for launch in found:
        assert_fits(launch)


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("p", [p for p in PASSES if p.is_hard], ids=lambda p: p.id)
def test_every_config_compiles_within_the_gates(p: Pass, arch: str) -> None:
    """In bfloat16, which has the most elements a thread."""
    _assert_every_config_fits(p, arch, torch.bfloat16)


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("p", SLIDING, ids=lambda p: f"{p.id}-s{p.window.stride[0]}")
def test_every_config_that_slides_fits(p: Pass, arch: str) -> None:
    """In bfloat16 in NCHW, which has the most elements a thread; one strip of each tile, whose rows are no constant."""
    device = DEVICES[arch]
    slide = Slide(p.window.kernel[0], p.window.kernel[1], p.window.stride[0], True, False, False)
    tiles = {replace(c, strip=14): None for c in candidates(device, 2, True, slide=slide) if c.strip}
    found = launches(p, device, NCHW, torch.bfloat16, shape=(8, 64, 57, 64), configs=tiles)
    assert len(found) == len(tiles) > 0
    for launch in found:
        assert "slide" in launch.name
        assert_fits(launch)


@pytest.mark.tiers("compile")
@pytest.mark.parametrize(("arch", "dtype"), [("sm_80", torch.float64), ("sm_89", torch.bfloat16)], ids=str)
@pytest.mark.parametrize("p", [p for p in PASSES if p.name in ("max_unpool", "max_pool_bwd")], ids=lambda p: p.id)
def test_every_config_of_unpooling_fits(p: Pass, arch: str, dtype: torch.dtype) -> None:
    """Where ptxas 12.8, of triton 3.6, rather spills than fits one program less."""
    _assert_every_config_fits(p, arch, dtype)


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("form", [CHANNELS_LAST, NCHW], ids=["channels_last", "nchw"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("p", PASSES, ids=lambda p: p.id)
def test_picked_configs_move_wide(p: Pass, dtype: torch.dtype, form: torch.memory_format) -> None:
    """No spills; values are stored 128 bits at a time, and loaded so too where channels lie back to back."""
    gather, *rest = map(inspect.report, launches(p, DEVICES["sm_90"], form, dtype))
    assert (gather.spills, gather.stack_bytes) == (0, 0), gather
    assert len(rest) == (p.indices == torch.int64 and "unpool" in p.name)
    assert gather.stores.get(128, 0) >= 1
    if form == CHANNELS_LAST and p.name != "max_unpool_bwd":
        wide = {128} if p.indices is None or p.name == "max_pool" else {128, 64, 32, 16}
        assert set(gather.loads) <= wide, gather
        assert gather.loads[128] >= 1


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("channels", [8, 24, 40])
def test_channels_that_are_no_multiple_of_16_stay_wide(channels: int) -> None:
    p = Pass("max_pool", TWO, None)
    (launch,) = launches(p, DEVICES["sm_90"], CHANNELS_LAST, torch.bfloat16, shape=(4, channels, 30, 26))
    r = inspect.report(launch)
    assert set(r.loads) == {128}, r
    assert set(r.stores) == {128}, r


@pytest.mark.tiers("compile")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("form", [CHANNELS_LAST, NCHW], ids=["channels_last", "nchw"])
def test_traffic_without_overlap_is_the_least(form: torch.memory_format, arch: str) -> None:
    """The gate: 1.05 times the least, for unpooling with offsets and for every pool whose stride is its kernel."""
    for p in PASSES:
        if p.window != TWO or p.indices == torch.int64:
            continue
        for shape in ((8, 64, 512, 512), (8, 64, 128, 128), (32, 64, 56, 56), (256, 6, 28, 28), (2, 3, 1080, 1920)):
            (launch,) = launches(p, DEVICES[arch], form, torch.bfloat16, shape=shape)
            assert launch.cost.bytes_moved <= 1.05 * launch.cost.bytes_least, (p, shape, launch.config)


@pytest.mark.tiers("interpreter")
@pytest.mark.parametrize("form", [CHANNELS_LAST, NCHW], ids=["channels_last", "nchw"])
@pytest.mark.parametrize(
    ("p", "config"),
    [
        *((p, Config(4, 32, 1)) for p in PASSES if p.indices != torch.int64),
        *((p, Config(4, 32, 1, strip=6)) for p in SLIDING if p.indices != torch.int64 and p.window != SEVEN),
    ],
    ids=lambda value: value.id + f"-s{value.window.stride[0]}" if isinstance(value, Pass) else f"strip{value.strip}",
)
def test_memory_is_touched_as_often_as_the_cost_says(
    p: Pass, config: Config, form: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count, program by program, the distinct elements that are read and written, and compare with the bytes of `cost`."""
    image, pooled = tensors((2, 4, 16, 24), form, torch.float32, p.window)
    image.normal_()
    pooled.normal_()
    with record(DEVICES["sm_90"]) as found:
        p(image, pooled, config)
    (launch,) = found
    elements = count_traffic(monkeypatch)
    p(image, pooled, config)
    out = pooled if p.name in ("max_pool", "avg_pool", "max_unpool_bwd") else image
    written = out.numel() * (2 if p.name == "max_pool" and p.indices else 1)
    assert elements["written"] == written
    read = elements["bytes_read"] + elements["bytes_written"]
    # tiles that begin in the middle of a plane, and corners, are what the cost leaves out
    assert read <= 1.05 * launch.cost.bytes_moved, (read, launch.cost)
    # a fetched pixel has a line of memory fetched; otherwise what is moved is used
    assert read >= 0.9 * launch.cost.bytes_moved or p.name == "max_unpool_bwd", (read, launch.cost)
    if p.window == TWO:
        assert read <= 1.05 * launch.cost.bytes_least


class TestPickConfig:
    def test_is_pure_and_fits_the_rows(self) -> None:
        for device in DEVICES.values():
            for form in (CHANNELS_LAST, NCHW):
                for width in (7, 14, 28, 56, 112, 224):
                    (launch,) = launches(PASSES[0], device, form, torch.bfloat16, shape=(32, 64, 2 * width, 2 * width))
                    assert launch.config in candidates(device, 2, True)
                    if form == NCHW:
                        # at least a line of the cache, or a row; and at most half of the threads have no column
                        assert min(64, width) <= launch.config.cols < 2 * max(64, width)

    def test_what_an_older_compiler_spills_is_no_candidate(self) -> None:
        ampere, two_bytes = DEVICES["sm_80"], torch.bfloat16.itemsize
        new, old = (candidates(ampere, two_bytes, True, compiler) for compiler in ((3, 7), (3, 6)))
        assert [config for config in new if config not in old] == [windows.Config(1, 1024, 4)]
        slide = Slide(3, 3, 1, True, True, True)
        new, old = (
            {(c.rows, c.cols) for c in candidates(ampere, two_bytes, True, compiler, slide) if c.strip}
            for compiler in ((3, 7), (3, 6))
        )
        assert new - old == {(1, 1024), (1, 2048)}
        hopper = DEVICES["sm_90"]
        assert candidates(hopper, two_bytes, True, (3, 6)) == candidates(hopper, two_bytes, True, (3, 8))

    def test_tiles_slide_where_windows_overlap(self) -> None:
        for form in (CHANNELS_LAST, NCHW):
            for p, slides in ((Pass("max_pool", DENSE), True), (Pass("max_pool_bwd", DENSE), True), (PASSES[0], False)):
                (launch,) = launches(p, DEVICES["sm_90"], form, torch.bfloat16, shape=(32, 256, 28, 28))
                assert (launch.config.strip > 0) is slides, launch.config
                assert ("slide" in launch.name) is slides

    def test_small_problems_fill_the_gpu(self) -> None:
        device = DEVICES["sm_90"]
        small, large = (
            launches(PASSES[0], device, NCHW, torch.bfloat16, shape=(1, channels, 56, 56))[0].config
            for channels in (64, 4096)
        )
        assert small.rows * small.cols <= large.rows * large.cols

    def test_axis_counts_what_outputs_read(self) -> None:
        pool = windows.Axis(size=5, size_in=9, extent=3, stride=2, padding=1, windows=True)
        assert [pool.read(p, p) for p in range(5)] == [2, 3, 3, 3, 2]
        assert pool.read(0, 4) == 9
        unpool = windows.Axis(size=9, size_in=5, extent=3, stride=2, padding=1, windows=False)
        assert [unpool.read(h, h) for h in range(9)] == [1, 2, 1, 2, 1, 2, 1, 2, 1]
        gaps = windows.Axis(size=3, size_in=9, extent=1, stride=3, padding=0, windows=True)
        assert gaps.read(0, 2) == 3
