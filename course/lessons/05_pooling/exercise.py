"""Lesson 5, pooling. Fill in what is marked TODO, in order; page.md says what it is about.

    torchops course check 5      (or watch: it checks whenever you save)
"""

import torch
import triton
import triton.language as tl


def size(n, kernel, stride, padding):
    return (n + 2 * padding - kernel) // stride + 1


# Step 1. A program owns BLOCK windows of a plane, and keeps the largest pixel of each.
@triton.jit
def max_kernel(
    x_ptr,  # in:  [planes, H, W]
    y_ptr,  # out: [planes, P, Q]
    H, W, P, Q,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    x_plane = x_ptr + plane * H * W
    m = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # windows of this plane, counted row by row
    mask = m < P * Q
    h0, w0 = m // Q * STRIDE, m % Q * STRIDE  # the first pixel of each
    best = ...  # TODO 1a: what loses against every pixel?
    for tap in range(KERNEL * KERNEL):
        h, w = ...  # TODO 1b: the pixel that tap points to
        x = tl.load(x_plane + h * W + w, mask=mask)
        best = ...  # TODO 1c: the larger of both
    tl.store(y_ptr + plane * P * Q + m, best, mask=mask)


def max_pool(x, kernel, stride, block=16):
    N, C, H, W = x.shape
    P, Q = size(H, kernel, stride, 0), size(W, kernel, stride, 0)
    y = x.new_empty(N, C, P, Q)
    grid = (N * C, triton.cdiv(P * Q, block))
    max_kernel[grid](x, y, H, W, P, Q, KERNEL=kernel, STRIDE=stride, BLOCK=block)
    return y


# Step 2. The same with padding, and it remembers which pixel has won.
@triton.jit
def winner_kernel(
    x_ptr,  # in:  [planes, H, W]
    y_ptr, tap_ptr,  # out: [planes, P, Q]
    H, W, P, Q,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    x_plane = x_ptr + plane * H * W
    m = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = m < P * Q
    h0, w0 = m // Q * STRIDE - PADDING, m % Q * STRIDE - PADDING
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    won = tl.zeros((BLOCK,), tl.int32)
    for tap in range(KERNEL * KERNEL):
        h, w = h0 + tap // KERNEL, w0 + tap % KERNEL
        inside = mask & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        x = ...  # TODO 2a: what if a pixel lies outside?
        better = ...  # TODO 2b: of equal pixels the first wins
        won = ...  # TODO 2c: remember it
        best = tl.maximum(best, x)
    tl.store(y_ptr + plane * P * Q + m, best, mask=mask)
    tl.store(tap_ptr + plane * P * Q + m, won.to(tl.uint8), mask=mask)


def max_pool_tap(x, kernel, stride, padding, block=16):
    N, C, H, W = x.shape
    P, Q = size(H, kernel, stride, padding), size(W, kernel, stride, padding)
    y = x.new_empty(N, C, P, Q)
    tap = y.new_empty(N, C, P, Q, dtype=torch.uint8)
    grid = (N * C, triton.cdiv(P * Q, block))
    winner_kernel[grid](x, y, tap, H, W, P, Q, KERNEL=kernel, STRIDE=stride, PADDING=padding, BLOCK=block)
    return y, tap


# Step 3. The smallest pixel, and which it is.
def min_pool_tap(x, kernel, stride, padding, block=16):
    ...  # TODO 3a: without a kernel of its own


# Step 4. The mean.
@triton.jit
def avg_kernel(
    x_ptr,  # in:  [planes, H, W]
    y_ptr,  # out: [planes, P, Q]
    H, W, P, Q,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, COUNT_PADDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    x_plane = x_ptr + plane * H * W
    m = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = m < P * Q
    h0, w0 = m // Q * STRIDE - PADDING, m % Q * STRIDE - PADDING
    acc = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    for tap in range(KERNEL * KERNEL):
        h, w = h0 + tap // KERNEL, w0 + tap % KERNEL
        inside = mask & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        acc += ...  # TODO 4a: what if a pixel lies outside?
        count += ...  # TODO 4b: one more, where it is a pixel
    if COUNT_PADDING:
        mean = acc / (KERNEL * KERNEL)
    else:
        mean = ...  # TODO 4c: only the pixels count
    tl.store(y_ptr + plane * P * Q + m, mean, mask=mask)


def avg_pool(x, kernel, stride, padding, count_padding, block=16):
    N, C, H, W = x.shape
    P, Q = size(H, kernel, stride, padding), size(W, kernel, stride, padding)
    y = x.new_empty(N, C, P, Q)
    grid = (N * C, triton.cdiv(P * Q, block))
    avg_kernel[grid](
        x, y, H, W, P, Q,
        KERNEL=kernel, STRIDE=stride, PADDING=padding, COUNT_PADDING=count_padding, BLOCK=block,
    )  # fmt: skip
    return y
