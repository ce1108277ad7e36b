"""The benchmarks' own machinery: floors, reports, comparisons. What is timed here is tiny, or made up."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from bench import report, runs
from bench.__main__ import main
from bench.compare import compare
from bench.harness import floor_seconds, hold, not_too_fast
from torchops.kernels.hardware import DEVICES
from torchops.timing import race

from .tiers import ROOT, clean_environment

H100 = DEVICES["sm_90"]
SECTIONS = (
    "Losses and wins", "Where these numbers come from", "Every case", "Roofline", "Memory", "Kernels, compiled", "Error",
    "Everything",
)  # fmt: skip
Spoil = Callable[[dict[str, Any]], Any]


def _run(
    times: dict[tuple[str, str], tuple[float, ...]], kind: str = "conv2d", gpu: bool = False, **machine: Any
) -> dict[str, Any]:
    """Results as `python -m bench` writes them: milliseconds by case and provider."""
    device = {"gpu": H100.name, "roofs": asdict(H100)} if gpu else {"gpu": "none", "roofs": None}
    rows = [
        {
            "fullname": f"bench_{kind}.py::test",
            "stats": {"data": [t / 1e3 for t in found]},
            "extra_info": {
                "case": case, "provider": provider, "threads": 1, "dtype": "f32", "layout": "nchw", "batch": 1, "error": 1e-7,
                "peak_mib": 3.0, "flops": 10**9, "bytes_least": 10**7, "tflops": 1.0, "gb_per_s": 10.0, "ms_p50": found[0],
            },
        }
        for (case, provider), found in times.items()
    ]  # fmt: skip
    return {
        "machine_info": {"cpu": "a CPU", "torch": "2.14.1", **device, **machine},
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": rows,
    }


def _file(path: Path, run: dict[str, Any]) -> Path:
    path.write_text(json.dumps(run))
    return path


SLOW, FAST, BASE = (2.0, 2.1, 2.0, 1.9, 2.0), (0.5, 0.5, 0.6, 0.5, 0.5), (1.0, 1.0, 1.1, 1.0, 0.9)
TIMES = {
    ("lost.forward", "torchops"): SLOW, ("lost.forward", "aten"): BASE,
    ("won.forward", "torchops"): FAST, ("won.forward", "aten"): BASE,
}  # fmt: skip


def test_floor_is_the_slower_of_memory_and_matrix_units() -> None:
    assert floor_seconds(3_350_000, 0, 2, H100) == pytest.approx(1e-6)
    assert floor_seconds(0, 989_000_000, 2, H100) == pytest.approx(1e-6)
    assert floor_seconds(3_350_000, 2 * 989_000_000, 2, H100) == pytest.approx(2e-6)


def test_faster_than_the_floor_fails() -> None:
    not_too_fast("body", {"aten": [2e-6, 3e-6]}, 1e-6)
    with pytest.raises(AssertionError, match=r"body, aten: 0\.50 us is faster than the floor, 1\.00 us"):
        not_too_fast("body", {"torchops": [2e-6], "aten": [5e-7, 4e-7, 9e-7]}, 1e-6)


def test_hold_fails_below_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU that is not there."""
    monkeypatch.setattr("bench.harness._device_peak_mib", lambda function: 0.0)
    monkeypatch.setattr("bench.harness._graphs", lambda contenders, check: ({}, {}))
    monkeypatch.setattr("bench.harness.device_of", lambda x: H100)
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: None)
    monkeypatch.setattr("bench.harness.device_seconds", lambda function, count: 1e-7 * count)

    def contest(bytes_least: int) -> Any:
        return hold(
            {"torchops": lambda: 0, "aten": lambda: 0}, check=lambda name, y: None, bytes_least=bytes_least, rounds=3,
            device="cuda", name="body",
        )  # fmt: skip

    # what the L2 cache can hold may stay there
    assert contest(H100.l2_bytes).floor == 0
    assert contest(H100.l2_bytes + 100_000).floor == pytest.approx(100_000 / 3.35e12)
    with pytest.raises(AssertionError, match=r"body, torchops: 0\.10 us is faster than the floor, 1\.00 us"):
        contest(H100.l2_bytes + 3_350_000)


