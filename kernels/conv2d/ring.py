"""Where the padding of a gradient is kept until it is folded back into the image.

Border modes hand gradient from the padding back into the image. What falls on the ring, the pixels of the padding around an
image, is computed first, into a workspace [N, ring, channels]; the program that owns a pixel of the image then adds what was
read in its place: that is the fold.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import in_range
from torchops.kernels.device.tiles import load_tile


@triton.jit
def ring_size(P, Q, sides):
    """Pixels of the ring around a P x Q image: rows above and below, then columns left and right."""
    left, right, top, bottom = sides
    return (top + bottom) * (left + Q + right) + P * (left + right)


@triton.jit
def ring_pixel(i, P, Q, sides):
    """Position of pixel number i of the ring."""
    left, right, top, bottom = sides
    width, beside = left + Q + right, tl.maximum(left + right, 1)
    row, column = i // width, i % width - left
    side = i - (top + bottom) * width
    p_side, q_side = side // beside, side % beside
    p = tl.where(side >= 0, p_side, tl.where(row < top, row - top, P + row - top))
    q = tl.where(side >= 0, tl.where(q_side < left, q_side - left, Q + q_side - left), column)
    return p, q


@triton.jit
def _ring_number(p, q, P, Q, sides):
    """The inverse of `ring_pixel`."""
    left, right, top, bottom = sides
    width = left + Q + right
    above = tl.where(p < 0, p + top, p - P + top) * width + q + left
    beside = (top + bottom) * width + p * (left + right) + tl.where(q < 0, q + left, q - Q + left)
    return tl.where(in_range(p, P), beside, above)


@triton.jit
def _reader(i, number, size, before, BORDER: tl.constexpr):
    """Position number `number` of those that read pixel i, and whether there is such a one; number 0 is i itself."""
    if BORDER == "circular":
        j = tl.where(number == 1, i - size, i + size)
        found = i >= 0
    elif BORDER == "reflect":
        j = tl.where(number == 1, -i, 2 * (size - 1) - i)
        found = j != i  # the pixel at the border is its own mirror image
    else:
        first = number <= before
        j = tl.where(first, -number, size - 1 + number - before)
        found = i == tl.where(first, 0, size - 1)
    return tl.where(number == 0, i, j), found | (number == 0)


@triton.jit
def fold_ring(acc, ring_ptr, pixel, offs_k, exists, mask_k, y_size, sides, BORDER: tl.constexpr):
    """Add to the gradient of pixels (p, q) that of the positions on the ring that read them."""
    n, p, q = pixel
    K, P, Q = y_size
    left, right, top, bottom = sides
    ring = ring_size(P, Q, sides)
    across = left + right + 1 if BORDER == "replicate" else 3
    down = top + bottom + 1 if BORDER == "replicate" else 3
    for number in range(1, across * down):
        i, found_i = _reader(p, number // across, P, top, BORDER)
        j, found_j = _reader(q, number % across, Q, left, BORDER)
        found = exists & found_i & in_range(i + top, top + P + bottom) & found_j & in_range(j + left, left + Q + right)
        if tl.max(found.to(tl.int32), 0) > 0:
            offs = (n * ring + _ring_number(i, j, P, Q, sides)) * K
            acc += load_tile(ring_ptr, tl.where(found, offs, 0), offs_k, found, mask_k, 1)
    return acc
