"""Weight gradient of a convolution, as a matrix product over pixels.

    dw[k, c, r, s] = sum over pixels m of dy[m, k] x[position(m, r, s), c]

Pixels are many and weights few, so the sum is split: each program adds up one range of pixels for one tile of weights, in a
workspace of its own, and a second kernel adds the ranges, always in the same order (see sums.py). With one range there is no
workspace.

There are two kernels. With many channels, a program has a tile of them for one tap, or for the taps of a row, which share the
tile of dy. With few channels, taps and channels are one axis, as in flat.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import below, hinted, load_tile, load_where, store_tile

from .pixels import load_pixels


@triton.jit
def first_pixels(start, P, Q, BLOCK_K: tl.constexpr):
    """Image, row and column of output pixels start, start + 1, ..."""
    m = start + tl.arange(0, BLOCK_K)
    row = m // Q
    return row // P, (row % P).to(tl.int32), (m % Q).to(tl.int32)


@triton.jit
def next_pixels(n, h, w, h_end, w_end, step, y_size, BLOCK_K: tl.constexpr):
    """Image, row and column of the pixel that lies BLOCK_K outputs of a P x Q plane further on.

    This counts like an odometer, since a division costs more than a product: from an output to the next, columns move by step_w
    and start again at w_end; then rows move by step_h, and at h_end start again in the next image.
    """
    step_h, step_w = step
    P, Q = y_size
    w += BLOCK_K % Q * step_w
    h += BLOCK_K // Q % P * step_h + tl.where(w >= w_end, step_h, 0)
    w = tl.where(w >= w_end, w - Q * step_w, w)
    n += BLOCK_K // Q // P + tl.where(h >= h_end, 1, 0)
    return n, tl.where(h >= h_end, h - P * step_h, h), w


@triton.jit
def inputs(image, h, w, x_size, sh, sw, BORDER: tl.constexpr):
    """Offsets of the pixels that positions (h, w) stand for, and which of these lie inside the image."""
    H, W = x_size
    if BORDER == "constant":
        return image + h * sh + w * sw, in_range(h, H) & in_range(w, W)
    h, w = border_index(h, H, BORDER, False), border_index(w, W, BORDER, False)
    return image + h * sh + w * sw, tl.full(h.shape, True, tl.int1)


@triton.jit
def _program(tiles_j, tiles_k, groups):
    """What this program computes: its tile of columns, its tile of channels out, its group, its range of pixels."""
    pid = tl.program_id(0)
    pid_j, pid_k = pid % tiles_j, pid // tiles_j % tiles_k
    return pid_j, pid_k, pid // tiles_j // tiles_k % groups, pid // tiles_j // tiles_k // groups


@triton.jit
def conv2d_weight_grad_kernel(
    dy_ptr, x_ptr,                  # in:  [N, groups*K, P, Q], [N, groups*C, H, W], any strides
    pad_ptr,                        # in:  [PAD_CHANNELS], each the value beyond a constant border; None if it is 0
    dw_ptr,                         # out: taps [R, S] of [splits, groups*K, C]
    x_size, y_size, groups, steps,  # N, C, H, W; K, P, Q; a program sums steps * BLOCK_K pixels
    dy_strides, x_strides, dw_strides,
    stride, sides, dilation,
    R: tl.constexpr, S: tl.constexpr, BORDER: tl.constexpr,
    EVEN: tl.constexpr,             # whether tiles of C and K come out even
    EQUAL_STEPS: tl.constexpr,      # whether every pixel of dy lies as far from the one before, through rows and images
    ALONG: tl.constexpr, VEC: tl.constexpr,     # of x, dy: which dimension lies back to back; how many elements move
    PAD_BY_ADDRESS: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """One program sums a range of pixels for BLOCK_M channels out and BLOCK_N in, of TAPS taps.

    Grid: splits * groups * tiles of channels out * taps / TAPS * tiles of channels in, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, C, H, W = x_size
    K, P, Q = y_size
    C, K = C // VEC[0] * VEC[0], K // VEC[1] * VEC[1]
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC[1], WIDE)
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    dw_split, dw_sk, dw_sc, dw_sr, dw_ss = dw_strides
    stride_h, stride_w = stride
    left, _right, top, _bottom = sides
    dil_h, dil_w = dilation

    blocks_c = tl.cdiv(C, BLOCK_N)
    pid_j, pid_k, group, split = _program(R * S // TAPS * blocks_c, tl.cdiv(K, BLOCK_M), groups)
    tap, c0 = pid_j // blocks_c * TAPS, pid_j % blocks_c * BLOCK_N
    r, s = tap // S, tap % S
    lanes_n = tl.arange(0, BLOCK_N)
    offs_c = c0 + lanes_n
    mask_c = below(offs_c, C, EVEN[0])
    offs_k = pid_k * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_k = below(offs_k, K, EVEN[1])
    dy_ptr += group * K * dy_sk
    x_ptr += group * C * x_sc
    cols = offs_c
    if PAD_BY_ADDRESS:  # pad_ptr has PAD_CHANNELS channels, so x_ptr takes the offset of the block
        x_ptr, cols = x_ptr + c0, lanes_n
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    lanes = tl.arange(0, BLOCK_K)
    n, p, q = first_pixels(start, P, Q, BLOCK_K)
    # these are the positions that the first tap reads
    top_tap, left_tap = r * dil_h - top, s * dil_w - left
    image, h, w = n, p * stride_h + top_tap, q * stride_w + left_tap
    accs = ()
    for _ in tl.static_range(TAPS):
        accs += (tl.zeros((BLOCK_M, BLOCK_N), ACC),)
    for step in range(steps):
        first = start + step * BLOCK_K
        exists = first + lanes < (tl.cast(N, first.dtype) * P * Q)
        if EQUAL_STEPS:
            dy = load_tile(dy_ptr + first * dy_sw, lanes * dy_sw, offs_k * dy_sk, exists, mask_k, ALONG[1])
        else:
            dy = load_tile(dy_ptr, n * dy_sn + p * dy_sh + q * dy_sw, offs_k * dy_sk, exists, mask_k, ALONG[1])
            n, p, q = next_pixels(n, p, q, P, Q, (1, 1), (P, Q), BLOCK_K)
        sums = ()
        for t in tl.static_range(TAPS):
            offs, there = inputs(image * x_sn, h, w + t * dil_w, (H, W), x_sh, x_sw, BORDER)
            x = load_pixels(x_ptr, offs, cols, x_sc, there, exists, mask_c, pad_ptr, ALONG[0], PAD_BY_ADDRESS, VEC[0])
            sums += (tl.dot(dy.T, x, accs[t], input_precision=PRECISION, out_dtype=ACC),)
        accs = sums
        image, h, w = next_pixels(
            image, h, w, P * stride_h + top_tap, Q * stride_w + left_tap, stride, (P, Q), BLOCK_K
        )  # fmt: skip
    dw_ptr += tl.cast(split, tl.int64) * dw_split + group * K * dw_sk
    offs_j = r * dw_sr + s * dw_ss + offs_c * dw_sc
    for t in tl.static_range(TAPS):
        store_tile(dw_ptr + t * dw_ss, offs_k * dw_sk, offs_j, accs[t], mask_k, mask_c, 1)


@triton.jit
def conv2d_weight_grad_flat_kernel(
    dy_ptr, x_ptr,                  # as in conv2d_weight_grad_kernel
    pad_ptr,
    dw_ptr,
    x_size, y_size, groups, steps,
    dy_strides, x_strides, dw_strides,
    stride, sides, dilation,
    C: tl.constexpr,                # input channels of a group: dividing by a constant is cheap
    R: tl.constexpr, S: tl.constexpr, BORDER: tl.constexpr,
    EVEN: tl.constexpr, EQUAL_STEPS: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """With few channels, one program sums a range of pixels for BLOCK_M channels out and BLOCK_N columns (tap, channel in).

    Grid: splits * groups * tiles of channels out * tiles of columns, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, _C, H, W = x_size
    K, P, Q = y_size
    K = K // VEC[1] * VEC[1]
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC[1], WIDE)
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    dw_split, dw_sk, dw_sc, dw_sr, dw_ss = dw_strides
    stride_h, stride_w = stride
    left, _right, top, _bottom = sides
    dil_h, dil_w = dilation

    pid_j, pid_k, group, split = _program(tl.cdiv(R * S * C, BLOCK_N), tl.cdiv(K, BLOCK_M), groups)
    j = pid_j * BLOCK_N + tl.arange(0, BLOCK_N)
    tap, c = j // C, j % C
    mask_j = tap < R * S
    r, s = tap // S, tap % S
    offs_k = pid_k * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_k = below(offs_k, K, EVEN[1])
    dy_ptr += group * K * dy_sk
    x_ptr += group * C * x_sc
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    lanes = tl.arange(0, BLOCK_K)
    n, p, q = first_pixels(start, P, Q, BLOCK_K)
    image, h, w = n, p * stride_h - top, q * stride_w - left
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for step in range(steps):
        first = start + step * BLOCK_K
        exists = first + lanes < (tl.cast(N, first.dtype) * P * Q)
        if EQUAL_STEPS:
            dy = load_tile(dy_ptr + first * dy_sw, lanes * dy_sw, offs_k * dy_sk, exists, mask_k, ALONG[1])
        else:
            dy = load_tile(dy_ptr, n * dy_sn + p * dy_sh + q * dy_sw, offs_k * dy_sk, exists, mask_k, ALONG[1])
            n, p, q = next_pixels(n, p, q, P, Q, (1, 1), (P, Q), BLOCK_K)
        hs, ws = h[:, None] + (r * dil_h)[None, :], w[:, None] + (s * dil_w)[None, :]
        offs, there = inputs(image[:, None] * x_sn, hs, ws, (H, W), x_sh, x_sw, BORDER)
        x = load_where(x_ptr, offs + (c * x_sc)[None, :], there & exists[:, None] & mask_j[None, :], ALONG[0])
        if pad_ptr is not None:
            x = tl.where(exists[:, None] & ~there, tl.load(pad_ptr), x)
        acc = tl.dot(dy.T, x, acc, input_precision=PRECISION, out_dtype=ACC)
        image, h, w = next_pixels(image, h, w, P * stride_h - top, Q * stride_w - left, stride, (P, Q), BLOCK_K)
    dw_ptr += tl.cast(split, tl.int64) * dw_split + group * K * dw_sk
    store_tile(dw_ptr, offs_k * dw_sk, r * dw_sr + s * dw_ss + c * dw_sc, acc, mask_k, mask_j, 1)
