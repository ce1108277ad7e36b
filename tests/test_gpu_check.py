"""gpu-check: its dry run, and what becomes of a step that fails or does not end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.gpu_check import GRACE, Step, run, steps

ROOT = Path(__file__).parent.parent


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu_check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_dry_run_asks_every_step_and_says_so(tmp_path: Path) -> None:
    done = check("--dry-run", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dry_run"]
    assert [(step["step"], step["verdict"]) for step in summary["steps"]] == [
        ("tests", "ok"), ("tune", "ok"), ("bench", "ok"),
    ]  # fmt: skip
    assert "tests collected" in summary["steps"][0]["last"]
    assert "128x64x64" in (tmp_path / "tune.log").read_text()
    assert {"results.json", "report.html", "report.md"} <= {path.name for path in tmp_path.iterdir()}
    assert "a dry run" in done.stdout


def test_a_real_run_asks_the_same_steps_and_ends_in_ten_minutes(tmp_path: Path) -> None:
    real, dry = steps(tmp_path, False), steps(tmp_path, True)
    assert [step.name for step in real] == [step.name for step in dry]
    assert sum(step.seconds + GRACE for step in real) < 600
    # without what makes them dry
    for one, other in zip(real, dry, strict=True):
        assert one.command[:2] == other.command[:2]
        assert not {"--dry-run", "--collect-only"} & set(one.command)


def test_without_a_gpu_it_says_what_can_be_done() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = check()
    assert done.returncode == 2
    assert done.stderr == "gpu-check: torch sees no GPU here; --dry-run asks what can be answered without one\n"


def test_a_failing_step_is_named_with_its_code_and_its_last_words(tmp_path: Path) -> None:
    outcome = run(Step("tests", ("-c", "print('three failed'); raise SystemExit(3)"), 60), tmp_path)
    assert (outcome.verdict, outcome.last) == ("FAILED (3)", "three failed")


def test_a_step_that_does_not_end_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    outcome = run(Step("bench", ("-c", script), 2), tmp_path)
    assert outcome.verdict == "STOPPED after 2 s"
    child = int((tmp_path / "bench.log").read_text().split()[0])
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        # what is killed is gone, or waits for its parent to notice
        if not status.exists() or status.read_text().split(")")[1].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("its child is still there")
