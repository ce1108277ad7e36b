"""Every planner answers the same questions, as protocol.py has them."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from dataclasses import replace
from types import ModuleType

import pytest

from torchops.kernels.planning import adaptive, conv2d, strips, windows
from torchops.kernels.planning.conv2d import cost, modelled_us, pick_config
from torchops.kernels.planning.conv2d_candidates import TABLE, Row, candidates
from torchops.kernels.planning.conv2d_problem import Config, Problem
from torchops.kernels.planning.hardware import DEVICES, GPUS, dram_us
from torchops.kernels.planning.protocol import Planner, power_of_2

PLANNERS = (adaptive, conv2d, strips, windows)
QUESTIONS = [name for name in vars(Planner) if not name.startswith("_")]


def _parameters(function: object) -> dict[str, object]:
    found = inspect.signature(function).parameters  # type: ignore[arg-type]
    return {name: p.default for name, p in found.items() if name != "self"}


@pytest.mark.parametrize("planner", PLANNERS, ids=lambda planner: planner.__name__.rpartition(".")[2])
class TestEveryPlanner:
    @pytest.mark.parametrize("question", QUESTIONS)
    def test_answers(self, planner: ModuleType, question: str) -> None:
        ours, protocol = getattr(planner, question), getattr(Planner, question)
        assert _parameters(ours) == _parameters(protocol)
        assert inspect.signature(ours).return_annotation == inspect.signature(protocol).return_annotation

    def test_is_asked_in_keywords(self, planner: ModuleType) -> None:
        assert planner.Problem.__dataclass_params__.frozen
        assert all(field.kw_only for field in dataclasses.fields(planner.Problem))

    def test_answers_with_block_sizes_and_warps(self, planner: ModuleType) -> None:
        assert planner.Config.__dataclass_params__.frozen
        assert "num_warps" in {field.name for field in dataclasses.fields(planner.Config)}


def test_the_protocol_is_what_the_page_says() -> None:
    assert QUESTIONS == ["candidates", "programs", "cost", "pick_config"]


@pytest.mark.parametrize(
    "row", [row for rows in TABLE.values() for row in rows], ids=lambda r: "x".join(map(str, r.tile))
)
def test_a_limit_of_the_compiler_has_version_counts_and_architecture(row: Row) -> None:
    assert row.reason.endswith(".")
    if "spills" in row.reason:
        assert re.search(r"Triton 3\.\d spills .*\d \(\d+\).* on sm_\d+", row.reason), row.reason


def _pointwise(c: int, k: int, m: int = 32 * 112 * 112, kind: str = "gather") -> Problem:
    """A pass of a convolution of one tap in bfloat16, channels_last."""
    return Problem(
        kind=kind, m=m, k=k, c=c, taps=1, row=1, phases=1, groups=1, itemsize=2, tf32=False, coalesced=True, span=0,
        lean=kind == "gather", bytes_least=2 * (m * (c + k) + c * k),
    )  # fmt: skip


@pytest.mark.parametrize("arch", DEVICES)
@pytest.mark.parametrize(("c", "depth"), [(16, 16), (24, 32), (32, 32), (40, 64), (64, 64), (512, 64)])
def test_a_tile_is_no_deeper_than_the_channels_need(c: int, depth: int, arch: str) -> None:
    found = candidates(_pointwise(c, 64), DEVICES[arch])
    # matrix units multiply 16 channels at least; sm_89 has no registers for so few
    assert max(config.block_k for config in found) == (max(32, depth) if arch == "sm_89" else depth)


@pytest.mark.parametrize(
    ("c", "k", "kind"), [(16, 16, "gather"), (16, 96, "gather"), (32, 16, "gather"), (16, 16, "weight_grad")]
)
def test_few_channels_take_hardly_longer_than_dram(c: int, k: int, kind: str) -> None:
    problem, device = _pointwise(c, k, kind=kind), GPUS["H100"]
    assert modelled_us(problem, pick_config(problem, device), device) < 1.3 * dram_us(problem.bytes_least, device)


@pytest.mark.parametrize(
    ("c", "k", "taps", "columns"), [(3, 64, 49, 64), (3, 64, 9, 32), (8, 64, 9, 64), (1, 16, 9, 32)]
)
def test_a_flat_weight_gradient_is_as_wide_as_its_taps_and_channels(c: int, k: int, taps: int, columns: int) -> None:
    """ResNet's stem has 147 columns: 32 at a time, five programs load each gradient."""
    problem = replace(_pointwise(c, k, kind="weight_grad"), taps=taps, row=math.isqrt(taps))
    widths = {config.block_n for config in candidates(problem, DEVICES["sm_90"])}
    assert max(widths) == columns
    assert pick_config(problem, GPUS["H100"]).block_n == columns
    assert pick_config(problem, GPUS["H100"]).block_m <= max(32, k)


def test_lanes_beyond_the_channels_load_nothing() -> None:
    """24 of 64 channels in and 40 of 64 out, by hand: each pixel once, and the weight once for each tile of them."""
    pixels, config = 64 * 128, Config(128, 64, 64, 8, 4)
    assert cost(_pointwise(24, 40, pixels), config).bytes_l2 == 2 * 24 * (pixels + 64 * 40)
    # in a weight gradient each pixel is loaded once from either image
    gradient = _pointwise(24, 40, pixels, kind="weight_grad")
    assert cost(gradient, Config(64, 32, 64, 4, 4)).bytes_l2 == 2 * pixels * (24 + 40)


def test_powers_of_2() -> None:
    assert [power_of_2(n) for n in (1, 2, 3, 4, 5, 4096, 4097)] == [1, 2, 4, 4, 8, 4096, 8192]
