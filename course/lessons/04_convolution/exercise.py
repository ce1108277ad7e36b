"""Lesson 4, convolution. Fill in what is marked TODO, in order; page.md says what it is about.

    torchops course check 4      (or watch: it checks whenever you save)
"""

import triton
import triton.language as tl


# Steps 1 and 3. One image, one filter: a program owns BLOCK pixels of the result.
@triton.jit
def convolve_kernel(
    x_ptr, w_ptr,  # in:  [H, W], [R, S]
    y_ptr,  # out: [P, Q]
    W, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # pixels of the result, counted row by row
    mask = m < P * Q
    p, q = m // Q, m % Q
    acc = tl.zeros((BLOCK,), tl.float32)
    for r in range(R):
        for s in range(S):
            h = ...  # TODO 1a: the row that tap (r, s) of pixel (p, q) reads; step 3 comes back here
            w = ...  # TODO 1a: and the column
            x = tl.load(x_ptr + h * W + w, mask=mask, other=0)
            tap = tl.load(w_ptr + r * S + s)  # one number for the whole block
            acc += ...  # TODO 1b: what a tap adds to the sum
    tl.store(y_ptr + m, acc, mask=mask)


def convolve(x, weight, block=16):
    (H, W), (R, S) = x.shape, weight.shape
    P, Q = H - R + 1, W - S + 1
    y = x.new_empty(P, Q)
    grid = (triton.cdiv(P * Q, block),)
    convolve_kernel[grid](x, weight, y, W, P, Q, R=R, S=S, STRIDE=1, DILATION=1, BLOCK=block)
    return y


# Step 2.
def size(n, taps, stride, padding, dilation):
    """How many places a filter of so many taps has among n pixels, with `padding` more on either side."""
    return ...  # TODO 2a


def convolve_strided(x, weight, stride, dilation, block=16):
    (H, W), (R, S) = x.shape, weight.shape
    P, Q = size(H, R, stride, 0, dilation), size(W, S, stride, 0, dilation)
    y = x.new_empty(P, Q)
    grid = (triton.cdiv(P * Q, block),)
    convolve_kernel[grid](x, weight, y, W, P, Q, R=R, S=S, STRIDE=stride, DILATION=dilation, BLOCK=block)
    return y


# Step 4. N images of C channels, K filters: a program owns BLOCK pixels of one channel of one image.
@triton.jit
def conv2d_kernel(
    x_ptr, w_ptr, bias_ptr,  # in:  [N, C, H, W], [K, C, R, S], [K]
    y_ptr,  # out: [N, K, P, Q]
    C, H, W, K, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)  # of y
    n, k = ...  # TODO 4a: which image is it, and which filter?
    m = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = m < P * Q
    h0, w0 = m // Q * STRIDE - PADDING, m % Q * STRIDE - PADDING
    acc = tl.zeros((BLOCK,), tl.float32) + tl.load(bias_ptr + k)
    for c in range(C):
        x_plane = ...  # TODO 4b: where does channel c of the image begin?
        w_plane = ...  # TODO 4b: and channel c of the filter?
        for r in range(R):
            for s in range(S):
                h, w = h0 + r * DILATION, w0 + s * DILATION
                inside = ...  # TODO 4c: which lanes read a pixel? (lesson 3)
                acc += tl.load(x_plane + h * W + w, mask=inside, other=0) * tl.load(w_plane + r * S + s)
    tl.store(y_ptr + plane * P * Q + m, acc, mask=mask)


def conv2d(x, weight, bias, stride, padding, dilation, block=16):
    (N, C, H, W), (K, _, R, S) = x.shape, weight.shape
    P, Q = size(H, R, stride, padding, dilation), size(W, S, stride, padding, dilation)
    y = x.new_empty(N, K, P, Q)
    grid = ...  # TODO 4d: who owns what?
    conv2d_kernel[grid](
        x, weight, bias, y, C, H, W, K, P, Q,
        R=R, S=S, STRIDE=stride, PADDING=padding, DILATION=dilation, BLOCK=block,
    )  # fmt: skip
    return y
