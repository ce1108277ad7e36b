"""The benchmarks' own machinery: floors, reports, comparisons. What is timed here is tiny, or made up."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from bench import report, runs
from bench.__main__ import main
from bench.compare import compare
from bench.conftest import pytest_collection_modifyitems
from bench.harness import Contest, figures, floor_seconds, hold, too_fast
from torchops.kernels.hardware import DEVICES, GPUS
from torchops.timing import device_seconds, race
from torchops.workers import GPU_LOST

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


def test_what_is_faster_than_the_floor_is_impossible() -> None:
    assert too_fast({"aten": [2e-6, 3e-6]}, 1e-6) == {}
    times = {"torchops": [2e-6], "aten": [5e-7, 4e-7, 9e-7], "inductor": [2e-6], "inductor (graph)": [5e-7]}
    assert too_fast(times, 1e-6) == {
        "aten": "0.50 us is faster than the floor, 1.00 us",
        "inductor": "as a CUDA graph, 0.50 us is faster than the floor, 1.00 us",
    }


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run takes 0.1 us there."""
    monkeypatch.setattr("bench.harness._device_peak_mib", lambda function: 0.0)
    monkeypatch.setattr("bench.harness._graphs", lambda contenders, check: ({}, {}))
    monkeypatch.setattr("bench.harness.device_of", lambda x: H100)
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: None)
    monkeypatch.setattr("bench.harness.device_seconds", lambda function, count: 1e-7 * count)


@pytest.mark.usefixtures("fake_gpu")
def test_an_impossible_case_keeps_its_figures() -> None:
    def contest(bytes_least: int) -> Contest:
        return hold(
            {"torchops": lambda: 0, "aten": lambda: 0}, check=lambda name, y: None, bytes_least=bytes_least, rounds=3,
            device="cuda",
        )  # fmt: skip

    # what the L2 cache can hold may stay there
    assert contest(H100.l2_bytes).floor == 0
    possible = contest(H100.l2_bytes + 100_000)
    assert possible.floor == pytest.approx(100_000 / 3.35e12)
    assert possible.impossible == {}
    assert "impossible" not in figures(possible, "torchops")
    found = contest(H100.l2_bytes + 3_350_000)
    assert set(found.impossible) == {"torchops", "aten"}
    stored = figures(found, "torchops")
    assert stored["impossible"] == "torchops: 0.10 us is faster than the floor, 1.00 us"
    assert stored["ms_p50"] == pytest.approx(1e-4)
    # a race of two is worth nothing if either is impossible
    one = replace(found, impossible={"torchops": "too fast"})
    assert "impossible" not in figures(one, "aten")
    assert figures(replace(one, apart=True), "aten")["impossible"] == "torchops: too fast"


BENCH = """
import pytest
from bench.harness import CLOCK, Contest, replay

@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten"])
def test_one(provider, benchmark):
    times = {"torchops": [1e-6, 2e-6], "aten": [1e-7, 1e-7], "aten (graph)": [2e-7, 2e-7]}
    info = {"case": "a.case", "threads": "gpu"}
    replay(benchmark, Contest(times, {"torchops": 0, "aten": 0}, 1, info=info, impossible={"aten": "too fast"}), provider)
"""


def test_an_impossible_measurement_fails_the_run_and_is_stored(tmp_path: Path) -> None:
    (tmp_path / "bench_one.py").write_text(BENCH)
    stored = tmp_path / "stored.json"
    command = [
        "-m",
        "pytest",
        str(tmp_path / "bench_one.py"),
        "-q",
        f"--benchmark-json={stored}",
        f"--rootdir={tmp_path}",
    ]
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a.case, aten: too fast: the measurement is wrong" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    rows = [runs.row(b) for b in runs.reduce(json.loads(stored.read_text()))["benchmarks"]]
    assert {row.provider: row.impossible for row in rows} == {"torchops": "", "aten": "aten: too fast"}
    (aten,) = (row for row in rows if row.provider == "aten")
    assert (aten.times, aten.graph) == (pytest.approx((1e-7, 1e-7)), pytest.approx((2e-7, 2e-7)))


