"""A run that is killed loses nothing but time, whenever that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import forking, kill


@pytest.mark.parametrize("net", ["lenet", "unet"])
def test_killed_at_random_moments(net: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Twice; ten times with --fuzz. More, and kills while the process starts: `python -m tests.models.kills`."""
    fuzz = pytestconfig.getoption("--fuzz")
    if net == "unet" and not fuzz:
        pytest.skip("with --fuzz")
    result = kill(net, tmp_path, 10 if fuzz else 2, 1, forking())
    assert result.differs == [], result.moments
