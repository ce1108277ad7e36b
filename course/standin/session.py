"""What the launches of one call leave behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from torchops.course.report import Launch

from .program import Program


@dataclass
class Session:
    order: str = ""
    """In which programs run, "forward" or "backward"; where it is given, a race does not stop them."""
    launches: list[Launch] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    program: Program | None = None
    """Which one runs."""


_open: list[Session] = []


def session() -> Session:
    """The one that is open.

    Raises:
        RuntimeError: if none is.
    """
    if not _open:
        raise RuntimeError("kernels run here only while a function of this file is checked: launch them in one")
    return _open[-1]


@contextlib.contextmanager
def opened(order: str = "") -> Iterator[Session]:
    """In the block, kernels can be launched."""
    one = Session(order)
    _open.append(one)
    try:
        yield one
    finally:
        _open.pop()
