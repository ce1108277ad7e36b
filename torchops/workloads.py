"""Convolutions of networks that people train: what is tuned, timed, modelled and compiled, by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchops.kernels.geometry import conv_size, conv_transpose_size

from . import functional


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
        """Operations of the forward pass, and of either gradient."""
        h, w = (self.H, self.W) if self.transposed else self.output_size
        return 2 * self.N * h * w * self.C * self.K // self.groups * self.R * self.S

    @property
    def elements(self) -> int:
        """Elements of input, weight and output together: each is moved at least once, in every pass."""
        return sum(math.prod(shape) for shape in (self.input_shape, self.weight_shape, self.output_shape))

    def __call__(self, x: Tensor, w: Tensor, b: Tensor | None = None, **epilogue: Any) -> Tensor:
        """Compute the layer with torchops."""
        if self.transposed:
            return functional.conv_transpose2d(
                x, w, b, self.stride, self.padding, 0, self.groups, self.dilation, **epilogue
            )
        return functional.conv2d(
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
    ConvLayer("depthwise-stride2", "efficientnet_b0.blocks1.depthwise", 32, 96, 112, 112, 96, 3, 3, 2, 1, groups=96),
    ConvLayer("depthwise-5x5", "efficientnet_b0.blocks4.depthwise", 32, 240, 28, 28, 240, 5, 5, padding=2, groups=240),
    ConvLayer("depthwise-7x7", "convnext_tiny.stage1.depthwise", 32, 96, 56, 56, 96, 7, 7, padding=3, groups=96),
    ConvLayer("grouped", "resnext50.layer1.conv2", 32, 128, 56, 56, 128, 3, 3, padding=1, groups=32),
    ConvLayer("reflect", "cyclegan.block.conv1", 8, 256, 64, 64, 256, 3, 3, padding=1, padding_mode="reflect"),
    ConvLayer("reflect-stem", "cyclegan.stem", 8, 3, 256, 256, 64, 7, 7, padding=3, padding_mode="reflect"),
    ConvLayer("lenet-conv1", "lenet.conv1", 256, 1, 32, 32, 6, 5, 5),
    ConvLayer("lenet-conv2", "lenet.conv2", 256, 6, 14, 14, 16, 5, 5),
    ConvLayer("unet-stem", "unet.down1.conv1", 8, 1, 512, 512, 64, 3, 3, padding=1),
    ConvLayer("unet-deep", "unet.bottom.conv2", 8, 1024, 32, 32, 1024, 3, 3, padding=1),
    ConvLayer("unet-upconv", "unet.up4.upconv", 8, 128, 256, 256, 64, 2, 2, stride=2, transposed=True),
)
