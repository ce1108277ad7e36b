"""What the convolution kernels become for GPUs that are not there: every config that can be picked, and the named layers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench import model
from torchops import inspect
from torchops.kernels import conv2d as kernels
from torchops.kernels.conv2d.plain import PlainConfig
from torchops.kernels.geometry import Conv2d
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning import conv2d as conv2d_config
from torchops.kernels.planning.compilers import compiler_version
from torchops.kernels.planning.conv2d import Config, Problem, candidates, choices, pick_config
from torchops.kernels.planning.hardware import DEVICES, Device
from torchops.workloads import CASES, LAYERS, ConvLayer

from .gates import assert_fits

pytestmark = pytest.mark.tiers("compile")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Pass:
    """One call of a launcher, as hard on registers as it gets: a border by index, a residual, the longest activation."""

    name: str
    what: str
    """"fwd", "input_grad" or "weight_grad"."""
    channels: tuple[int, int]
    groups: int = 1
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding_mode: str = "reflect"
    value: float = 0.0
    channels_last: bool = True
    activation: str = "gelu"
    """After a bias and, unless it is a ReLU, a residual; "none" without either."""
    kernel: int = 3
    dtype: torch.dtype = torch.bfloat16
    tf32: bool = True

    def launch(self) -> None:
        c, k = self.channels

        def tensor(*size: int) -> Tensor:
            form = torch.channels_last if self.channels_last else torch.contiguous_format
            return torch.empty(size, dtype=self.dtype, memory_format=form)

        p, q = (57 - 1) // self.stride[0] + 1, (59 - 1) // self.stride[1] + 1
        x, w, y = tensor(8, c, 57, 59), tensor(k, c // self.groups, self.kernel, self.kernel), tensor(8, k, p, q)
        bias = torch.empty(k if self.what == "fwd" else c, dtype=self.dtype)
        top, left = (d * (self.kernel // 2) for d in self.dilation)
        conv = Conv2d(self.stride, (left, left, top, top), self.dilation, self.groups, self.padding_mode, self.value)
        with torch.backends.cudnn.flags(allow_tf32=self.tf32):
            if self.what == "fwd":
                residual = y if self.activation == "gelu" else None
                kernels.conv2d_fwd(x, w, bias, residual, y, conv, self.activation)
            elif self.what == "input_grad":
                further = None if self.activation == "none" else bias
                kernels.conv2d_input_grad(y, w, further, x, conv.adjoint())
            else:
                kernels.conv2d_weight_grad(y, x, w, None, conv)


def _passes() -> Iterator[Pass]:
    wide, odd, few, narrow = (128, 128), (72, 136), (3, 64), (128, 128)
    for what in ("fwd", "input_grad", "weight_grad"):
        yield Pass("gemm", what, wide)
        yield Pass("planes", what, odd, channels_last=False)
        yield Pass("depthwise", what, narrow, groups=128)
        yield Pass("depthwise-5x5", what, narrow, groups=128, kernel=5)
        yield Pass("depthwise-7x7", what, narrow, groups=128, kernel=7)
        yield Pass("depthwise-planes", what, narrow, groups=128, channels_last=False)
        yield Pass("grouped-planes", what, narrow, groups=32, channels_last=False)
        # two, four or eight bytes are all that can be loaded together
        yield Pass("channels-257", what, (257, 257), activation="relu", padding_mode="zeros")
        yield Pass("channels-260", what, (260, 260))
        yield Pass("grouped", what, narrow, groups=32)
        yield Pass("tf32", what, wide, dtype=torch.float32)
        yield Pass("ieee", what, wide, dtype=torch.float32, tf32=False)
        yield Pass("float64", what, wide, dtype=torch.float64)
    for what in ("fwd", "weight_grad"):
        yield Pass("flat", what, few, padding_mode="circular")
        yield Pass("flat-planes", what, few, channels_last=False)
        yield Pass("value", what, odd, padding_mode="constant", value=0.5)
    # seven by seven taps of 3 channels are 147 columns
    yield Pass("flat-7x7", "weight_grad", few, kernel=7, padding_mode="zeros", stride=(2, 2))
    yield Pass("flat-7x7-planes", "weight_grad", few, kernel=7, channels_last=False)
    yield Pass("flat-7x7-planes-tf32", "weight_grad", few, kernel=7, channels_last=False, dtype=torch.float32)
    for kernel in (3, 5, 7):
        for dtype in (torch.bfloat16, torch.float32)[: 2 if kernel == 3 else 1]:
            size = f"slide-{kernel}x{kernel}-{dtype.itemsize}"
            yield Pass(f"{size}-strided", "fwd", narrow, 128, (2, 2), kernel=kernel, dtype=dtype, value=0.5,
                       padding_mode="constant", activation="relu")  # fmt: skip
            yield Pass(size, "input_grad", narrow, 128, kernel=kernel, dtype=dtype, padding_mode="zeros")
            yield Pass(f"{size}-strided", "input_grad", narrow, 128, (2, 2), kernel=kernel, dtype=dtype,
                       padding_mode="zeros")  # fmt: skip
    # few channels in get shallow tiles, here with masked channels and without
    yield Pass("few", "fwd", (24, 72))
    yield Pass("few", "input_grad", (72, 24))
    yield Pass("sixteen", "fwd", (16, 64), kernel=1)
    yield Pass("lean-few", "fwd", (24, 264), padding_mode="zeros", activation="relu")
    yield Pass("lean-few", "input_grad", (264, 24), padding_mode="zeros", activation="none")
    yield Pass("lean-sixteen", "fwd", (16, 256), padding_mode="zeros", activation="relu")
    yield Pass("lean-sixteen", "input_grad", (256, 16), padding_mode="zeros", activation="none", kernel=1)
    yield Pass("lean-sixteen-tf32", "fwd", (16, 64), padding_mode="zeros", activation="relu", dtype=torch.float32)
    # what is lean gets larger tiles
    yield Pass("lean", "fwd", (256, 256), padding_mode="zeros", activation="relu")
    yield Pass("lean", "input_grad", (256, 256), padding_mode="zeros", activation="none")
    yield Pass("lean-tf32", "fwd", (256, 256), padding_mode="zeros", activation="relu", dtype=torch.float32)
    yield Pass("lean-flat", "fwd", few, padding_mode="zeros", activation="relu", stride=(2, 2))
    yield Pass("flat-5x5", "weight_grad", few, kernel=5)
    yield Pass("stem", "fwd", few, kernel=7, padding_mode="zeros", activation="relu", stride=(2, 2))
    yield Pass("stem-planes", "fwd", few, kernel=7, channels_last=False, stride=(2, 2))
    yield Pass("flat-value-7x7", "fwd", few, kernel=7, padding_mode="constant", value=0.5)
    yield Pass("lean-flat-planes", "fwd", few, kernel=7, channels_last=False, padding_mode="zeros", activation="relu")
    for dtype in (torch.bfloat16, torch.float32):
        yield Pass(f"lean-stem-planes-{dtype.itemsize}", "fwd", few, kernel=7, channels_last=False, padding_mode="zeros",
                   activation="relu", stride=(2, 2), dtype=dtype)  # fmt: skip
    yield Pass("lean-odd", "fwd", (72, 264), padding_mode="zeros", activation="relu")
    yield Pass("lean-odd", "input_grad", (264, 72), padding_mode="zeros", activation="none")
    yield Pass("strided", "input_grad", (264, 72), padding_mode="zeros", stride=(2, 2), activation="none")
    yield Pass("dilated", "input_grad", wide, padding_mode="zeros", dilation=(12, 12))
    yield Pass("flat", "input_grad", few[::-1], padding_mode="replicate")


PASSES = tuple(_passes())


def _with_every_config(
    launch: Callable[[], None], device: Device, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Config, Launch]]:
    """All launches of a pass, each with all configs that its problem may get."""
    problems: list[Problem] = []
    chosen: dict[Problem, Config] = {}

    def pick(problem: Problem, device: Device) -> Config:
        problems.append(problem)
        return chosen.get(problem) or pick_config(problem, device)

    monkeypatch.setattr(kernels, "pick_config", pick)
    with record(device):
        launch()
    for number, problem in enumerate(tuple(problems)):
        for config in candidates(problem, device):
            chosen[problem] = config
            with record(device) as launches:
                launch()
            yield config, launches[number]
        del chosen[problem]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("one", PASSES, ids=lambda p: f"{p.name}-{p.what}")
def test_every_config_fits(one: Pass, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No spill, no stack, no more shared memory than there is; matrix instructions wherever a tile is multiplied."""
    count = 0
    for config, launch in _with_every_config(one.launch, DEVICES[arch], monkeypatch):
        assert launch.config.block_m == config.block_m
        assert_fits(launch, multiplies=launch.cost.flops > 0 and one.dtype.itemsize == 2)
        count += 1
    assert count


