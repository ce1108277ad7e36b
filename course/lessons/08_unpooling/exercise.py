"""Lesson 8, unpooling. Fill in what is marked TODO, in order; page.md says what it is about.

    torchops course check 8      (or watch: it checks whenever you save)
"""

import triton
import triton.language as tl


# Step 1. A program owns windows, and scatters their values.
@triton.jit
def scatter_kernel(
    x_ptr, tap_ptr,  # in:  [planes, P, Q]
    y_ptr,  # out: [planes, H, W]
    P, Q, H, W,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # windows of this plane, counted row by row
    mask = ...  # TODO 1a: which of these are windows?
    p, q = k // Q, k % Q
    x = tl.load(x_ptr + plane * P * Q + k, mask=mask)
    tap = tl.load(tap_ptr + plane * P * Q + k, mask=mask).to(tl.int32)
    h = ...  # TODO 1b: the row that the tap points to, and the column
    w = ...  # TODO 1b
    tl.store(y_ptr + plane * H * W + h * W + w, x, mask=mask)


def unpool_scatter(x, tap, kernel, stride, block=16):
    N, C, P, Q = x.shape
    H, W = (P - 1) * stride + kernel, (Q - 1) * stride + kernel
    y = ...  # TODO 1c: most pixels are nobody's
    grid = (N * C, triton.cdiv(P * Q, block))
    scatter_kernel[grid](x, tap, y, P, Q, H, W, KERNEL=kernel, STRIDE=stride, BLOCK=block)
    return y


# Step 3. A program owns pixels, and looks at the windows over each.
@triton.jit
def gather_kernel(
    x_ptr, tap_ptr,  # in:  [planes, P, Q]
    y_ptr,  # out: [planes, H, W]
    P, Q, H, W,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, OVER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    w = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    y = tl.zeros((BLOCK,), tl.float32)
    for i in range(OVER * OVER):
        # of the OVER * OVER windows that may lie over a pixel, the i-th, first to last
        p = h // STRIDE - (OVER - 1 - i // OVER)
        q = w // STRIDE - (OVER - 1 - i % OVER)
        r, s = h - p * STRIDE, w - q * STRIDE
        exists = ...  # TODO 3a: is there such a window?
        over = ...  # TODO 3a: does it lie over the pixel?
        k = plane * P * Q + p * Q + q
        x = tl.load(x_ptr + k, mask=over, other=0)
        tap = tl.load(tap_ptr + k, mask=over, other=0).to(tl.int32)
        y = ...  # TODO 3b: its value, where its tap points here
    tl.store(y_ptr + plane * H * W + h * W + w, y, mask=...)  # TODO 3c: every pixel of the image, and nothing else


def unpool(x, tap, kernel, stride, block=16):
    N, C, P, Q = x.shape
    H, W = (P - 1) * stride + kernel, (Q - 1) * stride + kernel
    y = x.new_empty(N, C, H, W)
    grid = (N * C * H, triton.cdiv(W, block))
    over = triton.cdiv(kernel, stride)
    gather_kernel[grid](x, tap, y, P, Q, H, W, KERNEL=kernel, STRIDE=stride, OVER=over, BLOCK=block)
    return y