def test_impossible_rows_are_marked_and_nothing_is_concluded_from_them(tmp_path: Path) -> None:
    run = _run(TIMES, gpu=True)
    run["benchmarks"][3]["extra_info"]["impossible"] = "aten: 1 us is faster than the floor, 2 us"
    found = runs.load(_file(tmp_path / "run.json", run))
    assert [duel.ours.case for duel in found.duels] == ["lost.forward"]
    report.write(tmp_path / "run.json", tmp_path)
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for text in (page, markdown):
        assert "loses 1 comparisons, wins 0," in text
        assert "IMPOSSIBLE measurements, from which nothing is concluded: 1." in text
        assert "1 us is faster than the floor, 2 us" in text
    assert page.count('<tr class="impossible">') == 2
    measured = next(s for s in report.sections(found, []) if s.title == "Roofline").pictures[0].draw()
    assert sum(line.get_marker() == "o" for line in measured.axes[0].lines) == 3
    # nor compared with
    code, text = _compare(_run(TIMES, gpu=True), run, tmp_path)
    assert code == 0
    assert "won.forward in B, aten: 1 us is faster than the floor, 2 us: left out" in text


def test_impossible_rows_are_named_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(TIMES, gpu=True)
    run["benchmarks"][3]["extra_info"]["impossible"] = "aten: too fast"
    assert main(["report", str(_file(tmp_path / "run.json", run))]) == 0
    assert capsys.readouterr().out.endswith(
        "IMPOSSIBLE, and nothing is concluded from it: won.forward, aten: too fast\n"
    )


def test_verdicts_come_from_graphs_where_both_have_one(tmp_path: Path) -> None:
    """By events, launches are in the time of ours: it loses. What the GPU does is faster than the other's."""
    run = _run({("a", "torchops"): SLOW, ("a", "aten"): BASE, ("b", "torchops"): SLOW, ("b", "aten"): BASE}, gpu=True)
    for number, graph in ((0, FAST), (1, BASE), (2, FAST)):
        run["benchmarks"][number]["extra_info"]["graph_ms"] = list(graph)
    found = runs.load(_file(tmp_path / "run.json", run))
    first, second = found.duels
    assert (first.verdict, second.verdict) == ("win", "loss")
    assert first.ms == pytest.approx((0.5, 1.0))
    assert first.ratios == pytest.approx((0.5, 0.5, 0.6 / 1.1), rel=0.1)
    assert second.ms == pytest.approx((2.0, 1.0))
    # compared as graphs where all of both runs have them
    worse = json.loads(json.dumps(run))
    worse["benchmarks"][0]["extra_info"]["graph_ms"] = [2 * t for t in FAST]
    code, text = _compare(run, worse, tmp_path)
    assert code == 1
    assert re.search(r"a +1 +torchops +0.5 +1 +2.00 +2.00", text)


def test_inductor_is_judged_by_the_race_it_was_in(tmp_path: Path) -> None:
    run = _run({("a", "torchops"): BASE, ("a", "aten"): BASE, ("b", "torchops"): BASE, ("a", "inductor"): BASE})
    run["benchmarks"][3]["extra_info"]["torchops_ms"] = list(SLOW)
    found = runs.load(_file(tmp_path / "run.json", run))
    assert [row.key[0] for row in found.rows] == ["a", "a", "a", "b"]
    verdicts = {duel.other.provider: (duel.verdict, duel.ratio) for duel in found.duels}
    assert verdicts["aten"] == ("even", 1.0)
    assert verdicts["inductor"][0] == "loss"
    assert verdicts["inductor"][1] == pytest.approx(2.0, rel=0.1)
    assert _compare(run, run, tmp_path)[0] == 0
    spoiled = json.loads(json.dumps(run))
    spoiled["benchmarks"][3]["extra_info"]["torchops_ms"] = [1.0]
    with pytest.raises(runs.BadRunError):
        runs.load(_file(tmp_path / "spoiled.json", spoiled))


def test_a_contest_held_without_pytest_makes_the_same_rows(tmp_path: Path) -> None:
    times = {"torchops": [3e-3, 2e-3, 4e-3], "torchops (graph)": [1e-3] * 3, "aten": [2e-3] * 3}
    info = {"case": "a", "threads": "gpu"}
    one = Contest(times, {"torchops": 1.0, "aten": 2.0}, 10**6, 10**9, info, no_graph={"aten": "why"})
    run = {**_run({}, gpu=True), "benchmarks": [runs.entry(one, name, "pooling") for name in ("torchops", "aten")]}
    ours, aten = runs.load(_file(tmp_path / "run.json", run)).rows
    assert (ours.family, ours.times, ours.graph) == ("pooling", (3e-3, 2e-3, 4e-3), (1e-3,) * 3)
    assert (aten.graph, aten.info["no_graph"]) == ((), "why")
    # rates are those of the graph
    assert ours.info["tflops"] == pytest.approx(1.0)
    assert aten.info["tflops"] == pytest.approx(0.5)
    assert runs.Duel(ours, aten).verdict == "loss"


