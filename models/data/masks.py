"""Images and their masks, in two folders: a class for every value that the masks have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as V

from .classes import FIFTH, DataError
from .loading import Data
from .preprocess import Preprocess, read

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".webp", ".gif")
MOST_CLASSES = 64
CLASSES_FILE = "classes.txt"


def read_mask(path: Path, values: Mapping[int, int] | None = None) -> Tensor:
    """A mask's values, or classes by `values`: (H, W), int64."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise DataError(f"{path}: a mask has one channel of class values, this is {image.mode}")
            # 1-bit files become 0 and 1
            mask = torch.from_numpy(np.array(image).astype(np.int64))
    except OSError as error:
        raise DataError(f"{path}: is no mask that can be read: {error}") from error
    if values is None:
        return mask
    classes = torch.full_like(mask, -1)
    for value, index in values.items():
        classes[mask == value] = index
    if (classes < 0).any():
        unknown = int(mask[classes < 0][0])
        raise DataError(f"{path}: the value {unknown} is none of {', '.join(map(str, values))}")
    return classes


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Whole images with their masks, or, where `crop` is given, turned and mirrored crops of them, `crops` of each."""

    def __init__(
        self, files: Sequence[tuple[Path, Path]], values: Mapping[int, int], preprocess: Preprocess,
        crop: int | None = None, crops: int = 1,
    ) -> None:  # fmt: skip
        self.files, self.values, self.preprocess = list(files), dict(values), preprocess
        self.crop, self.crops = crop, crops

    def __len__(self) -> int:
        return len(self.files) * self.crops

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_file, mask_file = self.files[index // self.crops]
        image = self.preprocess.resize(read(image_file, gray=self.preprocess.channels == 1))
        mask = read_mask(mask_file, self.values)
        if self.crop is not None:
            h, w = mask.shape
            # an image that is smaller than the crop is reflected at its border
            right, bottom = max(0, self.crop - w), max(0, self.crop - h)
            if right or bottom:
                image, mask = (
                    V.pad(t, [0, 0, right, bottom], padding_mode="symmetric") for t in (image, mask.unsqueeze(0))
                )
                mask = mask.squeeze(0)
            top = int(torch.randint(max(h, self.crop) - self.crop + 1, ()))
            left = int(torch.randint(max(w, self.crop) - self.crop + 1, ()))
            where = (..., slice(top, top + self.crop), slice(left, left + self.crop))
            turns, mirrored = int(torch.randint(4, ())), bool(torch.randint(2, ()))
            image, mask = (torch.rot90(t[where], turns, (-2, -1)) for t in (image, mask))
            if mirrored:
                image, mask = image.flip(-1), mask.flip(-1)
        return self.preprocess.normalize(image.contiguous()), mask.contiguous()


def pairs(root: Path, *, channels: int = 1, crop: int = 128, crops: int = 8) -> Data:
    """The folders `images` and `masks` of a folder, with files of the same stem; every fifth image is held out.

    The classes are the values of the masks, in order, or those that a file `classes.txt` names: lines of a value and a name.

    Raises:
        DataError: if a folder, an image or a mask is missing, sizes differ, or a value is unknown.
    """
    files = _matched(root)
    names = _named(root)
    found: set[int] = set()
    for image_file, mask_file in files:
        mask = read_mask(mask_file)
        size = tuple(read(image_file, gray=True).shape[-2:])
        if size != tuple(mask.shape):
            raise DataError(
                f"{mask_file}: has {mask.shape[1]} x {mask.shape[0]} pixels, {image_file.name} has {size[1]} x {size[0]}"
            )
        here = set(mask.unique().tolist())
        unknown = here - set(names)
        if names and unknown:
            raise DataError(f"{mask_file}: the value {min(unknown)} is not in {CLASSES_FILE}")
        found |= here
        if len(found) > MOST_CLASSES:
            raise DataError(
                f"{mask_file}: with it, masks have more than {MOST_CLASSES} values: "
                "were they scaled or saved as JPEG? A mask holds a class in every pixel"
            )
    if not names:
        names = {value: str(value) for value in sorted(found)}
    if len(names) < 2:
        raise DataError(f"`data` (={root}): the masks hold one class only, {next(iter(names.values()))}")
    values = {value: index for index, value in enumerate(names)}
    val = files[FIFTH - 1 :: FIFTH] or files[-1:]
    train = [pair for pair in files if pair not in val]
    plain = Preprocess(channels)
    pixels = torch.cat([plain.resize(read(f, gray=channels == 1)).flatten(1) for f, _ in train], dim=1)
    mean, std = tuple(pixels.mean(1).tolist()), tuple(pixels.std(1).clamp(min=1e-3).tolist())
    preprocess = Preprocess(channels, None, mean, std)
    return Data(
        Pairs(train, values, preprocess, crop, crops), Pairs(val, values, preprocess), tuple(names.values()), preprocess
    )


def _matched(root: Path) -> list[tuple[Path, Path]]:
    listings = []
    for name in ("images", "masks"):
        directory = root / name
        if not directory.is_dir():
            raise DataError(f"`data` (={root}): holds no folder {name}")
        listings.append({p.stem: p for p in sorted(directory.iterdir()) if p.suffix.lower() in SUFFIXES})
    images, masks = listings
    if len(images) < 2:
        raise DataError(f"`data` (={root / 'images'}): holds {len(images)} images, at least two are needed")
    alone = sorted(images.keys() ^ masks.keys())
    if alone:
        kind, other = ("mask", images) if alone[0] in images else ("image", masks)
        raise DataError(f"{other[alone[0]]}: has no {kind}")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _named(root: Path) -> dict[int, str]:
    file = root / CLASSES_FILE
    names: dict[int, str] = {}
    if file.exists():
        for line in file.read_text().splitlines():
            value, _, name = line.strip().partition(" ")
            if value and not value.isdigit():
                raise DataError(f"{file}: lines are a value and a name, got {line!r}")
            if value:
                names[int(value)] = name.strip() or value
    return names
