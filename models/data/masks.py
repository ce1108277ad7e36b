"""Images and their masks, in two folders: a class for every value that the masks have."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchops.files.images import MAX_PIXELS, opened, turned

from .classes import FIFTH
from .found import DataError, Found, counted, listed, readable
from .loading import Data
from .mask_files import LARGEST, Colour, Palettes, read_classes, read_mask
from .preprocess import Preprocess
from .trees import PARTS, look

IGNORED = -1
"""The class of a pixel that counts for nothing: not in the loss, nor in figures and pictures."""
MOST_CLASSES = 64
"""The most values that masks may have if nothing names them."""
CLASSES_FILE = "classes.txt"
READERS = 4
"""So many images are looked at together before training; each takes memory."""
_UNKNOWN = -2

Pair = tuple[Path, Path]
"""An image and its mask."""


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Whole images with their masks, or, where `crop` is given, turned and mirrored crops of them, `crops` of each.

    Args:
        files: images and masks.
        values: the class of every value; `IGNORED` for pixels that do not count.
        preprocess: of the images.
        crop: height and width; an image that is smaller is reflected at its border, as often as it takes.
        crops: of each image.
        max_pixels: the most pixels that an image may have.
    """

    def __init__(
        self, files: Sequence[Pair], values: Mapping[int, int], preprocess: Preprocess,
        crop: int | None = None, crops: int = 1, max_pixels: int = MAX_PIXELS,
    ) -> None:  # fmt: skip
        self.files, self.preprocess, self.max_pixels = list(files), preprocess, max_pixels
        self.crop, self.crops = crop, crops
        self.class_of = torch.full((LARGEST + 1,), _UNKNOWN)
        for value, index in values.items():
            self.class_of[value] = index

    def __len__(self) -> int:
        return len(self.files) * self.crops

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_file, mask_file = self.files[index // self.crops]
        image = self.preprocess.resize(self.preprocess.read(image_file, max_pixels=self.max_pixels))
        values = read_mask(mask_file, max_pixels=self.max_pixels).values
        mask = self.class_of[values]
        if (mask == _UNKNOWN).any():
            raise DataError(f"{mask_file}: has changed: the value {int(values[mask == _UNKNOWN][0])} is new")
        if self.crop is not None:
            image, mask = (_at_least(t, self.crop) for t in (image, mask))
            top, left = (int(torch.randint(side - self.crop + 1, ())) for side in mask.shape)
            where = (..., slice(top, top + self.crop), slice(left, left + self.crop))
            turns, mirrored = int(torch.randint(4, ())), bool(torch.randint(2, ()))
            image, mask = (torch.rot90(t[where], turns, (-2, -1)) for t in (image, mask))
            if mirrored:
                image, mask = image.flip(-1), mask.flip(-1)
        return self.preprocess.normalize(image.contiguous()), mask.contiguous()


def _at_least(x: Tensor, size: int) -> Tensor:
    """(..., H, W) with sides of at least `size`: reflected below and to the right, the border's pixels included."""
    below, right = (max(0, size - side) for side in x.shape[-2:])
    if not below and not right:
        return x
    return torch.from_numpy(np.pad(x.numpy(), [(0, 0)] * (x.dim() - 2) + [(0, below), (0, right)], mode="symmetric"))


@dataclass(frozen=True)
class _Seen:
    """What there is in an image and its mask."""

    counts: dict[int, int]
    """Pixels of the mask by value."""
    palette: Mapping[int, Colour]
    coloured: bool
    pixels: int
    total: list[float]
    """By channel, of the image's pixels. Neither they are kept nor any tensor: small ones keep the memory around them."""
    squares: list[float]
    frames: int
    """Of the image's file."""


def pairs(
    root: Path, *, channels: int = 1, crop: int = 128, crops: int = 8, skip_corrupt: bool = False,
    background: str = "white", max_pixels: int = MAX_PIXELS, statistics: Mapping[str, tuple[float, ...]] | None = None,
) -> Data:  # fmt: skip
    """The folders `images` and `masks` of a folder, with files of the same stem, or of its folders train, val and test.

    Every fifth image is held out where there is no folder val. The classes are the values of the masks, in order, or those that
    a file `classes.txt` names: lines of a value and a name, or of a value and "ignore" for pixels that do not count.

    Args:
        root: the folder.
        channels: of the images, 1 or 3.
        crop, crops: height and width of what is trained on, and how many of each image.
        skip_corrupt: leave out what cannot be read.
        background: "white" or "black"; what shines through where an image is transparent.
        max_pixels: the most pixels that an image or a mask may have.
        statistics: `mean` and `std`, by channel, that the images are normalised by; their own without.

    Raises:
        DataError: if a folder, an image or a mask is missing or cannot be read, sizes differ, or a value is unknown.
    """
    found = Found()
    folders = _folders(root, found)
    for folder in folders.values():
        if folder != root and (folder / CLASSES_FILE).exists():
            raise DataError(
                f"{folder / CLASSES_FILE}: belongs beside {folder.name}: the classes are those of all parts"
            )
    names, ignored = read_classes(root / CLASSES_FILE)
    parts = {part: _matched(folder, found) for part, folder in folders.items()}
    _check_all_differ(pair for files in parts.values() for pair in files)
    plain = Preprocess(channels, background=background)
    seen = _looked([pair for files in parts.values() for pair in files], plain, max_pixels, skip_corrupt, found)
    parts = {part: [pair for pair in files if pair in seen] for part, files in parts.items()}
    palettes = _check_values(seen, names, ignored)
    if not names:
        values = {value for one in seen.values() for value in one.counts} - ignored
        names = {value: str(value) for value in sorted(values)}
        _note_255(values, found)
    if len(names) < 2:
        raise DataError(
            f"`data` (={root}): the masks hold {'one class only, ' if names else 'no class'}{''.join(names.values())}"
        )
    if "val" in parts:
        found.held_out = f"the images in {folders['val'].name}"
    else:
        parts["train"], parts["val"] = _held_out(folders["train"], parts["train"], found)
    for part in ("train", "val", "test"):
        if part in parts:
            _count(root, part, [seen[pair] for pair in parts[part]], names, found)
    statistics = statistics or _statistics([seen[pair] for pair in parts["train"]])
    preprocess = Preprocess(channels, None, background=background, **statistics)
    class_of = {value: index for index, value in enumerate(names)} | dict.fromkeys(ignored, IGNORED)
    whole = {
        part: Pairs(files, class_of, preprocess, max_pixels=max_pixels)
        for part, files in parts.items()
        if part != "train"
    }
    return Data(
        Pairs(parts["train"], class_of, preprocess, crop, crops, max_pixels), whole["val"], tuple(names.values()), preprocess,
        test=whole.get("test"), found=found, values=tuple(names), colours=palettes.colours(names),
    )  # fmt: skip


def _held_out(root: Path, files: Sequence[Pair], found: Found) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and to hold out."""
    if len(files) < 2:
        raise DataError(
            f"`data` (={root}): holds {counted(len(files), 'image')} that can be read, at least two are needed"
        )
    found.held_out = "every fifth image" if len(files) >= FIFTH else "the last image"
    val = list(files[FIFTH - 1 :: FIFTH] or files[-1:])
    held = set(val)
    return [pair for pair in files if pair not in held], val


def _folders(root: Path, found: Found) -> dict[str, Path]:
    """The folder of every part: `root` for all, or its folders of these names."""
    top = look(str(root))
    inside = sorted(map(Path, [*top.folders, *top.links]))
    parts: dict[str, Path] = {}
    for path in inside:
        part = PARTS.get(path.name.lower())
        if part is not None and parts.setdefault(part, path) != path:
            raise DataError(f"`data` (={root}): holds {parts[part].name} and {path.name}, which mean the same")
    if all((root / name).is_dir() for name in ("images", "masks")):
        for path in parts.values():
            found.leave_out(path, "beside images and masks")
        return {"train": root}
    if "train" in parts:
        test = parts.get("test")
        if test is not None and not (test / "masks").is_dir():
            found.leave_out(parts.pop("test"), "without masks")
        return parts
    missing = next(name for name in ("images", "masks") if not (root / name).is_dir())
    there = listed([path.name for path in inside]) or "none"
    raise DataError(
        f"`data` (={root}): holds no folder {missing}, and no folder train that would hold one; folders: {there}"
    )


def _matched(root: Path, found: Found) -> list[Pair]:
    """Images and masks of the same stem."""
    for name in ("images", "masks"):
        if not (root / name).is_dir():
            raise DataError(f"`data` (={root}): holds no folder {name}")
    if os.path.samefile(root / "images", root / "masks"):
        raise DataError(f"`data` (={root}): images and masks are one folder")
    images, masks = (_by_stem(root / name, found) for name in ("images", "masks"))
    if not images:
        inside = look(str(root / "images"))
        names = [Path(path).name for path in sorted([*inside.folders, *inside.links])]
        hint = f"; its folders are not looked into: {listed(names)}" if names else ""
        raise DataError(f"`data` (={root / 'images'}): holds 0 images{hint}")
    alone = sorted(images.keys() ^ masks.keys())
    if alone:
        kind, other = ("mask", images) if alone[0] in images else ("image", masks)
        more = f", nor have {len(alone) - 1} more files a partner" if len(alone) > 1 else ""
        raise DataError(f"{other[alone[0]]}: has no {kind}{more}; both are files of one name, but for its ending")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _by_stem(directory: Path, found: Found) -> dict[str, Path]:
    inside = look(str(directory))
    inside.leave_out(found)
    for folder in (*inside.folders, *inside.links):
        found.leave_out(folder, "a folder")
    files: dict[str, Path] = {}
    for path in map(Path, inside.images):
        other = files.setdefault(path.stem, path)
        if other != path:
            raise DataError(f"{path}: {other.name} has the same stem: one of them must go, or get another name")
    return files


def _check_all_differ(files: Iterable[Pair]) -> None:
    """Refuse one and the same file as two images, one of which might be held out, or as an image and a mask."""
    seen: dict[tuple[int, int], Path] = {}
    masks: dict[tuple[int, int], Path] = {}
    for image, mask in files:
        for path, known in ((image, seen), (mask, masks)):
            try:
                status = path.stat()
            except OSError:  # reading it will say why
                continue
            other = known.setdefault((status.st_dev, status.st_ino), path)
            if known is seen and other != path:
                raise DataError(f"{path}: is one and the same file as {other}")
    for key in seen.keys() & masks.keys():
        raise DataError(f"{seen[key]}: is one and the same file as the mask {masks[key]}")


def _looked(
    files: Sequence[Pair], plain: Preprocess, max_pixels: int, skip_corrupt: bool, found: Found
) -> dict[Pair, _Seen]:
    """What there is in all images and masks that can be read; the others are left out, if they may be."""
    seen = readable(
        files, lambda pair: _seen(*pair, plain, max_pixels), found, skip_corrupt=skip_corrupt, threads=READERS
    )
    found.note_frames([str(pair[0]) for pair, one in seen.items() if one.frames > 1])
    return seen


def _seen(image_file: Path, mask_file: Path, plain: Preprocess, max_pixels: int) -> _Seen:
    mask = read_mask(mask_file, max_pixels=max_pixels)
    (mask_h, mask_w), counts, palette, coloured = mask.values.shape, mask.counts(), mask.palette, mask.coloured
    # of large images one at a time is in memory
    del mask
    picture = plain.picture(image_file, max_pixels=max_pixels)
    image = plain.resize(picture.scaled())
    h, w = image.shape[-2:]
    if (h, w) != (mask_h, mask_w):
        hint = ""
        if (h, w) == (mask_w, mask_h):
            with opened(image_file, max_pixels=max_pixels) as one, opened(mask_file, max_pixels=max_pixels) as other:
                if turned(one) and not turned(other):
                    hint = ": EXIF turns the image, and not the mask; save the image as it is seen, or turn the mask"
        raise DataError(f"{mask_file}: has {mask_w} x {mask_h} pixels, {image_file.name} has {w} x {h}{hint}")
    total, squares = (x.sum((1, 2), dtype=torch.float64).tolist() for x in (image, image.square()))
    return _Seen(counts, palette, coloured, h * w, total, squares, picture.frames)


def _check_values(seen: Mapping[Pair, _Seen], names: Mapping[int, str], ignored: set[int]) -> Palettes:
    """Refuse values that nothing names, too many of them, and palettes that contradict each other."""
    palettes, values = Palettes(), set[int]()
    for (_, mask_file), one in seen.items():
        unknown = one.counts.keys() - names.keys() - ignored
        if names and unknown:
            raise DataError(f"{mask_file}: the value {min(unknown)} is not in {CLASSES_FILE}")
        values |= unknown
        if len(values) > MOST_CLASSES:
            raise DataError(
                f"{mask_file}: with it, masks have more than {MOST_CLASSES} values: were they scaled, or saved as JPEG? "
                f"A mask holds a class in every pixel; {CLASSES_FILE} can name more"
            )
        palettes.add(mask_file, one.palette, one.coloured, one.counts)
    return palettes


def _note_255(values: set[int], found: Found) -> None:
    """Where 255 stands beside a few small numbers it is more often a border or what nobody has labelled than a class."""
    others = values - {255}
    if len(others) >= 2 and len(values) > len(others) and max(others) < MOST_CLASSES:
        found.notes.append(f"255 counts as a class; a line `255 ignore` in {CLASSES_FILE} leaves it out")


def _count(root: Path, part: str, seen: Sequence[_Seen], names: Mapping[int, str], found: Found) -> None:
    """Say what a part holds; a part must hold a pixel that counts."""
    kind = {"train": "train on", "val": "hold out", "test": "test"}[part]
    if not seen:
        raise DataError(f"`data` (={root}): no image to {kind} is left")
    pixels: Counter[int] = Counter()
    for one in seen:
        pixels.update(one.counts)
    total = sum(pixels[value] for value in names)
    if not total:
        raise DataError(f"`data` (={root}): all pixels of the masks to {kind} are ignored")
    found.count(part, {name: sum(value in one.counts for one in seen) for value, name in names.items()}, len(seen))
    if part == "train":
        found.shares = {name: pixels[value] / total for value, name in names.items()}
        absent = [name for value, name in names.items() if not pixels[value]]
        if absent:
            found.notes.append(
                f"no pixel to train on is of {'the class' if len(absent) == 1 else 'these classes:'} {listed(absent)}"
            )
        left = sum(pixels.values()) - total
        if left:
            found.notes.append(f"{left / sum(pixels.values()):.1%} of the pixels to train on are ignored")


def _statistics(seen: Sequence[_Seen]) -> dict[str, tuple[float, ...]]:
    """`mean` and standard deviation of the channels of images."""
    count = sum(one.pixels for one in seen)
    total, squares = (np.sum(sums, axis=0) for sums in ([one.total for one in seen], [one.squares for one in seen]))
    mean = total / count
    variance = (squares - count * mean**2) / max(1, count - 1)
    return {"mean": tuple(mean.tolist()), "std": tuple(np.sqrt(variance.clip(min=1e-6)).tolist())}
