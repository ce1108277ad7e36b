"""Weight gradient of a depthwise convolution that slides down the image, as slide.py does.

    dw[c, r, s] = sum over images, rows p and columns q of dy[p, q, c] x[p stride - top + r, q stride - left + s, c]

Here rows of dy wait in registers: each row of x is multiplied with the R / stride of them that it went into. A program keeps
the R*S sums of its columns apart, and adds them at its end.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.tiles import hinted, load_tile

from .pixels import strip_of
from .slide import columns_of_taps, load_row


@triton.jit
def conv2d_weight_grad_slide_kernel(
    dy_ptr, x_ptr,                  # as in conv2d_weight_grad_direct_kernel; channels of both lie back to back
    pad_ptr,
    dw_ptr,
    x_size, y_size, groups, steps,  # groups of one channel in and one out
    dy_strides, x_strides, dw_strides,
    sides, rows,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, ROWS_A_TRIP: tl.constexpr,
    BORDER: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program slides BLOCK_K columns of BLOCK_N channels down `steps` strips of `rows` rows of dy.

    Grid: splits * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    WAITING: tl.constexpr = (R + STRIDE - 1) // STRIDE  # rows of dy that a row of x went into
    N, _C, H, W = x_size
    _K, P, Q = y_size
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC[1], WIDE)
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    dw_split, dw_sk, _dw_sc, dw_sr, dw_ss = dw_strides
    left, _right, top, _bottom = sides
    channels = groups // VEC[1] * VEC[1]
    tiles_n, every_strip = tl.cdiv(channels, BLOCK_N), N * tl.cdiv(P, rows) * tl.cdiv(Q, BLOCK_K)
    split = tl.program_id(0) // tiles_n
    offs_k = tl.program_id(0) % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = offs_k < channels
    accs = ()
    for _ in tl.static_range(R * S):
        accs += (tl.zeros((BLOCK_K, BLOCK_N), ACC),)
    for strip in range(split * steps, tl.minimum(split * steps + steps, every_strip)):
        n, q, first, end = strip_of(strip, P, Q, rows, WIDE, BLOCK_K)
        mask_q = q < Q
        offs, inside = columns_of_taps(q, mask_q, offs_k * x_sc, mask_k, W, x_sw, left, S, STRIDE, BORDER)
        waiting = ()
        for _ in tl.static_range(WAITING):
            waiting += (tl.zeros((BLOCK_K, BLOCK_N), ACC),)
        for trip in range(first, end + WAITING - 1, ROWS_A_TRIP):
            # all that a trip loads is under way at once
            rows_dy, rows_x = (), ()
            for j in tl.static_range(ROWS_A_TRIP):
                offs_dy = n * dy_sn + (trip + j) * dy_sh + q * dy_sw
                rows_dy += (load_tile(dy_ptr, offs_dy, offs_k * dy_sk, mask_q & (trip + j < end), mask_k, ALONG[1]),)
            for i in tl.static_range(ROWS_A_TRIP * STRIDE):
                h = trip * STRIDE - top + i
                rows_x += load_row(x_ptr + n * x_sn, h, H, x_sh, offs, inside, pad_ptr, S, BORDER)
            for j in tl.static_range(ROWS_A_TRIP):
                older = (rows_dy[j].to(ACC),)
                for age in tl.static_range(WAITING - 1):
                    older += (waiting[age],)
                waiting = older
                for i in tl.static_range(STRIDE):
                    sums = ()
                    for r in tl.static_range(R):
                        p = trip + j - (r - i) // STRIDE
                        for s in tl.static_range(S):
                            acc = accs[r * S + s]
                            if (r - i) % STRIDE == 0 and r >= i:
                                # what lies beyond the strip is no 0 that an infinity could be multiplied with
                                if (p >= first) & (p < end):
                                    acc += rows_x[(j * STRIDE + i) * S + s].to(ACC) * waiting[(r - i) // STRIDE]
                            sums += (acc,)
                    accs = sums
    dw_ptr += tl.cast(split, tl.int64) * dw_split
    for r in tl.static_range(R):
        for s in tl.static_range(S):
            dw = tl.sum(accs[r * S + s], 0)
            tl.store(dw_ptr + (r * dw_sr + s * dw_ss) + offs_k * dw_sk, dw.to(dw_ptr.dtype.element_ty), mask=mask_k)
