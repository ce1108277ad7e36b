"""Pixels as a file has them, bytes, which torchvision's random crops take floats of only after they have cropped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as V

from torchops.files.images import Picture


class Stored(tv_tensors.Image):  # type: ignore[misc]
    """An image of 8 bits, (C, H, W), uint8. `v2.RandomResizedCrop` makes float32 from 0 to 1 of it, (C, size, size).

    What comes out is what it makes of the whole image as float32, bit by bit, in about half of the time for photos.
    """


@V.register_kernel(V.resized_crop, Stored)
def _resized_crop(
    image: Tensor, top: int, left: int, height: int, width: int, size: list[int], **resize: Any
) -> Tensor:
    part = V.crop(image.as_subclass(Tensor), top, left, height, width)
    return V.resize(scaled(part), size, **resize)


def stored(pixels: Tensor, white: float) -> Tensor:
    """The pixels of a :class:`Picture`: `Stored` if they have 8 bits, else float32 from 0 to 1."""
    return Stored(pixels) if pixels.dtype == torch.uint8 else Picture(pixels, white).scaled()


def scaled(images: Tensor) -> Tensor:
    """uint8 to float32 from 0 to 1, also of what became of :func:`stored` pixels; what is floating point is that already."""
    return images if images.is_floating_point() else Picture(images.as_subclass(Tensor), 255.0).scaled()


__all__ = ["Stored", "scaled", "stored"]
