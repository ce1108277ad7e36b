"""What `torchops train` can be asked: a field says its default and its help once, for the shell and for `Config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .checkpoints import NETS


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


def check_least(config: Any) -> None:
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


__all__ = ["NetworkOptions", "Option", "check_least", "option", "options_of"]
