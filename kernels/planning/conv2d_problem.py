"""What a convolution asks of a launch, and what it can be given.

A convolution is a matrix product (see conv2d/gemm.py): `m` pixels, `k` channels out, and `c` channels in times `taps` in
between, for each of `groups` and of `phases`; a weight gradient has the pixels in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from .protocol import power_of_2


def method(groups: int, k: int, c: int) -> str:
    """ "gemm", a matrix product; "flat", one whose taps and few channels make one axis; "direct", of groups too narrow."""
    if groups > 1 and k * c < 256:
        return "direct"
    return "flat" if c < 16 else "gemm"


KINDS = ("gather", "ring", "fold", "weight_grad")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a launch has to do, as far as its block sizes depend on it. The names of its fields stand in users' tables."""

    kind: str
    """"gather": a forward pass or an input gradient, "ring" for the padding of one, "fold" for what adds it; "weight_grad"."""
    m: int
    """Pixels: of one phase, for a gather; those that are summed, for a weight gradient."""
    k: int
    """Channels out, of one group."""
    c: int
    """Channels in, of one group."""
    taps: int
    row: int
    """Taps of a row of the filter."""
    phases: int
    groups: int
    itemsize: int
    tf32: bool
    coalesced: bool
    """Channels of the inputs lie back to back and, by "gemm", 128 bits of them together: copies are asynchronous."""
    span: int
    """Columns from the first to the last tap of a row, where its taps may share a load (see conv2d/shift.py); else 0."""
    lean: bool
    """Zero padding, and no more added to the sums than a bias and a ReLU, or nothing in a transposed convolution: that leaves
    registers for larger tiles."""
    bytes_least: int
    """Every element of the tensors read or written once."""
    slides: int = 0
    """The stride, where a program may slide down the image (see conv2d/slide.py, slide_transposed.py); else 0."""
    shares_rows: bool = False
    """Whether a program may compute several rows of an image, which share what it reads (see conv2d/rows.py)."""
    height: int = 0
    """Rows of an image that is written (in a weight gradient, of one of dy), where a program may slide down it, or compute
    several of them; else 0."""
    width: int = 0
    """Its columns, likewise."""

    @property
    def method(self) -> str:
        return method(self.groups, self.k, self.c)

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.k == self.c == 1

    @property
    def waiting(self) -> int:
        """Rows of y that a row of x goes into, where a program slides: their sums wait together."""
        return -(-self.taps // self.row // self.slides)

    @property
    def depth(self) -> int:
        """What the taps of a row of few channels read, as a power of 2 that matrix units take."""
        return max(16, power_of_2(self.row * self.c))

    @property
    def spreads(self) -> bool:
        """Whether a program that slides writes more rows than it reads: an input gradient, of stride 2."""
        return self.slides > 0 and self.phases > 1

    @property
    def values(self) -> int:
        """Values that a thread may have of each tap and each sum, so that they find registers where a depthwise one slides."""
        if not (self.slides and self.depthwise):
            return 0
        return 8 if self.taps <= 9 else 4 if self.taps <= 25 else 2

    @property
    def plane(self) -> int:
        """How many of the `m` pixels an image has, where its height is known; else 0."""
        step = self.slides if self.spreads else 1
        return -(-self.height // step) * -(-self.width // step)

    @property
    def columns(self) -> int:
        """Products that one output sums, on average over the phases; what a weight gradient has as columns."""
        return max(1, self.taps * self.c // self.phases)


@dataclass(frozen=True)
class Config:
    """Tile of a program, and how it runs.

    A gather loads `block_m` pixels for `taps` products with `block_n` channels, `block_k` channels at a time; a weight
    gradient computes `taps` products of `block_m` channels out by `block_n` in, `block_k` pixels at a time, in `splits`
    ranges of pixels. One that slides goes down `rows` rows of `block_m` columns. One that computes `tile_rows` rows of the
    image has `block_m` columns of each.
    """

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    taps: int = 1
    splits: int = 1
    rows: int = 0
    """Rows of the strip that a program slides down; 0 where it does not slide."""
    tile_rows: int = 1
    """Rows of the image that a program of conv2d/rows.py computes; 1 where another kernel runs."""


def reads_shared(arch: str) -> bool:
    """Whether matrix units read their operands from shared memory, and so leave registers free."""
    return arch in ("sm_90", "sm_100")


def rows_a_trip(problem: Problem) -> int:
    """Rows of y, or dy, of one trip of a program that slides: with one stride or the other, two rows of x are under way.

    By matrix products it is one in a weight gradient, and where the sums of 5 rows and more leave no registers for two. Of a
    program that spreads rows of dy they are two or, where a thread has fewer values of a row, four.
    """
    if problem.spreads:
        return 2 if problem.values == 8 else 4
    many = not problem.depthwise and (problem.waiting > 4 or problem.kind == "weight_grad")
    return 1 if many else 2 // problem.slides


def rows_of_operands(problem: Problem, config: Config) -> int:
    """Rows of `block_k` elements that a trip of a matrix product loads: pixels, and channels of the taps."""
    if config.tile_rows > 1:
        height = problem.taps // problem.row
        return (config.tile_rows + height - 1) * config.block_m + height * config.block_n
    return config.block_m + config.taps * config.block_n


def shared_bytes(problem: Problem, config: Config) -> int:
    """Shared memory of the pipeline, without what the epilogue may use instead."""
    if config.rows and problem.kind == "weight_grad":
        return (problem.taps // problem.row * config.block_k + config.block_n) * config.block_m * problem.itemsize
    if config.rows:
        rows = rows_a_trip(problem) * problem.slides * config.block_m + problem.taps // problem.row * config.block_n
        return rows * config.block_k * problem.itemsize
    return config.num_stages * rows_of_operands(problem, config) * config.block_k * problem.itemsize
