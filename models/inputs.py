"""Images that are named one by one or by their folder, and the files that are made of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchops.files import not_replaceable
from torchops.files.images import SUFFIXES
from torchops.files.names import is_hidden, printable


@dataclass(frozen=True)
class Input:
    """A file to read, and where it lies in the folder that all of them have in common."""

    path: Path
    """As it was named, or found in a folder that was."""
    within: Path

    def beside(self, folder: Path, suffix: str) -> Path:
        """The file in another folder that lies there as this one does here, as "cats/1-mask.png"."""
        return folder / self.within.parent / f"{self.within.stem}{suffix}"


def inputs(named: Sequence[Path], *, leave_out: Path | None = None) -> list[Input]:
    """Files as they are named; of folders the images in them and below, in order, but what is hidden.

    What lies in a folder is taken for an image by its name, whether it can be read or not; links to folders are not
    followed. What is named twice is there once.

    Args:
        named: files and folders.
        leave_out: a folder that is not looked into.

    Raises:
        ValueError: if a folder holds no image, or is the one to leave out.
        OSError: if a folder cannot be read.
    """
    found: dict[str, Path] = {}
    tops = []
    for path in named:
        if not os.path.isdir(path):
            found.setdefault(os.path.abspath(path), path)
            tops.append(os.path.dirname(os.path.abspath(path)))
            continue
        if leave_out is not None and os.path.realpath(path) == os.path.realpath(leave_out):
            raise ValueError(f"{printable(path)}: is the folder to write to: what is made would be read the next time")
        files = _images(path, leave_out)
        if not files:
            raise ValueError(f"{printable(path)}: holds no images, whose names end in {', '.join(SUFFIXES)}")
        for file in files:
            found.setdefault(os.path.abspath(file), file)
        tops.append(os.path.abspath(path))
    top = os.path.commonpath(tops)
    return [Input(path, Path(os.path.relpath(absolute, top))) for absolute, path in found.items()]


def _images(folder: Path, leave_out: Path | None) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    def is_left_out(where: str, name: str) -> bool:
        return is_hidden(name) or os.path.realpath(os.path.join(where, name)) == out

    out = None if leave_out is None else os.path.realpath(leave_out)
    found = []
    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not is_left_out(where, name)]
        found += [Path(where, n) for n in files if not is_hidden(n) and n.lower().endswith(SUFFIXES)]
    return sorted(found)


def check_apart(files: Sequence[Input], made: Sequence[Sequence[Path]]) -> None:
    """Raise ValueError if two of them would be written to one file, one over another that is to be read, or one to no file.

    Args:
        files: what is read.
        made: for each the files that it is made into.
    """
    read = {os.path.realpath(file.path): file.path for file in files}
    written: dict[str, Path] = {}
    for file, outputs in zip(files, made, strict=True):
        for output in outputs:
            real = os.path.realpath(output)
            if (reason := not_replaceable(output)) is not None:
                raise ValueError(f"{printable(output)}: {reason}")
            if real in read:
                raise ValueError(
                    f"{printable(file.path)} would be written over {printable(read[real])}, which is to be read"
                )
            if (other := written.setdefault(real, file.path)) != file.path:
                raise ValueError(
                    f"{printable(other)} and {printable(file.path)} would both be written to {printable(output)}"
                )
