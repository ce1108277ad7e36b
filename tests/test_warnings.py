"""Warnings are errors here, but for those of torch's own that conftest.py names."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from pathlib import Path

from torch._dynamo.utils import CleanupHook, CleanupManager

ROOT = Path(__file__).parent.parent


def test_inductor_is_imported() -> None:
    """All of it, as a GPU's test_compile_inductor needs it, with no compiler asked for."""
    assert importlib.import_module("torch._inductor.compile_fx").compile_fx


def test_compiled_code_outlives_its_globals() -> None:
    """As when both are garbage: Dynamo's hook for the code then finds nothing left to remove."""
    scope, code = {}, compile("0", "", "eval")
    CleanupManager.instance[code] = [CleanupHook.create(scope, "name", 0)]
    scope.clear()
    del code
    # what raises while it is collected fails the test, if it has not warned before
    gc.collect()


def test_inductor_is_imported_in_a_fresh_process() -> None:
    """Here another test may have imported it, and nothing is warned of twice."""
    test = f"{__file__}::{test_inductor_is_imported.__name__}"
    command = [sys.executable, "-m", "pytest", test, "--tier", "aten", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed")
