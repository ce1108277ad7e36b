"""Convolution as a matrix product, solved. It is kernels/conv2d/plain.py of torchops, less what makes it general."""

import triton
import triton.language as tl


# Step 1. A matrix product: a program owns BLOCK_M x BLOCK_N of the result.
@triton.jit
def matmul_kernel(
    a_ptr, b_ptr,  # in:  [M, J], [J, K]
    y_ptr,  # out: [M, K]
    M, K, J,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for j0 in range(0, J, BLOCK_K):
        j = j0 + tl.arange(0, BLOCK_K)
        a_mask = (m < M)[:, None] & (j < J)[None, :]  #: 1a which lanes of [BLOCK_M, BLOCK_K] hold a number of a?
        b_mask = (j < J)[:, None] & (k < K)[None, :]  #: 1b and which of [BLOCK_K, BLOCK_N] one of b?
        a = tl.load(a_ptr + m[:, None] * J + j[None, :], mask=a_mask, other=0)
        b = tl.load(b_ptr + j[:, None] * K + k[None, :], mask=b_mask, other=0)
        acc = tl.dot(a, b, acc, input_precision="ieee")  #: 1c multiply, and add to what there is
    y_mask = (m < M)[:, None] & (k < K)[None, :]  #: 1d and which of [BLOCK_M, BLOCK_N] one of y?
    tl.store(y_ptr + m[:, None] * K + k[None, :], acc, mask=y_mask)


def matmul(a, b, block=64):
    (M, J), K = a.shape, b.shape[1]
    y = a.new_empty(M, K)
    grid = (triton.cdiv(M, block), triton.cdiv(K, 32))
    matmul_kernel[grid](a, b, y, M, K, J, BLOCK_M=block, BLOCK_N=32, BLOCK_K=16)
    return y


# Steps 2 and 3. The same product, and nobody writes down its left side. Half precision sums up in ACC.
@triton.jit
def conv2d_kernel(
    x_ptr, w_ptr,  # in:  [N, C, H, W], [K, C, R, S]
    y_ptr,  # out: [N, K, P, Q]
    N, C, H, W, K, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    ACC: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # pixels of all images
    k = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    n, p, q = m // (P * Q), m // Q % P, m % Q  #: 2a the image, row and column of pixel m of the result
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for j0 in range(0, C * R * S, BLOCK_K):
        j = j0 + tl.arange(0, BLOCK_K)
        c, r, s = j // (R * S), j // S % R, j % S  #: 2b the channel, row and column of term j of a filter
        h = (p * STRIDE - PADDING)[:, None] + (r * DILATION)[None, :]  #: 2c which pixel of x is it? [BLOCK_M, BLOCK_K]
        w = (q * STRIDE - PADDING)[:, None] + (s * DILATION)[None, :]  #: 2c
        inside = (n < N)[:, None] & (c < C)[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)  #: 2d is it one?
        plane = n[:, None] * C + c[None, :]
        a = tl.load(x_ptr + (plane * H + h) * W + w, mask=inside, other=0)
        b = tl.load(w_ptr + k[None, :] * (C * R * S) + j[:, None], mask=(k < K)[None, :] & (c < C)[:, None], other=0)
        acc += tl.dot(a, b, input_precision="ieee").to(ACC)
    plane = n[:, None] * K + k[None, :]
    y_ptrs = y_ptr + plane * P * Q + (p * Q + q)[:, None]  #: 2e where does pixel m of channel k go?
    tl.store(y_ptrs, acc.to(y_ptr.dtype.element_ty), mask=(n < N)[:, None] & (k < K)[None, :])


def conv2d(x, weight, stride, padding, dilation, block=64, half_sums=False):
    (N, C, H, W), (K, _, R, S) = x.shape, weight.shape
    P = (H + 2 * padding - dilation * (R - 1) - 1) // stride + 1
    Q = (W + 2 * padding - dilation * (S - 1) - 1) // stride + 1
    y = x.new_empty(N, K, P, Q)
    grid = (triton.cdiv(N * P * Q, block), triton.cdiv(K, 32))
    conv2d_kernel[grid](
        x, weight, y, N, C, H, W, K, P, Q,
        R=R, S=S, STRIDE=stride, PADDING=padding, DILATION=dilation,
        ACC=tl.float16 if half_sums else tl.float32, BLOCK_M=block, BLOCK_N=32, BLOCK_K=16,
    )  # fmt: skip
    return y
