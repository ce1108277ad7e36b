"""Copies of the sources, to be changed and tested."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .tiers import PROCESSES, ROOT, clean_environment


def copy_sources(folder: Path) -> None:
    """Copy the code of the project, and what its tools read, to an empty folder."""
    for name in ("bench", "course", "docs", "kernels", "models", "notebooks", "tests", "tools", "torchops"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)


def run_python(folder: Path, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy, on its files alone; what it prints is in `stdout`."""
    env = {**clean_environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_tests(folder: Path, tier: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy, in the process of their tier."""
    variables, command = PROCESSES[tier]
    return run_python(folder, [*command, "--tier", tier, "-q", *arguments], **variables)
