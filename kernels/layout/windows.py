"""How tensors are laid out as planes and lanes for kernels over windows, and their launch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl

from torchops.kernels.geometry import Pair, Window
from torchops.kernels.launch import launch, target_device
from torchops.kernels.planning.windows import Axis, Config, Problem, Reads, Slide, cost, pick_config, programs


def _unroll(rows: int, cols: int) -> int:
    """How many taps a loop takes at once: all of a few, or else a row of them; of a row of more than 8, one after another.

    Loads that are under way take registers. The bound of 8 was chosen, not measured. In max pools of bfloat16 in NCHW, in tiles
    of 32x32 with 4 warps, triton 3.8 would spill 2 instructions (8 bytes) beyond it, in windows of 12x12 and 16x16 on sm_90,
    and does within it, in 8x8 on sm_80. 9x9 and 10x10 would be clean on both, and take 0.3 to 0.5 times as long by the model.
    """
    if rows * cols <= 4:
        return rows * cols
    return cols if cols <= 8 else 1


def interleaved(out: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether the channels of a dense output are its lanes; where it has one pixel, as those of x lie."""
    if not out.is_contiguous():
        return True
    return out.shape[2] == out.shape[3] == 1 and x.stride(1) == 1


def _vector(out: torch.Tensor, lanes: int, width: int) -> int:
    """Elements of one access of a dense output."""
    return math.gcd(16 // out.element_size(), lanes if lanes > 1 else width)


def vector_in(t: torch.Tensor, vec: int, dim: int = 1) -> int:
    """Elements of one access along a dimension of an input, its channels, as far as its strides and its address allow."""
    if t.stride(dim) != 1:
        return 1
    strides = (s for d, s in enumerate(t.stride()) if d != dim and t.shape[d] > 1)
    return math.gcd(vec, t.data_ptr() // t.element_size(), *strides)


def at_equal_steps(t: torch.Tensor) -> bool:
    """Whether one stride steps through all N*C planes: always, if there is one image, or one plane an image."""
    return 1 in t.shape[:2] or t.stride(0) == t.shape[1] * t.stride(1)


def steps(t: torch.Tensor) -> tuple[int, ...]:
    """The strides of planes at equal steps, with DEPTH 1."""
    return t.stride(0 if t.shape[1] == 1 else 1), 0, *t.stride()[2:]


def slides(window: Window) -> bool:
    """Whether the rows of an image lie in several windows each, of a size that a kernel unrolls."""
    return window.dilation == (1, 1) and window.stride[0] < window.kernel[0] and max(window.kernel) <= 7


def _axes(out: torch.Tensor, x: torch.Tensor, windows: bool, window: Window) -> tuple[Axis, Axis]:
    rows, cols = (
        Axis(
            size=out.shape[2 + d], size_in=x.shape[2 + d], extent=dilation * (kernel - 1) + 1, stride=stride, padding=padding,
            windows=windows,
        )
        for d, (kernel, stride, padding, dilation) in enumerate(window.axes())
    )  # fmt: skip
    return rows, cols


@dataclass(frozen=True)
class Tiles:
    """How a launch has cut up its output."""

    config: Config
    lanes: int
    programs: int
    programs_a_row: int
    reports: torch.Tensor | None
    """(programs,) int32: what each program has reported."""


def launch_tiles(
    kernel: Any, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor | None, ...], window: Window,
    config: Config | None, *, windows: bool, sliding: Any = None, reduces: bool = False,
    reports: bool = False, **meta: Any,
) -> Tiles:  # fmt: skip
    """Launch over the windows of a pool, which the kernel takes as the constant WINDOW.

    `windows` says whether outputs are windows, and inputs pixels, or the other way round. `sliding` is the kernel that goes
    down strips, if there is one.
    """
    assert outputs[0] is not None
    # a loop goes through the windows over a pixel, if it is given their number, or through the pixels of a window
    taps = meta.get("TAPS", window.kernel)
    axes = _axes(outputs[0], inputs[0], windows, window)
    slide = None
    if sliding and slides(window):
        places = len([t for t in (*inputs, *outputs) if t is not None]) > 2
        slide = Slide(window.kernel[0], taps[1], window.stride[0], windows, places, reduces)
    return launch_axes(
        kernel, inputs, outputs, axes, taps, config,
        sliding=sliding, slide=slide, reports=reports, WINDOW=tuple(window), **meta,
    )  # fmt: skip


def launch_axes(
    kernel: Any, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor | None, ...],
    axes: tuple[Reads, Reads], taps: Pair, config: Config | None, *, sliding: Any = None, slide: Slide | None = None,
    reports: bool = False, **meta: Any,
) -> Tiles:  # fmt: skip
    """Lay out the planes and lanes of the first output (N, C, H, W), pick the block sizes, launch.

    The kernel takes inputs, outputs and, if it `reports`, an int32 a program; then G, H, W, L and DEPTH of the output, rows and
    columns of the first input, and the strides of each input.

    Args:
        axes: rows and columns of the first output, and what of the first input they read.
        taps: rows and columns of the inputs that an output reads at most: what a loop of the kernel goes through.
    """
    out, x = outputs[0], inputs[0]
    assert out is not None
    n, c, h, w = out.shape
    planes, lanes, depth = (n, c, 1) if interleaved(out, x) else (n * c, 1, c)
    unroll = _unroll(*taps)
    # further inputs are of the size of the first, or else of the output, and are read as it is written
    beside = [t for t in inputs if t.shape[2:] != x.shape[2:]]
    problem = Problem(
        planes=planes, lanes=lanes, rows=axes[0], cols=axes[1],
        bytes_in=sum(t.element_size() for t in inputs) - sum(t.element_size() for t in beside),
        bytes_out=sum(t.element_size() for t in (*outputs, *beside) if t is not None),
        itemsize=out.element_size(), taps=math.prod(taps), unroll=unroll, heavy=reports or math.prod(taps) > 1,
        slide=slide,
    )  # fmt: skip
    config = config or pick_config(problem, target_device(out))
    count = programs(problem, config)
    report = torch.empty(count, dtype=torch.int32, device=out.device) if reports else None
    vec = _vector(out, lanes, w)
    strides = [t.stride() for t in inputs]
    if lanes == 1 and all(map(at_equal_steps, inputs)):
        # a kernel has nothing to divide by
        depth, strides = 1, [steps(t) for t in inputs]
    # no column lies further from the first than this, in elements
    furthest = max((t.shape[3] - 1) * t.stride(3) + (c - 1) * t.stride(1) for t in (*inputs, out))
    if config.strip:
        kernel = sliding
    else:
        meta["UNROLL"] = unroll
    launch(
        kernel, count,
        *inputs, *outputs, *(() if report is None else (report,)),
        planes if config.strip else planes * h, h, w, lanes, depth, *x.shape[2:],
        *strides, *([config.strip] if config.strip else ()),
        config=config, cost=lambda: cost(problem, config), num_warps=config.num_warps,
        ACC=tl.float64 if out.dtype == torch.float64 else tl.float32,
        VEC=vec, VEC_IN=min(vector_in(t, vec) for t in inputs) if lanes > 1 else 1,
        WIDE=max(furthest, planes * h, w * lanes) >= 2**31,
        BLOCK_ROWS=config.rows, BLOCK_COLS=config.cols, **meta,
    )  # fmt: skip
    return Tiles(config, lanes, count, -(-w * lanes // config.cols), report)
