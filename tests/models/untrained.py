"""Networks that have learned nothing, and images to ask them about, made for a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchops.models import Checkpoint, build
from torchops.models.data import Preprocess, digits


def lenet_of_digits(path: Path) -> Path:
    """The checkpoint of a LeNet that has learned nothing, and says so of different digits differently."""
    options = {"classes": 10, "size": 16, "channels": 1}
    torch.manual_seed(0)
    net = build("lenet", **options)
    with torch.no_grad():
        *_, weight, bias = net.parameters()
        weight *= 30
        bias -= net.eval()(Preprocess(1, 16)(digits()[0][:200])).mean(0)
    labels = [f"digit {i}" for i in range(10)]
    Checkpoint("lenet", options, net.state_dict(), labels, Preprocess(1, 16).as_dict()).save(path)
    return path


def unet(
    path: Path, labels: Sequence[str] = ("paper", "ink", "blot"), values: Sequence[int] = (), **fields: Any
) -> Path:
    """The checkpoint of a U-Net that sees all its classes in noise."""
    options = {"classes": len(labels), "width": 2, "depth": 1}
    net = build("unet", **options)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
        net.head.bias -= net.eval()(torch.randn(1, 1, 64, 64)).mean((0, 2, 3))  # type: ignore[operator]
    preprocess = Preprocess(1, None, (0.5,), (0.25,)).as_dict()
    Checkpoint("unet", options, net.state_dict(), list(labels), preprocess, values=list(values), **fields).save(path)
    return path


def gray(path: Path, side: int = 12, *, seed: int = 0) -> Path:
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side + 3), dtype=np.uint8)).save(path)
    return path


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def ink(path: Path, index: int, inverted: bool = False) -> Path:
    values = (digits()[0][index, 0] * 255).byte()
    Image.fromarray((255 - values if inverted else values).numpy()).save(path)
    return path
