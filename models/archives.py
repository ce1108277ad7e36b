"""What a file of weights says of itself, looked at before torch reads it: nothing is made of it, and nothing unpacked."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_ITEM = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip
"""Bytes of a value, by the name of torch's storage; of storages that are not here, as quantized ones, 1 at least."""
_PLAIN = (
    "torch", "torch._utils", "torch._tensor", "torch.storage", "torch.serialization", "torch.nn.parameter",
    "collections", "builtins", "__builtin__", "_codecs",
)  # fmt: skip
"""Modules of what a file of weights consists of; whatever is of another module torch does not read."""
_CHUNK = 2**20


class Oversized(Exception):  # noqa: N818 (it is what a file is)
    """A file declares more than it can hold: how much, and how large it is, in bytes."""

    def __init__(self, declared: int, size: int) -> None:
        self.declared, self.size = declared, size
        super().__init__(f"unpacks to {in_units(declared)} from {in_units(size)}: files of weights are not compressed")


@dataclass
class Contents:
    """Of what a file consists."""

    storages: dict[str, int] = field(default_factory=dict)
    """Bytes by the key of the storage."""
    classes: list[str] = field(default_factory=list)
    """Classes and functions that torch leaves alone, by their full names."""


def in_units(size: int) -> str:
    """A number of bytes as people say it."""
    for unit, of in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= of:
            return f"{size / of:.1f} {unit}"
    return f"{size} bytes"


def look(path: Path) -> Contents:
    """What a file that torch wrote declares, in either of torch's formats.

    Raises:
        Oversized: if it declares more than fits into its size.
        Exception: of any kind, if it is broken: a record is cut off, does not have its checksum, or is no pickle.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        # torch asks no more of an archive
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        contents = _zipped(file, size) if zipped else _in_a_row(file)
    if (declared := sum(contents.storages.values())) > size:
        raise Oversized(declared, size)
    return contents


def _zipped(file: BinaryIO, size: int) -> Contents:
    """An archive: a pickle, and a record a storage."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # records that overlap or are compressed: torch compresses none
        if (declared := sum(entry.file_size for entry in entries)) > size:
            raise Oversized(declared, size)
        # torch takes small letters for capitals, and of two records the first
        records = {entry.filename.partition("/")[2].lower(): entry for entry in entries}
        if len(records) < len(entries):
            raise zipfile.BadZipFile("two records have one name")
        for entry in entries:
            # torch writes 0 where it is told to reckon no checksums; without one, none is checked
            if entry.CRC == 0:
                del entry.CRC
            # torch itself checks none when it reads
            with archive.open(entry) as record:
                while record.read(_CHUNK):
                    pass
        pickled = _Look(io.BytesIO(archive.read(records["data.pkl"])))
        pickled.load()
        for key, declared in pickled.contents.storages.items():
            if declared > records[f"data/{key}".lower()].file_size:
                raise zipfile.BadZipFile(f"the record of storage {key} is too short")
    return pickled.contents


def _in_a_row(file: BinaryIO) -> Contents:
    """The format before archives: a magic number, a version, a machine and the content, pickled; then the storages."""
    for _ in range(3):
        _Look(file).load()
    pickled = _Look(file)
    pickled.load()
    return pickled.contents


class _Inert:
    """Stands for an object that a pickle would make: it takes whatever is done to it, and does nothing."""

    name = ""

    def __new__(cls, *arguments: Any) -> _Inert:
        # these take room by a number alone
        if cls.name.endswith(("bytearray", "Tensor", "Parameter", "Storage")) and any(
            isinstance(argument, int) for argument in arguments
        ):
            raise pickle.UnpicklingError(f"{cls.name} of a number")
        return object.__new__(cls)

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


# this is the one of Python's two that makes room for what there is; C's takes a pickle's word for the size of its memo
class _Look(pickle._Unpickler):
    """Goes through a pickle without importing or calling anything, and notes what it names."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.contents = Contents()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        full = f"{module}.{name}"
        if module not in _PLAIN and full not in self.contents.classes:
            self.contents.classes.append(full)
        return type("_Inert", (_Inert,), {"name": full})

    def persistent_load(self, saved: Any) -> Any:
        if saved[0] == "module":
            return saved[1]
        if saved[0] == "storage":
            kind, key, _, count = saved[1:5]
            declared = count * _ITEM.get(kind.name.rpartition(".")[2], 1)
            if not (isinstance(declared, int) and declared >= 0):
                raise pickle.UnpicklingError("a storage of no size")
            key = str(key)
            self.contents.storages[key] = max(declared, self.contents.storages.get(key, 0))
        return _Inert()
