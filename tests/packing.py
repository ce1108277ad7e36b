"""Layers whose weights are packed, and whether they compute what torch does: for the tests of packed weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops.ops.conv2d import packed

MARKS = [pytest.mark.tiers("aten"), pytest.mark.usefixtures("one_thread")]
if not torch.backends.mkldnn.is_available():
    MARKS.append(pytest.mark.skip("torch was built without oneDNN"))
FORMATS = torch.contiguous_format, torch.channels_last


def layer(channels: int = 64, form: torch.memory_format = torch.channels_last, **more: Any) -> torchops.nn.Conv2d:
    return torchops.nn.Conv2d(channels, channels, 3, padding=1, **more).eval().to(memory_format=form)


def image(channels: int = 64, pixels: int = 24, form: torch.memory_format = torch.channels_last) -> Tensor:
    return torch.randn(1, channels, pixels, pixels).contiguous(memory_format=form)


def is_right(layer: torchops.nn.Conv2d, x: Tensor) -> bool:
    """Whether a layer computes the very bits of torch's from its weight as it is now."""
    with torch.no_grad():
        y, z = layer(x), F.conv2d(x, layer.weight, layer.bias, 1, 1)
    return y.stride() == z.stride() and torch.equal(y, z)


def have_copied(layer: torchops.nn.Conv2d, x: Tensor) -> None:
    """Have a copy made of a layer's weight, and used."""
    assert all(is_right(layer, x) for _ in range(3))
    assert packed.held(layer.weight) == 1
