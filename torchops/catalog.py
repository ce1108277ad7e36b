"""The ops by name: what `torchops check` and `torchops inspect` need to know of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    def inputs(self, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Uninitialised arguments: on Linux they take no memory until they are written."""
        return (torch.empty(shape, dtype=dtype),)

    def random_inputs(self, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
        """Random arguments: bytes for uint8, else standard normal."""
        generator = torch.Generator().manual_seed(seed)
        if dtype == torch.uint8:
            return (torch.randint(0, 256, shape, dtype=dtype, generator=generator),)
        return (torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype),)


TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
    torch.uint8: 2e-6,
}
"""What one rounding of a result, and some of float32 arithmetic, can explain; relative to the largest value."""

_IMAGE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8)

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
    )
}