def test_wrong_result_is_not_timed() -> None:
    def check(name: str, y: int) -> None:
        assert y == 1, f"{name} is wrong"

    with pytest.raises(AssertionError, match="aten is wrong"):
        hold({"torchops": lambda: 1, "aten": lambda: 2}, check=check, bytes_least=0, rounds=2)


def test_race_has_as_many_rounds_for_all() -> None:
    times = race({"a": lambda: None, "b": lambda: None}, rounds=3, turn=1e-4)
    assert [len(found) for found in times.values()] == [3, 3]


def _compare(a: dict[str, Any], b: dict[str, Any], folder: Path, threshold: float = 0.05) -> tuple[int, str]:
    console = Console(record=True, width=160, file=io.StringIO())
    code = compare(_file(folder / "a.json", a), _file(folder / "b.json", b), threshold, console)
    return code, console.export_text()


def test_compare_finds_a_planted_regression_first(tmp_path: Path) -> None:
    worse = {**TIMES, ("won.forward", "torchops"): tuple(1.5 * t for t in FAST)}
    code, text = _compare(_run(TIMES), _run(worse), tmp_path)
    assert code == 1
    first = text.splitlines()[1]
    assert "won.forward" in first
    assert "SLOWER" in first
    assert "1.50" in first
    assert "1 of 2 slower" in text


def test_compare_ignores_noise_and_drift(tmp_path: Path) -> None:
    """Everything takes twice the time, and the rounds of one provider scatter by a fifth."""
    noisy = {name: tuple(2 * t for t in found) for name, found in TIMES.items()}
    noisy["lost.forward", "torchops"] = (3.5, 4.2, 4.3, 5.0, 4.4)
    code, text = _compare(_run(TIMES), _run(noisy), tmp_path)
    assert code == 0, text
    assert "0 of 2 slower" in text


def test_compare_takes_a_threshold(tmp_path: Path) -> None:
    worse = {**TIMES, ("won.forward", "torchops"): tuple(1.5 * t for t in FAST)}
    assert _compare(_run(TIMES), _run(worse), tmp_path, 0.6)[0] == 0


def test_compare_calls_it_faster(tmp_path: Path) -> None:
    better = {**TIMES, ("lost.forward", "torchops"): FAST}
    code, text = _compare(_run(TIMES), _run(better), tmp_path)
    assert code == 0
    assert "faster" in text


def test_compare_warns_of_what_differs(tmp_path: Path) -> None:
    other = {**TIMES, ("new.forward", "torchops"): FAST, ("new.forward", "aten"): BASE}
    _, text = _compare(_run(TIMES), _run(other, gpu=True, torch="2.11.0"), tmp_path)
    assert f"not comparable: gpu: none in A, {H100.name} in B" in text
    assert "not comparable: torch: 2.14.1 in A, 2.11.0 in B" in text
    assert "not comparable: only in B: new.forward (aten, 1 threads), new.forward (torchops, 1 threads)" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("[]", "is no result"), ('{"benchmarks": [1]}', "is no result"),
     ('{"benchmarks": []}', "holds no case"), ("\xff", "is no")],
)  # fmt: skip
def test_bad_files_are_named_in_a_line(content: str | None, said: str, tmp_path: Path) -> None:
    good, bad = _file(tmp_path / "good.json", _run(TIMES)), tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content, encoding="latin-1")
    console = Console(record=True, width=200, file=io.StringIO())
    assert compare(good, bad, 0.05, console) == 2
    text = console.export_text()
    assert said in text
    assert str(bad) in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run["benchmarks"][0]["stats"].update(data=[1.0, 2.0]),
        lambda run: run["benchmarks"][0]["stats"].update(data=[0.0] * 5),
        lambda run: run["benchmarks"][0]["extra_info"].pop("case"),
        lambda run: run.pop("machine_info"),
    ],
)
def test_spoiled_runs_are_refused(spoil: Spoil, tmp_path: Path) -> None:
    run = _run(TIMES)
    spoil(run)
    with pytest.raises(runs.BadRunError):
        runs.load(_file(tmp_path / "run.json", run))


