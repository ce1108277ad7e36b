"""Weight and bias gradient of a convolution.

    dw[o, i, r, s] = sum over pixels m of dy[m, o] x[pixel(m, r, s), i]        db[o] = sum over m of dy[m, o]

Pixels are many and weights few, so the sum is split: each program adds up one range of pixels for one tile of weights, in a
workspace of its own, and a second kernel adds the ranges, always in the same order. With one range there is no workspace.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import load_or_pad, load_tile, store_tile, widened


@triton.jit
def _first_pixels(start, P, Q, BLOCK_K: tl.constexpr):
    """Image, row and column of output pixels start, start + 1, ..."""
    m = start + tl.arange(0, BLOCK_K)
    row = m // Q
    return row // P, (row % P).to(tl.int32), (m % Q).to(tl.int32)


@triton.jit
def _next_pixels(n, h, w, h_end, w_end, step_h, step_w, P, Q, BLOCK_K: tl.constexpr):
    """Image, row and column of what is BLOCK_K outputs of a P x Q plane further on.

    An odometer, since a division costs more than a product: from an output to the next, columns move by step_w and start again
    at w_end; then rows move by step_h, and at h_end start again in the next image.
    """
    w += BLOCK_K % Q * step_w
    h += BLOCK_K // Q % P * step_h + tl.where(w >= w_end, step_h, 0)
    w = tl.where(w >= w_end, w - Q * step_w, w)
    n += BLOCK_K // Q // P + tl.where(h >= h_end, 1, 0)
    return n, tl.where(h >= h_end, h - P * step_h, h), w


@triton.jit
def _inputs(image, h, w, H, W, x_sh, x_sw, MODE: tl.constexpr):
    """Offsets of the pixels that positions (h, w) stand for, and which are inside the image."""
    if MODE == "constant":
        return image + h * x_sh + w * x_sw, in_range(h, H) & in_range(w, W)
    h, w = border_index(h, H, MODE, False), border_index(w, W, MODE, False)
    return image + h * x_sh + w * x_sw, tl.full(h.shape, True, tl.int1)


@triton.jit
def conv2d_weight_grad_kernel(
    dy_ptr, x_ptr,      # in:  [N, groups*O, P, Q], [N, groups*I, H, W], any strides
    pad_ptr,            # in:  [256] times the value beyond a constant border; where it is not 0
    dw_ptr,             # out: taps [R, S] of [splits, groups*O, I]
    N, I, H, W, O, P, Q, groups, steps,     # a program sums steps * BLOCK_K pixels
    dy_sn, dy_sc, dy_sh, dy_sw,
    x_sn, x_sc, x_sh, x_sw,
    dw_split, dw_so, dw_si, dw_sr, dw_ss,
    stride_h, stride_w, top, left, dil_h, dil_w,
    R: tl.constexpr, S: tl.constexpr, MODE: tl.constexpr, HAS_PAD: tl.constexpr,
    FLAT: tl.constexpr, EVEN_I: tl.constexpr, EVEN_O: tl.constexpr, DENSE: tl.constexpr,
    DY_ALONG: tl.constexpr, X_ALONG: tl.constexpr, PAD_BY_ADDRESS: tl.constexpr, VEC_I: tl.constexpr, VEC_O: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """One program sums a range of pixels for BLOCK_M outputs and BLOCK_N inputs of TAPS taps, or BLOCK_N columns (tap, input).

    Grid: splits * groups * tiles of outputs * taps / TAPS * tiles of inputs, the last fastest.
    """
    I, O = I // VEC_I * VEC_I, O // VEC_O * VEC_O
    x_sn, x_sh, x_sw = x_sn // VEC_I * VEC_I, x_sh // VEC_I * VEC_I, x_sw // VEC_I * VEC_I
    dy_sn, dy_sh, dy_sw = dy_sn // VEC_O * VEC_O, dy_sh // VEC_O * VEC_O, dy_sw // VEC_O * VEC_O
    if WIDE:
        x_sn, x_sc, x_sh, x_sw = widened(x_sn, x_sc, x_sh, x_sw)
        dy_sn, dy_sc, dy_sh, dy_sw = widened(dy_sn, dy_sc, dy_sh, dy_sw)
    if FLAT:
        I = FLAT  # a constant: dividing by it is cheap
    blocks_i = tl.cdiv(I, BLOCK_N)
    tiles_j = tl.cdiv(R * S * I, BLOCK_N) if FLAT else R * S // TAPS * blocks_i
    tiles_o = tl.cdiv(O, BLOCK_M)
    pid = tl.program_id(0)
    pid_j, pid_o = pid % tiles_j, pid // tiles_j % tiles_o
    group, split = pid // tiles_j // tiles_o % groups, pid // tiles_j // tiles_o // groups
    if FLAT:
        j = pid_j * BLOCK_N + tl.arange(0, BLOCK_N)
        tap, i = j // I, j % I
        mask_i = tap < R * S
    else:
        tap = pid_j // blocks_i * TAPS
        i0 = pid_j % blocks_i * BLOCK_N
        lanes_n = tl.arange(0, BLOCK_N)
        i = i0 + lanes_n
        mask_i = tl.full((BLOCK_N,), True, tl.int1) if EVEN_I else i < I
    r, s = tap // S, tap % S
    offs_o = pid_o * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_o = tl.full((BLOCK_M,), True, tl.int1) if EVEN_O else offs_o < O
    dy_ptr += group * O * dy_sc
    x_ptr += group * I * x_sc
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    lanes = tl.arange(0, BLOCK_K)
    n, p, q = _first_pixels(start, P, Q, BLOCK_K)
    # what the first tap reads; where taps are columns, they add their own
    top_tap, left_tap = (-top, -left) if FLAT else (r * dil_h - top, s * dil_w - left)
    image, h, w = n, p * stride_h + top_tap, q * stride_w + left_tap
    accs = ()
    for _ in tl.static_range(TAPS):
        accs += (tl.zeros((BLOCK_M, BLOCK_N), ACC),)
    for step in range(steps):
        first = start + step * BLOCK_K
        exists = first + lanes < (tl.cast(N, first.dtype) * P * Q)
        if DENSE:  # the pixels of dy lie one after the other
            dy = load_tile(dy_ptr + first * dy_sw, lanes * dy_sw, offs_o * dy_sc, exists, mask_o, DY_ALONG)
        else:
            offs = n * dy_sn + p * dy_sh + q * dy_sw
            dy = load_tile(dy_ptr, offs, offs_o * dy_sc, exists, mask_o, DY_ALONG)
            n, p, q = _next_pixels(n, p, q, P, Q, 1, 1, P, Q, BLOCK_K)
        sums = ()
        for t in tl.static_range(TAPS):
            if FLAT:
                hs, ws = h[:, None] + (r * dil_h)[None, :], w[:, None] + (s * dil_w)[None, :]
                offs, there = _inputs(image[:, None] * x_sn, hs, ws, H, W, x_sh, x_sw, MODE)
                offs, mask = offs + (i * x_sc)[None, :], there & exists[:, None] & mask_i[None, :]
                if X_ALONG == 1:
                    x = tl.load(x_ptr + offs, mask=mask, other=0)
                else:
                    x = tl.load(x_ptr + offs.T, mask=mask.T, other=0).T
                if HAS_PAD:
                    x = tl.where(exists[:, None] & ~there, tl.load(pad_ptr), x)
            else:
                offs, there = _inputs(image * x_sn, h, w + t * dil_w, H, W, x_sh, x_sw, MODE)
                if PAD_BY_ADDRESS:
                    x = load_or_pad(x_ptr + i0, offs, lanes_n, there, exists, mask_i, pad_ptr, VEC_I)
                else:
                    x = load_tile(x_ptr, offs, i * x_sc, there & exists, mask_i, X_ALONG)
                    if HAS_PAD:
                        x = tl.where((exists & ~there)[:, None], tl.load(pad_ptr), x)
            sums += (tl.dot(dy.T, x, accs[t], input_precision=PRECISION, out_dtype=ACC),)
        accs = sums
        image, h, w = _next_pixels(
            image, h, w, P * stride_h + top_tap, Q * stride_w + left_tap, stride_h, stride_w, P, Q, BLOCK_K
        )
    dw_ptr += tl.cast(split, tl.int64) * dw_split + group * O * dw_so
    offs_j = r * dw_sr + s * dw_ss + i * dw_si
    for t in tl.static_range(TAPS):
        store_tile(dw_ptr + t * dw_ss, offs_o * dw_so, offs_j, accs[t], mask_o, mask_i, 1)


@triton.jit
def conv2d_weight_grad_direct_kernel(
    dy_ptr, x_ptr,      # as of conv2d_weight_grad_kernel
    pad_ptr,
    dw_ptr,
    N, I, H, W, O, P, Q, groups, steps,
    dy_sn, dy_sc, dy_sh, dy_sw,
    x_sn, x_sc, x_sh, x_sw,
    dw_split, dw_so, dw_si, dw_sr, dw_ss,
    stride_h, stride_w, top, left, dil_h, dil_w,
    R: tl.constexpr, S: tl.constexpr, MODE: tl.constexpr, HAS_PAD: tl.constexpr,
    DY_ALONG: tl.constexpr, X_ALONG: tl.constexpr, VEC_X: tl.constexpr, VEC_O: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Few channels a group: one program sums a range of pixels for BLOCK_N outputs of any groups, TAPS taps of one input.

    Grid: splits * tiles of outputs * taps / TAPS * inputs, the last fastest.
    """
    x_sn, x_sh, x_sw = x_sn // VEC_X * VEC_X, x_sh // VEC_X * VEC_X, x_sw // VEC_X * VEC_X
    dy_sn, dy_sh, dy_sw = dy_sn // VEC_O * VEC_O, dy_sh // VEC_O * VEC_O, dy_sw // VEC_O * VEC_O
    C = groups * O // VEC_O * VEC_O
    if WIDE:
        x_sn, x_sc, x_sh, x_sw = widened(x_sn, x_sc, x_sh, x_sw)
        dy_sn, dy_sc, dy_sh, dy_sw = widened(dy_sn, dy_sc, dy_sh, dy_sw)
    tiles_c, tiles_j = tl.cdiv(C, BLOCK_N), R * S // TAPS * I
    pid = tl.program_id(0)
    pid_j, pid_c, split = pid % tiles_j, pid // tiles_j % tiles_c, pid // tiles_j // tiles_c
    i, tap = pid_j % I, pid_j // I * TAPS
    r, s = tap // S, tap % S
    offs_c = pid_c * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_c = offs_c < C
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    n, p, q = _first_pixels(start, P, Q, BLOCK_K)
    accs = ()
    for _ in tl.static_range(TAPS):
        accs += (tl.zeros((BLOCK_K, BLOCK_N), ACC),)
    for _ in range(steps):
        exists = n < N
        offs = n * dy_sn + p * dy_sh + q * dy_sw
        dy = load_tile(dy_ptr, offs, offs_c * dy_sc, exists, mask_c, DY_ALONG).to(ACC)
        h, w = p * stride_h - top + r * dil_h, q * stride_w - left + s * dil_w
        sums = ()
        for t in tl.static_range(TAPS):
            offs, there = _inputs(n * x_sn, h, w + t * dil_w, H, W, x_sh, x_sw, MODE)
            x = load_tile(x_ptr + i * x_sc, offs, offs_c // O * I * x_sc, there & exists, mask_c, X_ALONG).to(ACC)
            if HAS_PAD:
                x = tl.where((exists & ~there)[:, None], tl.load(pad_ptr).to(ACC), x)
            sums += (accs[t] + dy * x,)
        accs = sums
        n, p, q = _next_pixels(n, p, q, P, Q, 1, 1, P, Q, BLOCK_K)
    dw_ptr += tl.cast(split, tl.int64) * dw_split + r * dw_sr + s * dw_ss + i * dw_si
    for t in tl.static_range(TAPS):
        dw = tl.sum(accs[t], 0)
        tl.store(dw_ptr + t * dw_ss + offs_c * dw_so, dw.to(dw_ptr.dtype.element_ty), mask=mask_c)


@triton.jit
def conv2d_bias_grad_kernel(
    dy_ptr,             # in:  [N, C, P, Q], any strides
    db_ptr,             # out: [splits, C]
    N, C, P, Q, steps,
    dy_sn, dy_sc, dy_sh, dy_sw,
    DY_ALONG: tl.constexpr, VEC_O: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program sums a range of pixels for BLOCK_N channels (grid: splits * tiles of channels)."""
    C = C // VEC_O * VEC_O
    dy_sn, dy_sh, dy_sw = dy_sn // VEC_O * VEC_O, dy_sh // VEC_O * VEC_O, dy_sw // VEC_O * VEC_O
    if WIDE:
        dy_sn, dy_sc, dy_sh, dy_sw = widened(dy_sn, dy_sc, dy_sh, dy_sw)
    tiles_c = tl.cdiv(C, BLOCK_N)
    split = tl.program_id(0) // tiles_c
    offs_c = tl.program_id(0) % tiles_c * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_c = offs_c < C
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    n, p, q = _first_pixels(start, P, Q, BLOCK_K)
    acc = tl.zeros((BLOCK_K, BLOCK_N), ACC)
    for _ in range(steps):
        offs = n * dy_sn + p * dy_sh + q * dy_sw
        acc += load_tile(dy_ptr, offs, offs_c * dy_sc, n < N, mask_c, DY_ALONG).to(ACC)
        n, p, q = _next_pixels(n, p, q, P, Q, 1, 1, P, Q, BLOCK_K)
    tl.store(db_ptr + split * C + offs_c, tl.sum(acc, 0).to(db_ptr.dtype.element_ty), mask=mask_c)


@triton.jit
def conv2d_sum_splits_kernel(
    splits_ptr,         # in:  [splits, C*J], J = (r, s, i), the input channel fastest
    out_ptr,            # out: taps [R, S] of [C, I], any strides
    splits, C, I, J, S, size,   # size = C*J
    so, si, sr, ss,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program adds BLOCK_N sums, BLOCK_M splits at a time, always in the same order (grid: tiles of C*J)."""
    e = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_N,), splits_ptr.dtype.element_ty)
    for first in range(0, splits, BLOCK_M):
        split = first + tl.arange(0, BLOCK_M)
        acc += tl.sum(load_tile(splits_ptr, split.to(tl.int64) * size, e, split < splits, e < size, 1), 0)
    o, tap, i = e // J, e % J // I, e % J % I
    offs = o * so + i * si + tap // S * sr + tap % S * ss
    tl.store(out_ptr + offs, acc.to(out_ptr.dtype.element_ty), mask=e < size)
