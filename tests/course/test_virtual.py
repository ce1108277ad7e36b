"""Offsets beyond 2^31, in problems that have no memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from torchops.course.lesson import load
from torchops.course.report import Report
from torchops.course.words import shown

from .conftest import Servers

Check = Callable[..., tuple[Report, str]]
FOLDER = Path(__file__).parent / "lessons" / "03_pad"


@pytest.fixture
def checked(servers: Servers, tmp_path: Path) -> Check:
    def check(*swaps: tuple[str, str]) -> tuple[Report, str]:
        source = load(FOLDER).solution
        for old, new in swaps:
            assert source.count(old) == 1
            source = source.replace(old, new)
        file = tmp_path / "pad.py"
        file.write_text(source)
        report = servers("ttsem").check(file, FOLDER)
        return report, shown(report, source)

    return check


def test_names_the_program_and_the_element(checked: Check) -> None:
    report, said = checked((".to(tl.int64)", ""))
    assert report.verdict == "far"
    fault = report.last.fault
    assert (fault.buffer, fault.both_store, fault.kernel) == ("y_ptr", True, "pad_kernel")
    assert fault.element < 0
    assert fault.programs[0][0] == 2 * 40_002 - 1
    assert "Right for small tensors, and line 26 goes astray" in said
    assert "tl.program_id(0).to(tl.int64)" in said


def test_an_access_that_is_out_of_bounds_there_only(checked: Check) -> None:
    report, _ = checked(("mask=q < Q)", "mask=(q < Q) | (P > 40_000))"))
    assert report.verdict == "oob_write"
    assert report.last.case == "more than 2^31 elements"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("    float(x[0, 0, 0])\n", "RuntimeError"),
        ("    if x.is_meta:\n        return y\n", "no kernel was launched"),
    ],
)
def test_what_cannot_be_looked_at_is_said(checked: Check, line: str, why: str) -> None:
    report, said = checked(("    P, Q = y.shape[1:]\n", f"    P, Q = y.shape[1:]\n{line}"))
    assert report.verdict == "ok"
    assert f"Not checked: offsets beyond 2^31: {why}" in said
    assert said.count("(step 1)") == 1
