"""Which Triton compiles, and the block sizes that an older one spills.

The block sizes in conv2d_candidates.py, windows.py and adaptive.py are clean with the pinned Triton. What another makes of
them is known here.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import windows
    from .conv2d_problem import Config, Problem

Version = tuple[int, int]
PINNED: Version = (3, 8)
"""The version of Triton that the tables of the package are written for."""


@functools.cache
def compiler_version() -> Version:
    """Major and minor version of the Triton that is installed."""
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def conv2d_before_3_7(problem: Problem, configs: list[Config], arch: str) -> list[Config]:
    """The configs of a problem with which triton 3.6 spills no registers; all of them, where it spills with each."""
    if problem.kind == "fold" and problem.itemsize == 8 and problem.method != "direct" and arch == "sm_100":
        # triton 3.6 spills 2 instructions (8 bytes) on sm_100 in the only candidate, 32x32x16, with 2 warps
        return [replace(c, num_warps=4) for c in configs]
    return [c for c in configs if not _conv2d_spills(problem, c, arch)] or configs


def _conv2d_spills(problem: Problem, config: Config, arch: str) -> bool:
    """Whether triton 3.6 spills registers with a config with which 3.8 does not.

    It was seen in the kernels of the compile tier, or in flat convolutions of 1 to 16 channels, in either layout, bfloat16 or
    float32. The counts are the most instructions that spill, and the most bytes of stack.
    """
    p, tile = problem, (config.block_m, config.block_n, config.block_k, config.num_warps)
    gradient = p.kind == "weight_grad"
    if not arch.startswith("sm_"):
        return False
    if config.rows and not p.depthwise:
        # of what slides by matrix products, a fold of float32 spills 22 instructions (48 bytes) in 64x16x16 on sm_80; in NCHW,
        # 7 x 7 taps of stride 2 spill 4 (8) in 64x64x32 on sm_90, of float32 26 (56) in 64x32x32 there; their weight
        # gradient in float32 spills 11 (24) in 64x64x32 with 8 warps on sm_100
        if p.kind == "fold":
            return arch == "sm_80" and p.itemsize == 4 and tile == (64, 16, 16, 4)
        if p.coalesced or p.row != 7 or p.method == "direct":
            return False
        if gradient:
            return arch == "sm_100" and p.itemsize == 4 and tile == (64, 64, 32, 8)
        return arch == "sm_90" and tile == ((64, 64, 32, 4) if p.itemsize == 2 else (64, 32, 32, 4))
    if p.method == "direct":
        # a ring in groups of 4 channels spills 2 instructions (8 bytes) in 32x64x32 on sm_80, a depthwise one 4 (8) in 64x64x64
        # on sm_100
        return p.kind == "ring" and (
            (arch == "sm_80" and p.k > 1 and tile == (32, 64, 32, 4)) or (arch == "sm_100" and tile == (64, 64, 64, 4))
        )
    if p.method == "flat" and gradient:
        # 128x32x32 spills 58 instructions (120 bytes) on sm_80, 22 (48) on sm_89, 6 (16) on sm_90 and 8 (32) on sm_100;
        # 64x32x32 spills 6 (8) on sm_80, with 3 x 3 taps of 1 channel; others were not compiled
        return tile != (64, 32, 32, 4) or (arch == "sm_80" and p.c == 1 and p.coalesced and p.itemsize == 2)
    if p.method == "flat":
        if not p.coalesced and tile in ((256, 64, 64, 8), (128, 64, 64, 4), (128, 32, 32, 4)):
            # in NCHW these tiles spill 710 instructions (1,360 bytes), 779 (1,472) and 140 (280) on sm_90, and 629, 670 and 98
            # on sm_100; sm_80 and sm_89 are offered the last one only, which spills 134 (272) there
            return True
        if arch == "sm_90":
            # 128x32x32 spills 10 instructions (40 bytes) on sm_90 with 7 x 7 taps in float32 and reflect padding
            return tile == (128, 32, 32, 4) and p.itemsize == 4 and not p.lean
        if arch == "sm_89":
            # on sm_89, 5 x 5 taps with replicate padding spill 2 instructions (8 bytes) forward; the fold of their gradient
            # spills 13 (24) in 128x64x32 and 4 (8) in 64x32x32
            spilled = (128, 64, 32, 8), (64, 32, 32, 4) if p.kind == "fold" else (64, 64, 32, 4)
            return p.coalesced and not p.lean and p.itemsize == 2 and tile in spilled
        # on sm_100, 128x64x32 spills 22 instructions (48 bytes), and 64x64x32 and 128x32x32 spill 8 (16) each
        rich = p.itemsize == 4 or not p.lean
        return arch == "sm_100" and (
            (rich and tile == (64, 64, 32, 4))
            or ((rich or not p.coalesced or p.kind == "ring") and tile in ((128, 64, 32, 8), (128, 32, 32, 4)))
        )
    if gradient:
        # 128x128x64 spills 28 instructions (56 bytes) on sm_90 with 3 taps at once of channels that do not fill its tiles
        return arch == "sm_90" and config.taps == 3 and tile == (128, 128, 64, 8) and p.c % 128 != 0
    if arch != "sm_100":
        return False
    if config.taps == 3:
        # with 3 taps at once on sm_100, 256x64x32 spills 12 instructions (24 bytes) in 16 bits, 128x64x32 4 (8) in float32
        return p.lean and tile in (((256, 64, 32, 8),) if p.itemsize == 2 else ((128, 64, 32, 8),))
    if tile == (256, 16, 32, 4):
        # 256x16x32 spills 2 instructions (8 bytes) on sm_100 with 24 channels, whose last copies are masked
        return p.c % config.block_k != 0
    if not p.coalesced:
        # in NCHW on sm_100, 64x64x32 spills 2 instructions (8 bytes) with reflect padding, a residual and GELU, and 128x64x32
        # spills 2 (8) in the ring of their gradient
        return (p.kind == "gather" and not p.lean and tile == (64, 64, 32, 4)) or (
            p.kind == "ring" and tile == (128, 64, 32, 8)
        )
    # 128x128x64 spills 4 instructions (8 bytes) on sm_100 in a transposed convolution with a bias
    return p.kind == "gather" and not p.lean and p.itemsize == 2 and tile == (128, 128, 64, 8)


def windows_before_3_7(configs: list[windows.Config], itemsize: int, arch: str) -> list[windows.Config]:
    """The configs of pools with which triton 3.6 spills no registers.

    It spills in max unpooling, or the gradient of a max pool, in NCHW: never more than 4 instructions (8 bytes of stack). All
    kernels of pools were compiled in all their dtypes for sm_80, sm_89 and sm_90, those of the compile tier for sm_100.
    """
    if itemsize == 2 and arch in ("sm_80", "sm_89"):
        # positions as indices spill 4 instructions in 1x1024; on sm_89 they spill 2 in 8x256, in the gradient of 2x2 windows
        spilled = [(1, 1024)] if arch == "sm_80" else [(1, 1024), (8, 256)]
    else:
        # 3x3 windows of float64 spill 2 instructions in 8x32 on sm_80
        spilled = [(8, 32)] if (itemsize, arch) == (8, "sm_80") else []
    return [c for c in configs if (c.rows, c.cols) not in spilled]


def sliding_before_3_7(configs: list[windows.Config], lanes: int, itemsize: int, arch: str) -> list[windows.Config]:
    """The configs of pools that slide with which triton 3.6 spills no registers.

    In NCHW and bfloat16, on sm_80, positions of the maxima of 3x3 windows spill 2 instructions (8 bytes of stack) in 1x1024 and
    1x2048, and average unpooling of 7x7 windows 2 (8) in 1x512, on sm_89 too; on sm_100, offsets of the maxima of 3x3 windows
    with stride 2 spill 2 (8) in 2x1024. Kernels with up to 7x7 taps were compiled in this dtype and layout.
    """
    if (lanes, itemsize) != (1, 2):
        return configs
    spilled = {"sm_80": [(1, 512), (1, 1024), (1, 2048)], "sm_89": [(1, 512)], "sm_100": [(2, 1024)]}.get(arch, [])
    return [c for c in configs if (c.rows, c.cols) not in spilled]


def large_windows_before_3_7(configs: list[windows.Config], itemsize: int, arch: str) -> list[windows.Config]:
    """The configs of adaptive pools' large windows with which triton 3.6 spills no registers.

    The maximum of 32 planes of 64 columns spills 2 instructions (8 bytes of stack) on sm_80 in 2-byte dtypes. The kernels of
    the compile tier were tried, and for sm_80 and sm_89 the maximum in bfloat16, float32 and float64.
    """
    return [c for c in configs if (itemsize, arch, c.rows, c.cols, c.num_warps) != (2, "sm_80", 32, 64, 4)]
