"""Run the tiers of proof, each in the process it needs: `python -m tests.tiers [tier ...]`, all of them by default.

    aten         every op on CPU tensors against its reference, and all that concerns the operator
    interpreter  the same questions asked of the Triton kernels, in Triton's interpreter
    ir           the kernels' compiled IR, executed with checks: out-of-bounds accesses, races, unwritten memory, bfloat16
    compile      the kernels compiled for real GPUs, against the gates on registers, spills, loads and traffic
    gpu          the same questions on a GPU, where there is one

A tier that fails, runs no test or cannot run here makes the whole run fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRITON = {"TORCHOPS_BACKEND": "triton"}
HANGS = 600
"""Seconds after which a test will not end any more; the longest takes 45 on two cores."""
# what each tier's process is started with: environment, then command; the longest first
PROCESSES: dict[str, tuple[dict[str, str], list[str]]] = {
    "aten": ({}, ["-m", "pytest"]),
    "interpreter": ({**TRITON, "TRITON_INTERPRET": "1"}, ["-m", "pytest"]),
    "compile": ({}, ["-m", "pytest"]),
    "ir": (TRITON, ["-m", "ttsem.sanitize", "pytest"]),
    "gpu": ({}, ["-m", "pytest"]),
}


PIECES = {"compile": 2}
"""Tiers that run in so many processes, one after the other or beside another tier, so that two cores end at the same time."""


def clean_environment() -> dict[str, str]:
    """The environment without what decides about a tier."""
    return {k: v for k, v in os.environ.items() if k not in ("TORCHOPS_BACKEND", "TRITON_INTERPRET")}


def has_gpu() -> bool:
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def run(tier: str, tests: str = "tests", options: tuple[str, ...] = ()) -> tuple[str, int, int, float]:
    """Run one tier; return its name, tests passed, tests not passed (at least 1 if the run failed), seconds.

    A test that hangs ends its tier, which shows where it stood. What a test has started and left behind may still have the
    tier's output open: so that is a file, which nobody waits for.
    """
    extra, command = PROCESSES[tier]
    env = {**clean_environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **extra}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report, output = Path(folder) / "report.xml", Path(folder) / "output"
        arguments = [*command, str(ROOT / tests), "--tier", tier, "-q", "--durations=3", f"--junitxml={report}"]
        with output.open("wb") as file:
            limit = ("-o", f"faulthandler_timeout={HANGS}", "-o", "faulthandler_exit_on_timeout=true")
            command = [sys.executable, *arguments, *limit, *options]
            done = subprocess.run(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
        said = output.read_text(encoding="utf-8", errors="replace").strip()
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        if report.exists():
            for suite in ET.parse(report).iter("testsuite"):
                counts = {name: counts[name] + int(suite.get(name, 0)) for name in counts}
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    if done.returncode != 0 or passed == 0:
        failed = max(failed, 1)
    print(f"\n===== tier {tier} =====\n{said[-20000:]}", flush=True)
    return tier, passed, failed, time.monotonic() - start


def summary(results: list[tuple[str, int, int, float]]) -> int:
    """Print a line a tier; return the exit code."""
    print()
    for tier, passed, failed, seconds in results:
        print(f"{tier:<12} {passed:>5} passed {failed:>5} failed {seconds:>7.0f} s   {'FAILED' if failed else 'ok'}")
    if not has_gpu() and all(r[0] != "gpu" for r in results):
        print(f"{'gpu':<12} no GPU on this machine")
    passed, failed = sum(r[1] for r in results), sum(r[2] for r in results)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


def main(tiers: list[str]) -> int:
    unknown = set(tiers) - set(PROCESSES)
    if unknown:
        print(f"unknown tier {', '.join(sorted(unknown))}; known: {', '.join(PROCESSES)}")
        return 2
    gpu = has_gpu()
    chosen = tiers or [t for t in PROCESSES if t != "gpu" or gpu]
    pieces = [(tier, f"{n + 1}/{PIECES.get(tier, 1)}") for tier in chosen for n in range(PIECES.get(tier, 1))]
    # two at a time: each is one process with one thread
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda piece: run(piece[0], options=("--piece", piece[1])), pieces))
    names = [tier if piece == "1/1" else f"{tier} {piece}" for tier, piece in pieces]
    return summary([(name, *result[1:]) for name, result in zip(names, results, strict=True)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
