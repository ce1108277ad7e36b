"""Images of more than 8 bits: which of their values is white."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, TiffImagePlugin
from torch import Tensor

from .opening import ImageError

_BITS, _WHITE_IS_ZERO, _FORMAT = 258, 262, 339
# these tags say the smallest and the largest sample: two are of any type, two of unsigned integers
_RANGES = ((340, 341), (280, 281))


def is_deep(image: Image.Image) -> bool:
    """Whether an image has values of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def deep_values(image: Image.Image, background: str) -> tuple[Tensor, float]:
    """Values (H, W), float32, from 0 for black; and the one of white.

    White is what a TIFF's tags say; else the largest value of 12 or 16 bits, and 1 for floating point.

    Args:
        image: of which :func:`is_deep`.
        background: "white" or "black"; of pixels that are marked as transparent.

    Raises:
        ImageError: if values lie beyond black or white, or are no numbers.
    """
    tags: Mapping[int, Any] = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    values = np.array(image)
    if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)
    key = image.info.get("transparency")
    clear = values == key if isinstance(key, int) else None
    black, white = _range(image, tags)
    if not np.isfinite(values).all():
        raise ImageError("has values that are infinite or no numbers")
    least, most = values.min(), values.max()
    if least < black or most > white:
        raise ImageError(f"has values from {least:.7g} to {most:.7g}, while black is {black:.7g} and white {white:.7g}")
    if values.dtype in (np.int32, np.uint32):
        # float32 has 24 bits; what is close to white is to stay apart
        values = values.astype(np.float64)
    scaled = np.asarray(white - values if tags.get(_WHITE_IS_ZERO) == 0 else values - black, np.float32)
    if clear is not None:
        scaled[clear] = white - black if background == "white" else 0
    return torch.from_numpy(scaled), white - black


def _range(image: Image.Image, tags: Mapping[int, Any]) -> tuple[float, float]:
    """Black and white."""
    if image.mode in ("I", "F"):
        for low, high in _RANGES:
            black, white = (_first(tags.get(tag, 0)) for tag in (low, high))
            if -math.inf < black < white < math.inf:
                return black, white
    if image.mode == "F":
        return 0.0, 1.0
    return 0.0, 4095.0 if tags.get(_BITS) == (12,) else 65535.0


def _first(value: Any) -> float:
    """A tag's number, or that of its first channel."""
    try:
        return float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return math.nan
