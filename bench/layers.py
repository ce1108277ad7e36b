"""Convolutions and pools of networks that people train: what is timed, modelled and compiled."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import torchops
from torchops.shapes import conv_size, conv_transpose_size, pool_size


@dataclass(frozen=True)
class ConvLayer:
    """N images, C channels of H x W in, K out, R x S taps."""

    name: str
    layer: str
    """The network and its layer."""
    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    padding_mode: str = "zeros"
    transposed: bool = False

    @property
    def output_size(self) -> tuple[int, int]:
        """P and Q."""
        return self._size(self.H, self.R), self._size(self.W, self.S)

    def _size(self, size: int, kernel: int) -> int:
        if self.transposed:
            return conv_transpose_size(size, kernel, self.stride, 2 * self.padding, 0, self.dilation)
        return conv_size(size, kernel, self.stride, 2 * self.padding, self.dilation)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        if self.transposed:
            return self.C, self.K // self.groups, self.R, self.S
        return self.K, self.C // self.groups, self.R, self.S

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.K, *self.output_size

    @property
    def flops(self) -> int:
        """Of the forward pass, and of either gradient."""
        h, w = (self.H, self.W) if self.transposed else self.output_size
        return 2 * self.N * h * w * self.C * self.K // self.groups * self.R * self.S

    @property
    def elements(self) -> int:
        """Of input, weight and output together: each is moved at least once, in every pass."""
        return sum(math.prod(shape) for shape in (self.input_shape, self.weight_shape, self.output_shape))

    def __call__(self, x: Tensor, w: Tensor, b: Tensor | None = None, **epilogue: Any) -> Tensor:
        """As torchops computes it."""
        if self.transposed:
            return torchops.conv_transpose2d(
                x, w, b, self.stride, self.padding, 0, self.groups, self.dilation, **epilogue
            )
        return torchops.conv2d(
            x, w, b, self.stride, self.padding, self.dilation, self.groups, padding_mode=self.padding_mode, **epilogue
        )

    def with_batch(self, images: int) -> ConvLayer:
        return dataclasses.replace(self, N=images)


CASES = (
    ConvLayer("body", "resnet50.layer1.conv2", 32, 64, 56, 56, 64, 3, 3, padding=1),
    ConvLayer("mid", "resnet50.layer3.conv2", 32, 256, 14, 14, 256, 3, 3, padding=1),
    ConvLayer("deep", "resnet50.layer4.conv2", 32, 512, 7, 7, 512, 3, 3, padding=1),
    ConvLayer("stem", "resnet50.conv1", 32, 3, 224, 224, 64, 7, 7, stride=2, padding=3),
    ConvLayer("pointwise", "resnet50.layer1.conv1", 32, 256, 56, 56, 64, 1, 1),
    ConvLayer("aspp", "deeplabv3.aspp.conv12", 8, 512, 64, 64, 256, 3, 3, padding=12, dilation=12),
    ConvLayer("unet-up", "unet.up4.conv1", 8, 128, 256, 256, 64, 3, 3, padding=1),
)
"""The cases of the goals: ResNet's at 224 x 224, DeepLab's and U-Net's at 512 x 512 (output stride 8)."""

LAYERS = (
    ConvLayer("stride2", "resnet50.layer2.0.conv2", 32, 128, 56, 56, 128, 3, 3, stride=2, padding=1),
    ConvLayer("downsample", "resnet50.layer4.downsample", 32, 1024, 14, 14, 2048, 1, 1, stride=2),
    ConvLayer("expand", "resnet50.layer1.conv3", 32, 64, 56, 56, 256, 1, 1),
    ConvLayer("dilation2", "deeplabv3.layer3.conv2", 8, 256, 64, 64, 256, 3, 3, padding=2, dilation=2),
    ConvLayer("depthwise", "mobilenet_v2.features3.depthwise", 32, 144, 56, 56, 144, 3, 3, padding=1, groups=144),
    ConvLayer("grouped", "resnext50.layer1.conv2", 32, 128, 56, 56, 128, 3, 3, padding=1, groups=32),
    ConvLayer("reflect", "cyclegan.block.conv1", 8, 256, 64, 64, 256, 3, 3, padding=1, padding_mode="reflect"),
    ConvLayer("reflect-stem", "cyclegan.stem", 8, 3, 256, 256, 64, 7, 7, padding=3, padding_mode="reflect"),
    ConvLayer("lenet-conv1", "lenet.conv1", 256, 1, 32, 32, 6, 5, 5),
    ConvLayer("lenet-conv2", "lenet.conv2", 256, 6, 14, 14, 16, 5, 5),
    ConvLayer("unet-stem", "unet.down1.conv1", 8, 1, 512, 512, 64, 3, 3, padding=1),
    ConvLayer("unet-deep", "unet.bottom.conv2", 8, 1024, 32, 32, 1024, 3, 3, padding=1),
    ConvLayer("unet-upconv", "unet.up4.upconv", 8, 128, 256, 256, 64, 2, 2, stride=2, transposed=True),
)


