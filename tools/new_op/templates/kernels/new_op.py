"""Every element, times a number.

    y = scale x        dx = scale dy

The gradient is the op itself, so one kernel serves both passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .launch import launch, target_device
from .planning.hardware import INTERPRETER, Device
from .planning.protocol import Cost


@triton.jit
def new_op_kernel(
    x_ptr,  # in:  [A, B, C, D], any strides
    y_ptr,  # out: [A, B, C, D], dense
    n_elem, B, C, D,
    x_sa, x_sb, x_sc, x_sd,
    SCALE: tl.constexpr, DENSE: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK elements, one after the other in memory (grid: blocks of elements)."""
    pid = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    offs = pid * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    mask = offs < n_elem
    x_offs = offs
    if not DENSE:
        x_offs = offs // (B * C * D) * x_sa + offs // (C * D) % B * x_sb + offs // D % C * x_sc + offs % D * x_sd
    x = tl.load(x_ptr + x_offs, mask=mask, other=0).to(ACC)
    tl.store(y_ptr + offs, (x * SCALE).to(y_ptr.dtype.element_ty), mask=mask)


@dataclass(frozen=True)
class Config:
    """Elements of a program."""

    block: int
    num_warps: int


def pick_config(elements: int, itemsize: int, device: Device) -> Config:
    """The block size, a pure function of the problem and the device: a thread moves 16 bytes at once."""
    if device is INTERPRETER:
        return Config(min(triton.next_power_of_2(elements), 4096), 4)
    return Config(4 * device.warp_size * 16 // itemsize, 4)


def new_op(x: torch.Tensor, y: torch.Tensor, scale: float, *, config: Config | None = None) -> None:
    """Write x (N, C, H, W), times scale, to y, which is dense, NCHW or channels_last."""
    # the dimensions in the order in which y lies in memory
    order = (0, 1, 2, 3) if y.is_contiguous() else (0, 2, 3, 1)
    _, *sizes = (y.shape[dim] for dim in order)
    config = config or pick_config(y.numel(), y.element_size(), target_device(y))
    furthest = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    moved = x.numel() * x.element_size() + y.numel() * y.element_size()
    launch(
        new_op_kernel, -(-y.numel() // config.block),
        x, y,
        y.numel(), *sizes,
        *(x.stride(dim) for dim in order),
        config=config, cost=lambda: Cost(bytes_moved=moved, bytes_least=moved, trips=1.0), num_warps=config.num_warps,
        SCALE=float(scale), DENSE=x.stride() == y.stride(), ACC=tl.float64 if y.dtype == torch.float64 else tl.float32,
        WIDE=max(furthest, y.numel() + config.block) >= 2**31, BLOCK=config.block,
    )  # fmt: skip
