"""The student's folder: pages, pictures and skeletons are copied there, and nothing that was changed is overwritten."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torchops.files import not_a_file, replacing
from torchops.files.names import is_hidden

from .lesson import FOLDER, Lesson, folders, load
from .progress import FILE, Done, Progress, change, keep
from .skeleton import exercise

DEFAULT = "torchops-course"
PAGES = ("README.md", "AGENTS.md")


@dataclass
class Copied:
    """What became of the files of the course; their names are relative to the student's folder."""

    new: list[str] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    """Those that nobody had changed, and that are now those of this version."""
    kept: list[str] = field(default_factory=list)
    """Those that were changed, and are left alone."""
    beside: list[str] = field(default_factory=list)
    """What this version has in the place of those that were changed."""


def find(here: Path) -> Path | None:
    """The student's folder: a folder or one of its parents, or what `start` has made in it; None if there is none."""
    here = here.absolute()
    return next((path for path in (here, *here.parents, here / DEFAULT) if _is_course(path)), None)


def _is_course(path: Path) -> bool:
    return (path / FILE).exists() and any((path / folder.name).is_dir() for folder in folders())


def file_of(root: Path, lesson: Lesson) -> Path:
    """What the student edits."""
    return root / lesson.folder.name / f"{lesson.name}.py"


def missing(root: Path, lesson: Lesson) -> str:
    """Why a student's file cannot be checked, in words; "" if it is there."""
    file = file_of(root, lesson)
    reason = not_a_file(file)
    if reason is None:
        return ""
    others = sorted(path.name for path in file.parent.glob("*.py") if path.is_file() and not is_hidden(path.name))
    found = f"; {', '.join(others)} lies there: give it its name back" if others else ""
    return f"{file}: {reason}{found}, or torchops course reset {lesson.number} begins it again"


def lessons() -> list[Lesson]:
    """All lessons, in their order."""
    return [load(folder.name) for folder in folders()]


def is_done(lesson: Lesson, done: Done) -> bool:
    return all(step.name in done.steps for step in lesson.steps)


def following(progress: Progress, after: Lesson | None = None) -> Lesson | None:
    """The lesson that is next: the first that is not done behind one, else the first of all; None if all are done."""
    left = [lesson for lesson in lessons() if not is_done(lesson, progress.of(lesson.name))]
    behind = [lesson for lesson in left if after is not None and lesson.number > after.number]
    return next(iter(behind or left), None)


def at_hand(root: Path, progress: Progress) -> tuple[Lesson, str]:
    """The lesson that is worked on, and why: its file was saved last, and is not right as it is; else it is the next."""
    changed = [
        (file_of(root, lesson).stat().st_mtime_ns, lesson)
        for lesson in lessons()
        if _is_worked_on(root, lesson, progress)
    ]
    if changed:
        return max(changed, key=lambda one: one[0])[1], "its file was saved last"
    lesson = following(progress)
    return (lessons()[-1], "all lessons are done, this is the last") if lesson is None else (lesson, "it is next")


def _is_worked_on(root: Path, lesson: Lesson, progress: Progress) -> bool:
    """Whether the file of a lesson is neither as it began, nor as it was right."""
    file, done = file_of(root, lesson), progress.of(lesson.name)
    if not file.is_file():
        return False
    held = digest(file.read_bytes())
    begun = held not in (digest(exercise(lesson).encode()), progress.files.get(file.relative_to(root).as_posix()))
    return begun and not (done.verdict == "ok" and done.hash == held)


def start(root: Path) -> Copied:
    """Make a student's folder, or bring one up to date.

    A file that nobody has changed becomes the one of this version. One that was changed stays, and what this version has in its
    place is put beside it, as page.new.md.

    Raises:
        OSError: if something cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    done = Copied()

    def copy(progress: Progress) -> None:
        for name, content in _sources():
            _put(root, name, content, progress.files, done)

    change(root, copy)
    return done


def _sources() -> Iterator[tuple[str, bytes]]:
    """The files of the course, by their names in the student's folder."""
    for page in PAGES:
        if (FOLDER.parent / page).is_file():
            yield page, (FOLDER.parent / page).read_bytes()
    for folder in folders():
        lesson = load(folder.name)
        yield file_of(Path(), lesson).as_posix(), exercise(lesson).encode()
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.suffix != ".py" and not is_hidden(file.name):
                yield f"{folder.name}/{file.name}", file.read_bytes()


def _put(root: Path, name: str, content: bytes, written: dict[str, str], done: Copied, *, beside: bool = False) -> None:
    """Write one file, or what is to lie beside it.

    Args:
        root: the student's folder.
        name: of the file, in that folder.
        content: what this version has.
        written: what earlier ones wrote, as sums; changed.
        done: what became of it; changed.
        beside: whether it lies beside one that was changed.
    """
    path, ours = root / name, digest(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = digest(path.read_bytes()) if path.exists() else None
    if before == ours:
        written[name] = ours
        return
    if before is not None and before != written.get(name):
        if not beside:
            done.kept.append(name)
        # a skeleton that is filled in has something beside it only if there is a newer one
        if ours != written.get(name) and (name in written or path.suffix != ".py"):
            stem, dot, suffix = name.rpartition(".")
            _put(root, f"{stem}.new{dot}{suffix}", content, written, done, beside=True)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    written[name] = ours
    (done.beside if beside else done.new if before is None else done.newer).append(name)


def reset(root: Path, lesson: Lesson) -> Path | None:
    """Begin a student's file again, and the lesson with it; the copy of what the file held, if that was something else.

    Raises:
        OSError: if something cannot be written.
    """
    file, content = file_of(root, lesson), exercise(lesson).encode()
    before = file.read_bytes() if file.exists() else None
    copy = None if before in (None, content) else keep(file, before, file.with_name(f"{file.name}.bak"))
    if before != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_bytes(content)

    def again(progress: Progress) -> None:
        progress.of(lesson.name).steps.clear()

    change(root, again)
    return copy


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
