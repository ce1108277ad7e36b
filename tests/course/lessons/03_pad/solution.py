"""Padding by index, with strides: what the checker is tried on."""

import torch
import triton
import triton.language as tl


@triton.jit
def pad_kernel(
    x_ptr, y_ptr,
    H, W, P, Q, x_sc, x_sh, x_sw,
    value,
    PAD: tl.constexpr, REFLECT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    c, p = row // P, row % P
    q = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    h, w = p - PAD, q - PAD
    if REFLECT:
        h = tl.where(h < 0, -h, h)
        h = tl.where(h >= H, 2 * (H - 1) - h, h)
        w = tl.where(w < 0, -w, w)
        w = tl.where(w >= W, 2 * (W - 1) - w, w)
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
    x = tl.load(x_ptr + c * x_sc + h * x_sh + w * x_sw, mask=inside, other=value)
    tl.store(y_ptr + row * Q + q, x, mask=q < Q)


def pad(x, n, mode, value, block=32):
    C, H, W = x.shape
    y = torch.empty(C, H + 2 * n, W + 2 * n, dtype=x.dtype, device=x.device)
    P, Q = y.shape[1:]
    grid = (C * P, triton.cdiv(Q, block))
    pad_kernel[grid](x, y, H, W, P, Q, *x.stride(), value, PAD=n, REFLECT=mode == "reflect", BLOCK=block)
    return y
