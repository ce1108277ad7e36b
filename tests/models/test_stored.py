"""Images to train on are cropped before there are floats of them: what comes out is the same, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from torchops.models.data import Preprocess
from torchops.models.data.classes import Folder
from torchops.models.data.stored import Stored, scaled, stored

SHAPES = {
    "colour": (37, 50, 3), "gray": (50, 37), "transparent": (20, 30, 4), "16 bits": (30, 20), "smaller": (9, 11, 3),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", SHAPES)
def test_cropped_bytes_are_cropped_floats(kind: str, channels: int, tmp_path: Path) -> None:
    deep = kind == "16 bits"
    drawn = np.random.default_rng(0).integers(65536 if deep else 256, size=SHAPES[kind])
    file = tmp_path / "a.png"
    Image.fromarray(drawn.astype(np.uint16 if deep else np.uint8)).save(file)
    crop = v2.RandomResizedCrop(16, scale=(0.6, 1.0), antialias=True)
    prepare, change = Preprocess(channels), v2.Compose([crop, v2.RandomHorizontalFlip()])
    dataset = Folder([(str(file), 0)], prepare, change)
    for seed in range(8):
        torch.manual_seed(seed)
        expected = prepare.normalize(change(prepare.resize(prepare.read(file))))
        torch.manual_seed(seed)
        x, _ = dataset[0]
        assert type(x) is torch.Tensor
        assert x.shape == (channels, 16, 16)
        assert torch.equal(x, expected)


def test_what_was_not_cropped_becomes_floats_too() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    flipped = v2.RandomHorizontalFlip(p=1)(stored(pixels, 255.0))
    assert type(flipped) is Stored
    assert torch.equal(scaled(flipped), pixels.flip(-1).float() / 255)
