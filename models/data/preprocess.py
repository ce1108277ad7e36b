"""From the pixels of an image to the input of a network; the same when it is trained and when it is used."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from torchops.files.images import BACKGROUNDS, MAX_PIXELS, Picture, read_image

STRIP = 64
"""How many times as long as wide an image may be to be resized whole."""
_LARGEST = torch.finfo(torch.float32).max
_SMALLEST = torch.finfo(torch.float32).tiny


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(values: object, least: float) -> bool:
    """Whether these are numbers from `least` on, which float32 can hold."""
    return isinstance(values, Sequence) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= _LARGEST for v in values
    )


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

    def __post_init__(self) -> None:
        """Check what may come from a file.

        Raises:
            ValueError: if a field cannot be.
        """
        if not _whole(self.channels) or self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3, got {reprlib.repr(self.channels)}")
        if self.size is not None and not (_whole(self.size) and 1 <= self.size <= math.isqrt(MAX_PIXELS)):
            raise ValueError(
                f"`size` must be a whole number from 1 to {math.isqrt(MAX_PIXELS)}, got {reprlib.repr(self.size)}"
            )
        for name, least in (("mean", -_LARGEST), ("std", _SMALLEST)):
            values = getattr(self, name)
            if not _numbers(values, least) or len(values) not in (1, self.channels):
                kind = "positive" if name == "std" else "finite"
                raise ValueError(
                    f"`{name}` must be a {kind} number, or one for every channel, got {reprlib.repr(values)}"
                )
            # lists, as files have them, become tuples
            object.__setattr__(self, name, tuple(map(float, values)))
        if self.background not in BACKGROUNDS:
            raise ValueError(f"`background` must be {' or '.join(BACKGROUNDS)}, got {reprlib.repr(self.background)}")

    def picture(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """An image file as it is stored: one channel if it is gray, or is to be; see :func:`read_image`."""
        return read_image(Path(path), gray=self.channels == 1, background=self.background, max_pixels=max_pixels)

    def read(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Tensor:
        """The same as float32 from 0 to 1, (C, H, W).

        Raises:
            torchops.files.images.ImageError: if it cannot be read.
        """
        return self.picture(path, max_pixels=max_pixels).scaled()

    def resize(self, image: Tensor) -> Tensor:
        """Channels and size: (..., C, H, W) to (..., channels, size, size)."""
        if image.shape[-3] != self.channels:
            image = V.rgb_to_grayscale(image) if self.channels == 1 else image.repeat_interleave(3, dim=-3)
        if self.size is None or image.shape[-2:] == (self.size, self.size):
            return image
        image = self._within_reason(image, self.size)
        return V.center_crop(V.resize(image, [self.size], antialias=True), [self.size, self.size])

    @staticmethod
    def _within_reason(image: Tensor, size: int) -> Tensor:
        """The middle of a strip that would take too much memory once its shorter side is `size`; all of other images.

        What is cut off lies further from the centre than anything that the square in the middle is computed from.
        """
        short, long = sorted(image.shape[-2:])
        if size * size * long <= short * min(STRIP * size * size, MAX_PIXELS):
            return image
        # as even or odd as it was: the centre stays where it is
        kept = min(long, 3 * short + (3 * short + long) % 2)
        return V.center_crop(image, [min(side, kept) for side in image.shape[-2:]])

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (C, 1, 1) or (1, 1, 1)."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return mean, std

    def normalize(self, image: Tensor) -> Tensor:
        mean, std = self._statistics
        return (image - mean) / std

    def __call__(self, image: Tensor) -> Tensor:
        return self.normalize(self.resize(image))

    def undo(self, image: Tensor) -> Tensor:
        """Values between 0 and 1, to be looked at."""
        mean, std = self._statistics
        return (image * std + mean).clamp(0, 1)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def read(path: str | Path, gray: bool = False, *, background: str = "white", max_pixels: int = MAX_PIXELS) -> Tensor:
    """An image file as float32 from 0 to 1, (C, H, W); C is 1 for gray files, or if `gray`.

    Raises:
        torchops.files.images.ImageError: if it cannot be read.
    """
    return read_image(Path(path), gray=gray, background=background, max_pixels=max_pixels).scaled()
