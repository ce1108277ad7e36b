"""`python -m bench.gpu_check [--dry-run]`: everything that wants a GPU, in one run under ten minutes, with a summary last.

Tests, tuning of the named cases, benchmarks and their report go to bench/results/<GPU>-<date>/, each step with its own log.
Nothing has to be installed: the package is imported from the checkout. The dry run asks every step what it can answer
without a GPU, and writes to out/gpu-check/.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from torchops.check import machine
from torchops.files import replacing

ROOT = Path(__file__).parent.parent
CONSOLE = Console(width=120)
GRACE = 15
"""Seconds for a step that is stopped to write what it has."""


@dataclass(frozen=True)
class Step:
    """A part of the check: a command of Python, and the seconds after which it is stopped."""

    name: str
    command: tuple[str, ...]
    seconds: int


@dataclass(frozen=True)
class Outcome:
    step: str
    verdict: str
    """"ok", "FAILED (exit code)", or "STOPPED after ... s"."""
    seconds: float
    last: str
    """The last line of its log."""


def steps(out: Path, dry: bool) -> list[Step]:
    """What is run, in this order. Together under ten minutes."""
    tests = "-m", "pytest", "tests", "--tier", "gpu", "-q"
    tune = "-m", "torchops", "tune"
    bench = "-m", "bench", "--out", str(out)
    if dry:
        return [
            Step("tests", (*tests, "--collect-only"), 120),
            Step("tune", (*tune, "--dry-run", "--arch", "sm_90", "--case", "deep", "--no-backward", "--top", "1"), 120),
            Step("bench", (*bench, "-k", "test_call and sobel", "--rounds", "2"), 120),
        ]
    # kernels are compiled on the CPU, by as many processes
    several = ("-n", str(min(8, os.cpu_count() or 1)), "--dist", "loadgroup") if find_spec("xdist") else ()
    return [
        Step("tests", (*tests, *several), 220),
        Step("tune", (*tune, "--top", "4"), 140),
        Step("bench", (*bench, "--rounds", "3", "--budget", "140"), 190),
    ]


def run(step: Step, out: Path) -> Outcome:
    """Run a step, with its output in a log; what does not end in time is stopped."""
    log = out / f"{step.name}.log"
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "TORCHOPS_CONFIG_DIR": str(out / "configs"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    began = time.monotonic()
    with log.open("w") as file:
        # a group of its own, to be stopped with the processes it starts
        process = subprocess.Popen(
            [sys.executable, *step.command], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(step.seconds)
            verdict = "ok" if code == 0 else f"FAILED ({code})"
        except subprocess.TimeoutExpired:
            verdict = f"STOPPED after {step.seconds} s"
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return Outcome(step.name, verdict, time.monotonic() - began, lines[-1] if lines else "")


def main(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="What can be asked without a GPU.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Test, tune and time everything on this machine's GPU."""
    if not dry_run and not torch.cuda.is_available():
        typer.echo("gpu-check: torch sees no GPU here; --dry-run asks what can be answered without one", err=True)
        raise typer.Exit(2)
    if out is None:
        gpu = "" if dry_run else re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name())
        out = ROOT / ("out/gpu-check" if dry_run else f"bench/results/{gpu}-{time.strftime('%Y%m%d-%H%M%S')}")
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for step in steps(out, dry_run):
        CONSOLE.print(f"{step.name}: python {' '.join(step.command)}", highlight=False, soft_wrap=True)
        outcomes.append(run(step, out))
    with replacing(out / "summary.json") as file:
        found = {"machine": machine(), "dry_run": dry_run, "steps": [asdict(outcome) for outcome in outcomes]}
        file.write_text(json.dumps(found, indent=2) + "\n")
    shown = Table("step", "verdict", "seconds", "last line", title="gpu-check, a dry run" if dry_run else "gpu-check")
    for outcome in outcomes:
        shown.add_row(outcome.step, outcome.verdict, f"{outcome.seconds:.0f}", outcome.last)
    CONSOLE.print(shown)
    CONSOLE.print(f"in {out}", highlight=False, soft_wrap=True)
    if any(outcome.verdict != "ok" for outcome in outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
