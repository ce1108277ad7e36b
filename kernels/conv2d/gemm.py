"""Convolution as a matrix product whose left side is never written down.

    y[m, o] = sum over taps t and channels i of x[pixel(m, t), i] w[t, i, o]        m = (n, p, q)

The forward pass and the input gradient are the same gather, with other operands and another map from output pixels and taps
to input pixels. A tap outside the image reads what the padding mode says, by index: there is no padded copy.

A gradient of stride s is s*s dense problems, its phases: pixels p of one remainder of p + padding modulo s share the taps that
reach them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import load_or_pad, load_tile, widened

from .epilogue import finish, ring_pixel, ring_size


@triton.jit
def _first_tap(phase, dilation, stride, TAPS: tl.constexpr):
    """The first of the taps that reach outputs of this phase; TAPS if none does."""
    first = phase * 0 + TAPS
    for i in tl.static_range(TAPS):
        first = tl.where((phase - (TAPS - 1 - i) * dilation) % stride == 0, TAPS - 1 - i, first)
    return first


@triton.jit
def _tile(
    N, P, Q, groups, tiles_n, stride_h, stride_w, top, bottom, left, right, dil_h, dil_w,
    R: tl.constexpr, S: tl.constexpr, TRANSPOSED: tl.constexpr, RING: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
):  # fmt: skip
    """The tile of this program: its number among the tiles of channels, its group, its pixels and what they read first.

    A pixel is row p and column q of image n, and has a number in the plane that is written; `exists` masks those beyond the
    last. Tap (r0, s0) is the first to reach it, and reads pixel (h0, w0).
    """
    phases_h, phases_w = 1, 1
    if TRANSPOSED and not RING:
        phases_h, phases_w = stride_h, stride_w
    largest = tl.cdiv(P, phases_h) * tl.cdiv(Q, phases_w)
    if RING:
        largest = ring_size(P, Q, top, bottom, left, right)
    if WIDE:
        largest = tl.cast(largest, tl.int64)
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(N * largest, BLOCK_M)
    pid_m, rest = pid // tiles_n % tiles_m, pid // tiles_n // tiles_m
    phase_h, phase_w = rest // groups // phases_w, rest // groups % phases_w
    rows, cols = tl.cdiv(P - phase_h, phases_h), tl.cdiv(Q - phase_w, phases_w)
    plane = rows * cols
    if RING:
        plane = largest
    m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    exists = m < N * plane
    # lanes beyond the last pixel read it again; a phase may have none, but memory has
    m = tl.maximum(tl.minimum(m, N * plane - 1), 0)
    n, pixel = m // tl.maximum(plane, 1), (m % tl.maximum(plane, 1)).to(tl.int32)
    r0, s0 = 0, 0
    if RING:
        p, q = ring_pixel(pixel, P, Q, top, bottom, left, right)
        h0, w0 = p + top, q + left
    elif TRANSPOSED:
        p, q = pixel // tl.maximum(cols, 1), pixel % tl.maximum(cols, 1)
        r0, s0 = _first_tap(phase_h + top, dil_h, stride_h, R), _first_tap(phase_w + left, dil_w, stride_w, S)
        h0, w0 = p + (phase_h + top - r0 * dil_h) // stride_h, q + (phase_w + left - s0 * dil_w) // stride_w
        p, q = phase_h + p * phases_h, phase_w + q * phases_w
    else:
        p, q = pixel // cols, pixel % cols
        h0, w0 = p * stride_h - top, q * stride_w - left
    return pid % tiles_n, rest % groups, n, p, q, pixel, exists, r0, s0, h0, w0


@triton.jit
def _read(h, w, H, W, sh, sw, stride_h, stride_w, MODE: tl.constexpr, STRIDED: tl.constexpr):
    """Offsets of the pixels that positions (h, w) stand for, and which are inside the image.

    STRIDED positions count in units of 1/stride: only the multiples of it are pixels.
    """
    if STRIDED:
        whole = (h % stride_h == 0) & (w % stride_w == 0) & (h >= 0) & (w >= 0)
        h, w = h // stride_h, w // stride_w
        return h * sh + w * sw, whole & (h < H) & (w < W)
    if MODE == "constant":
        return h * sh + w * sw, in_range(h, H) & in_range(w, W)
    return (
        border_index(h, H, MODE, False) * sh + border_index(w, W, MODE, False) * sw,
        tl.full(h.shape, True, tl.int1),
    )


@triton.jit
def _inside_bits(h0, w0, H, W, step_h, step_w, R: tl.constexpr, S: tl.constexpr):
    """Bit t_h*S + t_w says whether that tap lies inside the image: one instruction to ask, in the loop."""
    row = h0 * 0
    for s in tl.static_range(S):
        row |= in_range(w0 + s * step_w, W).to(tl.int32) << s
    bits = h0 * 0
    for r in tl.static_range(R):
        bits |= tl.where(in_range(h0 + r * step_h, H), row << (r * S), 0)
    return bits


@triton.jit
def conv2d_gemm_kernel(
    x_ptr, w_ptr,                       # in:  [N, groups*I, H, W] and taps [R, S] of [groups, O, I], any strides
    bias_ptr, residual_ptr, ring_ptr,   # in:  [groups*O], [N, groups*O, P, Q], [N, ring, groups*O]; where there are
    pad_ptr,                            # in:  [256] times the value beyond a constant border; where it is not 0
    y_ptr,                              # out: [N, groups*O, P, Q]; [N, ring, groups*O] where RING
    N, I, H, W, O, P, Q, groups,
    x_sn, x_sc, x_sh, x_sw,
    w_sg, w_so, w_si, w_sr, w_ss,
    r_sn, r_sc, r_sh, r_sw,
    y_sn, y_sc, y_sh, y_sw,
    stride_h, stride_w, top, bottom, left, right, dil_h, dil_w,
    step_h, step_w, jump_h, jump_w,     # from a tap to the next: pixels of x, and rows and columns of the R x S taps
    R: tl.constexpr, S: tl.constexpr, MODE: tl.constexpr, HAS_PAD: tl.constexpr, ACTIVATION: tl.constexpr,
    TRANSPOSED: tl.constexpr, RING: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    FOLD: tl.constexpr, INSIDE: tl.constexpr, FLAT: tl.constexpr, EVEN_I: tl.constexpr, EVEN_O: tl.constexpr,
    X_ALONG: tl.constexpr, W_ALONG: tl.constexpr, Y_ALONG: tl.constexpr, PAD_BY_ADDRESS: tl.constexpr,
    VEC_I: tl.constexpr, VEC_W: tl.constexpr, VEC_O: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M pixels of BLOCK_N channels (grid: phases * groups * tiles of pixels and channels)."""
    # say what divides these: then the compiler moves 128 bits at a time
    I, O = I // VEC_I * VEC_I, O // VEC_O * VEC_O
    x_sn, x_sh, x_sw = x_sn // VEC_I * VEC_I, x_sh // VEC_I * VEC_I, x_sw // VEC_I * VEC_I
    r_sn, r_sh, r_sw = r_sn // VEC_O * VEC_O, r_sh // VEC_O * VEC_O, r_sw // VEC_O * VEC_O
    y_sn, y_sh, y_sw = y_sn // VEC_O * VEC_O, y_sh // VEC_O * VEC_O, y_sw // VEC_O * VEC_O
    w_sg, w_sr, w_ss = w_sg // VEC_W * VEC_W, w_sr // VEC_W * VEC_W, w_ss // VEC_W * VEC_W
    w_so, w_si = (w_so // VEC_W * VEC_W, w_si) if W_ALONG == 1 else (w_so, w_si // VEC_W * VEC_W)
    if WIDE:
        x_sn, x_sc, x_sh, x_sw = widened(x_sn, x_sc, x_sh, x_sw)
        r_sn, r_sc, r_sh, r_sw = widened(r_sn, r_sc, r_sh, r_sw)
        y_sn, y_sc, y_sh, y_sw = widened(y_sn, y_sc, y_sh, y_sw)

    pid_n, group, n, p, q, pixel, exists, r0, s0, h0, w0 = _tile(
        N, P, Q, groups, tl.cdiv(O, BLOCK_N), stride_h, stride_w, top, bottom, left, right, dil_h, dil_w,
        R, S, TRANSPOSED, RING, WIDE, BLOCK_M,
    )  # fmt: skip
    taps_h, taps_w = tl.cdiv(R - r0, jump_h), tl.cdiv(S - s0, jump_w)
    x_ptr += group * I * x_sc
    w_ptr += group * w_sg + r0 * w_sr + s0 * w_ss
    w_sr, w_ss = w_sr * jump_h, w_ss * jump_w
    offs_o = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    lanes = tl.arange(0, BLOCK_K)
    mask_o = tl.full((BLOCK_N,), True, tl.int1) if EVEN_O else offs_o < O
    image = n * x_sn
    pixels = image + h0 * x_sh + w0 * x_sw
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    if FLAT:
        # few channels: taps and channels are one axis
        for j0 in range(0, taps_h * taps_w * FLAT, BLOCK_K):
            tap, i = (j0 + lanes) // FLAT, (j0 + lanes) % FLAT
            t_h, t_w, mask_j = tap // taps_w, tap % taps_w, tap < taps_h * taps_w
            h, w = h0[:, None] + (t_h * step_h)[None, :], w0[:, None] + (t_w * step_w)[None, :]
            if MODE == "constant" and not RING:
                there = in_range(h, H) & in_range(w, W)
                offs = pixels[:, None] + (t_h * step_h * x_sh + t_w * step_w * x_sw + i * x_sc)[None, :]
            else:
                offs, there = _read(h, w, H, W, x_sh, x_sw, stride_h, stride_w, MODE, RING)
                offs += image[:, None] + (i * x_sc)[None, :]
            mask = there & mask_j[None, :]
            if X_ALONG == 1:
                a = tl.load(x_ptr + offs, mask=mask, other=0)
            else:
                a = tl.load(x_ptr + offs.T, mask=mask.T, other=0).T
            if HAS_PAD:
                a = tl.where(mask_j[None, :] & ~there, tl.load(pad_ptr), a)
            offs_j = t_h * w_sr + t_w * w_ss + i * w_si
            b = load_tile(w_ptr, offs_j, offs_o * w_so, mask_j, mask_o, 1 - W_ALONG)
            acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)
    else:
        # channels outside, taps inside: the taps of one block of channels read the same lines of the cache
        BITS: tl.constexpr = MODE == "constant" and not RING and not INSIDE and R * S < 32
        inside = _inside_bits(h0, w0, H, W, step_h, step_w, R, S) if BITS else n
        t_h, t_w, i0 = 0, 0, 0
        for _ in range(taps_h * taps_w * tl.cdiv(I, BLOCK_K)):
            h, w = h0 + t_h * step_h, w0 + t_w * step_w
            x_block = x_ptr + i0 * x_sc
            if MODE == "constant" and not RING:
                x_block += t_h * step_h * x_sh + t_w * step_w * x_sw
                offs = pixels
                there = tl.full((BLOCK_M,), True, tl.int1)
                if not INSIDE:
                    there = inside & (1 << (t_h * S + t_w)) != 0 if BITS else in_range(h, H) & in_range(w, W)
            else:
                offs, there = _read(h, w, H, W, x_sh, x_sw, stride_h, stride_w, MODE, RING)
                offs += image
            mask_i = tl.full((BLOCK_K,), True, tl.int1) if EVEN_I else lanes < I - i0
            if PAD_BY_ADDRESS:
                a = load_or_pad(x_block, offs, lanes, there, tl.full((BLOCK_M,), True, tl.int1), mask_i, pad_ptr, VEC_I)
            else:
                a = load_tile(x_block, offs, lanes * x_sc, there, mask_i, X_ALONG)
                if HAS_PAD:
                    a = tl.where(mask_i[None, :] & ~there[:, None], tl.load(pad_ptr), a)
            w_block = w_ptr + (t_h * w_sr + t_w * w_ss + i0 * w_si)
            b = load_tile(w_block, lanes * w_si, offs_o * w_so, mask_i, mask_o, 1 - W_ALONG)
            acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)
            t_w += 1
            t_h, t_w = tl.where(t_w == taps_w, t_h + 1, t_h), tl.where(t_w == taps_w, 0, t_w)
            i0, t_h = tl.where(t_h == taps_h, i0 + BLOCK_K, i0), tl.where(t_h == taps_h, 0, t_h)

    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, n, p, q, pixel, group * O + offs_o, exists, mask_o,
        P, Q, groups * O, r_sn, r_sc, r_sh, r_sw, y_sn, y_sc, y_sh, y_sw, top, bottom, left, right,
        ACTIVATION, RING, HAS_BIAS, HAS_RESIDUAL, FOLD, Y_ALONG, ACC,
    )  # fmt: skip


