"""A run and its folder: what was asked for, what came of it, and the checkpoints to use or to go on from."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torchops.backend import Backend
from torchops.files import replacing

from .checkpoints import CheckpointError
from .options import NetworkOptions, check_least, option, options_of

_OF_CLASSES = ("lenet", "resnet", "diffusion")
"""Networks that are trained on images of classes, or on images alone."""


@dataclass
class Config:
    """All that decides about a run. `net` and `options` come first, the others by name."""

    net: str
    _: KW_ONLY
    data: str | None = option(
        None, "A folder with a folder of images for every class.", path=True,
        unet={"help": "A folder with folders `images` and `masks`; pages of digits if left out."},
    )  # fmt: skip
    dataset: Literal["digits", "mnist", "fashion-mnist", "usps"] = option(
        "digits", "A set by its name, if there is no `data`.", nets=_OF_CLASSES
    )
    root: str = option(
        "data", "Where torchvision keeps the files of its sets, or puts them.", nets=_OF_CLASSES, path=True
    )
    options: dict[str, Any] = field(default_factory=dict, kw_only=False)
    """Arguments of :func:`torchops.models.build`, without what the data decide."""
    size: int = option(
        28, "Height and width that images are brought to.", least=8,
        resnet={"default": 224},
        unet={"default": 64, "help": "Height and width of pages, or of the crops to train on."},
        diffusion={"default": 8, "help": "Height and width of the images; a multiple of 2^depth.", "before": "steps"},
    )  # fmt: skip
    crops: int = option(8, "Of each image in an epoch; 64 times as many pages.", nets=["unet"], least=1)
    ema: float | None = option(
        None, "Share that the average of the weights keeps in a step.", nets=["diffusion"], diffusion={"default": 0.995}
    )
    judge: str | None = option(
        None, "Checkpoint of a classifier, to say what it takes samples for.", nets=["diffusion"], path=True
    )
    weights: str | None = option(
        None, "Checkpoint or run to start from.", path=True,
        lenet={"before": "epochs"},
        resnet={
            "help": "To start from: a file, a run, or torchvision's weights by name, as DEFAULT; none if left out.",
            "path": False,
        },
    )  # fmt: skip
    freeze: int = option(0, "Epochs in which only the head is trained.", nets=["resnet"], least=0)
    layer_decay: float = option(1.0, "Rate of a stage over that of the next one.", nets=["resnet"])
    examples: int | None = option(
        None, "To train on, of each class; all by default.", nets=["lenet", "resnet"], least=1
    )
    augment: bool = option(
        True, "Change images at random while training.", nets=["lenet", "resnet"], diffusion={"default": False}
    )
    skip_corrupt: bool = option(False, "Leave out images that cannot be read.", nets=_OF_CLASSES)
    epochs: int = option(
        20, "How often the training images are gone through.", least=1,
        resnet={"default": 10}, diffusion={"default": 300},
    )  # fmt: skip
    batch_size: int = option(
        64, "Images a step, of all processes together.", least=1,
        resnet={"default": 32}, unet={"default": 16}, diffusion={"default": 128},
    )  # fmt: skip
    lr: float = option(
        1e-3, "The largest rate; it rises for a twentieth of the steps, then falls as a cosine.",
        lenet={"default": 2e-3}, unet={"default": 3e-3}, diffusion={"default": 2e-3},
    )  # fmt: skip
    weight_decay: float = 1e-4
    seed: int = option(0, "Of weights, order, changes and noise.")
    patience: int | None = option(None, "Stop after so many epochs without a better figure.", least=1)
    layers: Literal["torchops", "torch"] = option("torchops", "Whose convolutions and pools.")
    backend: Backend | None = option(  # noqa: RUF009 (it is a field)
        None, "Which implementation runs; by default TORCHOPS_BACKEND's, or auto."
    )
    compile: bool = option(False, "torch.compile the network.")
    amp: bool | None = option(None, "Autocast; by default on a GPU.")
    channels_last: bool | None = option(None, "Memory format; by default for ResNet, U-Net and on a GPU.")
    device: str | None = option(None, "cpu, cuda or cuda:1; a GPU by default, if there is one.")
    workers: int = option(0, "Processes that read images.", least=0)

    def __post_init__(self) -> None:
        check_least(self)
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"`lr` must be positive, got {self.lr}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie within 0 and 1, got {self.layer_decay}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"`ema` must lie within 0 and 1, got {self.ema}")

    @classmethod
    def asked(cls, net: str, **asked: Any) -> Config:
        """What `torchops train` does for a network: its own defaults, but for the options that are given by name.

        Raises:
            ValueError: if the value of an option cannot be.
            TypeError: if `net` has no such option.
        """
        options = NetworkOptions.read(net, asked)
        defaults = {name: found.default for name, found in options_of(cls, net).items()}
        return cls(net, options, **(defaults | {k: v for k, v in asked.items() if k not in options}))


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
