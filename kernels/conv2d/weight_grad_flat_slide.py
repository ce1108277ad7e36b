"""Weight gradient of a convolution of few channels, or of narrow groups, that slides down the image, as flat_slide.py does.

    dw[k, r, j] = sum over images, rows p and columns q of dy[p, q, k] x[p stride - top + r, q stride - left + s, c]

with j = (s, c). Here the R rows of x that a row of dy meets wait in registers, as the tiles [columns, j] that the taps of a row
read: each of them is loaded once, and multiplied with the R / stride rows of dy that it went into. The sums of all taps stay in
registers through the strips of a program.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.tiles import hinted, load_tile, store_tile

from .flat_slide import load_row_of_taps, row_of_taps
from .pixels import strip_of


@triton.jit
def conv2d_weight_grad_flat_slide_kernel(
    dy_ptr, x_ptr,                  # as in conv2d_weight_grad_kernel
    pad_ptr,
    dw_ptr,
    x_size, y_size, groups, steps,
    dy_strides, x_strides, dw_strides,
    sides, rows,
    C: tl.constexpr,                # input channels of a group: dividing by a constant is cheap
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr,
    BORDER: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program slides BLOCK_M columns of BLOCK_N channels out down `steps` strips of `rows` rows of dy; BLOCK_K hold S*C.

    Grid: splits * groups * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    NEW: tl.constexpr = STRIDE if R > STRIDE else R  # rows of x that a row of dy meets, and the one before it does not
    N, _C, H, W = x_size
    K, P, Q = y_size
    K = K // VEC[1] * VEC[1]
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC[1], WIDE)
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    dw_split, dw_sk, dw_sc, dw_sr, dw_ss = dw_strides
    left, _right, top, _bottom = sides
    tiles_n, every_strip = tl.cdiv(K, BLOCK_N), N * tl.cdiv(P, rows) * tl.cdiv(Q, BLOCK_M)
    pid = tl.program_id(0)
    group, split = pid // tiles_n % groups, pid // tiles_n // groups
    offs_k = pid % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = offs_k < K
    x_ptr += group * C * x_sc
    dy_ptr += group * K * dy_sk
    accs = ()
    for _ in tl.static_range(R):
        accs += (tl.zeros((BLOCK_N, BLOCK_K), ACC),)
    for strip in range(split * steps, tl.minimum(split * steps + steps, every_strip)):
        n, q, first, end = strip_of(strip, P, Q, rows, WIDE, BLOCK_M)
        mask_q = q < Q
        x_image = x_ptr + n * x_sn
        offs, wanted, inside = row_of_taps(q, mask_q, W, x_sc, x_sw, left, C, S, STRIDE, BORDER, BLOCK_K)
        waiting = ()
        for i in tl.static_range(R - NEW):
            h = first * STRIDE - top + i
            waiting += (load_row_of_taps(x_image, h, H, x_sh, offs, wanted, inside, pad_ptr, BORDER, ALONG[0]),)
        for p in range(first, end):
            met = waiting
            for i in tl.static_range(NEW):
                h = p * STRIDE - top + R - NEW + i
                met += (load_row_of_taps(x_image, h, H, x_sh, offs, wanted, inside, pad_ptr, BORDER, ALONG[0]),)
            dy = load_tile(dy_ptr, n * dy_sn + p * dy_sh + q * dy_sw, offs_k * dy_sk, mask_q, mask_k, ALONG[1])
            sums, waiting = (), ()
            for r in tl.static_range(R):
                sums += (tl.dot(dy.T, met[r], accs[r], input_precision=PRECISION, out_dtype=ACC),)
                if r >= STRIDE:
                    waiting += (met[r],)
            accs = sums
    j = tl.arange(0, BLOCK_K)
    dw_ptr += tl.cast(split, tl.int64) * dw_split + group * K * dw_sk
    for r in tl.static_range(R):
        of_j = r * dw_sr + j // C * dw_ss + j % C * dw_sc
        store_tile(dw_ptr, offs_k * dw_sk, of_j, accs[r], mask_k, j < S * C, 1)