KERNEL = {
    "case": "body", "pass": "forward", "kernel": "conv2d_fwd_kernel", "dtype": "bfloat16", "flops": 10**9, "bytes_least": 10**7,
    "registers": 96, "spills": 0, "shared_bytes": 2048, "loop_instructions": 170, "matrix_instructions": 8, "loads": {"128": 4},
    "stores": {"128": 2}, "modelled_us": 12.0, "bound": "L2", "gpu": H100.name, "arch": "sm_90",
}  # fmt: skip


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_report_has_every_section_and_loads_nothing(gpu: bool, tmp_path: Path) -> None:
    _file(tmp_path / "kernels.json", {"kernels": [KERNEL]})
    report.write(_file(tmp_path / "run.json", _run(TIMES, gpu=gpu)), tmp_path)
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for title in SECTIONS:
        assert f">{title}</h2>" in page
        assert f"## {title}" in markdown
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|fetch\(""", page)
    assert all((tmp_path / name).exists() for name in re.findall(r"\]\(([^)]+)\)", markdown))
    assert "012345678" in page
    assert "with changes" in page


def test_losses_are_first_and_marked(tmp_path: Path) -> None:
    report.write(_file(tmp_path / "run.json", _run(TIMES)), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "loses 1 comparisons, wins 1," in page
    row = re.search(r'<tr class="(\w*)"><td>([^<]+)</td>', page)
    assert row is not None
    assert row.groups() == ("loss", "lost.forward")


def test_numbers_have_units(tmp_path: Path) -> None:
    run = runs.load(_file(tmp_path / "run.json", _run(TIMES)))
    for section in report.sections(run, [KERNEL]):
        for table in section.tables:
            for column, values in zip(table.columns, zip(*table.rows, strict=True), strict=True):
                number = all(re.fullmatch(r"[\d.e+-]+", value) for value in values)
                assert not number or "," in column, f"{section.title}: {column}"


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_modelled_and_measured_points_are_told_apart(gpu: bool, tmp_path: Path) -> None:
    run = runs.load(_file(tmp_path / "run.json", _run(TIMES, gpu=gpu)))
    section = next(s for s in report.sections(run, [KERNEL]) if s.title == "Roofline")
    drawn = section.pictures[0].draw()
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    modelled = ["MODELLED, not measured: forward"]
    assert labels == (["measured: torchops", "measured: aten", *modelled] if gpu else modelled)
    points = [line for line in drawn.axes[0].lines if line.get_marker() in ("o", "D")]
    hollow = {line.get_marker(): line.get_markerfacecolor() == "none" for line in points}
    assert hollow == ({"o": False, "D": True} if gpu else {"D": True})
    assert "MODELLED" in section.words[0] or gpu


def test_one_case_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raced, written, reported and compared with itself."""
    options = ["-k", "test_call and sobel and inference", "--rounds", "2", "--out", str(tmp_path), "--note", "a test"]
    command = [sys.executable, "-m", "bench", *options]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results.json"
    run = runs.load(results)
    assert {row.case for row in run.rows} == {"call.sobel.inference"}
    assert run.machine["note"] == "a test"
    assert "call.sobel.inference" in (tmp_path / "report.html").read_text()
    assert main(["report", str(results), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.md").read_text() == (tmp_path / "report.md").read_text()
    assert main(["compare", str(results), str(results)]) == 0
    assert main(["report", str(tmp_path / "none.json")]) == 2
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == f"{tmp_path / 'none.json'} cannot be read: No such file or directory"
    )


@pytest.mark.parametrize("kept", [True, False], ids=["some", "none"])
def test_a_failing_case_takes_no_other_with_it(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is written and reported; where nothing was, the results before stay."""
    results = tmp_path / "results.json"
    results.write_text("before")
    found = _run({("a", "torchops"): (1.0, 1.1), ("a", "aten"): (2.0, 2.1)} if kept else {})

    def failing(command: list[str]) -> Any:
        (file,) = (o.partition("=")[2] for o in command if o.startswith("--benchmark-json="))
        Path(file).write_text(json.dumps(found))
        return SimpleNamespace(wait=lambda: 1)

    monkeypatch.setattr("bench.__main__.subprocess.Popen", failing)
    if kept:
        assert main(["--out", str(tmp_path)]) == 1
        assert len(runs.load(results).rows) == 2
        assert (tmp_path / "report.html").exists()
    else:
        with pytest.raises(SystemExit, match="1"):
            main(["--out", str(tmp_path)])
        assert results.read_text() == "before"
