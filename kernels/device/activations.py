"""Activations of an epilogue, on accumulators in float32 or float64."""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    # the exponential of what is not positive cannot overflow
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def _tanh(x):
    a = tl.abs(x)
    e = tl.exp(-2.0 * a)
    # 1 - e cancels near 0, where the series is exact to the last bit
    near: tl.constexpr = 0.02 if x.dtype == tl.float64 else 0.25
    b = a * a
    series = a - a * b * (1 / 3 - b * (2 / 15 - b * (17 / 315 - b * (62 / 2835))))
    return tl.where(x >= 0, 1.0, -1.0) * tl.where(a < near, series, (1.0 - e) / (1.0 + e))


@triton.jit
def _relu6(x):
    return tl.where(x <= 0, 0.0, tl.where(x >= 6, 6.0, x))


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """The activation of that name in torch.nn.functional, with its defaults. A NaN stays one."""
    if ACTIVATION == "relu":
        x = tl.where(x <= 0, 0.0, x)
    elif ACTIVATION == "relu6":
        x = _relu6(x)
    elif ACTIVATION == "leaky_relu":
        x = tl.where(x <= 0, x * 0.01, x)
    elif ACTIVATION == "silu":
        x = x * _sigmoid(x)
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "tanh":
        x = _tanh(x)
    elif ACTIVATION == "sigmoid":
        x = _sigmoid(x)
    elif ACTIVATION == "hardsigmoid":
        x = _relu6(x + 3.0) / 6.0
    elif ACTIVATION == "hardswish":
        x = x * _relu6(x + 3.0) / 6.0
    return x
