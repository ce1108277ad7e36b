"""A run that is killed loses nothing but time, whenever that is."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from .kills import kill


@pytest.mark.parametrize("net", ["lenet", "unet"])
def test_killed_at_random_moments(net: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Twice; ten times with --fuzz. More, and kills while the process starts: `python -m tests.models.kills`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.models.kills"])
    result = kill(net, tmp_path, 10 if pytestconfig.getoption("--fuzz") else 2, 1, context)
    assert result.differs == [], result.moments
