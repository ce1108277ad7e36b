"""ResNet: torchvision's, with torchops's layers, and a head of your own classes (He et al., 2015)."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from typing import Any, cast

from torch import nn

from torchops.conversion import convert

from .arguments import check_whole
from .extra import needs

DEPTHS = (18, 34, 50, 101, 152)
STAGES = ("layer1", "layer2", "layer3", "layer4", "fc")
"""Stages in the order of the image's way; what comes before the first belongs to it."""


def resnet(depth: int = 18, classes: int = 1000, *, weights: str | None = None, converted: bool = True) -> nn.Module:
    """torchvision's ResNet with torchops's convolutions and pool, and `classes` outputs.

    Args:
        depth: 18, 34, 50, 101 or 152.
        classes: outputs. Other than 1000, the head is a new one.
        weights: name of torchvision's trained weights, as "IMAGENET1K_V1" or "DEFAULT", which are downloaded once; None for
            none. Files are taken over by :func:`load_backbone`.
        converted: False leaves torch.nn's layers.

    Shape:
        (N, 3, H, W) to (N, classes), logits.

    Raises:
        TypeError: if `classes` is no whole number.
        ValueError: if the depth or the name of the weights is unknown.
        ModuleNotFoundError: without torchvision.
        ConnectionError: if they cannot be downloaded.

    Source: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

    >>> from torchops.models import resnet
    >>> resnet(18, classes=5).fc
    Linear(in_features=512, out_features=5, bias=True)
    """
    with needs("ResNet"):
        import torchvision

    check_whole(classes=classes)
    if depth not in DEPTHS:
        raise ValueError(f"`depth` must be one of {', '.join(map(str, DEPTHS))}, got {depth}")
    name = f"resnet{depth}"
    known = torchvision.models.get_model_weights(name)
    if weights is not None and weights not in (*known.__members__, "DEFAULT"):
        raise ValueError(f"`weights` must be one of {', '.join(known.__members__)} or DEFAULT, got {weights!r}")
    chosen: Any = None if weights is None else known[weights]
    try:
        model = torchvision.models.get_model(name, weights=chosen)
    except (urllib.error.URLError, OSError) as error:
        raise ConnectionError(
            f"{name}'s weights cannot be downloaded ({error}): "
            f"get {chosen.url} elsewhere and pass the file as `weights` of a run"
        ) from error
    if classes != model.fc.out_features:
        model.fc = nn.Linear(model.fc.in_features, classes)
    return convert(model, inplace=True)[0] if converted else model


def stages(model: nn.Module) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Parameters from the image to the classes, by stage: for rates that differ, or for freezing."""
    start = [p for name, p in model.named_parameters() if name.split(".")[0] not in STAGES]
    for name in STAGES:
        own = list(cast(nn.Module, getattr(model, name)).parameters())
        yield name, [*start, *own]
        start = []
