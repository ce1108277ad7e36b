"""Lesson 10, gradients. Fill in what is marked TODO, in order; page.md says what it is about.

    torchops course check 10      (or watch: it checks whenever you save)
"""

import triton
import triton.language as tl


# Step 1. The gradient of x: a program owns pixels, and asks which outputs have read them.
@triton.jit
def input_grad_kernel(
    dy_ptr, w_ptr,  # in:  [N, K, P, Q], [K, C, R, S]
    dx_ptr,  # out: [N, C, H, W]
    C, H, W, K, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)  # of dx
    n, c = plane // C, plane % C
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # pixels of that plane
    mask = i < H * W
    h, w = i // W, i % W
    acc = tl.zeros((BLOCK,), tl.float32)
    for k in range(K):
        for r in range(R):
            for s in range(S):
                # output (p, q) reads row p * STRIDE - PADDING + r: where that is h, p * STRIDE is
                row, col = h + PADDING - r, w + PADDING - s
                p, q = row // STRIDE, col // STRIDE
                even = ...  # TODO 1a: does it come out even?
                exists = ...  # TODO 1b: is there such an output?
                dy = tl.load(dy_ptr + (n * K + k) * P * Q + p * Q + q, mask=mask & even & exists, other=0)
                acc += ...  # TODO 1c: times which tap?
    tl.store(dx_ptr + plane * H * W + i, acc, mask=mask)


def input_grad(dy, weight, size, stride, padding, block=32):
    (N, K, P, Q), (_, C, R, S), (H, W) = dy.shape, weight.shape, size
    dx = dy.new_empty(N, C, H, W)
    grid = (N * C, triton.cdiv(H * W, block))
    input_grad_kernel[grid](
        dy, weight, dx, C, H, W, K, P, Q, R=R, S=S, STRIDE=stride, PADDING=padding, BLOCK=block
    )  # fmt: skip
    return dx


# Step 2. The gradient of the weight: what one image adds to one element of it.
@triton.jit
def of_image(
    dy_ptr, x_ptr,  # in:  [N, K, P, Q], [N, C, H, W]
    n, k, c, r, s,
    C, H, W, K, P, Q,
    STRIDE: tl.constexpr, PADDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sum over all pixels of dy[n, k] times what tap (r, s) has read there of channel c."""
    acc = tl.zeros((BLOCK,), tl.float32)
    for m0 in range(0, P * Q, BLOCK):
        m = m0 + tl.arange(0, BLOCK)
        dy = tl.load(dy_ptr + (n * K + k) * P * Q + m, mask=m < P * Q, other=0)
        h = ...  # TODO 2a: what has tap (r, s) of output m read?
        w = ...  # TODO 2a
        inside = (m < P * Q) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        acc += dy * tl.load(x_ptr + (n * C + c) * H * W + h * W + w, mask=inside, other=0)
    return ...  # TODO 2b: from a block to a number


@triton.jit
def adding_kernel(
    dy_ptr, x_ptr,  # in:  [N, K, P, Q], [N, C, H, W]
    dw_ptr,  # in and out: [K, C, R, S]
    C, H, W, K, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program owns a plane of dy: channel k of image n."""
    plane = tl.program_id(0).to(tl.int64)
    n, k = plane // K, plane % K
    for c in range(C):
        for r in range(R):
            for s in range(S):
                dw = of_image(dy_ptr, x_ptr, n, k, c, r, s, C, H, W, K, P, Q, STRIDE, PADDING, BLOCK)
                e = (k * C + c) * R * S + r * S + s
                tl.store(dw_ptr + e, tl.load(dw_ptr + e) + dw)


def weight_grad_adding(dy, x, taps, stride, padding, block=32):
    (N, K, P, Q), (_, C, H, W), (R, S) = dy.shape, x.shape, taps
    dw = dy.new_zeros(K, C, R, S)
    adding_kernel[(N * K,)](
        dy, x, dw, C, H, W, K, P, Q, R=R, S=S, STRIDE=stride, PADDING=padding, BLOCK=block
    )  # fmt: skip
    return dw


# Step 4. A program owns one element of dw, and goes through all images.
@triton.jit
def weight_grad_kernel(
    dy_ptr, x_ptr,  # in:  [N, K, P, Q], [N, C, H, W]
    dw_ptr,  # out: [K, C, R, S]
    N, C, H, W, K, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    e = tl.program_id(0).to(tl.int64)  # the element, counted through [K, C, R, S]
    k, c = e // (C * R * S), e // (R * S) % C
    r, s = ...  # TODO 4a: which tap is it?
    dw = 0.0
    for n in range(N):
        dw += of_image(dy_ptr, x_ptr, n, k, c, r, s, C, H, W, K, P, Q, STRIDE, PADDING, BLOCK)
    tl.store(dw_ptr + e, dw)


def weight_grad(dy, x, taps, stride, padding, block=32):
    (N, K, P, Q), (_, C, H, W), (R, S) = dy.shape, x.shape, taps
    dw = dy.new_empty(K, C, R, S)
    grid = ...  # TODO 4b: who owns what?
    weight_grad_kernel[grid](
        dy, x, dw, N, C, H, W, K, P, Q, R=R, S=S, STRIDE=stride, PADDING=padding, BLOCK=block
    )  # fmt: skip
    return dw


# Step 5. The gradient of the bias, a kernel of your own from the first line to the last.
@triton.jit
def bias_grad_kernel(dy_ptr, db_ptr, N, K, SIZE, BLOCK: tl.constexpr):
    ...  # TODO 5a: [N, K, SIZE] in, [K] out: who owns what?


def bias_grad(dy, block=32):
    N, K, P, Q = dy.shape
    db = dy.new_empty(K)
    bias_grad_kernel[(K,)](dy, db, N, K, P * Q, BLOCK=block)
    return db