@pytest.mark.parametrize(
    "one",
    [p for p in PASSES if p.name in ("depthwise", "gemm", "lean", "lean-sixteen")],
    ids=lambda p: f"{p.name}-{p.what}",
)
def test_every_config_of_the_commonest_fits_ada(one: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    test_every_config_fits(one, "sm_89", monkeypatch)


# triton 3.6 hands the taps from thread to thread through shared memory, before the loop
TAPS_SHARED_BYTES = 0 if compiler_version() >= (3, 7) else 1024


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("kernel", "stride", "bits", "longest"),
    [(3, 1, 128, 310), (3, 2, 128, 215), (5, 1, 64, 370), (5, 2, 64, 245), (7, 1, 32, 370), (7, 2, 32, 245)],
)
def test_a_row_is_loaded_once_for_all_rows_that_it_goes_into(
    kernel: int, stride: int, bits: int, longest: int, arch: str
) -> None:
    """Two rows a trip, with a load for each column of taps, as wide as the values that a thread has."""
    layer = ConvLayer("", "", 32, 144, 56, 56, 144, kernel, kernel, stride, kernel // 2, groups=144)
    (launch,) = model.launches(layer, DEVICES[arch])["forward"]
    slides = next(c for c in conv2d_config.ranking(launch.problem, DEVICES[arch]) if c.rows)
    with conv2d_config.prefer(launch.problem, slides):
        (launch,) = model.launches(layer, DEVICES[arch])["forward"]
    r = inspect.report(launch)
    assert r.kernel == "conv2d_slide_kernel"
    assert (r.spills, r.stack_bytes) == (0, 0), r
    assert r.shared_bytes <= TAPS_SHARED_BYTES, r
    assert (r.loads[bits], r.stores) == (2 * kernel, {bits: 2 // stride}), r
    assert r.registers <= 180, r
    assert 0 < r.loop_instructions <= longest, r


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("kernel", "rows", "bits", "longest"), [(3, 2, 128, 360), (5, 4, 64, 800), (7, 4, 32, 800)])
def test_a_row_of_a_strided_gradient_is_loaded_once(kernel: int, rows: int, bits: int, longest: int, arch: str) -> None:
    """For all rows and both columns of dx that it goes into: four tiles are stored for each."""
    layer = ConvLayer("", "", 32, 144, 56, 56, 144, kernel, kernel, 2, kernel // 2, groups=144)
    (launch,) = model.launches(layer, DEVICES[arch])["input_grad"]
    r = inspect.report(launch)
    assert r.kernel == "conv2d_slide_transposed_kernel"
    assert (r.spills, r.stack_bytes) == (0, 0), r
    assert r.shared_bytes <= TAPS_SHARED_BYTES, r
    assert (r.loads[bits], r.stores) == (rows * (kernel + 1) // 2, {bits: 4 * rows}), r
    assert r.registers <= 240, r
    # triton 3.6 makes 372 of 3 x 3 taps on sm_80, where 3.8 makes no more than 360
    assert 0 < r.loop_instructions <= (longest if compiler_version() >= (3, 7) else longest + 12), r


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("name", "longest"), [("stem", 550), ("unet-stem", 300), ("grouped", 270)])
def test_a_row_of_few_channels_is_loaded_once(name: str, longest: int, arch: str) -> None:
    """As picked, two rows a trip: a thread loads its share of each, and its share of the taps before the loop."""
    layer = next(layer for layer in CASES + LAYERS if layer.name == name)
    (launch,) = model.launches(layer, DEVICES[arch])["forward"]
    r, c = inspect.report(launch), launch.config
    assert r.kernel == "conv2d_flat_slide_kernel", r
    assert (r.spills, r.stack_bytes) == (0, 0), r
    assert r.matrix_instructions > 0, r
    assert 0 < sum(r.loads.values()) <= (layer.R * c.block_n + 2 * c.block_m) * c.block_k // (32 * c.num_warps), r
    assert 0 < r.loop_instructions <= longest, r


@pytest.mark.parametrize(
    ("arch", "tile", "registers", "longest"),
    [("sm_90", (64, 4), 216, 350), ("sm_90", (128, 8), 216, 300), ("sm_100", (64, 4), 80, 630)],
    ids=str,
)
@pytest.mark.parametrize("what", ["forward", "input_grad"])
def test_rows_of_an_image_share_a_load(
    what: str, arch: str, tile: tuple[int, int], registers: int, longest: int
) -> None:
    """Of a wide image of 64 channels: a trip copies six rows of pixels, and three of taps, for the 12 products of four rows."""
    layer = ConvLayer("", "", 8, 64, 256, 256, 64, 3, 3, padding=1)
    (launch,) = model.launches(layer, DEVICES[arch])[what]
    shares = [c for c in candidates(launch.problem, DEVICES[arch]) if c.tile_rows > 1]
    assert launch.config in shares, "the model picks one"
    config = next(c for c in shares if (c.block_m, c.num_warps) == tile)
    with conv2d_config.prefer(launch.problem, config):
        (launch,) = model.launches(layer, DEVICES[arch])[what]
    r = inspect.report(launch)
    assert r.kernel == "conv2d_rows_kernel"
    assert (r.spills, r.stack_bytes) == (0, 0), r
    copies = re.findall(r"LDGSTS\S*", r.code["sass"])
    # 16 bytes of a row of 64 each: once a trip and, on sm_90, once for each of two stages that are filled before the loop
    once = (6 * config.block_m + 3 * 64) * 4 // (32 * config.num_warps)
    assert len(copies) == (3 * once if arch == "sm_90" else once), r
    assert all(copy.endswith(".128") for copy in copies), r
    assert set(r.loads) == set(r.stores) == {128}, r
    assert r.registers <= registers, r
    assert 0 < r.loop_instructions <= longest, r


def _assert_wide(r: inspect.LaunchReport, config: Config) -> None:
    """Matrix instructions of a warp group, fed by copies of 128 bits that wait for nobody; a short loop for each product.

    Warps have 32 pixels or channels out at most, in the tiles of 256 x 16 and 256 x 32 64: these copy twice as many.
    """
    assert "HGMMA" in r.code["sass"], r
    copies = re.findall(r"LDGSTS\S*", r.code["sass"])
    assert copies, r
    assert all(copy.endswith(".128") for copy in copies), r
    assert set(r.loads) == {128}, r
    assert set(r.stores) == {128}, r
    # a trip of rows that share loads has a product for each of three taps of each row
    products = max(config.taps, config.tile_rows)
    assert 0 < r.loop_instructions <= (170 if config.block_m <= 32 * config.num_warps else 250) * products, r


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("layer", CASES, ids=lambda layer: layer.name)
def test_named_layers(layer: ConvLayer, arch: str) -> None:
    """As they are picked: no spills, matrix instructions and, where channels are many, the gates of `_assert_wide`."""
    for launch in itertools.chain(*model.launches(layer, DEVICES[arch]).values()):
        r = inspect.report(launch)
        assert (r.spills, r.stack_bytes) == (0, 0), r
        if launch.cost.flops:
            assert r.matrix_instructions > 0, r
            if arch == "sm_90" and min(layer.C, layer.K) >= 16:
                _assert_wide(r, launch.config)


@pytest.mark.parametrize("channels", [(24, 40), (40, 24), (64, 64)], ids=str)
@pytest.mark.parametrize("padding_mode", ["zeros", "constant", "reflect", "replicate", "circular"])
def test_a_border_mode_costs_no_more_than_zeros(padding_mode: str, channels: Pair) -> None:
    """One launch of a fused convolution, 128 bits at a time, of channels that fill no block too; a loop of `_assert_wide`."""
    c, k = channels
    x, w, y = (torch.empty(s, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
               for s in ((32, c, 56, 56), (k, c, 3, 3), (32, k, 56, 56)))  # fmt: skip
    value = 0.5 if padding_mode == "constant" else 0.0
    with record(DEVICES["sm_90"]) as launches:
        kernels.conv2d_fwd(x, w, None, y, y, Conv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, padding_mode, value), "relu")
    (launch,) = launches
    r = inspect.report(launch)
    assert (r.spills, r.stack_bytes) == (0, 0), r
    _assert_wide(r, launch.config)


@pytest.mark.parametrize("padding_mode", ["zeros", "constant", "reflect"])
def test_a_slice_of_channels_is_not_taken_for_aligned(padding_mode: str) -> None:
    """Rows of 144 bytes, from byte 8 on: 128 bits at a time would be an error."""
    x = torch.empty((32, 72, 56, 56), dtype=torch.bfloat16).to(memory_format=torch.channels_last)[:, 4:68]
    w, y = (torch.empty(s, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
            for s in ((64, 64, 3, 3), (32, 64, 56, 56)))  # fmt: skip
    value = 0.5 if padding_mode == "constant" else 0.0
    with record(DEVICES["sm_90"]) as launches:
        conv = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, padding_mode, value)
        kernels.conv2d_fwd(x, w, None, None, y, conv, "none")
        kernels.conv2d_weight_grad(y, x, w, None, conv)
    for launch in launches[:2]:
        r = inspect.report(launch)
        pixels = launch.config.block_k if "weight_grad" in r.kernel else launch.config.block_m
        channels = launch.config.block_n if "weight_grad" in r.kernel else launch.config.block_k
        narrow = sum(count for bits, count in r.loads.items() if bits <= 64)
        # each thread loads its share of a tile of x with none of 128 bits
        assert narrow * 64 * 32 * r.num_warps >= pixels * channels * 16, r


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_plain_kernel(arch: str, dtype: torch.dtype) -> None:
    """The lesson compiles for every GPU, multiplies on matrix units where these take the dtype, and spills nothing."""
    layer = next(layer for layer in CASES if layer.name == "body")
    x, w, y = (torch.empty(s, dtype=dtype) for s in (layer.input_shape, layer.weight_shape, layer.output_shape))
    conv = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, "zeros")
    # float32 is not multiplied on matrix units here: its products take registers. Of 32x32x16, triton 3.8 spills 4 instructions
    # (8 bytes) on sm_90 with 4 warps, triton 3.6 as many with 2
    warps = 2 if compiler_version() >= (3, 7) else 4
    config = PlainConfig(64, 64, 32, 4, 2) if dtype == torch.bfloat16 else PlainConfig(32, 32, 16, warps, 1)
    with record(DEVICES[arch]) as launches:
        kernels.conv2d_fwd(x, w, None, None, y, conv, "none", config=config)
    (launch,) = launches
    assert launch.name == "conv2d_plain_kernel"
    r = inspect.report(launch)
    assert (r.spills, r.stack_bytes) == (0, 0), r
    if dtype == torch.bfloat16:
        assert r.matrix_instructions > 0, r


@pytest.mark.parametrize(
    "layer", [layer for layer in CASES if layer.name in ("body", "pointwise")], ids=lambda c: c.name
)
def test_planes_load_what_lies_together(layer: ConvLayer) -> None:
    """NCHW: no stack, no spills; the weight comes 128 bits at a time, pixels one by one, but neighbours in one access."""
    x, y = torch.empty(layer.input_shape, dtype=torch.bfloat16), torch.empty(layer.output_shape, dtype=torch.bfloat16)
    w = torch.empty(layer.weight_shape, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    with record(DEVICES["sm_90"]) as launches:
        left = top = layer.padding
        kernels.conv2d_fwd(x, w, None, None, y, Conv2d((1, 1), (left, left, top, top), (1, 1), 1, "zeros"), "none")
    (launch,) = launches
    r = inspect.report(launch)
    assert (r.spills, r.stack_bytes) == (0, 0), r
    assert "HGMMA" in r.code["sass"], r
    assert "LDGSTS.E.BYPASS.128" in r.code["sass"], r
    # triton 3.6 makes 180 of body's, 128x64x64 on sm_90, where 3.8 makes no more than 175
    assert r.loop_instructions <= (175 if compiler_version() >= (3, 7) else 180), r


@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("splits", "shape"),
    [(523, (16, 3, 3, 3)), (256, (16, 9, 1, 1)), (44, (64, 64, 3, 3)), (22, (128, 128, 3, 3)), (5, (256, 256, 3, 3)),
     (2, (9, 9, 9, 9))],
    ids=str,
)  # fmt: skip
def test_sums_of_ranges(splits: int, shape: tuple[int, int, int, int], dtype: torch.dtype, arch: str) -> None:
    """All heights of tiles: no spills, few registers, loads of 128 bits where outputs are whole units of 16."""
    k, c, r, s = shape
    accumulator = torch.float64 if dtype == torch.float64 else torch.float32
    out = torch.empty(shape, dtype=dtype).to(memory_format=torch.channels_last)
    with record(DEVICES[arch]) as launches:
        kernels._sum_splits(torch.empty((splits, k, r * s * c), dtype=accumulator), out, "weight_grad")
    (launch,) = launches
    report = inspect.report(launch)
    assert (report.spills, report.stack_bytes) == (0, 0), report
    assert report.registers <= 64, report
    if out.numel() % 16 == 0:
        assert set(report.loads) == {128}, report


@pytest.mark.parametrize("name", model.TABLES)
def test_tables_hold_what_the_model_picks(name: str) -> None:
    """Written by python -m bench.model --write-configs. Measured rows come after them, and there are none yet."""
    file = Path(conv2d_config.__file__).parent.parent / "configs" / f"{name}.json"
    device = model.TABLES[name]
    held, expected = json.loads(file.read_text()), model.configs(device)
    held["rows"] = [row for row in held["rows"] if row["source"] == "model"]
    assert held == expected
    # an older compiler leaves out those with which it spills
    rows = [conv2d_config.parse_row(row) for row in held["rows"]]
    assert len(conv2d_config.table(device)) >= sum(config in choices(problem, device) for problem, config in rows)


def test_the_table_comes_before_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    device = DEVICES["sm_90"]
    (launch,) = model.launches(CASES[0], device)["forward"]
    other = next(c for c in candidates(launch.problem, device) if c != launch.config)
    monkeypatch.setattr(conv2d_config, "table", lambda device: {conv2d_config.key(launch.problem): other})
    pick_config.cache_clear()
    assert pick_config(launch.problem, device) == other
    # a bias is no other problem; another size is
    assert pick_config(replace(launch.problem, bytes_least=1), device) == other
    one_image = replace(launch.problem, m=launch.problem.plane)
    assert pick_config(one_image, device) == conv2d_config.model_config(one_image, device)
    pick_config.cache_clear()


@pytest.mark.parametrize("layer", CASES + LAYERS, ids=lambda layer: layer.name)
def test_nothing_is_modelled_faster_than_the_floor(layer: ConvLayer) -> None:
    for device in model.TABLES.values():
        for launches in model.launches(layer, device).values():
            modelled = sum(conv2d_config.modelled_us(x.problem, x.config, device) for x in launches if x.problem)
            assert modelled >= model.floor_us(layer, device)
