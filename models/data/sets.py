"""Sets of images that torchvision knows by name, read from its files or downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, MNIST, SVHN, USPS, FashionMNIST

from .found import DataError

TORCHVISION: dict[str, tuple[Any, str]] = {
    "mnist": (MNIST, "MNIST/raw"),
    "fashion-mnist": (FashionMNIST, "FashionMNIST/raw"),
    "usps": (USPS, "."),
    "cifar10": (CIFAR10, "cifar-10-batches-py"),
    "svhn": (SVHN, "."),
}
"""torchvision's sets by name: the class, and where under the root it looks for its files."""


def known(name: str, root: Path) -> tuple[list[tuple[Tensor, Tensor]], tuple[str, ...]]:
    """The training and the test part of a set, each uint8 (N, C, H, W), C = 1 or 3, and int64 (N,); and its labels.

    Args:
        name: one of `TORCHVISION`.
        root: where its files are, or are downloaded to.

    Raises:
        DataError: if it is not there and cannot be downloaded.

    Source: Y. LeCun et al., MNIST; H. Xiao et al., Fashion-MNIST; J. Hull, USPS; A. Krizhevsky, CIFAR-10, 2009; Y. Netzer et
        al., SVHN, 2011.
    """
    cls, folder = TORCHVISION[name]
    parts = []
    try:
        for train in (True, False):
            part = {"split": "train" if train else "test"} if cls is SVHN else {"train": train}
            data = cls(root, download=True, **part)
            targets = data.labels if cls is SVHN else data.targets
            parts.append((_channels_first(torch.as_tensor(data.data)), torch.as_tensor(targets)))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} is not in {root / folder} and cannot be downloaded ({error}): "
            "put its unpacked files there, or say with `root` where they are"
        ) from error
    return parts, tuple(map(str, getattr(data, "classes", range(10))))


def _channels_first(pixels: Tensor) -> Tensor:
    """(N, H, W), (N, H, W, 3) or (N, 3, H, W) to (N, C, H, W)."""
    if pixels.dim() == 3:
        return pixels.unsqueeze(1)
    return (pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)).contiguous()


__all__ = ["TORCHVISION", "known"]
