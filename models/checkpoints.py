"""Networks by name, and as files: what a checkpoint holds, how it is written and read."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torchops.nn as layers
from torchops.conversion import revert
from torchops.files import not_a_file
from torchops.files.quiet import quiet
from torchops.files.tensors import save_tensors

from .archives import Contents, Oversized, look
from .backbones import OnMeta, classifier
from .diffusion import Diffusion
from .encoded import EncodedUNet
from .lenet import LeNet
from .resnet import resnet
from .trained import furnish
from .unet import UNet
from .validation import what_is_wrong
from .weights import fitted, shown

POOLS: dict[str, Callable[..., nn.Module]] = {
    "max": layers.MaxPool2d,
    "avg": layers.AvgPool2d,
    "min": layers.MinPool2d,
}
FORMAT = 1


def _lenet(pool: str = "max", **options: Any) -> LeNet:
    if not isinstance(pool, str) or pool not in POOLS:
        raise ValueError(f"`pool` must be one of {', '.join(POOLS)}, got {pool!r}")
    return LeNet(pool=POOLS[pool], **options)


def _unet(encoder: str | None = None, **options: Any) -> UNet | EncodedUNet:
    return UNet(**options) if encoder is None else EncodedUNet(encoder=encoder, **options)


NETS: dict[str, Callable[..., nn.Module]] = {
    "lenet": _lenet, "resnet": resnet, "classifier": classifier, "unet": _unet, "diffusion": Diffusion,
}  # fmt: skip


def build(net: str, *, layers: str = "torchops", **options: Any) -> nn.Module:
    """A network by its name, with options that a checkpoint can hold: numbers, strings and lists of them.

    Args:
        net: "lenet", "resnet", "classifier", "unet" or "diffusion".
        layers: "torchops", or "torch" for torch.nn's layers, as far as it has them.
        **options: arguments of the network; `pool` of LeNet is "max", "avg" or "min". With an `encoder`, "unet" is an
            :class:`EncodedUNet`.

    >>> from torchops.models import build
    >>> sum(p.numel() for p in build("lenet", pool="min").parameters())
    431080
    """
    if not isinstance(net, str) or net not in NETS:
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
        content = {"torchops": FORMAT, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}}
        try:
            save_tensors(content, path)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ").splitlines()[0]
            raise CheckpointError(
                f"{path}: cannot be written: {reason}; what was saved before is still there"
            ) from error

    @staticmethod
    def load(path: str | Path) -> Checkpoint:
        """Read a file, or the best checkpoint of a run's folder. Only tensors, numbers and strings are unpickled.

        Raises:
            CheckpointError: if it is missing or broken, no checkpoint, of a newer torchops, or holds NaN or infinity.
        """
        path = file_of(path)
        return Checkpoint.of(read(path), path)

    @staticmethod
    def of(content: Any, path: Path) -> Checkpoint:
        """What was read from a file, as a checkpoint.

        Raises:
            CheckpointError: as :meth:`load`.
        """
        fields = dataclasses.fields(Checkpoint)
        # checkpoints of before lack what has a default
        needed = [f.name for f in fields if f.default_factory is dataclasses.MISSING]
        if (reason := what_is_wrong(content, NETS, needed, FORMAT)) is not None:
            raise CheckpointError(f"{path}: {reason}")
        return Checkpoint(**{f.name: content[f.name] for f in fields if f.name in content})

    def model(self, **overrides: Any) -> nn.Module:
        """The network with its weights, in eval mode, which knows its `classes`, and has `prepare` and `predict`.

        Raises:
            CheckpointError: if the weights do not fit the network that the options say, or are not finite.
        """
        options = {**self.options, **overrides}
        try:
            # this has shapes, but no memory: options of our own networks may say anything
            foreign = self.net == "classifier" or options.get("encoder") is not None
            with OnMeta() if foreign else torch.device("meta"):
                own = build(self.net, **options).state_dict()
            state = fitted(own, self.state)
            model = build(self.net, **options)
            model.load_state_dict(state, strict=False)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # options of a hostile file raise whatever the network stumbles over
            raise CheckpointError(f"the weights do not fit {self.net}: {_last_line(error)}") from error
        furnish(model, self.net, self.labels, self.preprocess)
        return model.eval()


def _last_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return shown(lines[-1].strip()) if lines else type(error).__name__


def file_of(path: str | Path) -> Path:
    """The checkpoint that a path means: the file, or a run's best."""
    return Path(path) / "best.pt" if os.path.isdir(path) else Path(path)


def read(path: Path) -> Any:
    """The content of a file that torch wrote, or safetensors, tensors on the CPU; nothing in it is run.

    Raises:
        CheckpointError: if it is missing or broken, holds more than weights, or would unpack to more than there is.
    """
    if (reason := not_a_file(path)) is not None:
        raise CheckpointError(f"{path}: {reason}")
    contents = Contents()
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        contents = look(path)
        with quiet():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Oversized as error:
        raise CheckpointError(f"{path}: {error}") from error
    except CheckpointError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: does not fit into memory") from error
    except Exception as error:  # broken and hostile files make readers raise whatever they stumble over
        reason = "is no file of weights, or broken"
        if contents.classes:
            reason += f": it holds {shown(contents.classes[0])}; save torch.save(model.state_dict(), path)"
        raise CheckpointError(f"{path}: {reason}") from error


def _safetensors(path: Path) -> Any:
    try:
        reader = importlib.import_module("safetensors.torch")
    except ModuleNotFoundError:
        raise CheckpointError(f"{path}: needs safetensors: pip install safetensors") from None
    return reader.load_file(path)


def load(path: str | Path, **overrides: Any) -> nn.Module:
    """A trained network from a checkpoint or a run's folder, in eval mode, on the CPU.

    It knows what it was trained for: `classes`, the labels in the order of its outputs; `prepare(image)`, a batch of one from a
    path, a Pillow image, a tensor or a NumPy array, as :class:`torchops.models.trained.Prepare` takes it; and `predict(image)`,
    the probabilities by label, the likeliest first, or for a U-Net the index of the class of every pixel, (H, W). Those two
    need the extra `models`. Copies have them as well; what :func:`torchops.fuse` makes is another module, and is asked by
    :class:`torchops.models.trained.Predict`.

    Args:
        path: what `torchops train` wrote.
        **overrides: of :func:`build`, as `layers="torch"`.

    Raises:
        CheckpointError: if the file is missing, broken, or does not fit, or its weights are not finite.
    """
    return Checkpoint.load(path).model(**overrides)


__all__ = ["NETS", "POOLS", "Checkpoint", "CheckpointError", "build", "file_of", "load", "read"]
