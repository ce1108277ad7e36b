"""What the tests of the course share: processes that check are warm once, for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torchops.course.machine import machine, version
from torchops.course.server import Server

from .bench import Bench

# `make oldest` has none: verdicts are those of the pair that the extra course pins
collect_ignore_glob = ["test_*.py"] if version("ttsem") is None else []

Servers = Callable[[str | None], Server]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A warm process for each machine, by its name."""
    warm: dict[str | None, Server] = {}

    def server(machine: str | None = None) -> Server:
        return warm.setdefault(machine, Server(machine))

    yield server
    for one in warm.values():
        one.close()


@pytest.fixture(params=["standin", "ttsem"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(machine(request.param), tmp_path, monkeypatch)
