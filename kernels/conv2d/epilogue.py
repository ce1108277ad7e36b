"""What a convolution does with its sums before the one rounding, and where the padding of a gradient is kept meanwhile.

Border modes hand gradient from the padding back into the image. What falls on the ring of padding around an image is computed
first, into a workspace [N, ring, channels]; the program that owns a pixel then adds what was read in its place.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.activations import activate
from torchops.kernels.device.borders import in_range
from torchops.kernels.device.tiles import load_tile, store_tile


@triton.jit
def ring_size(P, Q, top, bottom, left, right):
    """Pixels of the padding around a P x Q image: rows above and below, then columns left and right."""
    return (top + bottom) * (left + Q + right) + P * (left + right)


@triton.jit
def ring_pixel(i, P, Q, top, bottom, left, right):
    """Position of pixel number i of the ring."""
    width, sides = left + Q + right, tl.maximum(left + right, 1)
    row, column = i // width, i % width - left
    side = i - (top + bottom) * width
    p_side, q_side = side // sides, side % sides
    p = tl.where(side >= 0, p_side, tl.where(row < top, row - top, P + row - top))
    q = tl.where(side >= 0, tl.where(q_side < left, q_side - left, Q + q_side - left), column)
    return p, q


@triton.jit
def _ring_number(p, q, P, Q, top, bottom, left, right):
    """The inverse of `ring_pixel`."""
    width = left + Q + right
    above = tl.where(p < 0, p + top, p - P + top) * width + q + left
    beside = (top + bottom) * width + p * (left + right) + tl.where(q < 0, q + left, q - Q + left)
    return tl.where(in_range(p, P), beside, above)


@triton.jit
def _image(i, number, size, before, MODE: tl.constexpr):
    """Position number `number` of those that read pixel i, and whether there is such a one; number 0 is i itself."""
    if MODE == "circular":
        j = tl.where(number == 1, i - size, i + size)
        found = i >= 0
    elif MODE == "reflect":
        j = tl.where(number == 1, -i, 2 * (size - 1) - i)
        found = j != i  # the pixel at the border is its own mirror image
    else:
        first = number <= before
        j = tl.where(first, -number, size - 1 + number - before)
        found = i == tl.where(first, 0, size - 1)
    return tl.where(number == 0, i, j), found | (number == 0)


@triton.jit
def _add_ring(
    acc, ring_ptr, n, p, q, offs_o, mask_m, mask_o, P, Q, O_ALL, top, bottom, left, right, MODE: tl.constexpr
):  # fmt: skip
    """Add to the gradient of pixels (p, q) that of the padded positions that read them."""
    ring = ring_size(P, Q, top, bottom, left, right)
    across = left + right + 1 if MODE == "replicate" else 3
    down = top + bottom + 1 if MODE == "replicate" else 3
    for number in range(1, across * down):
        i, found_i = _image(p, number // across, P, top, MODE)
        j, found_j = _image(q, number % across, Q, left, MODE)
        found = mask_m & found_i & found_j & (i >= -top) & (i < P + bottom) & (j >= -left) & (j < Q + right)
        found &= ~(in_range(i, P) & in_range(j, Q))
        if tl.max(found.to(tl.int32), 0) > 0:
            offs = (n * ring + _ring_number(i, j, P, Q, top, bottom, left, right)) * O_ALL
            acc += load_tile(ring_ptr, tl.where(found, offs, 0), offs_o, found, mask_o, 1)
    return acc


@triton.jit
def finish(
    acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, n, p, q, pixel, offs_c, exists, mask_c, P, Q, C,
    r_sn, r_sc, r_sh, r_sw, y_sn, y_sc, y_sh, y_sw, top, bottom, left, right,
    ACTIVATION: tl.constexpr, RING: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    FOLD: tl.constexpr, ALONG: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The epilogue: all that is added to the sums while they are in registers, one rounding, the store."""
    if FOLD != "none":
        acc = _add_ring(acc, ring_ptr, n, p, q, offs_c, exists, mask_c, P, Q, C, top, bottom, left, right, FOLD)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_c, mask=mask_c, other=0).to(ACC)[None, :]
    if HAS_RESIDUAL:
        offs_r = n * r_sn + p * r_sh + q * r_sw
        acc += load_tile(residual_ptr, offs_r, offs_c * r_sc, exists, mask_c, ALONG).to(ACC)
    offs_y = n * y_sn + p * y_sh + q * y_sw
    if RING:
        offs_y = n * y_sn + pixel * y_sw
    store_tile(y_ptr, offs_y, offs_c * y_sc, activate(acc, ACTIVATION), exists, mask_c, ALONG)
