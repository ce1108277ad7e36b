"""The options of `torchops train`, of all its networks: a field says default and help once, for the shell and for `Config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Literal, get_type_hints

from torchops.backend import Backend
from torchops.files.images import MAX_PIXELS

from .checkpoints import NETS
from .declared import check, option, options_of

STRONGEST = 2
"""The largest `augment_strength`: beyond it, crops would leave next to nothing of an image."""
_OF_CLASSES = ("lenet", "resnet", "classifier", "diffusion")
"""Networks that are trained on images of classes, or on images alone."""
_TUNED = ("resnet", "classifier")
"""Networks that trained weights are to be had for, as they are for the encoder of a U-Net."""
_OF_THE_ENCODER = ("depth", "dilations", "padding_mode")
"""Options of a U-Net that an encoder has its own for."""


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`dilations` must be numbers as 1,2,4, got {text!r}") from None


@dataclass
class NetworkOptions:
    """Arguments of the networks themselves, which :func:`torchops.models.build` takes."""

    model: str = option(
        "torchvision:efficientnet_b0", "Classifier of another library, as torchvision:NAME or timm:NAME.",
        nets=["classifier"],
    )  # fmt: skip
    pool: Literal["max", "avg", "min"] = option(
        "max", "What the two pooling layers keep of every 2 x 2 values: the largest, the mean or the smallest.",
        nets=["lenet"],
    )  # fmt: skip
    norm: Literal["none", "before", "after"] = option(
        "none", "Normalize batches, before or after the activations, or not at all.", nets=["lenet"],
        read=lambda where: None if where == "none" else where, kept=Literal["before", "after"] | None,
    )  # fmt: skip
    channels: int = option(
        1, "Channels of the images: 1 for shades of gray, 3 for colour, as cifar10 and svhn are.",
        nets=["lenet", "unet", "diffusion"], unet={"help": "Channels of the images: 1 for shades of gray, 3 for colour."},
    )  # fmt: skip
    steps: int = option(500, "Steps of the way from noise to an image.", nets=["diffusion"])
    width: int = option(
        16, "Width of the first level, in channels; every deeper level has twice as many.",
        nets=["unet", "diffusion"], diffusion={"default": 32},
    )  # fmt: skip
    encoder: str | None = option(
        None, "Network of timm that the U-Net goes down by, as timm:resnet18; without it, convolutions of its own. `width` is "
        "that of the way up then.", nets=["unet"],
    )  # fmt: skip
    depth: int | None = option(
        3, "How often the network halves the image's height and width.", nets=["resnet", "unet", "diffusion"],
        resnet={"default": 18, "help": "Number of layers of the ResNet: 18, 34, 50, 101 or 152."},
        unet={
            "default": None,
            "help": "How often the network halves the image's height and width: 3 times by default; with an `encoder`, as "
            "often as that does.",
        },
        diffusion={"default": 2},
    )  # fmt: skip
    unpool: Literal["max", "avg", "transpose"] = option(
        "avg", "How height and width are doubled again: by unpooling the largest values or means, "
        "or by a transposed convolution.", nets=["unet", "diffusion"],
    )  # fmt: skip
    dilations: str = option(
        "1", "Dilations of the convolutions at the deepest level, one for each, as 1,2,4.", nets=["unet"],
        read=_numbers, kept=list[int],
    )  # fmt: skip
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = option(
        "zeros", "What convolutions see beyond the image's border.", nets=["unet"]
    )

    @staticmethod
    def read(net: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The options that `build` takes, as they are asked for, or else with their defaults."""
        reads = {f.name: f.metadata["read"] or (lambda value: value) for f in dataclasses.fields(NetworkOptions)}
        options = options_of(NetworkOptions, net).items()
        given = {name: asked.get(name, found.default) for name, found in options if found.shown}
        if net == "unet" and given["encoder"] is not None:
            defaults = options_of(NetworkOptions, net)
            for name in _OF_THE_ENCODER:
                if (value := given.pop(name)) != defaults[name].default:
                    raise ValueError(f"`{name}` (={value}): is of a U-Net without an `encoder`, which has its own")
        elif net == "unet":
            # runs of before have none
            del given["encoder"]
            given["depth"] = NetworkOptions.depth if given["depth"] is None else given["depth"]
        return {name: reads[name](value) for name, value in given.items()}


