"""The epilogue, solved: kernels/conv2d/epilogue.py of torchops, less what makes it general, behind lesson 4's convolution."""

import torch
import triton
import triton.language as tl


@triton.jit
def activate(y, ACTIVATION: tl.constexpr):
    """The activation of a block; a name that is not here leaves it as it is."""
    if ACTIVATION == "relu":
        y = tl.maximum(y, 0.0)  #: 1a what is below 0 becomes 0
    elif ACTIVATION == "leaky_relu":
        y = tl.where(y > 0, y, 0.01 * y)  #: 4a a hundredth of what is below 0 stays
    elif ACTIVATION == "silu":
        y = y * tl.sigmoid(y)  #: 4a y times its sigmoid
    return y


# Lesson 4's convolution. Its sums are finished while they are in registers.
@triton.jit
def conv2d_kernel(
    x_ptr, w_ptr,  # in:  [N, C, H, W], [K, C, R, S]
    bias_ptr, residual_ptr,  # in:  [K], [N, K, P, Q]; None where there is none
    y_ptr,  # out: [N, K, P, Q]
    C, H, W, K, P, Q,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)  # of y
    n, k = plane // K, plane % K
    m = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # pixels of that plane
    mask = m < P * Q
    h0, w0 = m // Q * STRIDE - PADDING, m % Q * STRIDE - PADDING
    acc = tl.zeros((BLOCK,), tl.float32)
    for c in range(C):
        for r in range(R):
            for s in range(S):
                h, w = h0 + r, w0 + s
                inside = mask & (h >= 0) & (h < H) & (w >= 0) & (w < W)
                x = tl.load(x_ptr + (n * C + c) * H * W + h * W + w, mask=inside, other=0)
                acc += x.to(tl.float32) * tl.load(w_ptr + (k * C + c) * R * S + r * S + s).to(tl.float32)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + k)  #: 1b one number for the whole block
    if residual_ptr is not None:
        acc += tl.load(residual_ptr + plane * P * Q + m, mask=mask)  #: 4b the same pixels of the residual
    acc = activate(acc, ACTIVATION)
    tl.store(y_ptr + plane * P * Q + m, acc.to(y_ptr.dtype.element_ty), mask=mask)


def conv2d(x, weight, bias=None, stride=1, padding=0, activation=None, residual=None, block=64):
    (N, C, H, W), (K, _, R, S) = x.shape, weight.shape
    P, Q = (H + 2 * padding - R) // stride + 1, (W + 2 * padding - S) // stride + 1
    y = x.new_empty(N, K, P, Q)
    grid = (N * K, triton.cdiv(P * Q, block))
    conv2d_kernel[grid](
        x, weight, bias, residual, y, C, H, W, K, P, Q,
        R=R, S=S, STRIDE=stride, PADDING=padding, ACTIVATION=activation, BLOCK=block,
    )  # fmt: skip
    return y


# Step 2. What an epilogue saves: a kernel that does nothing else, and has to fetch every pixel again.
@triton.jit
def pass_kernel(
    x_ptr, scale_ptr, shift_ptr,  # in:  [N, K, P, Q], [K], [K]
    y_ptr,  # out: [N, K, P, Q]
    K, SIZE, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    m = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    y = tl.load(x_ptr + plane * SIZE + m, mask=m < SIZE)
    y = y * tl.load(scale_ptr + plane % K) + tl.load(shift_ptr + plane % K)
    tl.store(y_ptr + plane * SIZE + m, activate(y, ACTIVATION), mask=m < SIZE)


def another_pass(x, scale, shift, activation=None, block=64):
    """activation(scale x + shift), a number of each a channel."""
    y, size = torch.empty_like(x), x.shape[2] * x.shape[3]
    grid = (x.shape[0] * x.shape[1], triton.cdiv(size, block))
    pass_kernel[grid](x, scale, shift, y, x.shape[1], size, ACTIVATION=activation, BLOCK=block)
    return y


def in_four(x, weight, bias, norm, stride, padding, block=64):
    """Convolution, bias, BatchNorm and relu: a kernel each."""
    mean, var, gamma, beta, eps = norm
    one, none = torch.ones_like(bias), torch.zeros_like(bias)
    scale = gamma / torch.sqrt(var + eps)
    y = conv2d(x, weight, None, stride, padding, block=block)
    y = another_pass(y, one, bias, block=block)
    y = another_pass(y, scale, beta - mean * scale, block=block)
    return another_pass(y, one, none, "relu", block=block)


# Step 3. All four in one kernel, the one of above.
def fold(weight, bias, norm):
    """The weight and the bias of a convolution that does what a BatchNorm behind it would do."""
    mean, var, gamma, beta, eps = norm
    scale = gamma / torch.sqrt(var + eps)  # [K]
    return weight * scale[:, None, None, None], (bias - mean) * scale + beta  #: 3a


def in_one(x, weight, bias, norm, stride, padding, block=64):
    weight, bias = fold(weight, bias, norm)
    return conv2d(x, weight, bias, stride, padding, "relu", block=block)
