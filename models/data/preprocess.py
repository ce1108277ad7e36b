"""From the pixels of an image to the input of a network; the same when it is trained and when it is used."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from torchops.files.images import MAX_PIXELS, read_image


@dataclass(frozen=True)
class Preprocess:
    """Number of channels, size, and normalisation of images whose values lie between 0 and 1."""

    channels: int = 1
    """1: luminance; 3: RGB."""
    size: int | None = None
    """Height and width, reached by scaling the shorter side and cropping the centre; None leaves the size."""
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    background: str = "white"
    """What shines through where an image is transparent: "white" or "black"."""

    def resize(self, image: Tensor) -> Tensor:
        """Channels and size: (..., C, H, W) to (..., channels, size, size)."""
        if image.shape[-3] != self.channels:
            image = V.rgb_to_grayscale(image) if self.channels == 1 else image.repeat_interleave(3, dim=-3)
        if self.size is None or image.shape[-2:] == (self.size, self.size):
            return image
        return V.center_crop(V.resize(image, [self.size], antialias=True), [self.size, self.size])

    def normalize(self, image: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (image - mean) / std

    def __call__(self, image: Tensor) -> Tensor:
        return self.normalize(self.resize(image))

    def undo(self, image: Tensor) -> Tensor:
        """Values between 0 and 1, to be looked at."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (image * std + mean).clamp(0, 1)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def read(path: str | Path, gray: bool = False, *, background: str = "white", max_pixels: int = MAX_PIXELS) -> Tensor:
    """An image file as float32 from 0 to 1, (C, H, W); C is 1 for gray files, or if `gray`.

    Raises:
        torchops.files.images.ImageError: if it cannot be read.
    """
    picture = read_image(Path(path), gray=gray, background=background, max_pixels=max_pixels)
    return picture.pixels.float() / picture.white
