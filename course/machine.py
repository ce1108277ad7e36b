"""Which machine runs the kernels of a student's file here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .report import Fault, Ran


class Machine(Protocol):
    """Runs functions that launch kernels, with everything watched."""

    name: str
    """What it is called in reports."""

    def prepare(self) -> None:
        """Before a student's file is imported: what `import triton` gives it."""

    def run(self, call: Callable[[], Any], file: Path, limit: float, *, order: str = "") -> Ran:
        """Call; lines of `file` are the student's. It is stopped after `limit` seconds. With an `order`, "forward" or "backward",
        programs run first to last or last to first, and a race does not stop them."""

    def far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        """Call with arguments on the device "meta": whether the first, the middle and the last programs of its launches
        address what they were given."""


def machine(name: str | None = None) -> Machine:
    """ "ttsem" or "standin"; the first that can run here if not given.

    Raises:
        RuntimeError: if the one that is asked for cannot run here; the message says what to install.
    """
    if name != "standin":
        try:
            from .semantics import Semantics

            return Semantics()
        except ModuleNotFoundError as error:
            if name == "ttsem":
                raise RuntimeError(f"{error.name} is not installed: pip install 'torchops[course]'") from None
    from .standin import StandIn

    return StandIn()
