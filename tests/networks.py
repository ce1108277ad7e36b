"""Networks for the tests: real ones by name, and a small one for slow tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import torchops
from bench import networks
from bench.networks import untrained

# the trained one has tests of its own
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: build for name, build in networks.NETWORKS.items() if name != "efficientnet_lite0"},
    "segnet": lambda: untrained(lambda: SegNet(16)),
}


@contextmanager
def as_torch_has_it() -> Iterator[None]:
    """For models of torch.nn: on ATen, whose max_unpool2d refuses deterministic mode, on a CPU too."""
    with torchops.use_backend("aten"):
        torch.use_deterministic_algorithms(False)
        yield
        torch.use_deterministic_algorithms(True)


def output(result: Any) -> Tensor:
    """The tensor of a network's result: segmentation networks return it in a dictionary."""
    return result["out"] if isinstance(result, dict) else result


def image(*shape: int, device: Any = "cpu") -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)).to(device)


def gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The result of a step in training mode, and the gradient of every parameter."""
    model.train().zero_grad()
    y = output(model(x))
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.device)
    (y * weights).mean().backward()
    # a copy: the original has the same Parameters
    return y.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class SegNet(nn.Module):
    """Two stages of SegNet: what the encoder's pools took, the decoder puts back where it was."""

    def __init__(self, width: int, classes: int = 3) -> None:
        super().__init__()
        self.down1, self.down2 = _stage(3, width), _stage(width, 2 * width)
        self.up2, self.up1 = _stage(2 * width, width), _stage(width, width)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, first = self.pool(self.down1(x))
        x, second = self.pool(self.down2(x))
        x = self.up2(self.unpool(x, second))
        return self.head(self.up1(self.unpool(x, first)))


def _stage(c: int, k: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU(inplace=True))


class Block(nn.Module):
    """A ResNet's basic block."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k)
        self.conv2, self.bn2 = nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k)) if c != k or stride != 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += identity
        return self.relu(y)


class Small(nn.Module):
    """Every layer that is swapped, on few channels: a padded stem, two blocks, a decoder with unpooling and up-convolution."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.SiLU())
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.blocks = nn.Sequential(Block(width, width, 1), Block(width, 2 * width, 2))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.mean = nn.AvgPool2d(2)
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, indices = self.pool(self.stem(x))
        return self.head(self.mean(self.unpool(self.up(self.blocks(x)), indices)))


def small() -> nn.Module:
    return untrained(Small)
