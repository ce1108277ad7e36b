from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from torchops.workers import GPU_LOST, gpu_is_lost

from .harness import Contest
from .provenance import provenance


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, help="seconds after which no further case is begun (default: none)")
    parser.addoption("--rounds", type=int, default=9, help="rounds of every race (default: 9)")
    parser.addoption(
        "--begun", type=Path, help="file of tests that were begun: they are not begun again, and others are added"
    )
    parser.addoption("--note", default="", help="words for the provenance: what else ran on the machine")
    parser.addoption(
        "--all-cases",
        action="store_true",
        help="convolutions, pools and networks: on a CPU too, every one and every pass",
    )


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(provenance(config.getoption("--rounds"), config.getoption("--note")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where time is short, a case of every file in turn, with all its providers; Inductor, which compiles, after them all."""
    begun = _begun(config)
    items[:] = [item for item in items if item.nodeid not in begun]
    if config.getoption("--budget") is not None:
        files: dict[Path, dict[Any, list[pytest.Item]]] = {}
        for item in items:
            files.setdefault(item.path, {}).setdefault(_case(item), []).append(item)
        turns = itertools.zip_longest(*(cases.values() for cases in files.values()))
        items[:] = [item for turn in turns for case in turn for item in case or ()]
    items.sort(key=lambda item: _params(item).get("provider") == "inductor")


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _case(item: pytest.Item) -> tuple[str, ...]:
    """What the providers of a case share."""
    return item.name.partition("[")[0], *(str(v) for name, v in _params(item).items() if name != "provider")


def _begun(config: pytest.Config) -> set[str]:
    file = config.getoption("--begun")
    return set(file.read_text().splitlines()) if file is not None and file.exists() else set()


def _begin(config: pytest.Config, *items: pytest.Item) -> None:
    if (file := config.getoption("--begun")) is not None:
        with file.open("a") as lines:
            lines.writelines(f"{item.nodeid}\n" for item in items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    _begin(item.config, item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """After an illegal access nothing runs on the GPU: what was measured is written, and a fresh process goes on."""
    report = yield
    if call.excinfo is not None and gpu_is_lost():
        _begin(item.config, *(other for other in item.session.items if _case(other) == _case(item)))
        pytest.exit(f"{item.nodeid} has lost the GPU\n{report.longreprtext}", returncode=GPU_LOST)
    return report


@pytest.fixture(scope="session")
def held(request: pytest.FixtureRequest) -> Callable[[Any, Callable[[], Contest]], Contest]:
    """Contests by case: the first provider's test holds it, the others look up their times."""
    contests: dict[Any, Contest | Exception] = {}
    budget, began = request.config.getoption("--budget"), time.monotonic()

    def get(key: Any, hold: Callable[[], Contest]) -> Contest:
        if key not in contests:
            if budget is not None and time.monotonic() - began > budget:
                pytest.skip(f"not begun: {budget:.0f} seconds are over")
            try:
                contests[key] = hold()
            except Exception as error:  # it is told to all its providers
                contests[key] = error
        found = contests[key]
        if isinstance(found, Exception):
            raise found
        return found

    return get
