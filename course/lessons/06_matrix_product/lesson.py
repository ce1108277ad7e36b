"""What the checker asks of lesson 6, the matrix product: cases, mistakes that it knows by name, hints."""

import torch

import torchops
from torchops import reference
from torchops.course import mirrors
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step

TERMS = 16
"""A block of the sum. Blocks are 64 x 16, 16 x 32 and 64 x 32: those that do not fit together do not compile."""


def product(a, b):
    return a @ b


def mirror_product(a, b):
    """A matrix product is a convolution of 1x1 pixels by 1x1 taps."""
    return torchops.conv2d(a[:, :, None, None], b.t()[:, :, None, None].contiguous())[:, :, 0, 0]


def spec(x, weight, stride, padding, dilation):
    return reference.conv2d(x, weight, None, stride, padding, dilation)


def mirror(x, weight, stride, padding, dilation):
    """By the kernel of plain.py itself."""
    return mirrors.plain(x, weight, None, stride, padding, dilation)


def counted(*shape):
    return torch.arange(1.0, torch.Size(shape).numel() + 1).view(shape)


def matrices(m, j, k, why, block=64):
    """Small whole numbers, whose sums are exact."""
    return Case(f"[{m}, {j}] @ [{j}, {k}]", lambda: (counted(m, j) % 10, counted(j, k) % 4 + 1), why, block)


def pictured():
    return counted(2, 2, 4, 7), counted(2, 2, 2, 4) % 5 + 1, 1, 0, 1


def batch(n, c, h, w, k, r, s, stride, padding, dilation, why, block=64, dtype=torch.float32):
    def inputs():
        return counted(n, c, h, w).to(dtype) % 50, counted(k, c, r, s).to(dtype) % 5 - 1, stride, padding, dilation

    filters = f"{k} filter{'s' * (k > 1)} of {r}x{s}"
    name = f"x {n}x{c}x{h}x{w}, {filters}, stride {stride}, padding {padding}, dilation {dilation}"
    return Case(name, inputs, why, block)


def large_and_small():
    """2048, and then eight ones, each in a block of the sum of its own."""
    x = torch.zeros(1, 9 * TERMS, 1, 1, dtype=torch.float16)
    x[:, ::TERMS] = 1
    x[:, 0] = 2048
    return x, torch.ones(1, 9 * TERMS, 1, 1, dtype=torch.float16), 1, 0, 1


def in_half(function, x, weight, stride, padding, dilation, **more):
    return function(x, weight, stride, padding, dilation, half_sums=True, **more)


def explain_product(inputs, first, got, want):
    elsewhere = (product(*(one.double() for one in inputs)) == got).nonzero().tolist()
    return f"That belongs to row {elsewhere[0][0]}, column {elsewhere[0][1]}." if len(elsewhere) == 1 else ""


def explain(inputs, first, got, want):
    x, weight, *numbers = inputs
    elsewhere = (spec(x.double(), weight.double(), *numbers) == got).nonzero().tolist()
    if len(elsewhere) != 1:
        return ""
    n, k, p, q = elsewhere[0]
    return f"That belongs to pixel ({p}, {q}) of channel {k} of image {n}."


def last_tiles(a, b):
    last = (a.shape[1] - 1) // TERMS * TERMS
    return a[:, last:] @ b[last:]


def added_twice(a, b):
    """acc + tl.dot(a, b, acc), tile by tile."""
    y = torch.zeros(a.shape[0], b.shape[1], dtype=a.dtype)
    for j in range(0, a.shape[1], TERMS):
        y = 2 * y + a[:, j : j + TERMS] @ b[j : j + TERMS]
    return y


def rows_run_on(x, weight, stride, padding, dilation):
    """j // S for r, of which no multiple of R is taken away."""
    R, H = weight.shape[2], x.shape[2]
    x = torch.nn.functional.pad(x, (padding,) * 4)
    y = 0
    for c in range(x.shape[1]):
        rows = torch.arange(x.shape[2]) + c * R * dilation
        shifted = x[:, c : c + 1, rows.clamp(max=H + 2 * padding - 1)] * (rows < H + padding)[:, None]
        y = y + spec(shifted, weight[:, c : c + 1], stride, 0, dilation)
    return y


def channels_last_filter(x, weight, *numbers):
    K, C, R, S = weight.shape
    return spec(x, weight.reshape(K, R, S, C).permute(0, 3, 1, 2), *numbers)


def channels_last_result(x, weight, *numbers):
    y = spec(x, weight, *numbers)
    return y.permute(0, 2, 3, 1).reshape(y.shape)


def not_shifted(x, weight, stride, padding, dilation):
    return spec(torch.nn.functional.pad(x, (0, 2 * padding, 0, 2 * padding)), weight, stride, 0, dilation)


def tall():
    """Three million rows, of 3 * 10^9 numbers."""
    return torch.empty(3_000_000, 1000, device="meta"), torch.empty(1000, 16, device="meta")