class FakeGpu:
    """A clock that runs while Python queues, and what was queued, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, queueing: float) -> None:
        self.now, self.queueing, self.queued = 0.0, queueing, []
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                pass

            def record(self) -> None:
                gpu.queued.append("event")

            def elapsed_time(self, end: Event) -> float:
                return 2.0

        scratch = SimpleNamespace(zero_=lambda: self.queued.append("overwrite"))
        monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: scratch)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: self.queued.append("synchronize"))
        monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: self.queued.append(cycles))
        monkeypatch.setattr("torchops.timing.time.perf_counter", lambda: self.now)

    def run(self) -> None:
        self.now += self.queueing
        self.queued.append("run")


@pytest.mark.parametrize(
    ("queueing", "sleeps"), [(1e-5, 3e-4), (1e-3, 2e-3), (0.04, 0.08), (1.0, 0.1)], ids=["least", "two", "many", "most"]
)
def test_the_gpu_sleeps_until_a_run_is_queued(queueing: float, sleeps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(monkeypatch, queueing)
    assert device_seconds(gpu.run, 2) == pytest.approx(4e-3)
    measured, timed = gpu.queued[:4], gpu.queued[4:-1]
    assert measured == ["synchronize", "run"] * 2
    assert timed[::5] == [timed[0]] * 2
    # no shorter than asked for, whatever the clock
    assert timed[0] >= max(gpu.clock_ghz for gpu in GPUS.values()) * 1e9 * sleeps
    assert timed[0] == pytest.approx(3e9 * sleeps, rel=1e-5)
    assert timed[1:5] == ["overwrite", "event", "run", "event"]
    assert gpu.queued[-1] == "synchronize"


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


def test_a_lost_gpu_takes_one_case_with_it(tmp_path: Path) -> None:
    """The rest is measured in a fresh process, and what was measured before is kept."""
    (tmp_path / "losing.py").write_text(
        "import sys\n"
        "def pytest_runtest_call(item):\n"
        "    if 'training' in item.nodeid:\n"
        "        sys.modules['bench.conftest'].gpu_is_lost = lambda: True\n"
        "        raise RuntimeError('an illegal memory access was encountered')\n"
    )
    options = ["-k", "test_call and sobel", "--rounds", "2", "--out", str(tmp_path / "out"), "-p", "losing"]
    env = {**clean_environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "bench", *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == GPU_LOST, done.stdout + done.stderr
    assert done.stdout.count("has lost the GPU") == 1
    assert "an illegal memory access was encountered" in done.stdout
    run = runs.load(tmp_path / "out" / "results.json")
    assert {row.case for row in run.rows} == {"call.sobel.inference"}
    assert {row.provider for row in run.rows} == {"torchops", "operator", "function"}


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


def _item(file: str, case: str, provider: str) -> Any:
    params = {"case": case, "provider": provider}
    name = f"test[{case}-{provider}]"
    return SimpleNamespace(
        name=name, nodeid=f"{file}::{name}", path=Path(file), callspec=SimpleNamespace(params=params)
    )  # fmt: skip


@pytest.mark.parametrize("budget", [None, 60.0])
def test_inductor_comes_last_and_where_time_is_short_files_in_turn(budget: float | None) -> None:
    items = [
        _item(file, case, provider)
        for file in ("conv", "pool")
        for case in ("a", "b")
        for provider in ("torchops", "inductor", "aten")
    ]
    options = {"--budget": budget, "--begun": None}
    pytest_collection_modifyitems(SimpleNamespace(getoption=options.get), items)  # type: ignore[arg-type]
    order = [(str(i.path), i.callspec.params["case"], i.callspec.params["provider"]) for i in items]
    assert [provider for *_, provider in order[-4:]] == ["inductor"] * 4
    cases = [(file, case) for file, case, provider in order[:8] if provider == "aten"]
    in_turn = [("conv", "a"), ("pool", "a"), ("conv", "b"), ("pool", "b")]
    assert cases == (in_turn if budget else sorted(in_turn))
