"""A run that is killed loses nothing but time, whenever that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import LONGER, forking, kill


def test_killed_at_random_moments(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Twice; each network ten times with --fuzz. More, and kills while the process starts: `python -m tests.models.kills`."""
    fuzz = pytestconfig.getoption("--fuzz")
    for net in LONGER if fuzz else ["lenet"]:
        result = kill(net, tmp_path / net, 10 if fuzz else 2, 1, forking())
        assert result.differs == [], result.moments
