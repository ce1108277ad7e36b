"""A convolution as an operator of PyTorch, solved."""

import torch
import triton
import triton.language as tl


# Given: lesson 6's product. Row m is a pixel (n, p, q), column k a channel, and the sum runs over j = (c, r, s).
@triton.jit
def conv2d_kernel(
    x_ptr, w_ptr,  # in:  [N, C, H, W], [K, C, R, S], contiguous
    y_ptr,  # out: [N, K, P, Q]
    N, C, H, W, K, R, S, P, Q,
    TOP, LEFT,  # rows and columns of zeros around x
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    n, p, q = m // (P * Q), m // Q % P, m % Q
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for j0 in range(0, C * R * S, BLOCK_K):
        j = j0 + tl.arange(0, BLOCK_K)
        c, r, s = j // (R * S), j // S % R, j % S
        h = p[:, None] + r[None, :] - TOP
        w = q[:, None] + s[None, :] - LEFT
        inside = (n < N)[:, None] & (c < C)[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        a = tl.load(x_ptr + (n[:, None] * C + c[None, :]) * H * W + h * W + w, mask=inside, other=0)
        b = tl.load(w_ptr + k[None, :] * C * R * S + j[:, None], mask=(c < C)[:, None] & (k < K)[None, :], other=0)
        acc = tl.dot(a, b, acc, input_precision="ieee")
    y = y_ptr + (n * K * P * Q + p * Q + q)[:, None] + (k * P * Q)[None, :]
    tl.store(y, acc.to(y_ptr.dtype.element_ty), mask=(n < N)[:, None] & (k < K)[None, :])


def size(x, weight, padding):
    """Of the result."""
    (N, _, H, W), (K, _, R, S) = x.shape, weight.shape
    return N, K, H + 2 * padding[0] - R + 1, W + 2 * padding[1] - S + 1


def launch(x, weight, padding):
    """Compute it. Whoever calls this has made sure that x and weight are contiguous."""
    (N, C, H, W), (K, _, R, S) = x.shape, weight.shape
    y = x.new_empty(size(x, weight, padding))
    P, Q = y.shape[2:]
    grid = (triton.cdiv(N * P * Q, 64), triton.cdiv(K, 16))
    conv2d_kernel[grid](x, weight, y, N, C, H, W, K, R, S, P, Q, *padding, BLOCK_M=64, BLOCK_N=16, BLOCK_K=32)
    return y


# Step 1. What goes in and what comes out, and who computes it.
SCHEMA = "(Tensor x, Tensor weight, int[2] padding) -> Tensor"  #: 1a two tensors and two whole numbers; a tensor


def implementation(x, weight, padding):
    """Of any strides."""
    return launch(x.contiguous(), weight.contiguous(), padding)  #: 1b what does `launch` rely on?


# Step 2. What comes out, without computing it.
def fake(x, weight, padding):
    """A tensor of the size, dtype and device of the result, with anything in it."""
    return x.new_empty(size(x, weight, padding))  #: 2a of which size?


# Step 3. The gradient of a convolution is a convolution: of dy by the turned filters, and of x by dy.
def setup_context(ctx, inputs, output):  #: 3a what will the backward need?
    """Keep what the backward reads: tensors by ctx.save_for_backward(a, b), anything else as an attribute of ctx.

    `inputs` are those of the operator: (x, weight, padding).
    """
    x, weight, ctx.padding = inputs
    ctx.save_for_backward(x, weight)


def backward(ctx, dy):
    """A gradient for every input of the operator, None for what has none."""
    x, weight = ctx.saved_tensors
    (R, S), (TOP, LEFT) = weight.shape[2:], ctx.padding
    dx = dw = None
    if ctx.needs_input_grad[0]:
        turned = weight.flip(2, 3).transpose(0, 1)  # by half a turn; the channels change sides
        dx = torch.ops.course.conv2d(dy, turned, (R - 1 - TOP, S - 1 - LEFT))  #: 3b a convolution of dy by `turned`
    if ctx.needs_input_grad[1]:
        dw = torch.ops.course.conv2d(x.transpose(0, 1), dy.transpose(0, 1), (TOP, LEFT))  #: 3c what becomes of images?
        dw = dw.transpose(0, 1)
    return dx, dw, None  #: 3d one value for each input


def register(library):
    """Tell PyTorch all of it. `library` is a torch.library.Library: when it goes, the operator goes."""
    torch.library.define("course::conv2d", SCHEMA, lib=library)
    torch.library.impl("course::conv2d", "default", implementation, lib=library)
    torch.library.register_fake("course::conv2d", fake, lib=library)
    torch.library.register_autograd("course::conv2d", backward, setup_context=setup_context, lib=library)


# Step 4. What people call.
def check(x, weight, padding):  #: 4a refuse what the kernel cannot trust, with a ValueError
    """Refuse what `launch` cannot trust, with a ValueError that names the argument in backticks, and its value."""
    for name, tensor in (("x", x), ("weight", weight)):
        if tensor.dim() != 4:
            raise ValueError(f"`{name}` must have 4 dimensions, got {tuple(tensor.shape)}")
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"`weight` is for {weight.shape[1]} channels, and `x` has {x.shape[1]}")
    if weight.dtype != x.dtype:
        raise ValueError(f"`weight` must be {x.dtype} as `x`, got {weight.dtype}")
    if min(padding) < 0:
        raise ValueError(f"`padding` must be 0 or more, got {padding}")
    if min(size(x, weight, padding)[2:]) < 1:
        raise ValueError(f"`weight` {tuple(weight.shape)} is larger than the padded `x` {tuple(x.shape)}")


def conv2d(x, weight, padding=(0, 0)):
    """y[n, k, p, q] = sum over c, r, s of x[n, c, p + r - TOP, q + s - LEFT] weight[k, c, r, s]"""
    check(x, weight, padding)
    return torch.ops.course.conv2d(x, weight, padding)
