"""Mask files: the value of every pixel, by gray levels or by a palette, and what `classes.txt` calls the values."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchops.files import not_a_file
from torchops.files.images import MAX_PIXELS, opened
from torchops.models.colours import Colour, palette

from .found import DataError, counted

LARGEST = 65535
"""The largest value that a pixel of a mask may have."""
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
_JPEG = b"\xff\xd8\xff"
"""What files of the format begin with."""
_IGNORE = "ignore"


@dataclass(frozen=True)
class Mask:
    """Values, and the colours of a palette."""

    values: Tensor
    """(H, W), int64, from 0 to `LARGEST`."""
    palette: Mapping[int, Colour] = field(default_factory=dict)
    """The colour of every value that the palette knows; empty for files without one."""
    coloured: bool = False
    """Whether a colour of the palette is no gray."""

    def counts(self) -> dict[int, int]:
        """Pixels of every value that occurs."""
        counts = torch.bincount(self.values.flatten())
        return {value: int(counts[value]) for value in counts.nonzero().flatten().tolist()}


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> Mask:
    """A mask as it was stored, upright.

    A gray level is the value of its pixel, and so is the index of a palette that has a colour; where all of a palette is gray,
    the level is the value, as every viewer shows it. Files of 1 bit hold 0 and 1.

    Raises:
        DataError: if the file holds no values of classes, or the palette gives two values one colour.
        ImageError: if it cannot be read.
    """
    with opened(path, max_pixels=max_pixels) as image:
        if _is_jpeg(path, image):
            count = counted(len(np.unique(np.array(image.convert("L")))), "value")
            raise DataError(f"{path}: is a JPEG, which blurs masks: {count}; save masks as PNG")
        pixels = np.array(image)
        if image.mode not in _MODES:
            hint = "; the three are equal: save it as gray" if _is_gray(pixels) else ""
            raise DataError(f"{path}: a mask has one channel of class values, this is {image.mode}{hint}")
        colours = _colours(bytes(image.getpalette() or ())) if image.mode == "P" else ()
    values = pixels.astype(np.int64)
    if not values.size:
        raise DataError(f"{path}: has no pixels")
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > LARGEST:
        raise DataError(f"{path}: the value {least if least < 0 else most} is not one from 0 to {LARGEST}")
    if image.mode != "P":
        return Mask(torch.from_numpy(values))
    if most >= len(colours):
        raise DataError(f"{path}: a pixel has the index {most}, the palette {counted(len(colours), 'colour')} only")
    _check_one_to_one(path, colours, np.flatnonzero(np.bincount(values.ravel())).tolist())
    palette, coloured = _by_value(colours)
    if not coloured:
        values = np.array([level for level, _, _ in colours])[values]
    return Mask(torch.from_numpy(values), palette, coloured)


@functools.lru_cache(maxsize=64)
def _colours(palette: bytes) -> tuple[Colour, ...]:
    return tuple(zip(palette[::3], palette[1::3], palette[2::3], strict=True))


# masks of one palette share what was made of it
@functools.lru_cache(maxsize=64)
def _by_value(colours: tuple[Colour, ...]) -> tuple[Mapping[int, Colour], bool]:
    """The colour of every value, and whether there is one that is no gray."""
    if all(r == g == b for r, g, b in colours):
        return {colour[0]: colour for colour in colours}, False
    return dict(enumerate(colours)), True


def _is_jpeg(path: Path, image: Image.Image) -> bool:
    """Whether pixels went through JPEG, whatever the file is called; TIFFs may hold such pixels."""
    with path.open("rb") as file:
        return file.read(len(_JPEG)) == _JPEG or "jpeg" in str(image.info.get("compression"))


def _is_gray(pixels: np.ndarray) -> bool:
    return pixels.ndim == 3 and bool((pixels[..., :3] == pixels[..., :1]).all())


def _check_one_to_one(path: Path, colours: Sequence[Colour], indices: Iterable[int]) -> None:
    seen: dict[Colour, int] = {}
    for index in indices:
        other = seen.setdefault(colours[index], index)
        if other != index:
            raise DataError(f"{path}: the palette gives {other} and {index} one colour, {_shown(colours[index])}")


def _shown(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


class Palettes:
    """The palettes of a data set, in which values and colours belong together one to one."""

    def __init__(self) -> None:
        self._colour_of: dict[int, tuple[Colour, Path]] = {}
        self._value_of: dict[Colour, tuple[int, Path]] = {}
        self._unused: dict[int, Colour] = {}

    def add(self, path: Path, palette: Mapping[int, Colour], coloured: bool, values: Iterable[int]) -> None:
        """Take what a mask's palette says of the values that the mask has.

        Raises:
            DataError: if another mask's palette says something else.
        """
        mend = "; programs that make files small reorder palettes: give all masks one palette"
        for value in values if palette else ():
            colour = palette[value]
            one, of = self._value_of.setdefault(colour, (value, path))
            if one != value:
                raise DataError(f"{path}: the colour {_shown(colour)} is the value {value}, but {one} in {of}{mend}")
            if coloured:
                other, of = self._colour_of.setdefault(value, (colour, path))
                if other != colour:
                    shown = f"{_shown(colour)}, but {_shown(other)}"
                    raise DataError(f"{path}: the value {value} has the colour {shown} in {of}{mend}")
        if coloured:
            self._unused = {**palette, **self._unused}

    def colours(self, values: Collection[int]) -> tuple[Colour, ...]:
        """The colours of the values, all different; none, if masks came without colours.

        A value that no mask has, and that no palette gives a colour of its own, has one of this package's.
        """
        found = {value: colour for value, (colour, _) in self._colour_of.items()}
        taken = set(found.values())
        for value in values if found else ():
            if value not in found:
                own = self._unused.get(value)
                spare = palette(len(taken) + 3)[1:]
                found[value] = own if own is not None and own not in taken else next(c for c in spare if c not in taken)
                taken.add(found[value])
        return tuple(found[value] for value in values) if found else ()


def read_classes(file: Path) -> tuple[dict[int, str], set[int]]:
    """The names of values in the order of the file, and the values whose pixels are to be ignored.

    Lines are a value and a name; the value is the name where there is none. "ignore" is no name but says what to do. Empty
    lines, and lines that begin with #, say nothing. Both results are empty if there is no file.

    Raises:
        DataError: if it cannot be read, or a line is none of that.
    """
    if not file.exists() and not file.is_symlink():
        return {}, set()
    if (reason := not_a_file(file)) is not None:
        raise DataError(f"{file}: {reason}")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no text in UTF-8, at byte {error.start}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    names: dict[int, str] = {}
    ignored: set[int] = set()
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        number, *rest = line.split(maxsplit=1)
        if not (number.isascii() and number.isdigit()):
            raise DataError(f"{file}: lines are a value and a name, got {line!r}")
        if len(number.lstrip("0")) > len(str(LARGEST)) or int(number) > LARGEST:
            raise DataError(f"{file}: values lie from 0 to {LARGEST}, got {line!r}")
        value, name = int(number), rest[0] if rest else number
        if value in names or value in ignored:
            raise DataError(f"{file}: names the value {value} twice")
        if name.lower() == _IGNORE:
            ignored.add(value)
        elif name in names.values():
            raise DataError(f"{file}: two values are called {name}")
        else:
            names[value] = name
    return names, ignored
