"""The block sizes that a convolution can be given: a table of tiles.

Every tile is compiled for every kernel of the compile tier; which of them a problem is offered, and why not the others, is said
beside each. Those that triton 3.6 spills are taken out in compilers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .compilers import Version, compiler_version, conv2d_before_3_7
from .conv2d_problem import Config, Problem, reads_shared, shared_bytes
from .hardware import Device
from .protocol import power_of_2


class _Case(NamedTuple):
    """A problem on an architecture, and what the table asks about the two."""

    problem: Problem
    arch: str

    @property
    def table(self) -> str:
        """The rows that are looked at."""
        p = self.problem
        if p.method == "direct":
            return "direct"
        if p.itemsize == 8 or (p.itemsize == 4 and not p.tf32):
            return "full precision"
        if p.method == "flat":
            return "flat"
        if self.scattered:
            return "scattered"
        return p.kind if p.kind in ("ring", "weight_grad") else "coalesced"

    @property
    def scattered(self) -> bool:
        """Every element has an address of its own, which takes registers."""
        return not self.problem.coalesced

    @property
    def reads_shared(self) -> bool:
        return reads_shared(self.arch)

    @property
    def stages(self) -> int:
        return {"sm_90": 4, "sm_100": 4, "sm_80": 3}.get(self.arch, 2)

    @property
    def like_sm_89(self) -> bool:
        """sm_89, or sm_86: there triton 3.8 gives 22 direct kernels the same registers, and spills the same of them."""
        return self.arch in ("sm_86", "sm_89")

    @property
    def crowded(self) -> bool:
        """A gather has no registers for a tile of 2,048: of float64, for the addresses of 7 taps on sm_89, or for so many taps
        that it had better slide."""
        addresses = self.scattered and self.like_sm_89 and self.problem.row >= 7
        return not self.gradient and (self.problem.itemsize == 8 or addresses or self.values == 2)

    @property
    def must_slide(self) -> bool:
        """An input gradient of stride 2 has no registers for so many taps of float32, except where it slides."""
        return self.problem.spreads and self.values == 2 and self.problem.itemsize == 4

    @property
    def at_border(self) -> bool:
        return self.problem.kind in ("ring", "fold")

    @property
    def folds(self) -> bool:
        return self.problem.kind == "fold"

    @property
    def gradient(self) -> bool:
        return self.problem.kind == "weight_grad"

    @property
    def depthwise(self) -> bool:
        return self.problem.depthwise

    @property
    def roomy(self) -> bool:
        """Registers are left for the largest tiles: no operands lie in them, the epilogue takes few, elements have 16 bits."""
        return self.reads_shared and self.problem.lean and self.problem.itemsize == 2

    @property
    def long_rows(self) -> bool:
        return self.problem.row >= 5

    @property
    def three(self) -> bool:
        """A row of the filter has three taps, which may be computed together."""
        return self.problem.row == 3

    @property
    def shifts(self) -> bool:
        """The three share their loads (see conv2d/shift.py)."""
        return self.three and 0 < self.problem.span <= 64

    @property
    def shares_rows(self) -> bool:
        """Several rows of the image share their loads, and find registers (see conv2d/rows.py)."""
        return self.problem.shares_rows and self.problem.taps == 9 and self.three and self.roomy

    @property
    def values(self) -> int:
        return self.problem.values

    def waits(self, values: int) -> bool:
        """Whether a program may slide by matrix products, and so many values a thread for each row of sums find registers.

        Beside taps in registers, addresses of four channels of float32 find none: triton 3.8 spills 7 x 7 taps in 64x16x32 20
        (48) in NCHW on sm_80 and sm_89.
        """
        p = self.problem
        most = (128 if p.lean else 80) if self.reads_shared else 64
        crowded = self.scattered_float32 and p.c >= 4 and not self.reads_shared
        return self.slides_by_products and not (self.gradient or crowded) and values * p.waiting <= most

    @property
    def slides_by_products(self) -> bool:
        """A program may slide, and multiplies on matrix units."""
        p = self.problem
        return p.slides > 0 and not p.depthwise and (p.itemsize == 2 or p.tf32)

    def sums(self, most: int = 0) -> bool:
        """Whether a weight gradient may slide by matrix products, with at most so many columns of weights, or any number."""
        p = self.problem
        return self.slides_by_products and self.gradient and (not most or p.taps // p.row * p.depth <= most)

    @property
    def scattered_float32(self) -> bool:
        """Elements of float32 take twice the registers of halves, and each has an address: on NVIDIA's GPUs few are left."""
        return self.scattered and self.problem.itemsize == 4 and self.arch.startswith("sm_")

    @property
    def strided_float32(self) -> bool:
        """With stride 2 a program that slides holds two such rows for each row of results."""
        return self.scattered_float32 and self.problem.slides == 2

    @property
    def few_taps(self) -> bool:
        """Whether the taps find registers, where matrix units do not read them from shared memory."""
        p = self.problem
        few = p.taps // p.row * p.depth * p.itemsize <= (448 if p.lean and not self.scattered else 320)
        return self.reads_shared or (few and not (self.folds or self.scattered_float32))

    @property
    def shallowest(self) -> int:
        """Channels that are loaded at a time, if all fit: what is masked would be copied and multiplied for nothing.

        16 of them are the fewest that matrix units multiply. On sm_89 32 are, because with 16 triton 3.8 spills, in a lean
        input gradient with one tap, 36 instructions (24 bytes) in 128x128x16 and 12 (8) in 256x64x16.
        """
        return max(32 if self.like_sm_89 else 16, power_of_2(self.problem.c))

    @property
    def stores_whole(self) -> bool:
        """Channels out are stored 128 bits at a time, and no ring is added to them."""
        return not self.folds and self.problem.k * self.problem.itemsize % 16 == 0

    def fills(self, depth: int) -> bool:
        """Whether the channels in are whole tiles of so many bytes."""
        return self.problem.c * self.problem.itemsize % depth == 0


