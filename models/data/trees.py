"""Folders of images for every class: which classes and parts there are, and which files belong to them. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torchops.files.images import SUFFIXES
from torchops.files.names import is_hidden

from .found import DataError, Found, counted, listed

PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What a folder of classes is for, by its name in small letters."""
TRAINED = (".lock", "last.pt", "best.pt", "metrics.csv")
"""What of a run lies beside its config.json, as soon as it is trained."""
MOST_LOOKED = 10_000
"""Folders that are looked through for one that would have fitted."""


@dataclass(frozen=True)
class Tree:
    """What belongs to which class; a file is in one part and one class only."""

    classes: tuple[str, ...]
    """Names of the folders of train, in order; empty if there are none."""
    parts: dict[str, list[tuple[str, int]]]
    """Files and their classes, for "train", and for "val" and "test" where there are folders for them."""
    folders: dict[str, str] = field(default_factory=dict)
    """How the folder of a part is called; empty where the classes are not in parts."""


@dataclass(frozen=True)
class _Folder:
    """What lies in a folder, as paths in order."""

    path: str
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Links to folders."""
    images: list[str] = field(default_factory=list)
    """What is an image by its name, and no folder."""
    others: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    """Folders of runs, whose pictures are no images of a class."""
    hidden: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def part(self) -> str | None:
        return PARTS.get(self.name.lower())

    @property
    def nests(self) -> bool:
        """Whether it holds folders, and no image itself."""
        return not self.images and bool(self.folders or self.links)

    def leave_out(self, found: Found, why: str | None = None) -> None:
        """Name what is hidden, and the files that are no images by their names; or all files, where `why` says so."""
        for path in self.hidden:
            found.leave_out(path, "hidden")
        for path in self.runs:
            found.leave_out(path, "the folder of a run")
        for path in self.others if why is None else [*self.images, *self.others]:
            suffix = os.path.splitext(path)[1]
            found.leave_out(path, why or "no image by its name" + (f" ({suffix.lower()})" if suffix else ""))


def find(root: Path, found: Found, *, unlabelled: bool = False) -> Tree:
    """The images of a tree: a folder for every class, or such folders in train, val and test.

    Args:
        root: the folder of folders.
        found: where to say what is left out.
        unlabelled: take a folder that holds images and no folder, too: they have no class.

    Raises:
        DataError: if it is no such tree, or a file is in two classes or parts.
    """
    top = look(str(root))
    real = Path(os.path.realpath(root))
    inside = _followed(_inner(top), real, (), found)
    if not inside:
        if not (unlabelled and top.images):
            holds = f"{counted(len(top.images), 'image')}, but no folder" if top.images else "no folder"
            raise DataError(f"`data` (={root}): holds {holds}: one is needed for every class")
        top.leave_out(found)
        return Tree((), _once({"train": [(path, 0) for path in top.images]}, (), found))
    parts = _parts(root, inside, found)
    if parts:
        classes = {part: _inner(folder) for part, folder in parts.items()}
        top.leave_out(found, f"beside {parts['train'].name}")
        for folder in parts.values():
            folder.leave_out(found, "beside the folders of classes")
    else:
        classes = {"train": inside}
        top.leave_out(found, "beside the folders of classes")
    places = [Path(os.path.realpath(f.path)) for each in classes.values() for f in each if not os.path.islink(f.path)]
    classes = {part: _followed(folders, real, places, found) for part, folders in classes.items()}
    _check_nesting(root, top, classes)
    names = tuple(folder.name for folder in classes["train"])
    index = {name: label for label, name in enumerate(names)}
    samples: dict[str, list[tuple[str, int]]] = {}
    for part, folders in classes.items():
        unknown = [f.name for f in folders if f.images and f.name not in index]
        if unknown:
            raise DataError(
                f"`data` (={root}): {parts[part].name} holds classes that {parts['train'].name} has not: {listed(unknown)}"
            )
        samples[part] = [(path, index[f.name]) for f in folders if f.name in index for path in _files(f, found)]
    return Tree(names, _once(samples, names, found), {part: folder.name for part, folder in parts.items()})


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_run(folder: str) -> bool:
    """Whether something is, or was, trained into it."""
    there = {name for name in ("config.json", *TRAINED) if os.path.exists(os.path.join(folder, name))}
    return "config.json" in there and len(there) > 1


def look(path: str) -> _Folder:
    """List a folder, but nothing that lies deeper."""
    folder = _Folder(path)
    try:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if is_hidden(entry.name):
                    kind = folder.hidden
                elif _is_folder(entry):
                    inner = folder.runs if _is_run(entry.path) else folder.folders
                    kind = folder.links if entry.is_symlink() else inner
                else:
                    kind = folder.images if _is_image(entry.name) else folder.others
                kind.append(entry.path)
    except OSError as error:
        nothing = isinstance(error, FileNotFoundError) and not os.path.islink(path)
        raise DataError(f"`data` (={path}): {'no such folder' if nothing else error.strerror}") from error
    return folder


def _inner(folder: _Folder) -> list[_Folder]:
    return [look(path) for path in sorted([*folder.folders, *folder.links])]


def _followed(folders: Iterable[_Folder], root: Path, places: Iterable[Path], found: Found) -> list[_Folder]:
    """Folders without the links that lead to the root or above it, or to a place, above or into one."""
    kept = []
    for folder in folders:
        if os.path.islink(folder.path):
            real = Path(os.path.realpath(folder.path))
            if root.is_relative_to(real) or any(real.is_relative_to(p) or p.is_relative_to(real) for p in places):
                found.leave_out(folder.path, "a link to what is listed already")
                continue
        kept.append(folder)
    return kept


def _parts(root: Path, folders: list[_Folder], found: Found) -> dict[str, _Folder]:
    """The folders of train, val and test; none if the folders are those of classes."""
    named = [folder for folder in folders if folder.part]
    if not any(folder.part == "train" and folder.nests for folder in named):
        nesting = [folder.name for folder in named if folder.nests]
        if nesting:
            own = [path for folder in named if folder.part == "train" for path in folder.images]
            but = f"train holds images itself, as {own[0]}" if own else "no train with a folder for every class"
            raise DataError(f"`data` (={root}): holds {' and '.join(nesting)}, but {but}")
        if len(named) == len(folders):
            names = " and ".join(folder.name for folder in named)
            raise DataError(f"`data` (={root}): {names} must hold a folder for every class, not the images themselves")
        return {}
    parts: dict[str, _Folder] = {}
    for name in ("train", "val", "test"):
        same = [folder for folder in named if folder.part == name]
        if len(same) > 1:
            raise DataError(f"`data` (={root}): holds {' and '.join(f.name for f in same)}: only one can be {name}")
        if same and name == "test" and not (same[0].folders or same[0].links):
            found.leave_out(same[0].path, "without a folder for every class")
        elif same:
            parts[name] = same[0]
    if "val" in parts and not (parts["val"].folders or parts["val"].links):
        raise DataError(
            f"`data` (={root}): {parts['val'].name} holds no folders of classes, as {parts['train'].name} does"
        )
    beside = [folder for folder in folders if not folder.part]
    classes = [folder.name for folder in beside if folder.images]
    if classes and parts.keys() == {"train"}:
        raise DataError(
            f"`data` (={root}): {parts['train'].name} holds folders, but {listed(classes)} beside it holds images: "
            "are the classes in there, or here?"
        )
    for folder in beside:
        found.leave_out(folder.path, f"beside {parts['train'].name}")
    return parts


def _check_nesting(root: Path, top: _Folder, classes: dict[str, list[_Folder]]) -> None:
    """Raise DataError where a folder of a class has no image itself."""
    for part, folders in classes.items():
        bad = [f for f in folders if f.nests or (not f.images and part == "train")]
        if not bad:
            continue
        first = bad[0]
        if first.nests:
            images, _ = _below(first)
            inner = listed([os.path.basename(path) for path in [*first.folders, *first.links]])
            what = f"holds no image itself, but the folders {inner}, with {counted(images, 'image')} below"
        else:
            files = f", but {counted(len(first.others), 'other file')}" if first.others else ""
            what = f"holds no image{files}"
        more = f"; {counted(len(bad) - 1, 'folder')} more like it" if len(bad) > 1 else ""
        hint = ""
        if not any(f.images for each in classes.values() for f in each):
            _, fitting = _below(top)
            hint = f"; {fitting[0]} would fit" if len(fitting) == 1 else ""
        raise DataError(f"`data` (={root}): no image of the class {first.name}: {first.path} {what}{more}{hint}")


def _below(top: _Folder) -> tuple[int, list[str]]:
    """Images below a folder, links not followed; and folders in there that hold folders of classes, or of parts."""
    images, fitting, waiting = 0, list[str](), [(top, False)]
    for _ in range(MOST_LOOKED):
        if not waiting:
            break
        folder, fits = waiting.pop()
        inner = [look(path) for path in folder.folders]
        if folder is not top and not fits:
            split = any(f.part == "train" and f.nests for f in inner)
            fits = split or sum(bool(f.images) for f in inner) > 1
            fitting += [folder.path] if fits else []
        images += len(folder.images)
        waiting += [(f, fits) for f in inner]
    return images, fitting


def _files(top: _Folder, found: Found) -> Iterator[str]:
    """What are images by their names in a folder and in the folders in it; links to folders are not followed."""
    folders, waiting = list[_Folder](), [top]
    while waiting:
        folder = waiting.pop()
        folders.append(folder)
        # a folder that is called x.png is an image that cannot be read
        waiting += [look(path) for path in folder.folders if not _is_image(path)]
    for folder in sorted(folders, key=lambda folder: folder.path):
        folder.leave_out(found)
        for path in folder.links:
            found.leave_out(path, "a link to a folder")
        yield from sorted([*folder.images, *filter(_is_image, folder.folders)])


def _once(
    parts: dict[str, list[tuple[str, int]]], classes: tuple[str, ...], found: Found
) -> dict[str, list[tuple[str, int]]]:
    """The samples of parts, each file once, whatever it is called: links and hard links are told by the file's number.

    Raises:
        DataError: if a file is in two classes or parts.
    """
    seen: dict[tuple[int, int], tuple[str, int, str]] = {}
    kept: dict[str, list[tuple[str, int]]] = {part: [] for part in parts}
    for part, samples in parts.items():
        for path, label in samples:
            try:
                status = os.stat(path)
            except OSError:  # reading it says why
                kept[part].append((path, label))
                continue
            before, is_of, first = seen.setdefault((status.st_dev, status.st_ino), (part, label, path))
            if first is path:
                kept[part].append((path, label))
            elif (before, is_of) == (part, label):
                found.leave_out(f"{path} (it is {first})", "a second name of a file")
            else:
                where = (
                    f"in {before} and in {part}" if before != part else f"of {classes[is_of]} and of {classes[label]}"
                )
                raise DataError(f"{first} and {path} are one file, {where}: it can be in one only")
    return kept
