"""A run and its folder: what was asked for, what came of it, and the checkpoints to use or to go on from."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchops.backend import Backend
from torchops.files import replacing

from .checkpoints import CheckpointError


@dataclass
class Config:
    """All that decides about a run."""

    net: str
    options: dict[str, Any] = field(default_factory=dict)
    """Of :func:`torchops.models.build`, without what the data decide."""
    data: str | None = None
    """A folder; a set by its name if None."""
    dataset: str = "digits"
    root: str = "data"
    size: int = 28
    """Height and width of the images, of the pages, or of the crops."""
    examples: int | None = None
    """To train on, of each class."""
    crops: int = 8
    """Of each image, in an epoch of a U-Net."""
    augment: bool = True
    skip_corrupt: bool = False
    weights: str | None = None
    judge: str | None = None
    """Checkpoint of a classifier that says what it takes diffusion's samples for."""
    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    freeze: int = 0
    layer_decay: float = 1.0
    patience: int | None = None
    ema: float | None = None
    seed: int = 0
    layers: str = "torchops"
    backend: Backend | None = None
    compile: bool = False
    amp: bool | None = None
    channels_last: bool | None = None
    device: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("size", 8), ("crops", 1), ("workers", 0), ("freeze", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        for name, least in (("examples", 1), ("patience", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"`lr` must be positive, got {self.lr}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie within 0 and 1, got {self.layer_decay}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"`ema` must lie within 0 and 1, got {self.ema}")


@dataclass(frozen=True)
class Run:
    """The folder of a run."""

    path: Path

    @staticmethod
    def create(path: Path, config: Config) -> Run:
        """Make the folder and write the configuration.

        Raises:
            CheckpointError: if it holds a run already, or cannot be made.
        """
        run = Run(path)
        run.check_unused()
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.write("config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
        return run

    def check_unused(self) -> None:
        """Raise `CheckpointError` if something was trained here."""
        if self.last.exists():
            raise CheckpointError(
                f"{self.path}: holds a run already; `resume` goes on with it, another `path` starts anew"
            )

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint to use."""
        return self.path / "best.pt"

    def config(self) -> Config:
        """What was asked for.

        Raises:
            CheckpointError: if the folder holds no run.
        """
        try:
            return Config(**json.loads(self.config_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{self.path}: holds no run of torchops train that can be read") from error

    def write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as beside:
            beside.write_text(text)

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """metrics.csv: a row an epoch."""
        with replacing(self.path / "metrics.csv") as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def metrics(self) -> list[dict[str, float]]:
        with (self.path / "metrics.csv").open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
