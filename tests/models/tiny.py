"""Runs of a second, by network, and who looks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchops.models.data import Found
from torchops.models.options import Config
from torchops.models.runs import Row

TINY: dict[str, dict[str, Any]] = {
    "lenet": {"options": {"norm": "before"}, "examples": 4, "size": 16, "batch_size": 10, "epochs": 2},
    "resnet": {"options": {"depth": 18}, "examples": 2, "size": 32, "batch_size": 10, "epochs": 2},
    "unet": {"options": {"width": 4, "depth": 2}, "size": 32, "crops": 1, "batch_size": 16, "epochs": 2},
    "diffusion": {
        "options": {"width": 8, "depth": 1, "steps": 10, "embedding": 8}, "examples": 4, "size": 8, "batch_size": 10,
        "epochs": 2, "ema": 0.9, "augment": False,
    },
}  # fmt: skip


class Silent:
    """Looks on, and may do something in a step."""

    def __init__(self, act: Callable[[int, int], None] = lambda epoch, step: None) -> None:
        self.act = act
        self.notes: list[str] = []

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None:
        self.act(epoch, step)

    def found(self, found: Found) -> None:
        pass

    def epoch(self, figures: Row) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def tiny(net: str, **changes: Any) -> Config:
    return Config(net, **{**TINY[net], **changes})
