"""Pools of networks that people train: what is timed, modelled and compiled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torchops.kernels.geometry import pool_size


@dataclass(frozen=True)
class PoolLayer:
    """N images, C channels of H x W that are pooled, or that are the result of unpooling; square windows, of adaptive pools
    the largest."""

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
        return "unpool" in self.op or self.op == "interpolate"

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the op is called with after its tensors, but for the size of an unpool."""
        if self.op.startswith("adaptive"):
            return (self.window_shape[2:],)
        return ((self.H, self.W),) if self.op == "interpolate" else (self.kernel, self.stride, self.padding)

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
    PoolLayer("resnet50.avgpool", "adaptive_avg_pool2d", 32, 2048, 7, 7, 7, 7),
    PoolLayer("efficientnet_b0.se", "adaptive_avg_pool2d", 32, 96, 112, 112, 112, 112, on_cpu=4),
    PoolLayer("pspnet.pool6", "adaptive_avg_pool2d", 8, 2048, 64, 64, 12, 10, on_cpu=1),
    PoolLayer("cbam.max", "adaptive_max_pool2d", 32, 256, 56, 56, 56, 56, on_cpu=4),
    PoolLayer("fpn.upsample", "interpolate", 8, 256, 128, 128, 2, 2, on_cpu=1),
    PoolLayer("decoder.avg_unpool", "avg_unpool2d", 8, 64, 128, 128, 2, 2),
    PoolLayer("decoder.avg_unpool.overlap", "avg_unpool2d", 8, 64, 127, 127, 3, 2, 1),
)
"""GoogLeNet's is the pool of a block; erosion is that of images, not of a network. The windows of PSPNet's pool, 6 x 6 of
64 x 64 pixels, are of 11 or 12 rows and columns, and overlap."""

ON_CPU = (
    PoolLayer("erosion15", "min_pool2d", 8, 1, 512, 512, 15, 1, 7),
    PoolLayer("erosion31", "min_pool2d", 8, 1, 512, 512, 31, 1, 15),
    PoolLayer("yolo.sppf5", "max_pool2d", 2, 256, 20, 20, 5, 1, 2, on_cpu=2),
    PoolLayer("yolo.sppf9", "max_pool2d", 2, 256, 20, 20, 9, 1, 4, on_cpu=2),
    PoolLayer("yolo.sppf13", "max_pool2d", 2, 256, 20, 20, 13, 1, 6, on_cpu=2),
    PoolLayer("inception.pool", "avg_pool2d", 4, 192, 35, 35, 3, 1, 1, on_cpu=4),
    PoolLayer("box7", "avg_pool2d", 8, 1, 512, 512, 7, 1, 3),
)
"""Timed on a CPU only: large windows, which are filters of images, or take several pools of a network at once."""
