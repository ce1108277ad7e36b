"""Inside networks: against formulas where there are some, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchops.models import Diffusion, LeNet, UNet, resnet
from torchops.models.inside import (
    Field,
    effective_field,
    feature_maps,
    first_filters,
    grad_cam,
    layers,
    placement,
    receptive_field,
    stages,
)


def stage_names(net: nn.Module, *x: Tensor) -> list[str]:
    return [layer.name for layer in stages(layers(net, x))]


class Pooled(nn.Module):
    """Functions where others have layers, and an activation that overwrites its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.first(x)), inplace=True), 3, 2)
        return self.second(x).mean((2, 3))


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        (LeNet, 28, ["features.1", "features.4"]),
        (lambda: resnet(18, 3), 64, ["relu", "layer1", "layer2", "layer3", "layer4"]),
        (lambda: UNet(3, width=2, depth=2), 20, ["down.0", "down.1", "bottom.0", "merge.0", "merge.1"]),
        (Pooled, 20, ["norm", "second"]),
    ],
)
def test_a_stage_for_every_resolution(make: Callable[[], nn.Module], size: int, expected: list[str]) -> None:
    net = make()
    channels = 3 if "layer1" in expected else 1
    assert stage_names(net, torch.rand(1, channels, size, size)) == expected


def test_squeezed_maps_are_no_stage() -> None:
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.efficientnet_b0(weights=None)
    assert stage_names(net, torch.rand(1, 3, 64, 64)) == [f"features.{i}" for i in (1, 2, 3, 5)] + ["features"]


class TestReceptiveField:
    @pytest.mark.parametrize(
        ("layer", "windows"),
        [
            ("features.0", [(5, 1)]),
            ("features.2", [(5, 1), (2, 2)]),
            ("features.4", [(5, 1), (2, 2), (5, 1)]),
            ("features.5", [(5, 1), (2, 2), (5, 1), (2, 2)]),
        ],
    )
    @pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
    def test_of_lenet_is_the_formula(self, layer: str, windows: list[tuple[int, int]], pool: Any) -> None:
        """r = 1 + sum (k - 1) prod strides; its first pixel is at the unit's place times all strides."""
        side, stride = 1, 1
        for kernel, step in windows:
            side, stride = side + (kernel - 1) * stride, stride * step
        found = receptive_field(LeNet(pool=pool), torch.rand(1, 1, 28, 28), layer, (1, 2))
        assert found == Field(stride, 2 * stride, side, side)

    @pytest.mark.parametrize(("layer", "side"), [("conv1", 7), ("maxpool", 11), ("layer1", 43), ("layer2", 99)])
    def test_of_resnet_is_the_formula(self, layer: str, side: int) -> None:
        """What He et al.'s layers add up to: 7; 11; four of 3 x 3 in steps of 4; one in steps of 4 and three of 8."""
        net = resnet(18, 2)
        # nothing is learned where nothing gets through: the field is what the structure allows
        nn.init.zeros_(net.bn1.weight)  # type: ignore[union-attr, arg-type]
        found = receptive_field(net, torch.rand(1, 3, 128, 128), layer)
        assert (found.height, found.width) == (side, side)

    def test_of_functions_dilations_and_borders(self) -> None:
        net, x = Pooled(), torch.rand(1, 1, 21, 25)
        side = 1 + 2 + 2 + 2 * 2 * 2
        assert receptive_field(net, x, "second", (1, 2)) == Field(2, 4, side, side)
        assert receptive_field(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2)), x, "0", (0, 24)) == Field(0, 22, 3, 3)

    @pytest.mark.parametrize("unpool", ["avg", "max", "transpose"])
    def test_of_a_unet_grows_on_the_way_up(self, unpool: str) -> None:
        net, x = UNet(2, width=2, depth=1, unpool=unpool), torch.rand(1, 1, 40, 40)
        sides = [receptive_field(net, x, name).height for name in stage_names(net, x)]
        # two of 3 x 3; a pool and two in steps of 2; an unpooling, which is at home in one of two, and two more
        assert sides == [5, 14, 18]

    def test_leaves_norms_of_the_whole_map_aside(self) -> None:
        net = Diffusion(size=16, width=8, depth=1, steps=10, embedding=8)
        x = torch.rand(1, 1, 16, 16), torch.tensor([3])
        assert receptive_field(net, x, "unet.down.0") == Field(6, 6, 5, 5)

    def test_holds_the_effective_field(self) -> None:
        torch.manual_seed(0)
        net, x = LeNet(), torch.rand(2, 1, 28, 28)
        seen = effective_field(net, x, "features.4")
        assert seen.shape == (2, 28, 28)
        assert (seen[:, 8:22, 8:22] > 0).all()
        seen[:, 8:22, 8:22] = 0
        assert not seen.any()

    def test_effective_field_of_a_convolution_is_its_filter(self) -> None:
        net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
        seen = effective_field(net, torch.rand(1, 1, 7, 7), "0")[0]
        torch.testing.assert_close(seen[2:5, 2:5], net[0].weight[0, 0].detach().abs())

    def test_places_maps(self) -> None:
        x = torch.rand(1, 1, 28, 28)
        # units lie 2 pixels apart, the first one's centre is that of pixels 0 to 13
        assert placement(LeNet(), x, "features.4", (8, 8)) == (6.0, 22.0, 22.0, 6.0)
        assert placement(nn.Sequential(nn.Conv2d(1, 1, 21, padding=10)), x, "0", (28, 28)) == (0.0, 28.0, 28.0, 0.0)


