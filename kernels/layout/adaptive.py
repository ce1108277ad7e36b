"""How tensors are laid out for kernels of adaptive pools, and their launch: windows are gathered, or one program reads a large
one."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton.language as tl

from torchops.kernels.geometry import Pair
from torchops.kernels.launch import launch, target_device
from torchops.kernels.planning.adaptive import Axis, Problem, cost, most, pick_config, programs
from torchops.kernels.planning.windows import Config

from .windows import at_equal_steps, launch_axes, steps, vector_in

LARGE = 32
"""Pixels from which a window is one program's: a bound that was chosen, not measured.

For means of 32 x 256 planes in 7 x 7 windows, in bfloat16 and channels_last on an H100, the model says that a program a window
takes 1.1 times as long as gathered windows of 16 pixels, and 0.8 times of 25. In NCHW, with windows of 4 to 64 pixels, it takes
0.4 to 0.6 times.
"""


def _axes(out: torch.Tensor, x: torch.Tensor) -> tuple[Axis, Axis]:
    rows, cols = (Axis(size=out.shape[d], size_in=x.shape[d]) for d in (2, 3))
    return rows, cols


def _taps(out: torch.Tensor, x: torch.Tensor) -> Pair:
    return most(out.shape[2], x.shape[2]), most(out.shape[3], x.shape[3])


def is_large(out: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether windows of x that out is reduced to are large."""
    return math.prod(_taps(out, x)) >= LARGE


def is_long(out: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether products of sizes, and of what lies a tile beyond them, need 64 bits."""
    # a tile has at most 4096 columns of small windows (16-bit ones on gfx942), or less than twice those of a large window
    return any((out.shape[d] + 4096) * (x.shape[d] + 4096) >= 2**31 for d in (2, 3))


def in_one_row(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """An image as one row of pixels, where its only window is all of it and its rows lie back to back."""
    n, c, h, w = image.shape
    if other.shape[2] * other.shape[3] > 1 or h == 1 or (w > 1 and image.stride(2) != w * image.stride(3)):
        return image
    step = image.stride(3 if w > 1 else 2)
    return image.as_strided((n, c, 1, h * w), (*image.stride()[:2], h * w * step, step))


def launch_small(
    kernel: Any, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor, ...], config: Config | None, **meta: Any
) -> None:  # fmt: skip
    """Launch over outputs (N, C, P, Q), each of which reads its window of inputs (N, C, H, W), pixel by pixel."""
    out, x = outputs[0], inputs[0]
    taps = _taps(out, x)
    launch_axes(kernel, inputs, outputs, _axes(out, x), taps, config, TAPS=taps, LONG=is_long(out, x), **meta)


def _vector_cols(x: torch.Tensor, size: int, vec: int) -> int:
    """Elements of one access along the columns of x, as far as its strides, its address and its windows allow."""
    width = x.shape[3]
    return vector_in(x, math.gcd(vec, width // size), 3) if width % size == 0 else 1


def _planes(t: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """DEPTH and strides of a tensor: see device/windows.py."""
    return (1, steps(t)) if at_equal_steps(t) else (t.shape[1], t.stride())


def launch_large(
    kernel: Any, x: torch.Tensor, outputs: tuple[torch.Tensor, ...], config: Config | None, **meta: Any
) -> None:  # fmt: skip
    """Launch a program for every window of some planes of x (N, C, H, W); outputs (N, C, P, Q) have the strides of the first.

    The kernel takes x and outputs; the number of planes; DEPTH, H and W of x; DEPTH, P and Q of the outputs; and the strides of
    both.
    """
    out = outputs[0]
    n, c, p, q = out.shape
    vec = 16 // x.element_size()
    vec_planes = vector_in(x, math.gcd(vec, c))
    rows, cols = _axes(out, x)
    problem = Problem(
        planes=n * c, rows=rows, cols=cols, interleaved=c > 1 and x.stride(1) == 1,
        itemsize=x.element_size(), bytes_out=sum(t.element_size() for t in outputs),
    )  # fmt: skip
    config = config or pick_config(problem, target_device(out))
    (depth, strides), (depth_out, strides_out) = _planes(x), _planes(out)
    launch(
        kernel, programs(problem, config),
        x, *outputs,
        n * c, depth, *x.shape[2:], depth_out, p, q,
        strides, strides_out,
        config=config, cost=lambda: cost(problem, config), num_warps=config.num_warps,
        ACC=tl.float64 if x.dtype == torch.float64 else tl.float32,
        VEC_PLANES=vec_planes, VEC_COLS=1 if vec_planes > 1 else _vector_cols(x, q, vec),
        WIDE=(x.shape[3] + config.cols) * x.stride(3) >= 2**31, LONG=is_long(out, x),
        BLOCK_PLANES=config.rows, BLOCK_COLS=config.cols, **meta,
    )  # fmt: skip