class Bytes(int):
    """The depth of a tile in bytes: as many channels as fit, or fewer if a group has fewer (see `_Case.shallowest`)."""


LINE, HALF = Bytes(128), Bytes(64)


class Row(NamedTuple):
    """A tile, and when it is offered."""

    when: Callable[[_Case], bool]
    tile: tuple[int, int, int]
    """Its pixels (channels out, in a weight gradient), its columns, its depth in elements or `Bytes`; 0: `Problem.depth`."""
    num_warps: int
    stages: int | None
    """None: those of the architecture."""
    taps: int | None
    """Taps that are computed together; None: in a weight gradient a row of the filter, if it has at most 5, else one."""
    reason: str
    """Why it is not offered to all. "40 (80)" are 40 instructions that spill, and 80 bytes of stack."""
    slides: bool = False
    """Whether its programs slide, at first down the whole image: `choices` has shorter strips, too."""
    tile_rows: int = 1
    """Rows of the image, of as many pixels each, where they share their loads."""

    def config(self, case: _Case) -> Config:
        m, n, k = self.tile
        taps = self.taps or (case.problem.row if case.gradient and case.problem.row <= 5 else 1)
        depth = k or case.problem.depth
        if isinstance(k, Bytes):
            depth = k // case.problem.itemsize
            # of pixels, a weight gradient has enough
            depth = depth if case.gradient else min(depth, case.shallowest)
        rows = case.problem.height if self.slides else 0
        return Config(
            m, n, depth, self.num_warps, self.stages or case.stages, taps, rows=rows, tile_rows=self.tile_rows
        )


def _always(case: _Case) -> bool:
    return True