@dataclass(frozen=True)
class PoolLayer:
    """N images, C channels of H x W that are pooled, or that are the result of unpooling; square windows."""

    layer: str
    """The network and its layer."""
    op: str
    N: int
    C: int
    H: int
    W: int
    kernel: int
    stride: int
    padding: int = 0
    indices: str = "none"
    """That pooling returns, or unpooling is given: none, position or offset."""
    on_cpu: int = 8
    """N on a CPU."""

    @property
    def name(self) -> str:
        return self.layer if self.indices == "none" else f"{self.layer}.{self.indices}"

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def window_shape(self) -> tuple[int, int, int, int]:
        """An element for every window, P x Q of them."""
        p, q = (pool_size(n, self.kernel, self.stride, self.padding, 1, False) for n in (self.H, self.W))
        return self.N, self.C, p, q

    @property
    def unpools(self) -> bool:
        return "unpool" in self.op

    @property
    def overlaps(self) -> bool:
        return self.kernel > self.stride

    def with_batch(self, images: int) -> PoolLayer:
        return dataclasses.replace(self, N=images)


POOLS = (
    PoolLayer("resnet.stem", "max_pool2d", 32, 64, 112, 112, 3, 2, 1, on_cpu=4),
    PoolLayer("unet.pool1", "max_pool2d", 8, 64, 512, 512, 2, 2, on_cpu=1),
    PoolLayer("unet.pool3", "max_pool2d", 8, 256, 128, 128, 2, 2, on_cpu=1),
    PoolLayer("segnet.pool128", "max_pool2d", 8, 64, 128, 128, 2, 2, indices="position"),
    PoolLayer("segnet.pool128", "max_pool2d", 8, 64, 128, 128, 2, 2, indices="offset"),
    PoolLayer("segnet.unpool128", "max_unpool2d", 8, 64, 128, 128, 2, 2, indices="position"),
    PoolLayer("segnet.unpool128", "max_unpool2d", 8, 64, 128, 128, 2, 2, indices="offset"),
    PoolLayer("segnet.pool512", "max_pool2d", 8, 64, 512, 512, 2, 2, indices="position", on_cpu=1),
    PoolLayer("segnet.pool512", "max_pool2d", 8, 64, 512, 512, 2, 2, indices="offset", on_cpu=1),
    PoolLayer("segnet.unpool512", "max_unpool2d", 8, 64, 512, 512, 2, 2, indices="position", on_cpu=1),
    PoolLayer("segnet.unpool512", "max_unpool2d", 8, 64, 512, 512, 2, 2, indices="offset", on_cpu=1),
    PoolLayer("lenet.pool1", "avg_pool2d", 256, 6, 28, 28, 2, 2, on_cpu=256),
    PoolLayer("lenet.pool2", "avg_pool2d", 256, 16, 10, 10, 2, 2, on_cpu=256),
    PoolLayer("googlenet.pool3", "max_pool2d", 32, 256, 28, 28, 3, 1, 1, on_cpu=4),
    PoolLayer("densenet.transition", "avg_pool2d", 32, 128, 56, 56, 2, 2, on_cpu=4),
    PoolLayer("erosion", "min_pool2d", 8, 1, 512, 512, 3, 1, 1),
    PoolLayer("decoder.avg_unpool", "avg_unpool2d", 8, 64, 128, 128, 2, 2),
    PoolLayer("decoder.avg_unpool.overlap", "avg_unpool2d", 8, 64, 127, 127, 3, 2, 1),
)
"""GoogLeNet's is the pool of a block; erosion is that of images, not of a network."""
