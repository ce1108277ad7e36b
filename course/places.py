"""Which line of a student's file an operation of the compiler's was made from, where functions call functions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from ttsem import sanitize

_DEFINITION = re.compile(r"^(#loc\d*) = loc\((.*)\)\s*$", re.MULTILINE)
_PLACE = re.compile(r'"([^"]+)":(\d+):\d+|(#loc\d*)')
_TRITONS_OWN = re.compile(r"[\\/]triton[\\/]language[\\/]")


@contextlib.contextmanager
def of_callees() -> Iterator[None]:
    """In the block, ttsem finds the lines of operations that the compiler has moved from a function to where it is called."""
    plain = sanitize._source_of

    def source(op_text: str, ir_text: str = "", kernel_file: str = "") -> tuple[str, int, str]:
        known = dict(_DEFINITION.findall(ir_text))
        # Triton's cache knows a kernel by its text: the path may be that of another file with the same text
        mine = (n for path, n in _places(op_text[op_text.rfind(" loc(") + 1 :], known) if not _TRITONS_OWN.search(path))
        line = next(mine, 0)
        lines = Path(kernel_file).read_text(encoding="utf-8").splitlines() if kernel_file else []
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        return (kernel_file, line, text) if text else plain(op_text, ir_text, kernel_file)

    with mock.patch.object(sanitize, "_source_of", source):
        yield


def _places(text: str, known: dict[str, str]) -> Iterator[tuple[str, int]]:
    """The places that a location names: what is called, then where it is called."""
    for path, line, alias in _PLACE.findall(text):
        yield from _places(known.get(alias, ""), known) if alias else [(path, int(line))]
