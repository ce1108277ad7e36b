"""gpu-check: its dry run, and what becomes of a stage that fails or does not end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import torchops.kernels
from bench.gpu_check import __main__ as check
from bench.gpu_check import smoke, stages
from bench.gpu_check.folder import Folder, Outcome
from bench.gpu_check.stages import STAGES, TOTAL, Session, Stage
from bench.rehearsal import rehearsing
from torchops import precompile
from torchops.kernels.planning.hardware import find

ROOT = Path(__file__).parent.parent


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "bench.gpu_check", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def session(folder: Path) -> Session:
    return Session(Folder(folder, {"gpu": "none"}, dry=True), None)


class TestDryRun:
    def test_every_stage_says_what_it_can_without_a_gpu(self, tmp_path: Path) -> None:
        done = command("--dry-run", "--out", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["dry_run"]
        assert {"gpu", "driver", "torch", "triton", "commit"} <= set(summary["machine"])
        assert [(stage["stage"], stage["verdict"]) for stage in summary["stages"]] == [
            (stage.name, "ok") for stage in STAGES
        ]
        said = {stage["stage"]: stage["said"] for stage in summary["stages"]}
        assert f"{sum(c.how != 'graph' for c in smoke.checks())} ok" in said["smoke"]
        assert "tests collected" in said["tests"]
        assert "launches of telling cases, rehearsed" in said["timings"]
        assert "1 configs of 1 problems compiled" in said["tune"]
        assert said["bench"] == "2 raced"
        names = {path.name for path in tmp_path.iterdir()}
        assert len(names) <= 8
        assert {"results.jsonl", "summary.json", "summary.md", "log.txt", "report.zip"} <= names
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 40e6
        assert "128x64x64" in (tmp_path / "log.txt").read_text()
        with zipfile.ZipFile(tmp_path / "report.zip") as packed:
            assert {"results.json", "report.html", "report.md"} <= set(packed.namelist())
        rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
        assert {row["stage"] for row in rows} == {"smoke", "timings", "bench"}

    def test_one_stage_alone(self, tmp_path: Path) -> None:
        done = command("--dry-run", "--stage", "timings", "--out", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        (stage,) = json.loads((tmp_path / "summary.json").read_text())["stages"]
        assert stage["stage"] == "timings"

    def test_an_unknown_stage_is_refused(self) -> None:
        done = command("--dry-run", "--stage", "nose")
        assert done.returncode == 2
        assert (
            done.stderr == "gpu-check: --stage must be one of machine, smoke, tests, timings, tune, bench, got 'nose'\n"
        )

    def test_without_a_gpu_it_says_what_can_be_done(self) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        done = command()
        assert done.returncode == 2
        assert done.stderr == "gpu-check: torch sees no GPU here; --dry-run asks what can be answered without one\n"


class TestTime:
    def test_all_of_it_ends_in_eight_minutes(self) -> None:
        assert TOTAL <= 480
        # the last stages have what the others leave
        assert sum(stage.seconds for stage in STAGES[:-2]) < TOTAL - stages.REPORT
        late = check.ends_at(STAGES[-1], began=0.0, now=440.0, dry=False)
        assert late == TOTAL - stages.REPORT
        assert check.ends_at(STAGES[1], began=0.0, now=10.0, dry=False) == 10 + STAGES[1].seconds

    def test_a_stage_whose_time_is_out_is_not_begun(self, tmp_path: Path) -> None:
        def never(session: Session, until: float) -> stages.Said:
            raise AssertionError("begun")

        outcome = check.run(Stage("tests", never, 10), session(tmp_path), time.monotonic() - 1)
        assert outcome.verdict == "not begun: the time is out"

    def test_a_command_that_does_not_end_is_stopped_with_what_it_started(self, tmp_path: Path) -> None:
        script = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        code, last = stages._run(session(tmp_path), ["-c", script], time.monotonic() + stages.GRACE + 2)
        assert code != 0
        assert last.startswith("stopped when its time was out")
        child = int((tmp_path / "log.txt").read_text().split("time.sleep(600)\n")[-1].split()[0])
        for _ in range(100):
            status = Path(f"/proc/{child}/stat")
            # what is killed is gone, or waits for its parent to notice
            if not status.exists() or status.read_text().split(")")[1].split()[0] == "Z":
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
            pytest.fail("its child is still there")


class TestFailures:
    def test_what_a_stage_raises_is_its_verdict(self, tmp_path: Path) -> None:
        def broken(session: Session, until: float) -> stages.Said:
            raise OSError("no\nspace")

        outcome = check.run(Stage("bench", broken, 10), session(tmp_path), time.monotonic() + 9)
        assert (outcome.verdict, outcome.said) == ("FAILED", "OSError: no space")

    def test_a_failing_command_is_told_by_its_code_and_its_last_words(self, tmp_path: Path) -> None:
        script = "print('three failed'); raise SystemExit(3)"
        found = stages._run(session(tmp_path), ["-c", script], time.monotonic() + 60)
        assert found == (3, "three failed")

    def test_a_wrong_value_a_crash_and_the_rest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A check that takes its process with it takes no other check's result."""
        some = smoke.checks()[:4]
        monkeypatch.setattr(smoke, "checks", lambda: some)
        monkeypatch.setattr(stages, "_smoke", sabotaged)
        one = session(tmp_path)
        verdict, said = stages.smoke_stage(one, time.monotonic() + 120)
        assert verdict == "WRONG or failed"
        assert said.startswith("2 ok, 1 wrong, 1 failed") or sorted(said.split("; ")[0].split(", ")) == [
            "1 failed", "1 wrong", "2 ok",
        ]  # fmt: skip
        rows = {row["name"]: row for row in one.folder.rows()}
        assert rows[some[1].name]["wrong"] == "WRONG"
        assert rows[some[2].name]["wrong"] == "the process ended with exit code 86"
        assert rows[some[3].name]["verdict"] == "ok"
        one.folder.close(Outcome("smoke", verdict, 1.0, said))
        assert f"smoke: {some[2].name}: the process ended" in (tmp_path / "summary.md").read_text()

    def test_a_test_that_loses_the_gpu_ends_its_process(self, tmp_path: Path) -> None:
        """pytest-xdist then goes on in a fresh one."""
        (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
        (tmp_path / "test_it.py").write_text(
            "import tests.conftest\n"
            "def test_fails(): assert False\n"
            "def test_loses_it(monkeypatch):\n"
            "    monkeypatch.setattr(tests.conftest, 'gpu_is_lost', lambda: True)\n"
            "    raise RuntimeError('an illegal memory access was encountered')\n"
            "def test_after(): pass\n"
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 86
        assert "test_loses_it has lost the GPU" in done.stderr
        assert "an illegal memory access was encountered" in done.stderr


def sabotaged(device: str, gpu: Any, one: smoke.Check) -> smoke.Result:
    """In place of a smoke check: the second is wrong, the third ends its process."""
    place = [check.name for check in smoke.checks()].index(one.name)
    if place == 2:
        os._exit(86)
    return smoke.Result("WRONG" if place == 1 else "ok", 1.0, 1.0, 0.1)


class TestFolder:
    def test_a_line_that_was_cut_off_spoils_no_other(self, tmp_path: Path) -> None:
        folder = Folder(tmp_path, {}, dry=True)
        folder.add("smoke", name="a")
        with folder.results.open("a") as file:
            file.write('{"stage": "smo')
        folder.add("smoke", name="b")
        assert [row["name"] for row in folder.rows()] == ["a", "b"]

    def test_a_stage_alone_goes_on_in_the_folder(self, tmp_path: Path) -> None:
        first = Folder(tmp_path, {}, dry=True)
        first.add("smoke", name="a")
        first.close(Outcome("smoke", "ok", 1.0, ""))
        second = Folder(tmp_path, {}, dry=True, fresh=False)
        second.close(Outcome("tests", "ok", 1.0, ""))
        assert [row["name"] for row in second.rows()] == ["a"]
        assert [o.stage for o in second.outcomes] == ["smoke", "tests"]
        assert Folder(tmp_path, {}, dry=True).rows() == []


class TestRehearsal:
    def test_values_are_atens_and_launches_a_gpus(self) -> None:
        x, w = torch.randn(2, 16, 8, 8, requires_grad=True), torch.randn(16, 16, 3, 3, requires_grad=True)
        expected = torchops.conv2d(x, w, padding=1)
        (gradient,) = torch.autograd.grad(torchops.max_pool2d(expected, 2).sum(), x, retain_graph=True)
        with rehearsing(find("H100")) as found:
            y = torchops.conv2d(x, w, padding=1)
            dx = torch.autograd.grad(torchops.max_pool2d(y, 2).sum(), x)[0]
        assert torch.equal(y, expected)
        assert torch.equal(dx, gradient)
        assert {launch.device for launch in found} == {find("H100")}
        assert {"max_pool2d_fwd_kernel", "max_unpool2d_fwd_kernel"} <= {launch.name for launch in found}
        # afterwards all is as it was
        before = len(found)
        torchops.conv2d(x, w)
        assert len(found) == before

    def test_tests_are_rehearsed(self, tmp_path: Path) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        options = ["--tier", "gpu", "--rehearse", "H100", "--kernels", tmp_path, "--journal", tmp_path / "journal"]
        chosen = [ROOT / "tests" / "test_avg_pool2d.py", "-k", "TestAvgPool2d and (matches_reference or cuda_graph)"]
        words = [sys.executable, "-m", "pytest", "-q", *map(str, [*options, *chosen])]
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        rows = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
        outcomes = {row["test"].partition("::")[2]: row["outcome"] for row in rows}
        # what wants a GPU fails, and says so
        assert [name for name, outcome in outcomes.items() if outcome == "failed"] == [
            "TestAvgPool2d::test_cuda_graph"
        ], done.stdout
        assert sum(outcome == "passed" for outcome in outcomes.values()) > 5
        kernels = precompile.read_kernels(tmp_path.glob("*.jsonl"))
        assert "avg_pool2d_kernel" in {kernel.name for kernel in kernels}


class TestWithAGpu:
    """The stages as they go on a GPU, with everything that would use one replaced by something small on the CPU."""

    @pytest.fixture
    def one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
        lenet = [case for case in stages.benchmarks("pooling").every_case(gpu=False) if "lenet" in case.name]
        monkeypatch.setattr(stages, "telling", lambda gpu: {"pooling": lenet[:1]})
        monkeypatch.setattr(stages, "FILES", ("pooling", "pooling"))
        monkeypatch.setattr(stages, "benchmarks", lambda name: Small(lenet))
        monkeypatch.setattr(stages, "CACHE", tmp_path / "cache")
        return Session(Folder(tmp_path / "out", {"gpu": "NVIDIA H100"}, dry=False), find("H100"))

    def test_what_is_missing_is_compiled_first(
        self, one: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[precompile.Kernel] = []

        def compile_all(kernels: list[precompile.Kernel], cache: Path, until: float) -> Any:
            asked.extend(kernels)
            yield from (precompile.Outcome(kernel, number > 1, 0.1) for number, kernel in enumerate(kernels))

        monkeypatch.setattr(precompile, "compile_all", compile_all)
        monkeypatch.setattr(stages, "ROOT", tmp_path)
        (tmp_path / "gpu-check-kernels.xz").write_text("nonsense")
        verdict, said = stages.machine(one, time.monotonic() + 240)
        assert verdict == "ok", one.folder.rows()
        assert f"{len(asked)} kernels: {len(asked) - 2} found, 2 compiled, 0 failed" in said
        assert "is no archive of kernels" in said
        assert len(asked) == len(set(asked)) > 500

    def test_telling_cases_are_raced_and_told_as_shares(self, one: Session) -> None:
        verdict, said = stages.timings(one, time.monotonic() + 240)
        assert verdict == "ok", one.folder.rows()
        assert "GB/s" in said
        rows = [row for row in one.folder.rows() if "entry" in row]
        assert {row["entry"]["extra_info"]["provider"] for row in rows} == {"torchops", "aten"}
        assert all(row["us"] > 0 and row["of_copy"] > 0 for row in rows)
        verdict, said = stages.bench(one, time.monotonic() + 240)
        assert (verdict, said) == ("ok", "6 raced"), one.folder.rows()
        one.folder.close(Outcome("bench", verdict, 1.0, said))
        case = rows[0]["entry"]["extra_info"]["case"]
        assert f"| {case} | torchops |" in (one.folder.path / "summary.md").read_text()
        one.folder.machine.update(roofs=None, torch="", triton="", cpu="")
        stages.write_report(one)
        with zipfile.ZipFile(one.folder.path / "report.zip") as packed:
            held = json.loads(packed.read("results.json"))
        assert case in {entry["extra_info"]["case"] for entry in held["benchmarks"]}

    def test_without_time_nothing_is_raced_and_it_says_so(self, one: Session) -> None:
        assert stages.timings(one, time.monotonic() - 1) == (
            "incomplete",
            "no roofs: not begun: the time is out; 1 not done",
        )
        verdict, said = stages.bench(one, time.monotonic() - 1)
        assert (verdict, said) == ("ok", "8 not done")

    def test_commands_name_the_folder(self, one: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        commands = []

        def run(session: Session, command: list[str], until: float) -> tuple[int, str]:
            commands.append(" ".join(command))
            if "tune" in command:
                tile = {"block_m": 256, "block_n": 64, "block_k": 32, "taps": 3, "splits": 1}
                session.folder.add("tune", call="body.forward", us=30.0, modelled_us=20.0, config=tile)
                session.folder.add("tune", call="body.forward", us=None, wrong="Config(): wrong: off by 2")
            else:
                session.folder.add("tests", test="a", outcome="passed")
            return 0, "the last line"

        monkeypatch.setattr(stages, "_run", run)
        assert stages.tests(one, 0.0) == ("ok", "2 passed; the last line; the last line")
        assert stages.tune(one, 0.0) == ("1 configs are WRONG", "1 problems, 2 configs; the last line")
        expected = ("--tier gpu", "--junitxml="), ("-m xdist_group",), ("--case body", "--top 4")
        for command, words in zip(commands, expected, strict=True):
            assert f"--journal {one.folder.results}" in command
            assert all(word in command for word in words)
        one.folder.close(Outcome("tune", "", 1.0, ""))
        summary = (one.folder.path / "summary.md").read_text()
        assert "tune: body.forward: Config(): wrong: off by 2" in summary
        assert "of 1 configs: median 1.50, p10 1.50, p90 1.50" in summary
        assert "| body.forward | 256x64x32, 3, 1 | 30.0 | 20.0 | 1.50 |" in summary


class Small:
    """A file of benchmarks with few cases."""

    def __init__(self, cases: list[Any]) -> None:
        self.cases = cases

    def every_case(self, gpu: bool) -> list[Any]:
        return self.cases[:4]
