"""What the model knows of the hardware against published figures: peaks, and the floors of real layers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench.model import floor_us
from torchops.kernels.planning import hardware
from torchops.kernels.planning.conv2d import Problem
from torchops.kernels.planning.hardware import (
    DEVICES,
    GPUS,
    find,
    listed,
    matrix_us,
    memory_us,
    resident_programs,
    wave_efficiency,
)
from torchops.workloads import CASES, ConvLayer

H100 = GPUS["H100"]
H100_PCIE = replace(H100, sms=114, hbm_gb_s=2000, tflops=(756, 378, 51, 51))
"""Its data sheet; the card on which cuDNN's times below were taken."""
BY_NAME = {layer.name: layer for layer in CASES}

# case: GFLOP, least MB, floor in us, of bfloat16 on an H100
FLOORS = {
    "body": (7.4, 25.8, 7.7),
    "mid": (7.4, 7.6, 7.5),
    "deep": (7.4, 7.9, 7.5),
    "stem": (7.55, 61, 18.2),
    "pointwise": (3.3, 64, 19.2),
    "aspp": (77, 53, 78),
    "unet-up": (77, 202, 78),
}


def problem(layer: ConvLayer) -> Problem:
    """The forward pass of a bfloat16 layer, channels_last."""
    pixels = layer.N * layer.output_size[0] * layer.output_size[1]
    taps, least = layer.R * layer.S, 2 * layer.elements
    return Problem(
        kind="gather", m=pixels, k=layer.K, c=layer.C, taps=taps, row=layer.S, phases=1, groups=1, itemsize=2, tf32=False,
        coalesced=True, span=2, lean=True, bytes_least=least,
    )  # fmt: skip


@pytest.mark.parametrize("name", FLOORS)
def test_floors_are_the_published_ones(name: str) -> None:
    layer, (gflop, megabytes, us) = BY_NAME[name], FLOORS[name]
    assert layer.flops / 1e9 == pytest.approx(gflop, rel=0.02)
    assert 2 * layer.elements / 1e6 == pytest.approx(megabytes, rel=0.02)
    assert floor_us(layer, H100) == pytest.approx(us, rel=0.01)


def test_peaks_are_the_data_sheets() -> None:
    assert matrix_us(989e12, H100, 2, tf32=False) == pytest.approx(1e6)
    assert matrix_us(495e12, H100, 4, tf32=True) == pytest.approx(1e6)
    assert matrix_us(67e12, H100, 4, tf32=False) == pytest.approx(1e6)
    assert memory_us(3_350_000_000_000, H100) == pytest.approx(1e6)
    assert memory_us(4_800_000_000_000, GPUS["H200"]) == pytest.approx(1e6)
    assert replace(GPUS["H200"], name=H100.name, hbm_gb_s=3350, l2_bytes=50 << 20) == H100
    assert GPUS["H200"].l2_bytes == 60 << 20
    assert (H100.sms, H100.shared_bytes) == (132, 232_448)


@pytest.mark.parametrize("name", [name for name in GPUS if name != "MI300X"])
def test_peaks_follow_from_clock_and_multiprocessors(name: str) -> None:
    """Multiply-adds a clock and multiprocessor: 128 lanes of float32 on all but the A100, 64; so says every white paper."""
    gpu = GPUS[name]
    # tensor cores of an A100 and an H100 multiply float32 as TF32 only: their peak is that of the lanes
    lanes = 64 if name == "A100" else 128
    assert gpu.tflops[2] == pytest.approx(2 * lanes * gpu.sms * gpu.clock_ghz / 1e3, rel=0.1)
    powers = [gpu.tflops[0] * 1e3 / (2 * gpu.sms * gpu.clock_ghz) / 2**n for n in range(8, 13)]
    assert min(abs(p - 1) for p in powers) < 0.1


def test_cudnn_does_not_lie_under_the_floor() -> None:
    """Of the body on an H100 PCIe it takes 31 us from NCHW, its transposes apart, and 34 us from channels_last."""
    for gpu in (H100, H100_PCIE):
        assert floor_us(BY_NAME["body"], gpu) < 31


def test_waves() -> None:
    assert wave_efficiency(26, H100.sms) == 26 / 132
    assert wave_efficiency(132, 132) == 1
    assert wave_efficiency(133, 132) == 133 / 264


def test_programs_share_registers_and_shared_memory() -> None:
    """An H100 has 65,536 registers, 227 KiB of shared memory for programs and 64 warps a multiprocessor."""
    assert resident_programs(H100, 4, 32) == 16 * 132
    assert resident_programs(H100, 1, 32) == 32 * 132
    assert resident_programs(H100, 8, 254) == 132
    # 161 registers are 168: a warp gets them 8 a thread at a time
    assert resident_programs(H100, 4, 160) == 3 * 132
    assert resident_programs(H100, 4, 161) == 3 * 132
    assert resident_programs(H100, 4, 169) == 2 * 132
    assert resident_programs(H100, 4, 32, 113_000) == 2 * 132
    assert resident_programs(H100, 4, 32, 116_224) == 132


class TestTheListedGpus:
    """By name, by architecture, by what is nearest."""

    def test_an_architecture_has_one(self) -> None:
        assert list(DEVICES) == ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942"]
        assert {GPUS[name].arch for name in GPUS} == set(DEVICES)
        assert all(DEVICES[arch].arch == arch for arch in DEVICES)

    @pytest.mark.parametrize(
        ("name", "short"),
        [
            ("NVIDIA A100-SXM4-80GB", "A100"),
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H200", "H200"),
            ("NVIDIA L40S", "L40S"),
            ("NVIDIA GeForce RTX 4090", "RTX 4090"),
            ("AMD Instinct MI300X", "MI300X"),
            ("NVIDIA GH200 480GB", None),
            ("NVIDIA L40", None),
            ("NVIDIA GeForce RTX 3090", None),
        ],
    )
    def test_are_known_by_what_torch_calls_them(self, name: str, short: str | None) -> None:
        assert listed(name) == short

    @pytest.mark.parametrize("name", ["sm_90", "H100", "h100"])
    def test_are_found(self, name: str) -> None:
        assert find(name) == H100

    def test_names_are_found_whatever_their_spaces(self) -> None:
        assert find("rtx4090") == find("RTX 4090") == GPUS["RTX 4090"]
        with pytest.raises(ValueError, match=r"`arch` must be one of sm_80, .*MI300X, got 'sm_1'"):
            find("sm_1")

    @pytest.mark.parametrize(
        ("name", "capability", "sms", "like"),
        [
            ("NVIDIA GeForce RTX 4090", (8, 9), 128, "RTX 4090"),
            ("NVIDIA L4", (8, 9), 58, "L40S"),
            ("NVIDIA GeForce RTX 3090", (8, 6), 82, "L40S"),
            ("NVIDIA H200", (9, 0), 132, "H200"),
            ("NVIDIA GH200 480GB", (9, 0), 132, "H100"),
            ("NVIDIA B300", (10, 3), 148, "B200"),
            ("NVIDIA RTX PRO 6000", (12, 0), 188, "RTX 5090"),
            # a name that lies
            ("H200", (8, 0), 108, "A100"),
        ],
    )
    def test_a_real_one_is_that_of_its_name_or_the_nearest(
        self, name: str, capability: tuple[int, int], sms: int, like: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        major, minor = capability
        found = SimpleNamespace(name=name, major=major, minor=minor, multi_processor_count=sms)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
        device = hardware._cuda_device.__wrapped__(0)
        assert device == replace(GPUS[like], name=name, arch=f"sm_{major}{minor}", sms=sms)
