"""Files that are to be written: what is wrong with them is found before anything takes time."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from . import not_replaceable
from .names import printable


def not_writable(path: Path) -> str | None:
    """Why no file can be put at a path, as "the folder no does not exist"; None if one can. Links are followed."""
    if (reason := not_replaceable(path)) is not None:
        return reason
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        return f"the folder {printable(folder)} does not exist"
    # what is beside it is written first
    return None if os.access(folder, os.W_OK) else f"the folder {printable(folder)} cannot be written to"


def check_writable(path: Path, suffixes: Collection[str] = ()) -> None:
    """Raise ValueError if a file cannot be put at a path, or its name ends in none of the suffixes, if there are some."""
    if (reason := not_writable(path)) is not None:
        raise ValueError(f"{printable(path)}: {reason}")
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{printable(path)}: must end in {' or '.join(suffixes)}")