@triton.jit
def conv2d_direct_kernel(
    x_ptr, w_ptr,                       # as of conv2d_gemm_kernel
    bias_ptr, residual_ptr, ring_ptr,
    pad_ptr,
    y_ptr,
    N, I, H, W, O, P, Q, groups,
    x_sn, x_sc, x_sh, x_sw,
    w_sg, w_so, w_si, w_sr, w_ss,
    r_sn, r_sc, r_sh, r_sw,
    y_sn, y_sc, y_sh, y_sw,
    stride_h, stride_w, top, bottom, left, right, dil_h, dil_w,
    step_h, step_w, jump_h, jump_w,
    R: tl.constexpr, S: tl.constexpr, MODE: tl.constexpr, HAS_PAD: tl.constexpr, ACTIVATION: tl.constexpr,
    TRANSPOSED: tl.constexpr, RING: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    FOLD: tl.constexpr, X_ALONG: tl.constexpr, Y_ALONG: tl.constexpr,
    VEC_X: tl.constexpr, VEC_O: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Few channels a group: no matrix product, a multiply-add a tap and lane.

    One program computes BLOCK_M pixels of BLOCK_N channels, of any groups (grid: phases * tiles of pixels and channels).
    """
    x_sn, x_sh, x_sw = x_sn // VEC_X * VEC_X, x_sh // VEC_X * VEC_X, x_sw // VEC_X * VEC_X
    r_sn, r_sh, r_sw = r_sn // VEC_O * VEC_O, r_sh // VEC_O * VEC_O, r_sw // VEC_O * VEC_O
    y_sn, y_sh, y_sw = y_sn // VEC_O * VEC_O, y_sh // VEC_O * VEC_O, y_sw // VEC_O * VEC_O
    C = groups * O // VEC_O * VEC_O
    if WIDE:
        x_sn, x_sc, x_sh, x_sw = widened(x_sn, x_sc, x_sh, x_sw)
        r_sn, r_sc, r_sh, r_sw = widened(r_sn, r_sc, r_sh, r_sw)
        y_sn, y_sc, y_sh, y_sw = widened(y_sn, y_sc, y_sh, y_sw)
    pid_n, _, n, p, q, pixel, exists, r0, s0, h0, w0 = _tile(
        N, P, Q, 1, tl.cdiv(C, BLOCK_N), stride_h, stride_w, top, bottom, left, right, dil_h, dil_w,
        R, S, TRANSPOSED, RING, WIDE, BLOCK_M,
    )  # fmt: skip
    taps_h, taps_w = tl.cdiv(R - r0, jump_h), tl.cdiv(S - s0, jump_w)
    offs_c = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_c = offs_c < C
    offs_w = offs_c // O * w_sg + offs_c % O * w_so + r0 * w_sr + s0 * w_ss
    offs_x = offs_c // O * I * x_sc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for t_h in range(taps_h):
        for t_w in tl.static_range(S):
            h, w = h0 + t_h * step_h, w0 + t_w * step_w
            offs, there = _read(h, w, H, W, x_sh, x_sw, stride_h, stride_w, MODE, RING)
            reached = t_w < taps_w
            for i in range(I):
                a = load_tile(x_ptr + i * x_sc, n * x_sn + offs, offs_x, there & reached, mask_c, X_ALONG).to(ACC)
                if HAS_PAD:
                    a = tl.where((reached & ~there)[:, None], tl.load(pad_ptr).to(ACC), a)
                b = tl.load(
                    w_ptr + offs_w + (t_h * jump_h * w_sr + t_w * jump_w * w_ss + i * w_si),
                    mask=mask_c & reached, other=0,
                )  # fmt: skip
                acc += a * b.to(ACC)[None, :]
    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, n, p, q, pixel, offs_c, exists, mask_c,
        P, Q, C, r_sn, r_sc, r_sh, r_sw, y_sn, y_sc, y_sh, y_sw, top, bottom, left, right,
        ACTIVATION, RING, HAS_BIAS, HAS_RESIDUAL, FOLD, Y_ALONG, ACC,
    )  # fmt: skip
