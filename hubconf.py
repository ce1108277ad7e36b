"""torchops' networks for `torch.hub.load`, with or without a checkpoint of `torchops train`.

With one they have `classes`, `prepare` and `predict`, as :func:`torchops.models.load` says.

>>> import torch
>>> lenet = torch.hub.load(".", "lenet", source="local", classes=26)
>>> lenet(torch.rand(2, 1, 28, 28)).shape
torch.Size([2, 26])
"""

from __future__ import annotations

from typing import Any

from torch import nn

from torchops.models import Checkpoint as _Checkpoint
from torchops.models import build as _build

dependencies = ["torch"]


def _entry(net: str, checkpoint: str | None, options: dict[str, Any]) -> nn.Module:
    if checkpoint is None:
        return _build(net, **options)
    saved = _Checkpoint.load(checkpoint)
    if saved.net != net:
        raise ValueError(f"`checkpoint` (={checkpoint}) is of {saved.net}, not of {net}")
    return saved.model(**options)


def lenet(checkpoint: str | None = None, **options: Any) -> nn.Module:
    """LeNet; `options` are those of `torchops.models.LeNet`, with `pool` "max", "avg" or "min"."""
    return _entry("lenet", checkpoint, options)


def resnet(checkpoint: str | None = None, **options: Any) -> nn.Module:
    """ResNet-18, or of another `depth`; `weights="DEFAULT"` loads torchvision's. Needs torchvision."""
    return _entry("resnet", checkpoint, options)


def classifier(checkpoint: str | None = None, **options: Any) -> nn.Module:
    """Any classifier of torchvision or timm, by its `model`, as "timm:resnet18"; `weights="DEFAULT"` loads the library's."""
    return _entry("classifier", checkpoint, options)


def unet(checkpoint: str | None = None, **options: Any) -> nn.Module:
    """U-Net; without a checkpoint, `classes` says how many there are; its `encoder` may be one of timm, as "timm:resnet18"."""
    return _entry("unet", checkpoint, options)


def diffusion(checkpoint: str | None = None, **options: Any) -> nn.Module:
    """A diffusion model, with `sample(count)`."""
    return _entry("diffusion", checkpoint, options)
