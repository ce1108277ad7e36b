"""Image files as tensors, and back: any format that Pillow reads. Needs the extra `cli`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor

from . import not_a_file, replacing

_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GRAY = ("1", "L", "F", *_SIXTEEN_BITS)
# it was measured at the peak: there are pixels, their upright copy, float32 edges, and two copies on the way to 8 bits
_BYTES_A_VALUE = 16


SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".webp", ".gif")
"""Names of files that are taken for images, in small letters."""
MAX_PIXELS = 178_956_970
"""The most pixels that an image may have; Pillow refuses as many."""


class ImageError(Exception):
    """What is wrong with a file, in one line."""


@dataclass(frozen=True)
class Picture:
    """Pixels as they were stored, and the value that stands for white."""

    pixels: Tensor
    """(C, H, W), C = 1 or 3; uint8, or float32 for formats of more than 8 bits."""
    white: float
    """255, 65535, or 1 for floating-point files."""


def read_image(path: Path, *, gray: bool = False, background: str = "white", max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image: upright, its first frame, without alpha; colour as RGB unless `gray`.

    Raises:
        ImageError: if the file is missing, no image, broken, or larger than memory allows.
    """
    if (reason := not_a_file(path)) is not None:
        raise ImageError(f"{path}: {reason}")
    # Pillow's guard against huge images knows no memory size; ours does
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path) as image:
            _check_memory(path, image)
            return _decode(ImageOps.exif_transpose(image), gray)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{path}: does not fit into memory") from None
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        reason = "not an image that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise ImageError(f"{path}: cannot be read: {reason}") from error


def _check_memory(path: Path, image: Image.Image) -> None:
    width, height = image.size
    need = width * height * (1 if image.mode in _GRAY else 3) * _BYTES_A_VALUE
    free = psutil.virtual_memory().available
    if need > free:
        raise ImageError(
            f"{path}: {width} x {height} pixels need {need / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
        )


def _decode(image: Image.Image, gray: bool) -> Picture:
    if image.mode in _SIXTEEN_BITS:
        return Picture(torch.from_numpy(np.array(image, dtype=np.float32)).unsqueeze(0), 65535.0)
    if image.mode == "F":
        return Picture(torch.from_numpy(np.array(image, dtype=np.float32)).unsqueeze(0), 1.0)
    image = image.convert("L" if gray or image.mode in ("1", "L", "LA", "La") else "RGB")
    pixels = torch.from_numpy(np.array(image))
    return Picture(pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1), 255.0)


def check_target(path: Path) -> None:
    """Raise `ImageError` if no image can be written to path."""
    Image.init()
    if path.is_dir():
        raise ImageError(f"{path}: is a directory, not a file to write")
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ImageError(f"{path}: {path.suffix or 'no suffix'} is no image format that Pillow writes")
    if not os.access(path.parent, os.W_OK):
        raise ImageError(f"{path}: the folder {path.parent} cannot be written to")


def write_image(path: Path, values: Tensor, white: float) -> None:
    """Write (C, H, W) values from 0 to `white`: 16 bits where the values have them and the format can, else 8.

    The file appears whole or not at all.

    Raises:
        ImageError: if it cannot be written.
    """
    check_target(path)
    deep = white > 255 and path.suffix.lower() in (".png", ".tif", ".tiff")
    top = 65535 if deep else 255
    pixels = (values * (top / white)).round_().clamp_(0, top).permute(1, 2, 0).squeeze(-1)
    image = Image.fromarray(pixels.contiguous().numpy().astype(np.uint16 if deep else np.uint8))
    with replacing(path) as beside:
        try:
            image.save(beside)
        except Exception as error:  # encoders raise whatever they stumble over
            raise ImageError(f"{path}: cannot be written: {error}") from error
