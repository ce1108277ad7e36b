"""The ops by name: what `torchops check` and `torchops inspect` need to know of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import functional, reference


@dataclass(frozen=True)
class Op:
    """One public op, with inputs to show it on."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    """The same formula in plain PyTorch, for float64 tensors."""
    dtypes: tuple[torch.dtype, ...]
    shape: tuple[int, ...]
    """The (N, C, H, W) that `inspect` shows by default: a real load."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """The further arguments that `inspect` shows it with."""
    parameters: Callable[..., tuple[tuple[int, ...], ...]] = lambda shape, weight=None, groups=1: ()
    """Sizes of the further tensors that the op takes with an input of a shape, a weight before its bias; those of a weight of
    another size than the example's, and of another number of groups, where they are given."""

    offsets: int = 0
    """Pixels of the windows whose indices the op takes after its input, in the example; 0 where it takes none."""

    def inputs(
        self, shape: tuple[int, ...], dtype: torch.dtype, weight: tuple[int, ...] | None = None, groups: int = 1,
        indices: torch.dtype = torch.uint8,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Uninitialised arguments: on Linux they take no memory until they are written."""
        tensors = tuple(torch.empty(size, dtype=dtype) for size in (shape, *self.parameters(shape, weight, groups)))
        return (*tensors, torch.empty(shape, dtype=indices)) if self.offsets else tensors

    def random_inputs(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        seed: int = 0,
        parameters: tuple[tuple[int, ...], ...] | None = None,
    ) -> tuple[Tensor, ...]:
        """Random arguments: bytes for uint8, else normal; weights are scaled so that sums over them are of the order of 1;
        indices are offsets."""
        generator = torch.Generator().manual_seed(seed)
        if dtype == torch.uint8:
            return (torch.randint(0, 256, shape, dtype=dtype, generator=generator),)
        further = self.parameters(shape) if parameters is None else parameters
        tensors = tuple(
            torch.randn(size, dtype=torch.float64, generator=generator).mul_(scale).to(dtype)
            for size, scale in ((shape, 1.0), *((size, math.prod(size[1:]) ** -0.5) for size in further))
        )
        if not self.offsets:
            return tensors
        return *tensors, torch.randint(0, self.offsets, shape, dtype=torch.uint8, generator=generator)


TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
    torch.uint8: 2e-6,
}
"""What one rounding of a result, and some of float32 arithmetic, can explain; relative to the largest value."""


def largest(errors: Iterable[float]) -> float:
    """The largest of some errors, or NaN if one is: `max` would lose it."""
    found = list(errors)
    return math.nan if any(math.isnan(e) for e in found) else max(found)


def _example_weight(shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
    """A 3x3 kernel from as many channels to as many, for either direction."""
    # more groups than channels are the op's to refuse
    return (shape[1], max(1, shape[1] // groups), 3, 3)


def _conv2d_parameters(
    shape: tuple[int, ...], weight: tuple[int, ...] | None = None, groups: int = 1
) -> tuple[tuple[int, ...], ...]:
    weight = weight or _example_weight(shape, groups)
    return weight, (weight[0],)


def _conv_transpose2d_parameters(
    shape: tuple[int, ...], weight: tuple[int, ...] | None = None, groups: int = 1
) -> tuple[tuple[int, ...], ...]:
    weight = weight or _example_weight(shape, groups)
    return weight, (weight[1] * groups,)


_IMAGE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8)
_FLOAT_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_IMAGES, _POOLED = (8, 64, 512, 512), (8, 64, 256, 256)
"""The first level of a U-Net, and the second."""
_FEATURES = (256, 2048, 7, 7)
"""What a ResNet-50 classifies by."""

OPS = {
    op.name: op
    for op in (
        Op("sobel", functional.sobel, reference.sobel, _IMAGE_DTYPES, (8, 1, 2160, 3840)),
        Op(
            "spatial_gradient",
            functional.spatial_gradient,
            reference.spatial_gradient,
            _IMAGE_DTYPES,
            (8, 1, 2160, 3840),
        ),
        Op(
            "conv2d",
            functional.conv2d,
            reference.conv2d,
            _FLOAT_DTYPES,
            (32, 64, 56, 56),
            {"padding": 1},
            _conv2d_parameters,
        ),
        Op(
            "conv_transpose2d",
            functional.conv_transpose2d,
            reference.conv_transpose2d,
            _FLOAT_DTYPES,
            (32, 64, 56, 56),
            {"padding": 1},
            _conv_transpose2d_parameters,
        ),
        Op("max_pool2d", functional.max_pool2d, reference.max_pool2d, _FLOAT_DTYPES, _IMAGES, {"kernel_size": 2}),
        Op("min_pool2d", functional.min_pool2d, reference.min_pool2d, _FLOAT_DTYPES, _IMAGES, {"kernel_size": 2}),
        Op("avg_pool2d", functional.avg_pool2d, reference.avg_pool2d, _FLOAT_DTYPES, _IMAGES, {"kernel_size": 2}),
        Op(
            "max_unpool2d",
            functional.max_unpool2d,
            reference.max_unpool2d,
            _FLOAT_DTYPES,
            _POOLED,
            {"kernel_size": 2},
            offsets=4,
        ),
        Op(
            "adaptive_avg_pool2d",
            functional.adaptive_avg_pool2d,
            reference.adaptive_avg_pool2d,
            _FLOAT_DTYPES,
            _FEATURES,
            {"output_size": 1},
        ),
        Op(
            "adaptive_max_pool2d",
            functional.adaptive_max_pool2d,
            reference.adaptive_max_pool2d,
            _FLOAT_DTYPES,
            _FEATURES,
            {"output_size": 1},
        ),
        Op("avg_unpool2d", functional.avg_unpool2d, reference.avg_unpool2d, _FLOAT_DTYPES, _POOLED, {"kernel_size": 2}),
        Op("interpolate", functional.interpolate, reference.interpolate, _FLOAT_DTYPES, _POOLED, {"scale_factor": 2}),
    )
}
