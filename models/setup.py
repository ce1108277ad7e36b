"""What a configuration stands for: the data, the network with its first weights, the task, the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import backbones
from .balance import balanced
from .checkpoints import Checkpoint, CheckpointError, build, file_of, read
from .data import Data, folder, named, pages, pairs
from .diffusion import Diffusion
from .encoded import DECODER, ENCODER, EncodedUNet
from .options import Config
from .resnet import stages
from .tasks import Classification, Denoising, Segmentation, Task
from .weights import HEADS, take_over, unwrapped

CHANNELS_LAST = ("unet", "resnet", "classifier")
"""Networks that are faster on CPUs where the channels of a pixel lie side by side."""


def data_for(config: Config) -> Data:
    """What a run trains on and is judged by."""
    data = _data_for(config)
    return balanced(data) if config.balance and config.net != "diffusion" else data


def _data_for(config: Config) -> Data:
    size, source = config.size, None if config.data is None else Path(config.data)
    reading: dict[str, Any] = {
        "background": config.background, "max_pixels": config.max_pixels, "skip_corrupt": config.skip_corrupt,
    }  # fmt: skip
    channels = 3 if config.net in ("resnet", "classifier") else config.options.get("channels", 1)
    if config.net == "unet":
        if source is None:
            return pages(size, 64 * config.crops)
        if channels == 3 and config.options.get("encoder") is not None:
            reading["statistics"] = backbones.statistics(config.options["encoder"], "encoder")
        return pairs(source, channels=channels, crop=size, crops=config.crops, **reading)
    shared: dict[str, Any] = {
        "size": size, "channels": channels, "seed": config.seed, "examples": config.examples,
        "augment": config.augment, "strength": config.augment_strength, "centred": config.net == "diffusion",
    }  # fmt: skip
    if config.net == "classifier":
        shared["statistics"] = backbones.statistics(config.options.get("model", ""))
    if source is None:
        return named(config.dataset, Path(config.root), **shared)
    return folder(source, unlabelled=config.net == "diffusion", **shared, **reading)


def net_for(config: Config, data: Data) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run, with its first weights, and the options of `build` that make it.

    What there is to say of weights from a file, as that the head is a new one, is added to the notes of what was found.

    Raises:
        CheckpointError: if the weights cannot be read, or are of another network.
    """
    options = dict(config.options)
    if config.net in ("lenet", "unet", "resnet", "classifier"):
        options["classes"] = len(data.labels)
    if config.net in ("lenet", "diffusion"):
        options |= {"size": config.size, "channels": data.preprocess.channels}
    torch.manual_seed(config.seed)
    net = _started(config, data, options)
    if config.net == "classifier":
        backbones.check_scores(net, len(data.labels), config.size)
    return net, options


def _started(config: Config, data: Data, options: dict[str, Any]) -> nn.Module:
    if config.weights is None:
        return build(config.net, layers=config.layers, **options)
    path = Path(config.weights)
    by_name = config.net in ("resnet", "classifier") or config.options.get("encoder") is not None
    if by_name and not path.exists() and path.suffix == "":
        return build(config.net, layers=config.layers, weights=config.weights, **options)
    net = build(config.net, layers=config.layers, **options)
    try:
        notes = _taken(net, config.net, file_of(path))
    except ValueError as error:
        raise CheckpointError(f"`weights` (={path}): {error}") from error
    data.found.notes += [f"{path}: {note}" for note in notes]
    return net


def head_of(net: str, model: nn.Module) -> str | tuple[str, ...] | None:
    """How the names of the tensors begin that the scores of the classes come of; None of a diffusion model."""
    return backbones.head(model) if net == "classifier" else HEADS.get(net)


def _taken(model: nn.Module, net: str, path: Path) -> list[str]:
    """Load the weights of a file into a network, or into its encoder; and what there is to say of it."""
    encoded = isinstance(model, EncodedUNet)
    state = _weights(path, (net, "resnet", "classifier") if encoded else (net,))
    if isinstance(model, EncodedUNet) and not any(name.startswith(ENCODER) for name in state):
        model.take_encoder(state)
        return ["the weights are the encoder's: the way up has new ones"]
    return take_over(model, state, head_of(net, model))


def trained_always(net: str, model: nn.Module) -> str | tuple[str, ...] | None:
    """How the names of the tensors begin that are trained also in epochs in which others are frozen."""
    return DECODER if isinstance(model, EncodedUNet) else head_of(net, model)


def _weights(path: Path, nets: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which must be of one of some networks, or of a file of another program."""
    content = read(path)
    if not isinstance(content, dict) or "torchops" not in content:
        return unwrapped(content)
    checkpoint = Checkpoint.of(content, path)
    if checkpoint.net not in nets:
        raise ValueError(f"is of another network, {checkpoint.net}, not {nets[0]}")
    return checkpoint.state


def task_for(config: Config, data: Data, net: nn.Module) -> Task:
    if isinstance(net, Diffusion):
        return Denoising(data, net, config.judge)
    weights = torch.tensor(data.weights, device=next(net.parameters()).device) if data.weights else None
    if config.net == "unet":
        return Segmentation(data, weights)
    # LeNet says log-probabilities, the others logits
    return Classification(data, F.nll_loss if config.net == "lenet" else F.cross_entropy, weights)


def optimizer_for(config: Config, net: nn.Module) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; for a ResNet, another classifier or a U-Net on an encoder with a rate for every
    stage, each `layer_decay` times the next one's.

    Source: I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization, ICLR 2019; I. Sutskever et al., On the importance
        of initialization and momentum in deep learning, ICML 2013.
    """
    groups: list[dict[str, Any]] = [{"params": list(net.parameters()), "lr": config.lr}]
    encoded = isinstance(net, EncodedUNet)
    if encoded or config.net in ("resnet", "classifier"):
        parts = (
            [own for _, own in stages(net)]
            if config.net == "resnet"
            else list(backbones.stages(net, DECODER if encoded else None))
        )
        groups = [
            {"params": params, "lr": config.lr * config.layer_decay ** (len(parts) - 1 - i)}
            for i, params in enumerate(parts)
        ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
