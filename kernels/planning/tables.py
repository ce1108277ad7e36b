"""Tables of block sizes, <GPU>.json: where they lie, and how they are read.

A file is {"gpu": name, "sms": multiprocessors, "rows": [...]}. Whoever wrote it, it may be of another version or another GPU,
cut off, or no table at all. What is wrong is warned of once, with the file and the reason, and left out; the rest holds.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .hardware import GPUS, Device, listed

PACKAGE = Path(__file__).parent.parent / "configs"
SOURCES = ("model", "measured")
_LARGEST = 64 << 20
"""Bytes of the largest file that can be a table."""
Row = TypeVar("Row")


def user_folder() -> Path:
    """Where the user's tables are written: TORCHOPS_CONFIG_DIR, or torchops/configs in the user's cache."""
    if chosen := os.environ.get("TORCHOPS_CONFIG_DIR"):
        return Path(chosen)
    return _cache_folder()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "torchops" / "configs"


def folders() -> list[Path]:
    """Where tables are read: TORCHOPS_CONFIG_DIR, the user's cache, the package; a row of an earlier one is preferred."""
    return list(dict.fromkeys((user_folder(), _cache_folder(), PACKAGE)))


def file_name(name: str, sms: int) -> str:
    """The file of a GPU: "H100.json" for a listed one with all its multiprocessors, else what torch calls it."""
    short = listed(name)
    stem = short if short and GPUS[short].sms == sms else name
    return re.sub(r"[^\w.]+", "-", stem) + ".json"


def contents(file: Path, device: Device) -> list[Any]:
    """The rows of a table, as they stand there.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be read.
        ValueError: if it is no table, or that of another GPU.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a file")
    if status.st_size > _LARGEST:
        raise ValueError(f"{status.st_size} bytes are no table")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict) or not {"gpu", "sms", "rows"} <= set(found):
        raise ValueError("no object of gpu, sms and rows")
    gpu, sms, rows = found["gpu"], found["sms"], found["rows"]
    if type(sms) is not int or sms != device.sms:
        raise ValueError(f"of a GPU with {sms!r} multiprocessors, not {device.sms}")
    if not isinstance(gpu, str) or file_name(gpu, sms) != file.name:
        raise ValueError(f"of the GPU {gpu!r}")
    if not isinstance(rows, list):
        raise ValueError("rows are no list")
    return rows


def read(device: Device, parse: Callable[[Any], Row]) -> list[Row]:
    """The rows for a device, preferred ones last: the user's follow the package's, in each file measured follow modelled ones.

    Args:
        device: whose file is looked for, by its name and its number of multiprocessors.
        parse: makes something of a row, or raises a ValueError that says what is wrong with it.
    """
    found: list[Row] = []
    for folder in reversed(folders()):
        file = folder / file_name(device.name, device.sms)
        try:
            rows = contents(file, device)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            warnings.warn(f"{file} is ignored: {error}", stacklevel=2)
            continue
        good, bad = good_rows(rows, parse)
        if bad:
            warnings.warn(f"{file}: {len(bad)} of {len(rows)} rows are ignored; {bad[0]}", stacklevel=2)
        found += itertools.chain(*good.values())
    return found


def good_rows(rows: list[Any], parse: Callable[[Any], Row]) -> tuple[dict[str, list[Row]], list[str]]:
    """What `parse` makes of rows, by their source, and what is wrong with the others."""
    good: dict[str, list[Row]] = {source: [] for source in SOURCES}
    bad = []
    for number, row in enumerate(rows, 1):
        try:
            good[_source(row)].append(parse(row))
        except ValueError as error:  # noqa: PERF203
            bad.append(f"row {number}: {error}")
    return good, bad


def _source(row: Any) -> str:
    if not isinstance(row, dict) or row.get("source") not in SOURCES:
        raise ValueError(f"no object with a source among {', '.join(SOURCES)}")
    return str(row["source"])


def checked(kind: type[Row], values: Any) -> Row:
    """A dataclass of whole numbers, truths and words from an object that has its fields, and no others.

    Raises:
        ValueError: if a field is missing, unknown, of another type, negative, or 2^62 or more.
    """
    types: dict[str, str] = {name: f.type for name, f in kind.__dataclass_fields__.items()}  # type: ignore[attr-defined]
    name = kind.__name__.lower()
    if not isinstance(values, dict):
        raise ValueError(f"{name} is no object")
    if wrong := sorted(set(values) ^ set(types)):
        raise ValueError(f"{name} has fields missing or unknown: {', '.join(wrong)}")
    for field, value in values.items():
        if type(value).__name__ != types[field] or (types[field] == "int" and not 0 <= value < 2**62):
            raise ValueError(f"{field} of {name} is {value!r:.40}")
    return kind(**values)
