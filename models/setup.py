"""What a configuration stands for: the data, the network with its first weights, the task, the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints import CheckpointError, build, read
from .data import Data, folder, named, pages, pairs
from .diffusion import Diffusion
from .options import Config
from .resnet import load_backbone, stages
from .tasks import Classification, Denoising, Segmentation, Task


def data_for(config: Config) -> Data:
    """What a run trains on and is judged by."""
    size, source = config.size, None if config.data is None else Path(config.data)
    reading: dict[str, Any] = {
        "background": config.background, "max_pixels": config.max_pixels, "skip_corrupt": config.skip_corrupt,
    }  # fmt: skip
    channels = 3 if config.net == "resnet" else config.options.get("channels", 1)
    if config.net == "unet":
        if source is None:
            return pages(size, 64 * config.crops)
        return pairs(source, channels=channels, crop=size, crops=config.crops, **reading)
    shared: dict[str, Any] = {
        "size": size, "channels": channels, "seed": config.seed, "examples": config.examples,
        "augment": config.augment, "centred": config.net == "diffusion",
    }  # fmt: skip
    if source is None:
        return named(config.dataset, Path(config.root), **shared)
    return folder(source, unlabelled=config.net == "diffusion", **shared, **reading)


def net_for(config: Config, data: Data) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run, with its first weights, and the options of `build` that make it."""
    options = dict(config.options)
    if config.net in ("lenet", "unet", "resnet"):
        options["classes"] = len(data.labels)
    if config.net in ("lenet", "diffusion"):
        options |= {"size": config.size, "channels": data.preprocess.channels}
    torch.manual_seed(config.seed)
    if config.weights is None:
        return build(config.net, layers=config.layers, **options), options
    path = Path(config.weights)
    if config.net == "resnet" and not path.exists() and path.suffix == "":
        return build(config.net, layers=config.layers, weights=config.weights, **options), options
    content = read(path / "best.pt" if path.is_dir() else path)
    of = content.get("net", config.net) if isinstance(content, dict) else None
    if of != config.net:
        raise CheckpointError(f"`weights` (={path}): is of another network, {of or 'no checkpoint'}, not {config.net}")
    state = content.get("state", content)
    net = build(config.net, layers=config.layers, **options)
    try:
        if config.net == "resnet":
            load_backbone(net, state)
        else:
            net.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"`weights` (={path}): {str(error).splitlines()[-1].strip()}") from error
    return net, options


def task_for(config: Config, data: Data, net: nn.Module) -> Task:
    if isinstance(net, Diffusion):
        return Denoising(data, net, config.judge)
    if config.net == "unet":
        return Segmentation(data)
    # LeNet says log-probabilities, ResNet logits
    return Classification(data, nn.NLLLoss() if config.net == "lenet" else nn.CrossEntropyLoss())


def optimizer_for(config: Config, net: nn.Module) -> torch.optim.Optimizer:
    """AdamW; for a ResNet with a rate for every stage, each `layer_decay` times the next one's."""
    groups: list[dict[str, Any]] = [{"params": list(net.parameters()), "lr": config.lr}]
    if config.net == "resnet":
        parts = list(stages(net))
        groups = [
            {"params": params, "lr": config.lr * config.layer_decay ** (len(parts) - 1 - i)}
            for i, (_, params) in enumerate(parts)
        ]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