_CLEAN = "The compile tier finds no spill in it on any architecture."
_THREE = (
    "Elsewhere sums lie in registers, and the tile below is offered. A fourth stage of 128 x 128 exceeds shared memory."
)
_EIGHT = "With 16 values a thread it is clean on sm_90 (triton 3.8), but takes 255 registers."
_EIGHT_SUMS = "With 2 warps, and 8 values a thread, ptxas aims at 168 registers, and Triton 3.8 spills 2 (8) on sm_90."
_FOUR = "Taps lie in registers: with 8 values a thread, Triton 3.8 spills 58 (120) on sm_90."
_FOUR_SUMS = "It has 8 warps, because with 4 ptxas aims at 168 registers, and Triton 3.8 spills 2 (8) on sm_89."
_TWO = (
    "Taps lie in registers: with 4 values a thread, Triton 3.8 spills 46 (96) on sm_90. In a weight gradient 2 values need 8 "
    "warps, because with 4 ptxas aims at 168 registers, and Triton 3.8 spills 4 (8) on sm_90, 2 (8) on sm_80 and sm_89."
)

_SUMS = "The sums of all rows that wait lie in registers."

_ROWS = (
    "Elsewhere sums lie in registers: Triton 3.8 spills in an input gradient of 64 channels 3 (8) on sm_80, and a tile of two "
    "rows saves less than a twentieth by the model."
)

_MANY_SUMS = "The sums of all taps lie in registers, and rows of the image wait there."

