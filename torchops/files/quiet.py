"""A thread that is not warned, while the others are."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any


class _Here(threading.local):
    """Stands in a filter of warnings for the pattern of messages; matches all of them, in threads that are to hear none."""

    depth = 0

    def match(self, text: str) -> bool:
        return self.depth > 0


_here = _Here()
_FILTER: Any = ("ignore", _here, Warning, None, 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warning is shown or raised in the block, in this thread.

    `warnings.catch_warnings` puts back the filters of the process, which loses what other threads have set in between.
    Here one filter is added, which lets everything through where no block is.
    """
    # who has set filters since stands in front of it
    if not warnings.filters or warnings.filters[0] is not _FILTER:
        with contextlib.suppress(ValueError):
            warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1
