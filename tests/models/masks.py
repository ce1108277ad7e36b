"""Folders of images and masks, made for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests import crafted

VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
"""The first colours of PASCAL VOC's palette."""


def save(
    path: Path, values: object, mode: str | None = None, palette: list[int] | None = None, **options: object
) -> Path:
    """An array as an image file; with a palette, its values are indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    if mode is not None:
        image = image.convert(mode)
    if palette is not None:
        image.putpalette(palette)
        # as many bits as there are colours would cut values off
        options = {"bits": 8, **options}
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def paired(root: Path, count: int = 5) -> Path:
    """Images whose pixels are the values of their masks, 0 and 255."""
    for i in range(count):
        values = np.zeros((24, 30), np.uint8)
        values[i : i + 12, 5:20] = 255
        for name in ("images", "masks"):
            save(root / name / f"{i:02}.png", values)
    return root


def png(indices: np.ndarray, palette: bytes) -> bytes:
    """A PNG with a palette that may be too short, which Pillow would not write."""
    height, width = indices.shape
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    return crafted.png(width, height, 8, 3, rows, (b"PLTE", palette))
