"""Convolution as a matrix product whose left side is never written down.

    y[m, k] = sum over taps t and channels c of x[position(m, t), c] w[t, c, k]        m = (n, p, q)

plain.py, plus:
- borders by index: a tap outside the image reads what its border says; no copy of x is padded;
- any map from pixels and taps to positions (see pixels.py), and with it the gradient in x, by phases;
- vector hints: what divides strides and sizes, so that the compiler moves 128 bits at a time;
- the epilogue: a bias, a residual and an activation while the sums are in registers (see epilogue.py);
- one loop instead of three: taps inside, channels outside, so that the compiler overlaps loads with products all the way.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import in_range
from torchops.kernels.device.tiles import below, hinted, load_tile

from .epilogue import finish
from .pixels import inside_bits, load_pixels, output_tile, read


@triton.jit
def hinted_taps(strides, VEC: tl.constexpr, ALONG: tl.constexpr):
    """`hinted` for the weight [groups, K, C, R, S], of which a kernel loads tiles [C, K].

    Channels in lie back to back if ALONG is 0. Else channels out do, or neither, and VEC is 1.
    """
    sg, sk, sc, sr, ss = strides
    sg, sr, ss = sg // VEC * VEC, sr // VEC * VEC, ss // VEC * VEC
    sk, sc = (sk // VEC * VEC, sc) if ALONG == 0 else (sk, sc // VEC * VEC)
    return sg, sk, sc, sr, ss


@triton.jit
def conv2d_gemm_kernel(
    x_ptr, w_ptr,                       # in:  [N, groups*C, H, W] and taps [R, S] of [groups, K, C], any strides
    bias_ptr, residual_ptr, ring_ptr,   # in:  [groups*K], [N, groups*K, P, Q], [N, ring, groups*K]; or None
    pad_ptr,                            # in:  [PAD_CHANNELS], each the value beyond a constant border; None if it is 0
    y_ptr,                              # out: [N, groups*K, P, Q]; [N, ring, groups*K] where MAP is "ring"
    x_size, y_size, groups,             # N, C, H, W; K, P, Q
    x_strides, w_strides, r_strides, y_strides,
    stride, sides, dilation,
    step, jump,                         # from a tap to the next: pixels of x, and rows and columns of the R x S taps
    R: tl.constexpr, S: tl.constexpr, MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr,
    FOLD: tl.constexpr, INSIDE: tl.constexpr,   # the border of a gradient that is folded; whether no tap leaves the image
    EVEN: tl.constexpr,                         # whether the tiles of C and of K come out even
    ALONG: tl.constexpr, VEC: tl.constexpr,     # of x, w, y: which dimension lies back to back; how many elements move
    PAD_BY_ADDRESS: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M pixels of BLOCK_N channels (grid: phases * groups * tiles of pixels and channels)."""
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, C, H, W = x_size
    K, P, Q = y_size
    C, K = C // VEC[0] * VEC[0], K // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, w_sk, w_sc, w_sr, w_ss = hinted_taps(w_strides, VEC[1], ALONG[1])
    step_h, step_w = step
    jump_h, jump_w = jump

    pid_n, group, pixel, exists, r0, s0, h0, w0 = output_tile(
        N, P, Q, groups, tl.cdiv(K, BLOCK_N), stride, sides, dilation, R, S, MAP, WIDE, BLOCK_M
    )
    taps_h, taps_w = tl.cdiv(R - r0, jump_h), tl.cdiv(S - s0, jump_w)
    x_ptr += group * C * x_sc
    w_ptr += group * w_sg + r0 * w_sr + s0 * w_ss
    w_sr, w_ss = w_sr * jump_h, w_ss * jump_w
    offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = below(offs_k, K, EVEN[1])
    lanes = tl.arange(0, BLOCK_K)
    image = pixel[0] * x_sn
    pixels = image + h0 * x_sh + w0 * x_sw
    every = tl.full((BLOCK_M,), True, tl.int1)
    BITS: tl.constexpr = BORDER == "constant" and MAP != "ring" and not INSIDE and R * S < 32
    inside = inside_bits(h0, w0, (H, W), step, R, S) if BITS else every
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    # the loop has channels outside and taps inside: the taps of one block of channels read the same lines of the cache
    t_h, t_w, c0 = 0, 0, 0
    for _ in range(taps_h * taps_w * tl.cdiv(C, BLOCK_K)):
        h, w = h0 + t_h * step_h, w0 + t_w * step_w
        x_block = x_ptr + c0 * x_sc
        if BORDER == "constant" and MAP != "ring":
            x_block += t_h * step_h * x_sh + t_w * step_w * x_sw
            offs, there = pixels, every
            if not INSIDE:
                there = inside & (1 << (t_h * S + t_w)) != 0 if BITS else in_range(h, H) & in_range(w, W)
        else:
            offs, there = read(h, w, (H, W), x_sh, x_sw, stride, BORDER, MAP)
            offs += image
        mask_c = below(lanes, C - c0, EVEN[0])
        a = load_pixels(x_block, offs, lanes, x_sc, there, every, mask_c, pad_ptr, ALONG[0], PAD_BY_ADDRESS, VEC[0])
        w_block = w_ptr + (t_h * w_sr + t_w * w_ss + c0 * w_sc)
        b = load_tile(w_block, lanes * w_sc, offs_k * w_sk, mask_c, mask_k, ALONG[1])
        acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)
        t_w += 1
        t_h, t_w = tl.where(t_w == taps_w, t_h + 1, t_h), tl.where(t_w == taps_w, 0, t_w)
        c0, t_h = tl.where(t_h == taps_h, c0 + BLOCK_K, c0), tl.where(t_h == taps_h, 0, t_h)

    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, pixel, group * K + offs_k, exists, mask_k, (groups * K, P, Q),
        hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE), sides, ACTIVATION, FOLD, ALONG[2],
    )  # fmt: skip