class TestGradCam:
    def test_is_cam_behind_a_global_pool(self) -> None:
        """A linear layer over means of maps: a_k is w_k / (h w), and the map is Zhou et al.'s CAM over h w."""
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)
        )
        x = torch.rand(2, 3, 9, 8)
        maps = feature_maps(net, x, ["1"])["1"]
        weight = net[4].weight.detach()
        for target in range(4):
            expected = torch.einsum("k,nkhw->nhw", weight[target], maps).relu() / (7 * 6)
            torch.testing.assert_close(grad_cam(net, x, target, "1"), expected)
        both = grad_cam(net, x, lambda scores: scores[:, 1:3].sum(), "1")
        expected = torch.einsum("k,nkhw->nhw", weight[1:3].sum(0), maps).relu() / (7 * 6)
        torch.testing.assert_close(both, expected)

    def test_of_what_an_activation_overwrites(self) -> None:
        """The maps are those before it, in which some are negative; the gradient is that behind it, where they are not."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2 * 4, 2))
        x = torch.randn(1, 1, 4, 4)
        maps = F.conv2d(x, net[0].weight, net[0].bias).detach()
        assert (maps < 0).any()
        torch.testing.assert_close(feature_maps(net, x, ["0"])["0"], maps)
        a = (net[3].weight[1].detach().view(2, 2, 2) * (maps[0] > 0)).mean((1, 2))
        torch.testing.assert_close(grad_cam(net, x, 1, "0")[0], torch.einsum("k,khw->hw", a, maps[0]).relu())

    def test_takes_the_scores_before_a_softmax(self) -> None:
        torch.manual_seed(0)
        net, x = LeNet(classes=3, size=16), torch.rand(1, 1, 16, 16)
        scores = nn.Sequential(net.features, net.classifier)
        expected = grad_cam(scores, x, 2, "0.4")
        torch.testing.assert_close(grad_cam(net, x, 2, "features.4", head="classifier"), expected)
        assert not torch.allclose(grad_cam(net, x, 2, "features.4"), expected)

    def test_of_a_segmentation(self) -> None:
        net, x = UNet(3, width=2, depth=1).eval(), torch.rand(1, 1, 12, 10)
        assert grad_cam(net, x, 1, "bottom.0").shape == (1, 6, 5)
        # the head adds its maps up with these weights at every pixel
        maps, weight = feature_maps(net, x, ["merge.0"])["merge.0"], net.head.weight[1, :, 0, 0].detach()
        expected = torch.einsum("k,nkhw->nhw", weight, maps).relu()
        torch.testing.assert_close(grad_cam(net, x, 1, "merge.0"), expected)


@pytest.mark.parametrize("frozen", [False, True])
def test_everything_is_left_as_it_was(frozen: bool) -> None:
    torch.manual_seed(0)
    net, x = Pooled().train(), torch.rand(1, 1, 20, 20)
    net.norm.eval()
    net.requires_grad_(not frozen)
    if not frozen:
        net(x).sum().backward()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    modes = [module.training for module in net.modules()]
    seen = layers(net, x)
    first_filters(net, seen)
    feature_maps(net, x, ["first"])
    grad_cam(net, x, 1, "second")
    receptive_field(net, x, "second")
    effective_field(net, x, "second")
    with pytest.raises(ValueError, match="no layer"):
        grad_cam(net, x, 1, "third")
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    for p, gradient in zip(net.parameters(), gradients, strict=True):
        assert p.requires_grad is not frozen
        assert p.grad is None if gradient is None else torch.equal(p.grad, gradient)  # type: ignore[arg-type]
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_hooks for module in net.modules())
    assert not x.requires_grad


def test_refuses() -> None:
    net, x = LeNet(size=16), torch.rand(1, 1, 16, 16)
    for call in (
        lambda name: feature_maps(net, x, [name]),
        lambda name: grad_cam(net, x, 0, name),
        lambda name: receptive_field(net, x, name),
        lambda name: effective_field(net, x, name),
    ):
        with pytest.raises(
            ValueError, match=r"`layer` \(=feature.0\): is no layer .*; close are .*features.0.*`layers`"
        ):
            call("feature.0")
        with pytest.raises(ValueError, match=r"`layer` \(=classifier.1\): is no layer that gives maps"):
            call("classifier.1")
    with pytest.raises(ValueError, match="the score does not depend on it"):
        grad_cam(net, x, lambda scores: scores.detach().sum(), "features.0")
    with pytest.raises(ValueError, match="no convolution"):
        first_filters(nn.Sequential(nn.Flatten()), [])


def test_filters_are_those_of_the_first_convolution() -> None:
    net = resnet(18, 2)
    name, weight = first_filters(net, layers(net, torch.rand(1, 3, 32, 32)))
    assert name == "conv1"
    assert torch.equal(weight, net.conv1.weight)  # type: ignore[arg-type]
