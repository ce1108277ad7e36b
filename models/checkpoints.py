"""Networks by name, and as files: what a checkpoint holds, how it is written and read."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torchops.nn as layers
from torchops.conversion import revert
from torchops.files import replacing

from .diffusion import Diffusion
from .lenet import LeNet
from .resnet import resnet
from .unet import UNet

POOLS: dict[str, Callable[..., nn.Module]] = {
    "max": layers.MaxPool2d,
    "avg": layers.AvgPool2d,
    "min": layers.MinPool2d,
}
FORMAT = 1


def _lenet(pool: str = "max", **options: Any) -> LeNet:
    if pool not in POOLS:
        raise ValueError(f"`pool` must be one of {', '.join(POOLS)}, got {pool!r}")
    return LeNet(pool=POOLS[pool], **options)


NETS: dict[str, Callable[..., nn.Module]] = {"lenet": _lenet, "resnet": resnet, "unet": UNet, "diffusion": Diffusion}


def build(net: str, *, layers: str = "torchops", **options: Any) -> nn.Module:
    """A network by its name, with options that a checkpoint can hold: numbers, strings and lists of them.

    Args:
        net: "lenet", "resnet", "unet" or "diffusion".
        layers: "torchops", or "torch" for torch.nn's layers, as far as it has them.
        **options: arguments of the network; `pool` of LeNet is "max", "avg" or "min".

    >>> from torchops.models import build
    >>> sum(p.numel() for p in build("lenet", pool="min").parameters())
    431080
    """
    if net not in NETS:
        raise ValueError(f"`net` must be one of {', '.join(NETS)}, got {net!r}")
    if layers not in ("torchops", "torch"):
        raise ValueError(f"`layers` must be 'torchops' or 'torch', got {layers!r}")
    model = NETS[net](**options)
    return model if layers == "torchops" else revert(model, inplace=True)[0]


class CheckpointError(Exception):
    """What is wrong with a checkpoint, in one line."""


@dataclass
class Checkpoint:
    """A trained network, all that is needed to use it, and, in `training`, to go on."""

    net: str
    options: dict[str, Any]
    """Arguments of :func:`build`."""
    state: dict[str, Tensor]
    labels: list[str]
    """Names of the classes, in the order of the outputs; empty where there are none."""
    preprocess: dict[str, Any]
    """Fields of :class:`torchops.models.data.Preprocess`."""
    training: dict[str, Any] = field(default_factory=dict)
    values: list[int] = field(default_factory=list)
    """The value of every class in masks; empty: classes are counted from 0, or there are none."""
    colours: list[list[int]] = field(default_factory=list)
    """The colour of every class in masks, red, green and blue from 0 to 255; empty: the pictures' own."""

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all: what was there stays if the disk is full.

        Raises:
            CheckpointError: if it cannot be written.
        """
        try:
            with replacing(path) as beside:
                torch.save(
                    {"torchops": FORMAT, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}}, beside
                )
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            raise CheckpointError(
                f"{path}: cannot be written: {reason}; what was saved before is still there"
            ) from error

    @staticmethod
    def load(path: str | Path) -> Checkpoint:
        """Read a file, or the best checkpoint of a run's folder. Only tensors, numbers and strings are unpickled.

        Raises:
            CheckpointError: if it is missing, broken, or no checkpoint.
        """
        path = Path(path)
        content = read(path / "best.pt" if path.is_dir() else path)
        fields = dataclasses.fields(Checkpoint)
        # checkpoints of before lack what has a default
        needed = {f.name for f in fields if f.default_factory is dataclasses.MISSING}
        if not isinstance(content, dict) or content.get("torchops") != FORMAT or not needed <= content.keys():
            raise CheckpointError(f"{path}: is no checkpoint of torchops train")
        return Checkpoint(**{f.name: content[f.name] for f in fields if f.name in content})

    def model(self, **overrides: Any) -> nn.Module:
        """The network with its weights, in eval mode."""
        try:
            model = build(self.net, **{**self.options, **overrides})
            model.load_state_dict(self.state)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the weights do not fit {self.net}: {str(error).splitlines()[-1].strip()}"
            ) from error
        return model.eval()


def read(path: Path) -> Any:
    """The content of a file that torch wrote, tensors on the CPU; nothing in it is run.

    Raises:
        CheckpointError: if it is missing or broken.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: is no file of weights, or broken") from error


def load(path: str | Path, **overrides: Any) -> nn.Module:
    """A trained network from a checkpoint or a run's folder, in eval mode, on the CPU.

    Args:
        path: what `torchops train` wrote.
        **overrides: of :func:`build`, as `layers="torch"`.

    Raises:
        CheckpointError: if the file is missing, broken, or does not fit.
    """
    return Checkpoint.load(path).model(**overrides)


__all__ = ["NETS", "POOLS", "Checkpoint", "CheckpointError", "build", "load", "read"]
