"""Files that are to be written: what is wrong with them is found before anything takes time."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from . import not_a_file
from .names import printable


def check_writable(path: Path, suffixes: Collection[str] = ()) -> None:
    """Raise ValueError if a file cannot be put at a path, or its name ends in none of the suffixes, if there are some."""
    name, folder = printable(path), printable(path.parent)
    if os.path.exists(path) and (reason := not_a_file(path)) is not None:
        raise ValueError(f"{name}: {reason} to write")
    if not path.parent.is_dir():
        raise ValueError(f"{name}: the folder {folder} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{name}: the folder {folder} cannot be written to")
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{name}: must end in {' or '.join(suffixes)}")
