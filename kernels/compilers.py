"""Which Triton compiles, and the block sizes that an older one spills.

The block sizes in conv2d_config.py and windows.py are clean with the pinned Triton. What another makes of them is known here.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import windows
    from .conv2d_config import Config, Problem

Version = tuple[int, int]
PINNED: Version = (3, 8)
"""Of Triton: what the tables of the package are written for."""


@functools.cache
def compiler_version() -> Version:
    """Major and minor version of the Triton that is installed."""
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def conv2d_spills_before_3_7(problem: Problem, config: Config, arch: str) -> bool:
    """Whether triton 3.6 spills registers with a config with which 3.8 does not.

    It was seen in the kernels of the compile tier, or in flat convolutions of 1 to 16 channels, in either layout, bfloat16 or
    float32. The numbers are the most instructions that spill, and the most bytes of stack.
    """
    p, tile = problem, (config.block_m, config.block_n, config.block_k, config.num_warps)
    gradient = p.kind == "weight_grad"
    if not arch.startswith("sm_"):
        return False
    if p.method == "direct":
        # sm_80, groups of 4 channels: 2, 8 bytes; sm_100, depthwise: 4, 8 bytes
        return p.kind == "ring" and (
            (arch == "sm_80" and p.o > 1 and tile == (32, 64, 32, 4)) or (arch == "sm_100" and tile == (64, 64, 64, 4))
        )
    if p.method == "flat" and gradient:
        # sm_80, 58, 120 bytes; sm_89, 22, 48 bytes; sm_90, 6, 16 bytes; sm_100, 8, 32 bytes. The smaller tile on sm_80, 3 x 3
        # taps of 1 channel: 6, 8 bytes
        return tile == (128, 32, 32, 4) or (
            tile == (64, 32, 32, 4) and arch == "sm_80" and p.i == 1 and p.dense and p.itemsize == 2
        )
    if p.method == "flat":
        if not p.dense and tile in ((256, 64, 64, 8), (128, 64, 64, 4), (128, 32, 32, 4)):
            # NCHW: sm_90, 710, 1,360 bytes; 779, 1,472 bytes; 140, 280 bytes. sm_100 likewise: 629, 670 and 98. sm_80 and sm_89
            # have the last one only: 134, 272 bytes
            return True
        if arch == "sm_90":
            # float32, 7 x 7 taps, reflect padding: 10, 40 bytes
            return tile == (128, 32, 32, 4) and p.itemsize == 4 and not p.lean
        if arch == "sm_89":
            # bfloat16, 5 x 5 taps, replicate padding: 2, 8 bytes; what adds the ring of its gradient: 13, 24 bytes
            spilled = (128, 64, 32, 8), (64, 32, 32, 4) if p.kind == "fold" else (64, 64, 32, 4)
            return p.dense and not p.lean and p.itemsize == 2 and tile in spilled
        # sm_100: 22, 48 bytes; 8, 16 bytes; 8, 16 bytes
        rich = p.itemsize == 4 or not p.lean
        return arch == "sm_100" and (
            (rich and tile == (64, 64, 32, 4))
            or ((rich or not p.dense or p.kind == "ring") and tile in ((128, 64, 32, 8), (128, 32, 32, 4)))
        )
    if gradient:
        # sm_90, channels in that fill no tile, 3 taps at once: 28, 56 bytes
        return arch == "sm_90" and config.taps == 3 and tile == (128, 128, 64, 8) and p.i % 128 != 0
    if arch != "sm_100":
        return False
    if config.taps == 3:
        # 12, 24 bytes; float32: 4, 8 bytes
        return p.lean and tile in (((256, 64, 32, 8),) if p.itemsize == 2 else ((128, 64, 32, 8),))
    if not p.dense:
        # NCHW, reflect padding, a residual and GELU: 2, 8 bytes; the ring of its gradient: 2, 8 bytes
        return (p.kind == "gather" and not p.lean and tile == (64, 64, 32, 4)) or (
            p.kind == "ring" and tile == (128, 64, 32, 8)
        )
    # a bias in a transposed convolution: 4, 8 bytes
    return p.kind == "gather" and not p.lean and p.itemsize == 2 and tile == (128, 128, 64, 8)


def windows_spill_before_3_7(config: windows.Config, itemsize: int, arch: str) -> bool:
    """Whether triton 3.6 spills registers of a max unpooling, or of the gradient of a max pool, with tiles of this size.

    It was seen in NCHW, in all kernels of pools and all their dtypes. The numbers are as above.
    """
    tile = config.rows, config.cols
    if itemsize == 2:
        # positions: 4, 8 bytes; 2 x 2 windows, positions: 2, 8 bytes
        return (arch in ("sm_80", "sm_89") and tile == (1, 1024)) or (arch == "sm_89" and tile == (8, 256))
    # 3 x 3 windows: 2, 8 bytes
    return itemsize == 8 and arch == "sm_80" and tile == (8, 32)
