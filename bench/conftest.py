from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .harness import Contest
from .provenance import provenance


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, help="seconds after which no further case is begun (default: none)")
    parser.addoption("--rounds", type=int, default=9, help="rounds of every race (default: 9)")
    parser.addoption("--note", default="", help="words for the provenance: what else ran on the machine")
    parser.addoption(
        "--all-cases",
        action="store_true",
        help="convolutions, pools and networks: on a CPU too, every one and every pass",
    )


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(provenance(config.getoption("--rounds"), config.getoption("--note")))


@pytest.fixture(scope="session")
def held(request: pytest.FixtureRequest) -> Callable[[Any, Callable[[], Contest]], Contest]:
    """Contests by case: the first provider's test holds it, the others look up their times."""
    contests: dict[Any, Contest] = {}
    budget, began = request.config.getoption("--budget"), time.monotonic()

    def get(key: Any, hold: Callable[[], Contest]) -> Contest:
        if key not in contests:
            if budget is not None and time.monotonic() - began > budget:
                pytest.skip(f"not begun: {budget:.0f} seconds are over")
            contests[key] = hold()
        return contests[key]

    return get
