"""What the tests of the course share: processes that check are warm once, for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from torchops.course.machine import version
from torchops.course.server import Server

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