def many():
    """40,000 images, of 3.6 * 10^9 pixels, which no int32 can count."""
    return torch.empty(40_000, 1, 300, 300, device="meta"), torch.empty(1, 1, 3, 3, device="meta"), 1, 1, 1


MATMUL = Step(
    "1", "a matrix product, tile by tile", 10, "matmul", product,
    (
        matrices(3, 4, 2, "everything in one tile, and most of its lanes are nobody's"),
        matrices(64, 32, 32, "tiles that come out even: a sum over two of them"),
        matrices(70, 19, 40, "more than a tile in every direction, and none comes out even"),
        matrices(40, 5, 7, "tiles of 16 x 32", block=16),
        matrices(1, 33, 1, "one row, one column"),
    ),
    (
        Mistake(
            "last", last_tiles,
            "Yours keeps the product of the last two tiles, and forgets those before: give `acc` to tl.dot, or add to it.",
        ),
        Mistake("twice", added_twice, "Yours adds `acc` twice a turn. tl.dot(a, b, acc) is acc + a @ b already."),
    ),
    (
        "(m < M)[:, None] is a column of truths, (j < J)[None, :] a row. & makes a block of both: both have to be true.",
        "Lanes with j >= J stand beyond a row of a, and read the next one. What do they do to the sum if they are not masked?",
        "tl.dot(a, b, acc, input_precision=\"ieee\") is acc + a @ b.",
        "y is [M, K]: its lanes ask for m and for k. j is summed over, and gone.",
    ),
    explain_product, far=tall, mirror=mirror_product,
)  # fmt: skip

GATHER = Step(
    "2", "a convolution, gathered", 15, "conv2d", spec,
    (
        Case("the picture of the page", pictured, "the picture of the page", 64),
        batch(1, 3, 5, 6, 2, 2, 3, 1, 0, 1, "three channels, and a sum of 18 terms, which is more than a tile"),
        batch(2, 3, 11, 13, 34, 3, 3, 2, 1, 1, "a stride, padding, and more than a tile in every direction"),
        batch(3, 1, 5, 4, 2, 2, 3, 1, 2, 2, "a dilation, and images in tiles of 16 pixels", block=16),
        batch(1, 20, 1, 1, 3, 1, 1, 1, 0, 1, "one pixel, one tap"),
        batch(2, 2, 4, 4, 3, 3, 3, 1, 1, 1, "float16: its sums are float32, and rounded once", dtype=torch.float16),
    ),
    (
        Mistake(
            "filter", channels_last_filter,
            "Your j counts (r, s, c). The weight lies as [K, C, R, S]: j counts c slowest, then r, and s fastest.",
        ),
        Mistake(
            "result", channels_last_result,
            "Yours stores the channels of a pixel side by side. y is [N, K, P, Q]: pixels of one channel lie side by side.",
        ),
        Mistake("rows", rows_run_on, "Your r goes on from one channel to the next: j // S counts the rows of all channels."),
        Mistake(
            "shift", not_shifted,
            "Yours begins at pixel (0, 0). With padding, window (0, 0) begins at (-PADDING, -PADDING).",
        ),
    ),
    (
        "m counts pixels: q fastest, then p, then n. An image has P * Q of them, a row Q.",
        "j counts the taps of a filter as they lie in memory: s fastest, then r, then c. A channel has R * S of them.",
        "p is a block [BLOCK_M], r a block [BLOCK_K]. [:, None] makes a column of one, [None, :] a row of the other.",
        "A lane reads a pixel if its image, its channel, its row and its column exist. If m is too "
        "large, so is n; and j and c.",
        "Channel k of image n is plane n * K + k of y. What is added to it to reach pixel (p, q)?",
    ),
    explain, far=many, mirror=mirror,
    look=(
        Case(
            "64 to 64 channels, 3x3, 56x56, float16",
            lambda: (
                torch.empty(8, 64, 56, 56, dtype=torch.float16, device="meta"),
                torch.empty(64, 64, 3, 3, dtype=torch.float16, device="meta"), 1, 1, 1,
            ),
            block=128,
        ),
    ),
)  # fmt: skip

HALF = Step(
    "3", "experiment: sums in half precision", 5, "conv2d", spec,
    (Case("2048 and eight ones, float16", large_and_small, "sums that are kept in float16"),),
    expect="values", call=in_half,
    seen="From 2048 on, float16 has even numbers only: 2048 + 1 is rounded to 2048, eight times. Sums of float32 are right.",
)  # fmt: skip

PICTURES = (
    Picture(
        "tile", "16 pixels a program, from image to image: what it gathers, and where it stores", "2", pictured,
        {"x_ptr": "x: pixels it loads"}, {"y_ptr": "y: what it stores"}, ((0, 0, 0), (1, 0, 0)), block=16,
    ),
)  # fmt: skip

LESSON = Lesson(
    "Implicit GEMM: a convolution is a matrix product", 30, False, ("kernels/conv2d/plain.py",),
    (MATMUL, GATHER, HALF), PICTURES,
)  # fmt: skip
