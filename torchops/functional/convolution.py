"""2-D convolution and its transpose."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from torchops.kernels.geometry import Conv2d
from torchops.ops import conv2d as _conv2d
from torchops.ops.cpu.quick import quick_conv2d, quick_conv_transpose2d

from . import arguments, sizes


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    padding_value: float = 0.0,
    activation: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    r"""2-D convolution (cross-correlation), with any border, and with bias, residual and activation in the same pass.

    .. math::
        y_{nkpq} = f\Big(b_k + z_{nkpq} + \sum_{c,r,s} w_{kcrs} \, x_{n,\, c,\, p u - t + r d,\, q u - t + s d}\Big)

    with stride u, padding t, dilation d, residual z and activation f; c runs over the channels of the group of k.

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        weight: (K, C / groups, R, S), in the dtype of `input`, as all that follow.
        bias: (K,), or None.
        stride: of the window, in pixels: one number, or (rows, columns).
        padding: pixels added on both sides: one number, or (rows, columns); or on each side, (left, right, top, bottom), as
            `torch.nn.functional.pad` has them; "valid" for none; "same" for an output of the size of `input`, where an even
            kernel has the extra pixel at the bottom and on the right. "reflect" takes less than the size of `input`, "circular"
            no more than that, as `torch.nn.functional.pad` does: neither goes around an image twice.
        dilation: distance of the taps of the kernel, in pixels: one number, or (rows, columns).
        groups: of channels that see only each other; divides C and K.
        padding_mode: what lies beyond the border: "zeros", "constant", "reflect", "replicate" or "circular".
        padding_value: the value beyond the border for `padding_mode="constant"`, rounded to the dtype of `input`.
        activation: None, or "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "gelu" (exact), "tanh",
            "sigmoid", "hardsigmoid" or "hardswish".
        residual: of the shape of the result, added before the activation; or None.

    Returns:
        (N, K, P, Q) or (K, P, Q), with P = (H + padding of both sides - dilation (R - 1) - 1) // stride + 1, and Q likewise;
        channels_last if `input` or `weight` is. float16 and bfloat16 are summed in float32 and rounded once, after the
        activation.

    Raises:
        TypeError: if an argument is of the wrong type, or a tensor not dense or not floating point.
        ValueError: if a shape or a number is out of its range, all of which end at 2^31, or `input` is too small for the kernel
            or the border.
        RuntimeError: if dtypes or devices differ. Under autocast, dtypes of up to 32 bits may.

    Memory:
        On the Triton backend the result is all that is allocated, whatever the border, but for a copy of the weight where it
        is not channels_last and 16 or more channels are summed, and for 256 elements of a constant that is not 0. Gradients of
        a border by index take N C (pixels of the padding) floats; the gradient of the weight takes as many weights, in
        float32, as there are ranges of pixels, which fill the GPU at most four times. relu, relu6, leaky_relu, tanh, sigmoid
        and hardsigmoid keep the result for the backward; silu, gelu and hardswish keep what they need to compute the
        convolution again.

    Same inputs, same bits; on a CPU for a number of threads (`torch.set_num_threads`), by which ATen splits the sums of
    gradients and picks its kernels.

    Differs from `torch.nn.functional.conv2d` in all that is keyword-only, and in a padding of four sides.

    Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> import torch, torchops
    >>> x = torch.tensor([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1.0]])
    >>> kernel = torch.tensor([[0, 1, 2], [2, 2, 0], [0, 1, 2.0]])
    >>> torchops.conv2d(x.view(1, 5, 5), kernel.view(1, 1, 3, 3))
    tensor([[[12., 12., 17.],
             [10., 17., 19.],
             [ 9.,  6., 14.]]])
    """
    y = quick_conv2d(
        input, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, activation, residual
    )
    if y is not None:
        return y
    arguments.check_float_tensors(input, weight, bias, residual)
    arguments.check_padding_value(padding_mode, padding_value)
    arguments.check_activation(activation)
    stride, dilation = arguments.pair("stride", stride, 1), arguments.pair("dilation", dilation, 1)
    padding = arguments.conv_padding(padding)
    groups = arguments.group_count(groups)
    conv, shape = sizes.conv_geometry(input.shape, weight.shape, stride, padding, dilation, groups, padding_mode)
    arguments.check_bias(bias, shape[-3])
    if residual is not None and residual.shape != shape:
        raise ValueError(f"`residual` must have the shape of the result, {shape}, got {tuple(residual.shape)}")
    if padding_mode == "constant":
        conv = Conv2d(*conv[:5], padding_value)
    if len(shape) == 4:
        return _conv2d.conv2d(input, weight, bias, residual, conv, activation or "none")
    residual = None if residual is None else residual.unsqueeze(0)
    return _conv2d.conv2d(input.unsqueeze(0), weight, bias, residual, conv, activation or "none").squeeze(0)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    r"""Transposed 2-D convolution: every pixel adds a weighted copy of the kernel to the output.

    .. math:: y_{nk,\, h u - t + r d,\, w u - t + s d} \mathrel{+}= w_{ckrs} \, x_{nchw}, \qquad y \text{ starting from } b_k

    with stride u, padding t and dilation d. It is the gradient of :func:`conv2d` in its input, and runs on that kernel.

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        weight: (C, K / groups, R, S), in the dtype of `input`, as bias.
        bias: (K,), or None.
        stride: distance of the copies, in pixels: one number, or (rows, columns).
        padding: pixels cut off on all sides: one number, or (rows, columns).
        output_padding: pixels added at the bottom and on the right, fewer than `stride` or than `dilation`; one number, or
            (rows, columns). It picks one of the sizes that a convolution with this stride maps to that of `input`.
        groups: of channels that see only each other; divides C and K.
        dilation: distance of the taps of the kernel, in pixels: one number, or (rows, columns).

    Returns:
        (N, K, P, Q) or (K, P, Q), with P = (H - 1) stride - 2 padding + dilation (R - 1) + output_padding + 1, and Q likewise;
        channels_last if `input` or `weight` is. float16 and bfloat16 are summed in float32 and rounded once.

    Raises:
        TypeError: if an argument is of the wrong type, or a tensor not dense or not floating point.
        ValueError: if a shape or a number is out of its range, or nothing is left of the output.
        RuntimeError: if dtypes or devices differ. Under autocast, dtypes of up to 32 bits may.

    Same inputs, same bits; on a CPU for a number of threads, as in :func:`conv2d`.

    Differs from `torch.nn.functional.conv_transpose2d` in nothing but the errors.

    Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> import torch, torchops
    >>> torchops.conv_transpose2d(torch.tensor([[[1.0, 2.0]]]), torch.ones(1, 1, 2, 2), stride=2)
    tensor([[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]])
    """
    y = quick_conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    if y is not None:
        return y
    arguments.check_float_tensors(input, weight, bias, None)
    stride, dilation = arguments.pair("stride", stride, 1), arguments.pair("dilation", dilation, 1)
    padding = arguments.pair("padding", padding, 0)
    output_padding = arguments.pair("output_padding", output_padding, 0)
    groups = arguments.group_count(groups)
    conv, size = sizes.conv_transpose_geometry(
        input.shape, weight.shape, stride, padding, output_padding, dilation, groups
    )
    arguments.check_bias(bias, weight.shape[1] * groups)
    x = input if input.dim() == 4 else input.unsqueeze(0)
    y = _conv2d.conv2d_input_grad(x, weight, bias, size, conv, _conv2d.is_channels_last(x, weight))
    return y if input.dim() == 4 else y.squeeze(0)
