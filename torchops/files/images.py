"""Image files as tensors, and back. Needs the extra `cli`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import replacing
from .names import printable
from .opening import FORMATS as FORMATS
from .opening import MAX_PIXELS, ImageError, image_errors, opened
from .opening import SUFFIXES as SUFFIXES
from .opening import turned as turned
from .opening import upright as upright
from .quiet import quiet
from .scale import deep_values, is_deep
from .targets import not_writable
from .transparency import opaque

BACKGROUNDS = ("white", "black")


@dataclass(frozen=True)
class Picture:
    """Pixels as they were stored, and the value that stands for white; black is 0."""

    pixels: Tensor
    """(C, H, W), C = 1 or 3; uint8, or float32 for formats of more than 8 bits."""
    white: float
    """255; 65535, 1 or what the file says for formats of more than 8 bits."""
    frames: int = 1
    """How many there are in the file; the pixels are the first one's."""

    def scaled(self) -> Tensor:
        """The pixels as float32 from 0, black, to 1, white: (C, H, W)."""
        # the division makes no second copy: photos are large
        return self.pixels.to(torch.float32, copy=True).div_(self.white)


def read_image(path: Path, *, gray: bool = False, background: str = "white", max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image: upright, its first frame, opaque; colour as RGB unless `gray`.

    Args:
        path: of a regular file, in one of `FORMATS`.
        gray: one channel of luminance instead of three.
        background: "white" or "black"; what shines through where an image is transparent.
        max_pixels: the most pixels that an image may have.

    Raises:
        ImageError: if the file is missing, no image, broken, larger than `max_pixels` or the memory allow, or has values
            of which it does not say what white is.
        ValueError: if the background is neither.
    """
    if background not in BACKGROUNDS:
        raise ValueError(f"`background` must be white or black, got {background!r}")
    with opened(path, max_pixels=max_pixels) as image, image_errors(path):
        return picture_of(image, gray=gray, background=background)


def picture_of(image: Image.Image, *, gray: bool = False, background: str = "white") -> Picture:
    """An image of Pillow's as :func:`read_image` reads it from a file; it must be upright."""
    if is_deep(image):
        values, white = deep_values(image, background)
        return Picture(values.unsqueeze(0), white, _frames(image))
    image_gray = gray or image.mode in ("1", "L", "LA", "La")
    decoded, mode = opaque(image, background), "L" if image_gray else "RGB"
    # to what it is already, Pillow would make a copy
    pixels = torch.from_numpy(np.array(decoded if decoded.mode == mode else decoded.convert(mode)))
    pixels = pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)
    return Picture(pixels, 255.0, _frames(image))


def _frames(image: Image.Image) -> int:
    """The number of frames; in a JPEG, what follows the photo are previews and maps of it."""
    try:
        return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))
    except Exception:  # later frames are broken, the first is not
        return 1


def check_target(path: Path) -> None:
    """Raise `ImageError` if no image can be written to path."""
    Image.init()
    shown = printable(path)
    if (reason := not_writable(path)) is not None:
        raise ImageError(f"{shown}: {reason}")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ImageError(f"{shown}: {printable(path.suffix) or 'no suffix'} is no image format that Pillow writes")


def stretched(values: Tensor, white: float) -> tuple[Tensor, float]:
    """Values times the factor that makes the strongest hundredth of them white, or only the strongest if fewer are not 0.

    Returns:
        The values, not above `white`; and the factor, 1 if there is nothing but 0.
    """
    flat = values.flatten().numpy()
    # torch.quantile takes 16 million values, and kthvalue memory for their places
    rank = (len(flat) - 1) * 99 // 100
    strong = float(np.partition(flat, rank)[rank]) or float(flat.max())
    factor = white / strong if strong > 0 else 1.0
    return (values * factor).clamp_(max=white), factor


def write_image(path: Path, values: Tensor, white: float) -> int:
    """Write (C, H, W) values from 0 to `white`: 16 bits where the values have them and the format can, else 8.

    The file appears whole or not at all.

    Returns:
        The number of bits.

    Raises:
        ImageError: if it cannot be written.
    """
    check_target(path)
    deep = white > 255 and path.suffix.lower() in (".png", ".tif", ".tiff")
    top = 65535 if deep else 255
    pixels = (values * (top / white)).round_().clamp_(0, top).permute(1, 2, 0).squeeze(-1)
    image = Image.fromarray(pixels.contiguous().numpy().astype(np.uint16 if deep else np.uint8))
    encoded = io.BytesIO()
    try:
        # not into the file: where the disk is full, the encoder of JPEG 2000 never ends (Pillow 13)
        with quiet():
            image.save(encoded, Image.registered_extensions()[path.suffix.lower()])
        with replacing(path) as beside:
            beside.write_bytes(encoded.getbuffer())
    except Exception as error:  # encoders raise whatever they stumble over
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{printable(path)}: cannot be written: {printable(reason)}") from error
    return 16 if deep else 8
