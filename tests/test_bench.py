"""How the benchmarks measure: floors, races, what is stored when something fails. What is timed here is tiny, or made up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import results_file
from bench.__main__ import main
from bench.conftest import pytest_collection_modifyitems
from bench.harness import Contest, figures, floor_seconds, hold, too_fast
from torchops.kernels.planning.hardware import GPUS
from torchops.measure.race import device_seconds, race
from torchops.workers import GPU_LOST

from .made_up_results import H100, made_up_run
from .tiers import ROOT, clean_environment


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
    rows = [results_file.row(b) for b in results_file.reduce(json.loads(stored.read_text()))["benchmarks"]]
    assert {row.provider: row.impossible for row in rows} == {"torchops": "", "aten": "aten: too fast"}
    (aten,) = (row for row in rows if row.provider == "aten")
    assert (aten.times, aten.graph) == (pytest.approx((1e-7, 1e-7)), pytest.approx((2e-7, 2e-7)))


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
        monkeypatch.setattr("torchops.measure.race.gpu_sleep", lambda cycles: self.queued.append(cycles))
        monkeypatch.setattr("torchops.measure.race.time.perf_counter", lambda: self.now)

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


def test_one_case_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raced, written, reported and compared with itself."""
    options = ["-k", "test_call and sobel and inference", "--rounds", "2", "--out", str(tmp_path), "--note", "a test"]
    command = [sys.executable, "-m", "bench", *options]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results.json"
    run = results_file.load(results)
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
    run = results_file.load(tmp_path / "out" / "results.json")
    assert {row.case for row in run.rows} == {"call.sobel.inference"}
    assert {row.provider for row in run.rows} == {"torchops", "operator", "function"}


@pytest.mark.parametrize("kept", [True, False], ids=["some", "none"])
def test_a_failing_case_takes_no_other_with_it(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is written and reported; where nothing was, the results before stay."""
    results = tmp_path / "results.json"
    results.write_text("before")
    found = made_up_run({("a", "torchops"): (1.0, 1.1), ("a", "aten"): (2.0, 2.1)} if kept else {})

    def failing(command: list[str]) -> Any:
        (file,) = (o.partition("=")[2] for o in command if o.startswith("--benchmark-json="))
        Path(file).write_text(json.dumps(found))
        return SimpleNamespace(wait=lambda: 1)

    monkeypatch.setattr("bench.__main__.subprocess.Popen", failing)
    if kept:
        assert main(["--out", str(tmp_path)]) == 1
        assert len(results_file.load(results).rows) == 2
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
