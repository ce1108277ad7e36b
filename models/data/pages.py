"""Pages of handwritten digits, of which every pixel is known: eleven classes, the paper and ten digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from .classes import digits, split
from .found import Found
from .loading import Data, Seeded
from .preprocess import Preprocess

LABELS = ("paper", *map(str, range(10)))
INK = 0.4
"""Share of the darkest ink: a pixel with more of it belongs to the digit."""


def page(images: Tensor, targets: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A page of real digits, (1, size, size) from 0 to 1, dark on light, and the class of each pixel, (size, size), int64.

    Digits of many sizes lie beside each other, each with its own strength of ink; the paper is lit unevenly and has grain.
    All of it is drawn from torch's random numbers.
    """
    ink, truth = torch.zeros(size, size), torch.zeros(size, size, dtype=torch.int64)
    taken = torch.zeros(size, size, dtype=torch.bool)
    for index in torch.randint(len(images), (max(4, size * size // 350),)).tolist():
        side = int(torch.randint(14, 25, ()))
        if side > size:
            continue
        top, left = torch.randint(size - side + 1, (2,)).tolist()
        where = slice(top, top + side), slice(left, left + side)
        if taken[where].any():
            continue
        taken[where] = True
        digit = F.interpolate(images[index][None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
        ink[where] = digit * (0.5 + 0.5 * torch.rand(()))
        truth[where] = torch.where(digit > INK, targets[index] + 1, 0)
    light = F.interpolate(0.7 + 0.3 * torch.rand(1, 1, 3, 3), size=(size, size), mode="bicubic", align_corners=False)
    noisy = light[0, 0] * (1 - 0.8 * ink) + 0.08 * torch.randn(size, size)
    return noisy.clamp(0, 1).unsqueeze(0), truth


class Pages(Dataset[tuple[Tensor, Tensor]]):
    """`count` pages, drawn when they are asked for."""

    def __init__(self, images: Tensor, targets: Tensor, size: int, count: int, preprocess: Preprocess) -> None:
        self.images, self.targets, self.size, self.count = images, targets, size, count
        self.preprocess = preprocess

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, truth = page(self.images, self.targets, self.size)
        return self.preprocess.normalize(image), truth


def pages(size: int = 64, count: int = 512) -> Data:
    """Pages to train on, new ones in every epoch, and a quarter as many held out, of digits that are on no other."""
    images, targets = digits()
    train, val = split(targets, seed=0)
    preprocess = Preprocess(1, None, (0.75,), (0.2,))
    few = max(1, count // 4)
    found = Found(
        images={"train": count, "val": few},
        held_out="pages of digits that are on no other",
        notes=["the images are pages of handwritten digits, drawn, new ones in every epoch"],
    )
    return Data(
        Pages(images[train], targets[train], size, count, preprocess),
        Seeded(Pages(images[val], targets[val], size, few, preprocess), seed=0),
        LABELS,
        preprocess,
        found=found,
    )
