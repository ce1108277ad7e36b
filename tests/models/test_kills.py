"""A run that is killed loses nothing but time, whenever that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import forking, kill


@pytest.mark.parametrize(("net", "kills"), [("lenet", 2), ("unet", 1)], ids=["lenet", "unet"])
def test_killed_at_random_moments(net: str, kills: int, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Ten times with --fuzz. More, and kills while the process starts: `python -m tests.models.kills`."""
    result = kill(net, tmp_path, 10 if pytestconfig.getoption("--fuzz") else kills, 1, forking())
    assert result.differs == [], result.moments