@dataclass
class Config:
    """All that decides about a run. `net` and `options` come first, the others by name."""

    net: str
    _: KW_ONLY
    data: str | None = option(
        None, "Folder of your images, in it one folder for every class; without it, `dataset` is trained on.", path=True,
        unet={"help": "Folder with the folders images and masks; without it, pages of digits are made up."},
    )  # fmt: skip
    dataset: Literal["digits", "mnist", "fashion-mnist", "usps", "cifar10", "svhn"] = option(
        "digits", "Known data to train on, where no `data` is given.", nets=_OF_CLASSES
    )
    root: str = option(
        "data", "Folder that all known data but digits are kept in, or downloaded to.", nets=_OF_CLASSES, path=True
    )
    options: dict[str, Any] = field(default_factory=dict, kw_only=False)
    """Arguments of :func:`torchops.models.build`, without what the data decide."""
    size: int = option(
        28, "Height and width that images are brought to, in pixels.", least=8,
        resnet={"default": 224}, classifier={"default": 224},
        unet={"default": 64, "help": "Height and width of the pages, or of the crops to train on, in pixels."},
        diffusion={
            "default": 8, "help": "Height and width of the images, in pixels; a multiple of 2^depth.", "before": "steps"
        },
    )  # fmt: skip
    crops: int = option(
        8,
        "Crops taken of every image in an epoch; of pages of digits, 64 times as many are made.",
        nets=["unet"],
        least=1,
    )
    ema: float | None = option(
        None, "Share of the weights' moving average that stays in a step; the average is what is judged and kept.",
        nets=["diffusion"], diffusion={"default": 0.995},
    )  # fmt: skip
    judge: str | None = option(
        None, "Checkpoint or run of a classifier that says at the end how many samples it recognises.",
        nets=["diffusion"], path=True,
    )  # fmt: skip
    weights: str | None = option(
        None, "Checkpoint or run whose weights are started from; random weights without it.", path=True,
        lenet={"before": "epochs"},
        resnet={
            "help": "Weights to start from: a checkpoint, a run, or torchvision's by name, as DEFAULT; "
            "random weights without it.",
            "path": False,
        },
        classifier={
            "help": "Weights to start from: a checkpoint, a run, or DEFAULT for those of the model's library, which are "
            "downloaded once; random weights without it.",
            "path": False,
        },
        unet={
            "help": "Weights to start from: a checkpoint, a run, or, for an `encoder` alone, DEFAULT for those of timm, which "
            "are downloaded once, or weights of its classifier; random weights without it.",
            "path": False,
        },
    )  # fmt: skip
    freeze: int = option(
        0, "Epochs at the beginning in which only the last layer is trained.", nets=[*_TUNED, "unet"], least=0,
        unet={"help": "Epochs at the beginning in which the `encoder` is not trained."},
    )  # fmt: skip
    layer_decay: float = option(
        1.0, "Learning rate of each stage as a share of that of the next stage.", nets=[*_TUNED, "unet"],
        unet={"help": "Learning rate of each stage of the `encoder` as a share of that of the next; the last is the way up."},
    )  # fmt: skip
    examples: int | None = option(
        None, "Images to train on, of each class; all of them without it.", nets=["lenet", *_TUNED], least=1
    )
    augment: bool = option(
        True, "Change the images at random while training.", nets=["lenet", *_TUNED], diffusion={"default": False}
    )
    augment_strength: float = option(
        1.0, "Factor of the random changes, from 0, none, to 2: of angles, shifts, scales, shears, and of what crops leave "
        "out; not of how often images are mirrored.", nets=["lenet", *_TUNED], least=0,
    )  # fmt: skip
    balance: bool = option(
        False, "Let classes weigh more in the loss of training the rarer they are; that of held-out data stays as it is.",
        nets=["lenet", *_TUNED, "unet"],
    )  # fmt: skip
    background: Literal["white", "black"] = option("white", "Colour that is put behind transparent pixels.")
    max_pixels: int = option(MAX_PIXELS, "Largest number of pixels that an image may have.", least=1)
    skip_corrupt: bool = option(False, "Leave out images that cannot be read, instead of stopping.")
    epochs: int = option(
        20, "Number of epochs: how often all training images are gone through.", least=1,
        resnet={"default": 10}, classifier={"default": 10}, diffusion={"default": 300},
    )  # fmt: skip
    batch_size: int = option(
        64, "Number of images in a step, of all processes together.", least=1,
        resnet={"default": 32}, classifier={"default": 32}, unet={"default": 16}, diffusion={"default": 128},
    )  # fmt: skip
    lr: float = option(
        1e-3, "Largest learning rate; it is reached after a twentieth of the steps, then falls as a cosine to zero.",
        lenet={"default": 2e-3}, unet={"default": 3e-3}, diffusion={"default": 2e-3},
    )  # fmt: skip
    optimizer: Literal["adamw", "sgd"] = option(
        "adamw",
        "What changes the weights: AdamW, or SGD with Nesterov momentum 0.9, which takes a larger `lr`, as 0.05.",
    )
    weight_decay: float = 1e-4
    """Of all parameters: AdamW takes it off the weights, SGD adds it to the gradients, as an L2 penalty."""
    seed: int = option(0, "Seed of the first weights, the order of the images, their random changes and the noise.")
    patience: int | None = option(
        None, "Stop after this many epochs without a better figure; never without it.", least=1
    )
    layers: Literal["torchops", "torch"] = option(
        "torchops", "Library whose convolutions and pooling layers the network is built of."
    )
    backend: Backend | None = option(  # noqa: RUF009 (it is a field)
        None, "Implementation of the operators; TORCHOPS_BACKEND's without it, or auto."
    )
    compile: bool = option(False, "Compile the network with torch.compile.")
    amp: bool | None = option(None, "Compute in 16 bits where it is safe (autocast); done on a GPU by default.")
    channels_last: bool | None = option(
        None,
        "Keep the channels of a pixel side by side in memory; done for U-Net, ResNet, other classifiers and on a GPU.",
    )
    device: str | None = option(None, "Device to compute on: cpu, cuda or cuda:1; a GPU by default, if there is one.")
    log: Literal["none", "tensorboard"] = option(
        "none",
        "What is written beside metrics.csv: for tensorboard, figures of every epoch and the pictures at the end.",
    )
    workers: int = option(0, "Number of processes that read images; without any, the training process does.", least=0)
    cycles: list[int] = field(default_factory=list)
    """Numbers of epochs that were asked for before the run was extended; after each, the learning rate rises again."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):
            check(f.name, getattr(self, f.name), hints[f.name], f.metadata.get("least"))
        if self.net not in NETS:
            raise ValueError(f"`net` must be one of {', '.join(NETS)}, got {shortened(self.net)}")
        networks = get_type_hints(NetworkOptions)
        for f in dataclasses.fields(NetworkOptions):
            if f.name in self.options:
                check(f.name, self.options[f.name], f.metadata["kept"] or networks[f.name])
        if not self.lr > 0:
            raise ValueError(f"`lr` must be positive, got {self.lr}")
        if self.augment_strength > STRONGEST:
            raise ValueError(f"`augment_strength` must be at most {STRONGEST}, got {self.augment_strength}")
        if not self.augment and self.augment_strength != 1:
            raise ValueError(f"`augment_strength` (={self.augment_strength}): without `augment` nothing is changed")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie within 0 and 1, got {self.layer_decay}")
        if self.net == "unet" and self.options.get("encoder") is None:
            for name, asked in (("freeze", self.freeze > 0), ("layer_decay", self.layer_decay < 1)):
                if asked:
                    raise ValueError(f"`{name}` (={getattr(self, name)}): is that of an `encoder`, and there is none")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"`ema` must lie within 0 and 1, got {self.ema}")
        if self.cycles != sorted({*self.cycles, 0, self.epochs})[1:-1]:
            raise ValueError(
                f"`cycles` must rise from 1 to less than {self.epochs} epochs, got {shortened(self.cycles)}"
            )

    @classmethod
    def asked(cls, net: str, **asked: Any) -> Config:
        """What `torchops train` does for a network: its own defaults, but for the options that are given by name.

        Raises:
            ValueError: if the value of an option cannot be.
            TypeError: if `net` has no such option.
        """
        options = NetworkOptions.read(net, asked)
        networks = {name for name, found in options_of(NetworkOptions, net).items() if found.shown}
        defaults = {name: found.default for name, found in options_of(cls, net).items()}
        return cls(net, options, **(defaults | {k: v for k, v in asked.items() if k not in networks}))

    def at(self, own: Config) -> Config:
        """The configuration of a run on another machine, whose `own` one says where data and devices are there."""
        return dataclasses.replace(self, **{name: getattr(own, name) for name in HERE})

    def changed(self, asked: Config, names: Iterable[str] | None = None) -> Config:
        """The configuration of a run that goes on as it is asked for now: elsewhere perhaps, or for more epochs.

        More epochs are a cycle of their own: those that were asked for before keep their learning rates.

        Args:
            asked: what is asked for now.
            names: the options that count in it; all by default.

        Raises:
            ValueError: if anything differs but `device`, `workers`, `log` and a larger number of `epochs`.
        """
        here = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("options", "cycles")}
        values, others = here | self.options, {**vars(asked), **asked.options}
        counts = [*here, *sorted({*self.options, *asked.options})] if names is None else list(names)
        if "epochs" in counts and asked.epochs < self.epochs:
            raise ValueError(
                f"`epochs` (={asked.epochs}): the run was asked for {self.epochs}, and only more can be added"
            )
        for name in counts:
            before, now = values.get(name), others.get(name)
            if name not in (*_FREE, "epochs") and not _same(before, now):
                *most, last = (f"`{name}`" for name in _FREE)
                raise ValueError(
                    f"`{name}` (={_told(now)}): the run was started with {_told(before)}; "
                    f"only {', '.join(most)} and {last} may differ, and `epochs` may grow"
                )
        moved: dict[str, Any] = {name: getattr(asked, name) for name in _FREE if name in counts}
        if "epochs" in counts and asked.epochs > self.epochs:
            moved |= {"epochs": asked.epochs, "cycles": [*self.cycles, self.epochs]}
        return dataclasses.replace(self, **moved)


_FREE = ("device", "workers", "log")
"""Options that say where a run is trained and what is told of it, not what is trained."""
HERE = ("device", "workers", "data", "root")
"""Options that may differ between the machines that train a run together."""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        # a folder may be spelled with a slash at its end
        return one == other or Path(one) == Path(other)
    return bool(one == other)


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool):
        return "none" if value is None else "yes" if value else "no"
    return str(value)


__all__ = ["HERE", "Config", "NetworkOptions"]
