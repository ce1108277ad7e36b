"""Every planner answers the same questions, as protocol.py has them."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import ModuleType

import pytest

from torchops.kernels.planning import adaptive, conv2d, strips, windows
from torchops.kernels.planning.conv2d_candidates import TABLE, Row
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


def test_powers_of_2() -> None:
    assert [power_of_2(n) for n in (1, 2, 3, 4, 5, 4096, 4097)] == [1, 2, 4, 4, 8, 4096, 8192]
