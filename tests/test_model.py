"""The model of a launch's time against what others measured and published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.published import FLAGGEMS, H20, INDUCTOR, PCIE, TUTORIAL, body, gluon
from torchops.kernels.planning.conv2d import Config, cost, modelled_us, pick_config, programs, sum_tile
from torchops.kernels.planning.hardware import GPUS, Device, l2_us, matrix_us, memory_us
from torchops.kernels.planning.model import Model, Work, model
from torchops.kernels.planning.protocol import Cost
from torchops.workloads import CASES

from .test_hardware import BY_NAME, H100, problem


@pytest.mark.parametrize("k", TUTORIAL)
def test_products_of_the_tutorial(k: int) -> None:
    measured = 2 * 8192 * 8192 * k / TUTORIAL[k] / 1e6
    assert model(gluon(k).work, H100).us == pytest.approx(measured, rel=0.04)


def test_a_convolution_of_inductor() -> None:
    for tile in INDUCTOR:
        assert model(tile.work, H100).us == pytest.approx(550, rel=0.065)


def test_a_convolution_of_flaggems() -> None:
    assert 486 < model(FLAGGEMS.work, H20).us < 896


@pytest.mark.parametrize(("gpu", "tflops"), [("H100", 665.49), ("B200", 1548.42)], ids=["Hopper", "Blackwell"])
def test_cublas_sustains_so_much_of_the_peak(gpu: str, tflops: float) -> None:
    """Of the same tutorial, 8192 x 8192 x 16384: what the model takes for the share of the matrix units."""
    peak = GPUS[gpu].tflops[0]
    assert tflops / peak == pytest.approx(0.68, rel=0.015)


def test_cudnn_and_the_model_of_our_kernel_are_no_multiple_apart() -> None:
    """The body on an H100 PCIe takes cuDNN 31 to 34 us, at 1,395 MHz."""
    assert body() == problem(BY_NAME["body"])
    assert modelled_us(body(), pick_config(body(), H100), PCIE) == pytest.approx(34, rel=0.1)


@pytest.mark.parametrize("layer", CASES, ids=lambda layer: layer.name)
@pytest.mark.parametrize("gpu", ["A100", "H100", "H200", "B200"])
def test_no_config_is_faster_than_what_is_sustained(layer, gpu: str) -> None:  # type: ignore[no-untyped-def]
    device, asked = GPUS[gpu], problem(layer)
    us = modelled_us(asked, pick_config(asked, device), device)
    assert us >= memory_us(asked.bytes_least, device) / 0.9
    assert us >= matrix_us(layer.flops, device, 2, tf32=False) / 0.68


@pytest.mark.parametrize(("name", "bytes_l2", "us"), [("body", 173e6, 22.4), ("unet-up", 1.8e9, 234)])
def test_an_implicit_product_is_bound_by_l2(name: str, bytes_l2: float, us: float) -> None:
    """R S C E (M ceil(K / BN) + K ceil(M / BM)) bytes, at 7.7 TB/s; so the model may not call it faster."""
    asked, config = problem(BY_NAME[name]), Config(128, 64, 64, 8, 4)
    need = cost(asked, config)
    layer, m = BY_NAME[name], asked.m
    formula = 2 * 9 * layer.C * (m * -(-layer.K // 64) + layer.K * -(-m // 128))
    assert need.bytes_l2 == formula == pytest.approx(bytes_l2, rel=0.01)
    assert l2_us(need.bytes_l2, H100) == pytest.approx(us, rel=0.02)
    assert modelled_us(asked, config, H100) >= l2_us(need.bytes_l2, H100)
    assert need.bytes_moved == asked.bytes_least


def test_few_tiles_leave_a_gpu_idle() -> None:
    """Of the deep layer, 26 tiles of 128 x 256 on 132 multiprocessors."""
    deep, config = problem(BY_NAME["deep"]), Config(128, 256, 64, 8, 4)
    assert programs(deep, config) == 26
    assert modelled_us(deep, config, H100) > 132 / 26 * 7.5


@pytest.mark.parametrize("outputs", [2, 144, 432, 1728])
@pytest.mark.parametrize("splits", [2, 44, 131, 392, 528])
def test_a_sum_of_few_outputs_hardly_waits(splits: int, outputs: int) -> None:
    """A trip for each 512 ranges; a program for each multiprocessor, or rows of the least width that wastes no memory."""
    rows, columns = sum_tile(splits, outputs, 4, H100)
    assert -(-splits // rows) == -(-splits // 512)
    assert columns == 8 or -(-outputs // columns) >= H100.sms / 2


@pytest.mark.parametrize(("splits", "outputs"), [(5, 589_824), (22, 147_456)])
def test_a_sum_of_many_outputs_loads_few_ranges_that_do_not_exist(splits: int, outputs: int) -> None:
    rows, columns = sum_tile(splits, outputs, 4, H100)
    assert -(-splits // rows) * rows <= 1.6 * splits
    assert rows * columns == 2048


class TestAWave:
    """Programs that stream, by hand: 1,000 instructions outside the loop, 4 warps, nothing multiplied."""

    DEVICE = H100
    NEED = Cost(0, 0, 0)

    def modelled(self, programs: int, registers: int = 255, shared: int = 0, **more: float) -> Model:
        work = Work(
            programs=programs, num_warps=4, cost=replace(self.NEED, **more), loop=0, outside=1830,  # type: ignore[arg-type]
            registers=registers, shared_bytes=shared,
        )  # fmt: skip
        return model(work, self.DEVICE)

    def test_one_program_starts_works_and_ends(self) -> None:
        # four warps on four schedulers: an instruction of each a clock, 1,830 clocks a microsecond
        assert self.modelled(1).us == pytest.approx(0.3 + 0.8)
        assert self.modelled(132).us == self.modelled(1).us

    def test_programs_that_are_resident_together_hide_what_each_waits_for(self) -> None:
        # of 255 registers a thread two programs fit, which take a microsecond each
        assert self.modelled(2 * 132).us == pytest.approx(2 + 0.3)
        assert self.modelled(4 * 132).us == pytest.approx(4 + 0.3)
        # shared memory may let but one of them in
        assert self.modelled(4 * 132, shared=200_000).us == pytest.approx(4 * 1.1)

    def test_a_last_wave_takes_as_long_as_a_full_one(self) -> None:
        assert self.modelled(133, shared=200_000).us == pytest.approx(2 * 1.1)

    def test_nothing_is_faster_than_dram(self) -> None:
        found = self.modelled(132, bytes_moved=3_015_000_000)
        assert (found.us, found.bound, found.utilization) == (pytest.approx(1000), "DRAM", 1.0)

    def test_trips_wait_for_memory(self) -> None:
        assert self.modelled(1, trips=10).us == pytest.approx(0.3 + 6.5 + 0.8)

    def test_the_share_of_the_bound(self) -> None:
        found = self.modelled(132)
        assert found.bound == "issue"
        assert found.utilization == pytest.approx(1 / 1.1)


def test_every_listed_gpu_has_a_time() -> None:
    for device in GPUS.values():
        assert isinstance(device, Device)
        assert 0 < model(gluon(512).work, device).us < 1e5
