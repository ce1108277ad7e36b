"""What the registration tables of all op families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchops.backend import choose


def uses_triton(x: Tensor) -> bool:
    """Whether the Triton kernels serve x, by the backend in force."""
    return choose(x.device).implementation == "triton"


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def batch_rule(op: Callable[..., Tensor], tensors: int) -> Callable[..., tuple[Tensor, int]]:
    """The vmap rule of an op that treats every (C, H, W) image alike: the mapped dimension joins the batch.

    Args:
        op: the registered op; its first `tensors` arguments are its only tensors, each with a leading batch dimension.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        batched = [
            x.unsqueeze(0).expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(args[:tensors], in_dims, strict=False)
        ]
        out = op(*(x.flatten(0, 1) for x in batched), *args[tensors:])
        return out.unflatten(0, batched[0].shape[:2]), 0

    return rule
