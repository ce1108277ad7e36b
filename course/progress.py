"""What is done, in one file of the student's folder; several processes may write to it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchops.files import not_a_file, replacing

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None  # type: ignore[assignment]

FILE = "progress.json"
BROKEN = "progress.broken.json"
"""A copy of what could not be read; there may be several, with numbers."""
_LOCK = ".progress.lock"


@dataclass
class Done:
    """What is done in a lesson."""

    steps: list[str] = field(default_factory=list)
    """Those that were right once."""
    hints: dict[str, int] = field(default_factory=dict)
    """How many of a step's hints were shown."""
    checks: int = 0
    verdict: str = ""
    """Of the last check, and the sum of the file that it is about."""
    hash: str = ""
    solution: bool = False
    """Whether it was shown."""
    more: dict[str, Any] = field(default_factory=dict)
    """What another version has written."""


@dataclass
class Progress:
    lessons: dict[str, Done] = field(default_factory=dict)
    """By name; those that this version does not know are kept."""
    files: dict[str, str] = field(default_factory=dict)
    """Sums of the files that the course has written."""
    more: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """What could not be read, in words."""

    def of(self, lesson: str) -> Done:
        return self.lessons.setdefault(lesson, Done())


def read(root: Path) -> Progress:
    """What is done; where the file is broken, what is whole in it, and `wrong` says what is not."""
    path = root / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Progress()
    except (OSError, UnicodeDecodeError) as error:
        return Progress(wrong=[not_a_file(path) or str(getattr(error, "strerror", None) or error)])
    try:
        return _progress(json.loads(text))
    except (ValueError, RecursionError) as error:
        return Progress(wrong=[str(error)])


def change(root: Path, what: Callable[[Progress], None]) -> str:
    """Read, change and write what is done, while no other process does.

    Returns:
        what is to be said of a file that was broken, of which a copy is kept; "" of others.

    Raises:
        OSError: if it cannot be written, as in a folder that takes no files.
    """
    path = root / FILE
    said = ""
    with _alone(root):
        progress = read(root)
        if progress.wrong:
            copy = keep(path, path.read_bytes(), root / BROKEN)
            said = f"{FILE} was broken: {progress.wrong[0]}; it goes on with the rest, and {copy.name} is a copy of it"
        what(progress)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(_plain(progress), indent=1) + "\n", encoding="utf-8")
    return said


def keep(file: Path, content: bytes, copy: Path) -> Path:
    """Write a copy of a file that takes no other file's place: where its name is taken, it has a number behind it."""
    for number in range(1, 10_000):
        free = copy if number == 1 else copy.with_name(f"{copy.name}{number}")
        try:
            with free.open("xb") as opened:
                opened.write(content)
        except FileExistsError:
            continue
        return free
    raise FileExistsError(f"{copy}: there are too many copies of {file.name}")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder's lock; on a disk that knows none, go on without."""
    with (root / _LOCK).open("ab") as opened:
        with contextlib.suppress(OSError):
            _lock(opened.fileno())
        yield


def _lock(handle: int) -> None:
    """Wait for a file's lock, which is given back when the file is closed."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX)
    else:
        import msvcrt  # of Windows

        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)


def _plain(progress: Progress) -> dict[str, Any]:
    lessons = {name: {**done.more, **_fields(done)} for name, done in progress.lessons.items()}
    return {**progress.more, "lessons": lessons, "files": progress.files}


def _fields(done: Done) -> dict[str, Any]:
    return {name: value for name, value in vars(done).items() if name != "more"}


def _progress(data: Any) -> Progress:
    """Of what the file holds; what has another form than ours is left out, and said."""
    wrong: list[str] = []
    given = _as(data, dict, "the file", wrong)
    lessons = {
        name: _done(one, f"lessons.{name}", wrong)
        for name, one in _as(given.pop("lessons", {}), dict, "lessons", wrong).items()
    }
    files = _values(given.pop("files", {}), str, "files", wrong)
    return Progress(lessons, files, given, wrong)


def _done(data: Any, where: str, wrong: list[str]) -> Done:
    given = _as(data, dict, where, wrong)
    return Done(
        steps=[
            step
            for one in _as(given.pop("steps", []), list, f"{where}.steps", wrong)
            if (step := _as(one, str, f"{where}.steps", wrong))
        ],
        hints=_values(given.pop("hints", {}), int, f"{where}.hints", wrong),
        checks=_as(given.pop("checks", 0), int, f"{where}.checks", wrong),
        verdict=_as(given.pop("verdict", ""), str, f"{where}.verdict", wrong),
        hash=_as(given.pop("hash", ""), str, f"{where}.hash", wrong),
        solution=_as(given.pop("solution", False), bool, f"{where}.solution", wrong),
        more=given,
    )


def _as(value: Any, kind: Any, where: str, wrong: list[str]) -> Any:
    """A value of that type, or an empty one. A number counts things, and is not negative."""
    if isinstance(value, kind) and not (kind is int and (isinstance(value, bool) or value < 0)):
        return dict(value) if kind is dict else value
    wrong.append(f"{where} is {json.dumps(value)[:40]}")
    return kind()


def _values(value: Any, kind: Any, where: str, wrong: list[str]) -> dict[str, Any]:
    return {name: _as(one, kind, f"{where}.{name}", wrong) for name, one in _as(value, dict, where, wrong).items()}
