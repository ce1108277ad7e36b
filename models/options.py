"""The options of `torchops train`, of all its networks: a field says default and help once, for the shell and for `Config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from torchops.backend import Backend
from torchops.files.images import MAX_PIXELS

from .checkpoints import NETS

_OF_CLASSES = ("lenet", "resnet", "diffusion")
"""Networks that are trained on images of classes, or on images alone."""


@dataclass(frozen=True)
class Option:
    """What the command of one network says of a field."""

    default: Any
    help: str
    """Arguments stand in backticks; the shell shows their flags."""
    path: bool = False
    """A file or folder is named."""
    before: str | None = None
    """The option that it is shown before; without one, it stands where its field does."""
    shown: bool = True


def option(
    default: Any, help: str, *, nets: Collection[str] = NETS, path: bool = False, least: float | None = None,
    read: Callable[[Any], Any] | None = None, **by_net: Mapping[str, Any],
) -> Any:  # fmt: skip
    """A field of a dataclass that is an option of `torchops train`.

    Args:
        default: of the field and of the option.
        help: what the option means.
        nets: the networks whose commands show it.
        path: whether it names a file or folder.
        least: the smallest value that it may have.
        read: from the option's value to what the network takes.
        **by_net: by network, what differs there: "default", "help", "path" or "before" of :class:`Option`.
    """
    shared = {"default": default, "help": help, "path": path}
    options = {net: Option(**{**shared, "shown": net in nets, **by_net.get(net, {})}) for net in NETS}
    return dataclasses.field(default=default, metadata={"options": options, "least": least, "read": read})


def options_of(cls: type, net: str) -> dict[str, Option]:
    """The options among the fields of a dataclass, by name, as a network has them; those that it does not show, too."""
    return {f.name: f.metadata["options"][net] for f in dataclasses.fields(cls) if "options" in f.metadata}


def _check_least(config: Any) -> None:
    """Raise ValueError where a number of a dataclass is smaller than its `least`."""
    for f in dataclasses.fields(config):
        least, value = f.metadata.get("least"), getattr(config, f.name)
        if None not in (least, value) and value < least:
            raise ValueError(f"`{f.name}` must be at least {least}, got {value}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`dilations` must be numbers as 1,2,4, got {text!r}") from None


@dataclass
class NetworkOptions:
    """Arguments of the networks themselves, which :func:`torchops.models.build` takes."""

    pool: Literal["max", "avg", "min"] = option("max", "Of both pools.", nets=["lenet"])
    norm: Literal["none", "before", "after"] = option(
        "none", "Batch norm before or after the activation.", nets=["lenet"],
        read=lambda where: None if where == "none" else where,
    )  # fmt: skip
    channels: int = option(1, "1: luminance; 3: colour.", nets=["lenet", "unet", "diffusion"])
    steps: int = option(500, "From noise to image.", nets=["diffusion"])
    width: int = option(16, "Channels of the first level.", nets=["unet", "diffusion"], diffusion={"default": 32})
    depth: int = option(
        3, "How often the image is halved.", nets=["resnet", "unet", "diffusion"],
        resnet={"default": 18, "help": "18, 34, 50, 101 or 152."}, diffusion={"default": 2},
    )  # fmt: skip
    unpool: Literal["max", "avg", "transpose"] = option("avg", "How the decoder doubles.", nets=["unet", "diffusion"])
    dilations: str = option("1", "Of the blocks at the bottom, as 1,2,4.", nets=["unet"], read=_numbers)
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = option(
        "zeros", "Border of the convolutions.", nets=["unet"]
    )

    @staticmethod
    def read(net: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The options that `build` takes, as they are asked for, or else with their defaults."""
        reads = {f.name: f.metadata["read"] or (lambda value: value) for f in dataclasses.fields(NetworkOptions)}
        options = options_of(NetworkOptions, net).items()
        return {name: reads[name](asked.get(name, found.default)) for name, found in options if found.shown}


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
    background: Literal["white", "black"] = option("white", "What shines through transparent pixels.")
    max_pixels: int = option(MAX_PIXELS, "The most pixels that an image may have.", least=1)
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
        _check_least(self)
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


__all__ = ["Config", "NetworkOptions", "Option", "option", "options_of"]
