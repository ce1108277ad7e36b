"""A folder as the pages speak of it: images, masks, runs that have learned nothing; and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets import CIFAR10

import torchops
from tests.models import masks, trees, untrained
from torchops.models import Checkpoint, build
from torchops.models.data import Preprocess
from torchops.recording import module_calls, write_calls

CLASSES = ["cat", "dog"]
COLOUR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet."""


def _cells(root: Path) -> None:
    """Images with masks of two classes, and pixels to be ignored."""
    for i in range(5):
        values = np.zeros((40, 44), np.uint8)
        values[i : i + 20, 5:30] = 1
        masks.save(root / "images" / f"{i}.png", values * 200)
        values[:2] = 255
        masks.save(root / "masks" / f"{i}.png", values)
    (root / "classes.txt").write_text("0 background\n1 membrane\n255 ignore\n")


def _checkpoint(run: Path, net: str, options: dict[str, Any], preprocess: Preprocess, labels: list[str]) -> None:
    run.mkdir(parents=True)
    torch.manual_seed(0)
    weights = build(net, **options).state_dict()
    Checkpoint(net, options, weights, labels, preprocess.as_dict()).save(run / "best.pt")


def fill(root: Path) -> None:
    """Write what the pages name: photo.jpg, digit.png, ink.png, page.png, calls.jsonl; holiday, scans, photos, cells; runs."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "photo.jpg")
    untrained.ink(root / "digit.png", 3)
    untrained.ink(root / "ink.png", 5, inverted=True)
    untrained.gray(root / "page.png", 40)
    trees.grow(root, {"holiday": 2, "scans": 2})
    trees.grow(root / "photos", dict.fromkeys(CLASSES, 5))
    _cells(root / "cells")
    write_calls(root / "calls.jsonl", module_calls("mine", torchops.nn.Conv2d(3, 8, 3), torch.empty(1, 3, 16, 16)))
    for run in ("lenet", "pages"):
        (root / "runs" / run).mkdir(parents=True)
    untrained.lenet_of_digits(root / "runs/lenet/best.pt")
    untrained.unet(root / "runs/pages/best.pt")
    _checkpoint(root / "runs/photos", "resnet", {"classes": 2, "depth": 18}, Preprocess(3, 32, *COLOUR), CLASSES)
    diffusion = {"width": 8, "depth": 1, "steps": 500, "embedding": 8}
    _checkpoint(root / "runs/diffusion", "diffusion", diffusion, Preprocess(1, 8, (0.5,), (0.5,)), [])


def _idx(values: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """The format of MNIST's files."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes()


def known_sets(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Sets that torchvision would download, with 20 images each: those of MNIST in their files, CIFAR-10 in memory."""
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    targets = (np.arange(20) % 10).astype(np.uint8)
    for name in ("MNIST", "FashionMNIST"):
        raw = root / "data" / name / "raw"
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(_idx(images))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(_idx(targets))

    def cifar10(self: CIFAR10, *arguments: object, **options: object) -> None:
        self.data = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        self.targets = list(range(10)) * 2
        self.classes = [f"class {i}" for i in range(10)]

    patch.setattr(CIFAR10, "__init__", cifar10)


def offline(patch: pytest.MonkeyPatch) -> None:
    """Weights that would be downloaded are random ones."""

    def state_dict(self: Any, *arguments: object, **options: object) -> dict[str, torch.Tensor]:
        return torchvision.models.get_model(self.__class__.__name__.removesuffix("_Weights").lower()).state_dict()

    patch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", state_dict)
    patch.setattr("timm.models._builder.load_pretrained", lambda *arguments, **options: None)