TABLE: dict[str, tuple[Row, ...]] = {
    # the lanes of a tile are channels of any groups, each with its own taps: there is no matrix product
    "direct": (
        Row(lambda c: c.depthwise and not (c.crowded or c.scattered or c.folds or c.long_rows or c.like_sm_89),
            (64, 64, 64), 4, 1, None,
            "Triton 3.8 spills in a gather of 3 x 3 taps 2 (8) on sm_89, in a fold of them 2 (8) on sm_100; of 5 x 5 taps in a "
            "weight gradient 40 (80) on sm_80, 147 (160) on sm_89, 159 (168) on sm_90; of 7 x 7 taps in a fold of float32 36 "
            "(64) on sm_80. Groups of 4 channels spill 111 (144) on sm_89 and 65 (104) on sm_100 in a fold: a channel has "
            "inputs of its own, whose addresses take registers. In NCHW 3 x 3 depthwise taps spill 1,425 (1,856) on sm_90 and "
            "72 (152) on sm_80 at worst."),
        Row(lambda c: not c.crowded and (c.depthwise or not (c.scattered or c.folds or c.long_rows)), (32, 64, 32), 4, 1, None,
            "Triton 3.8 spills in a fold of groups of 4 channels 8 (16) on sm_89 and 5 (8) on sm_100; 5 x 5 taps of them are "
            "clean, and were left out with it. In NCHW groups of 4 channels spill 10 (24) on sm_80 and "
            "6 (16) on sm_90, and 7 x 7 depthwise taps 66 (96) on sm_89; in float64 these spill 80 (160) there. "
            "7 x 7 depthwise taps of float32 with stride 2 spill 2 (8) on sm_80 beyond a constant border."),
        Row(lambda c: c.depthwise and not (c.crowded or (c.scattered and c.folds)), (64, 32, 64), 4, 1, None,
            "Groups of several channels have 32 x 32 instead. Triton 3.8 spills in a fold in NCHW 4 (8) in float32 on sm_80; "
            "7 x 7 taps spill 108 (152) in NCHW on sm_89, and 28 (56) in float64 on sm_80, where float32 "
            "of stride 2 spills 2 (8) beyond a constant border."),
        Row(lambda c: not ((c.depthwise and c.gradient and c.long_rows) or c.must_slide), (64, 16, 64), 4, 1, None,
            "Triton 3.8 spills in a weight gradient of 5 x 5 depthwise taps 6 (16) on sm_100, in an input gradient of 7 x 7 "
            "taps of float32 and stride 2 8 (16) on sm_80."),
        Row(lambda c: not (c.depthwise or (c.gradient and c.long_rows)), (32, 32, 32), 4, 1, None,
            "Depthwise convolutions have 64 x 32 instead. A weight gradient of 5 x 5 taps in groups of 4 channels is clean "
            "with triton 3.8, and was left out with the depthwise one."),
        # these slide, and have 8, 4 or 2 values a thread
        Row(lambda c: c.values == 8 and not c.gradient, (8, 64, 8), 2, 1, 1, _EIGHT, True),
        Row(lambda c: c.values == 8 and not c.gradient, (16, 32, 16), 2, 1, 1, _EIGHT, True),
        Row(lambda c: c.values == 8 and not c.gradient, (32, 16, 32), 2, 1, 1, _EIGHT, True),
        Row(lambda c: c.values == 8 and c.gradient, (8, 64, 8), 4, 1, 1, _EIGHT_SUMS, True),
        Row(lambda c: c.values == 8 and c.gradient, (16, 32, 16), 4, 1, 1, _EIGHT_SUMS, True),
        Row(lambda c: c.values == 8 and c.gradient, (32, 16, 32), 4, 1, 1, _EIGHT_SUMS, True),
        Row(lambda c: c.values == 4 and not c.gradient, (8, 64, 8), 4, 1, 1, _FOUR, True),
        Row(lambda c: c.values == 4 and not c.gradient, (16, 32, 16), 4, 1, 1, _FOUR, True),
        Row(lambda c: c.values == 4 and not c.gradient, (32, 16, 32), 4, 1, 1, _FOUR, True),
        Row(lambda c: c.values == 4 and c.gradient, (16, 64, 16), 8, 1, 1, _FOUR_SUMS, True),
        Row(lambda c: c.values == 4 and c.gradient, (32, 32, 32), 8, 1, 1, _FOUR_SUMS, True),
        Row(lambda c: c.values == 2 and not c.gradient, (8, 32, 8), 4, 1, 1, _TWO, True),
        Row(lambda c: c.values == 2 and not c.gradient, (16, 16, 16), 4, 1, 1, _TWO, True),
        Row(lambda c: c.values == 2, (16, 32, 16), 8, 1, 1, _TWO, True),
        # so do these, a group in each
        Row(lambda c: c.sums(), (32, 16, 0), 4, 1, 1, _SUMS, True),
        Row(lambda c: not c.depthwise and c.waits(8), (64, 16, 0), 4, 1, 1, _SUMS, True),
    ),
    # these multiply float32 and float64 in full, without matrix units
    "full precision": (
        Row(lambda c: not (c.folds or c.gradient), (64, 64, 16), 8, 2, 1,
            "Triton 3.8 spills in a fold of float64 5 (8) on sm_100. A weight gradient is clean, and was never timed."),
        Row(lambda c: not c.gradient, (32, 32, 16), 2, 2, 1, "A weight gradient has it with 4 warps."),
        Row(lambda c: c.gradient, (32, 32, 16), 4, 2, 1, "The others have it with 2 warps."),
    ),
    # single elements are loaded, along an axis of taps and channels
    "flat": (
        Row(lambda c: c.roomy and not c.at_border, (256, 64, 64), 8, None, 1,
            "Addresses of single elements are worth sharing, where there are registers for it."),
        Row(lambda c: c.roomy and not c.at_border, (128, 64, 64), 4, None, 1,
            "As above. Triton 3.8 spills in float32 and NCHW 2 (8) on sm_80."),
        Row(lambda c: not (c.gradient and c.scattered), (128, 64, 32), 8, None, 1,
            "Triton 3.8 spills in a weight gradient in NCHW 3 (8) on sm_100, with 7 x 7 taps and a constant border."),
        Row(_always, (128, 32, 32), 4, None, 1, _CLEAN),
        Row(lambda c: not (c.at_border or (c.gradient and c.arch == "sm_80")), (64, 64, 32), 4, None, 1,
            "Triton 3.8 spills in a ring 4 (8) on sm_89 in float32 and 2 (8) on sm_100 in bfloat16, in a weight gradient of "
            "3 x 3 taps of 8 channels 21 (16) on sm_80."),
        Row(_always, (64, 32, 32), 4, None, 1, _CLEAN),
        # elsewhere triton 3.8 spills with 5 x 5 taps of one channel to 6: 36 instructions in 32x32x64 on sm_80
        Row(lambda c: c.reads_shared and c.gradient and c.problem.itemsize == 2 and c.problem.coalesced, (64, 64, 64), 4, None,
            1,
            "Triton 3.8 spills with 7 x 7 taps in NCHW 170 (336) on sm_89, in float32 210 (424)."),
        Row(lambda c: c.reads_shared and c.gradient and c.problem.itemsize == 2, (64, 32, 64), 4, None, 1,
            "Triton 3.8 spills with 7 x 7 taps of float32 in NCHW 38 (80) on sm_89."),
        Row(lambda c: c.reads_shared and c.gradient and c.problem.itemsize == 2, (32, 32, 64), 4, None, 1,
            "Triton 3.8 spills with 7 x 7 taps of float32 in NCHW 3 (8) on sm_80."),
        # these slide: weight gradients, then others of 32, 16 or 8 values a thread for each row of sums
        Row(lambda c: c.reads_shared and c.sums(), (64, 64, 0), 8, 1, 1,
            "Elsewhere operands lie in registers, too: Triton 3.8 spills 7 x 7 taps 72 (128) on sm_80, with all registers.",
            True),
        Row(lambda c: c.reads_shared and c.sums(48), (64, 64, 0), 4, 1, 1, _MANY_SUMS, True),
        Row(lambda c: not c.reads_shared and c.sums(48), (32, 64, 0), 4, 1, 1, _MANY_SUMS, True),
        Row(lambda c: c.reads_shared and c.sums(48), (64, 32, 0), 4, 1, 1, _MANY_SUMS, True),
        Row(lambda c: c.reads_shared and c.sums(48), (64, 16, 0), 4, 1, 1, _MANY_SUMS, True),
        Row(lambda c: not c.reads_shared and c.sums(0 if c.problem.itemsize == 2 else 48), (64, 16, 0), 8, 1, 1,
            _MANY_SUMS, True),
        Row(lambda c: c.sums(), (32, 16, 0), 4, 1, 1, _MANY_SUMS, True),
        Row(lambda c: c.reads_shared and c.waits(32) and c.problem.lean
            and not (c.strided_float32 or (c.scattered and c.arch == "sm_100")), (64, 64, 0), 4, 1, 1,
            "Triton 3.8 spills in NCHW, with a residual and GELU, 97 (288) on sm_90, in lean float32 of stride 2 26 (72), with "
            "3 x 3 taps 3 (8) on sm_100.", True),
        Row(lambda c: c.reads_shared and c.waits(16) and (c.problem.lean or not c.scattered) and not c.strided_float32,
            (64, 64, 0), 8, 1, 1,
            "Triton 3.8 spills in NCHW, with 7 x 7 taps, a residual and GELU, 12 (48) on sm_90, in lean float32 of stride 2 as "
            "many. On sm_80, where taps lie in registers, it spills 13 (24) in a fold of 3 x 3 taps and 94 (200) in ResNet's "
            "stem.", True),
        Row(lambda c: c.few_taps and c.waits(16)
            and not (c.arch == "sm_100" and (c.problem.waiting == 2 or c.problem.itemsize == 4)), (64, 32, 0), 4, 1, 1,
            "Triton 3.8 spills 7 x 7 taps with a residual and GELU 64 (128) on sm_90, on sm_80 50 (200) in NCHW, where lean "
            "ones spill 28 (88) on sm_89, and 68 (136) in float32, of which it spills 3 x 3 taps in a fold in NCHW 29 (56); on "
            "sm_100 3 x 3 taps of stride 2 2 (8), of float32 6 (16).", True),
        Row(lambda c: c.waits(8) and not ((c.like_sm_89 and c.problem.waiting == 2 and c.problem.c == 1)
            or (c.arch == "sm_100" and c.strided_float32)), (64, 16, 0), 4, 1, 1,
            "Triton 3.8 spills 6 (16) on sm_89 with 3 x 3 taps of stride 2 of one channel, on sm_100 in NCHW 2 (8) of float32 "
            "and stride 2.", True),
    ),
    # channels do not lie back to back, or not 128 bits of them
    "scattered": (
        Row(lambda c: not c.folds, (128, 64, 32), 8, None, 1,
            "Triton 3.8 spills in a fold, which has the addresses of a ring too, 66 (136) on sm_80 and 2 (8) on sm_89."),
        Row(lambda c: c.gradient or c.folds, (64, 64, 32), 8, None, 1,
            "Triton 3.8 spills in a forward pass in NCHW 34 (72) on sm_100, to fit more programs."),
        Row(lambda c: not (c.gradient or c.folds), (64, 64, 32), 4, None, 1,
            "Triton 3.8 spills in a fold 72 (144) on sm_80, 82 (168) on sm_89 and 46 (96) on sm_90."),
    ),
    "ring": (Row(_always, (64, 64, LINE), 4, None, 1, "A ring has few pixels: larger tiles would leave a GPU idle."),),
    "weight_grad": (
        Row(_always, (128, 128, LINE), 8, None, 1, _CLEAN),
        Row(_always, (128, 64, LINE), 8, None, 1, _CLEAN),
        Row(_always, (64, 128, LINE), 8, None, 1, _CLEAN),
        Row(lambda c: c.reads_shared, (64, 64, LINE), 8, None, 1, "Elsewhere it is half as deep, as with three taps."),
        Row(lambda c: not c.reads_shared, (64, 64, HALF), 8, None, 1, "It is the one above, half as deep."),
        Row(_always, (64, 32, LINE), 4, None, 1, _CLEAN),
        Row(lambda c: c.three and c.reads_shared, (128, 128, LINE), 8, 3, 3, _THREE),
        Row(lambda c: c.three and c.reads_shared, (128, 64, LINE), 8, 3, 3, _THREE),
        Row(lambda c: c.three and c.reads_shared, (64, 128, LINE), 8, 3, 3, _THREE),
        Row(lambda c: c.three and c.reads_shared, (64, 64, LINE), 8, 3, 3, _THREE),
        Row(lambda c: c.three and c.reads_shared, (64, 32, LINE), 4, 3, 3, _THREE),
        Row(lambda c: c.three and not c.reads_shared, (64, 64, HALF), 8, 2, 3,
            "Triton 3.8 spills in 64 x 64 x 64 with 3 stages 42 (80) on sm_80."),
    ),
    # these serve forward passes, input gradients and folds
    "coalesced": (
        Row(lambda c: c.roomy, (128, 256, LINE), 8, None, 1,
            "Triton 3.8 spills with a residual and GELU 210 (368) on sm_90 and 206 (456) on sm_100, in lean float32 24 (48) "
            "and 120 (240)."),
        Row(lambda c: c.roomy, (256, 128, LINE), 8, 3, 1,
            "Lean, it is clean, of 189 to 255 registers a thread (triton 3.6 and 3.8, sm_90 and sm_100); a fourth stage would "
            "make its end longer. With a residual and GELU, and in float32, it was not compiled."),
        Row(lambda c: c.problem.lean, (256, 64, LINE), 8, None, 1,
            "With a residual and GELU it is clean too, of 169 to 254 registers a thread (triton 3.8), and was never timed."),
        Row(lambda c: c.arch != "sm_100" or c.fills(LINE), (128, 128, LINE), 8, None, 1,
            "Triton 3.8 spills 2 (8) on sm_100 with 72 channels, whose last copies are masked."),
        Row(lambda c: c.reads_shared, (128, 64, LINE), 8, None, 1,
            "Elsewhere sums lie in registers: it is clean on sm_80, of 118 to 196 registers a thread (triton 3.6 and 3.8), but "
            "half of it is offered, of which more programs are resident."),
        Row(lambda c: not (c.reads_shared or c.like_sm_89), (64, 64, LINE), 8, None, 1,
            "Triton 3.8 spills in a lean input gradient 4 (8) on sm_89."),
        Row(_always, (64, 64, LINE), 4, None, 1, _CLEAN),
        Row(_always, (64, 32, LINE), 4, None, 1, _CLEAN),
        Row(lambda c: c.stores_whole and c.arch != "sm_100", (256, 32, HALF), 4, None, 1,
            "Triton 3.8 spills 2 (8) on sm_100 in an input gradient of stride 2 of 72 channels, whose last copies are masked; "
            "of 3 channels 52 (104) on sm_89, 26 (56) on sm_90, in a fold 70 (144) on sm_89."),
        Row(lambda c: c.stores_whole and (c.reads_shared or c.problem.phases == 1), (256, 16, HALF), 4, None, 1,
            "Of few channels out, the others multiply and mask more lanes. Triton 3.8 spills in a fold of 3 channels 127 (176) "
            "on sm_89 and 114 (168) on sm_90, in an input gradient of stride 2 and 5 x 5 taps 4 (8) on sm_80."),
        Row(lambda c: c.shifts and c.reads_shared, (128, 64, LINE), 8, None, 3,
            "Triton 3.8 spills 22 (40) on sm_89 in bfloat16, 6 (16) on sm_80 in float32."),
        Row(lambda c: c.shifts and not (c.reads_shared or c.folds), (128, 64, HALF), 8, None, 3,
            "Triton 3.8 spills in a fold 39 (72) on sm_80 and 29 (56) on sm_89."),
        Row(lambda c: c.shifts and c.roomy and c.problem.span == 2 and c.fills(LINE) and c.problem.k % 64 == 0,
            (256, 64, HALF), 8, None, 3,
            "Triton 3.8 spills with masked channels 6 (16) on sm_90 and 10 (24) on sm_100, with a residual and GELU 98 (200) "
            "and 48 (96), in lean float32 80 (160) and 34 (72)."),
        # these compute four rows of the image
        Row(lambda c: c.shares_rows and c.arch == "sm_90", (64, 64, HALF), 4, 3, 1, _ROWS, tile_rows=4),
        Row(lambda c: c.shares_rows and c.arch == "sm_90", (128, 64, HALF), 8, 3, 1,
            "Triton 3.8 makes three instructions of it for sm_100, which compute nothing.", tile_rows=4),
        Row(lambda c: c.shares_rows and c.arch == "sm_100", (64, 64, HALF), 4, 2, 1,
            "It is the one above of 4 warps: with a third stage, one program would be resident instead of two.", tile_rows=4),
    ),
}  # fmt: skip


def candidates(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """The configs that can be picked; the compile tier holds each of them to the gates."""
    case = _Case(problem, device.arch)
    found = [row.config(case) for row in TABLE[case.table] if row.when(case)]
    if case.table not in ("direct", "full precision"):
        found = _that_fit(problem, device, found)
    return found if (compiler or compiler_version()) >= (3, 7) else conv2d_before_3_7(problem, found, device.arch)


def _that_fit(problem: Problem, device: Device, configs: list[Config]) -> list[Config]:
    """Those that fit shared memory, and are no wider than the channels along their width, as a power of 2, than 32, or than the
    narrowest of those that do not slide.

    The columns of a flat weight gradient are taps times channels in; one that slides has channels out along its width.
    """
    channels = problem.k
    if problem.kind == "weight_grad":
        channels = problem.columns if problem.method == "flat" else problem.c
    narrowest = max(32, min(c.block_n for c in configs if not c.rows))

    def fits(c: Config) -> bool:
        width = max(narrowest, power_of_2(problem.k if c.rows else channels))
        return c.block_n <= width and shared_bytes(problem, c) <= device.shared_bytes

    return [c for c in configs if fits(c)]
