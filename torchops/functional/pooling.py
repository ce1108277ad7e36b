"""Pooling and unpooling: maxima, minima and means of windows, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import torch
from torch import Tensor

from torchops.kernels.geometry import Window
from torchops.ops import avg_pool2d as _avg
from torchops.ops import max_pool2d as _max
from torchops.ops import max_unpool2d as _unpool
from torchops.ops.cpu.quick import quick_avg_pool2d, quick_interpolate, quick_max_pool2d, quick_max_unpool2d
from torchops.ops.memory import is_channels_last
from torchops.torch_internals import tracing_state, version_of

from . import arguments, sizes

_Ints: TypeAlias = int | Sequence[int]
_MADE_FOR = "_torchops_window"
"""Attribute of offsets: the windows that they are offsets in, for as long as nobody writes to them. Tensors computed from them
have no such attribute, and are believed."""


def _version(t: Tensor) -> int:
    return 0 if t.is_inference() else version_of(t)


def _pool(
    input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, return_indices: bool | str,
    smallest: bool,
) -> Any:  # fmt: skip
    arguments.check_pooled(input)
    window = arguments.window(kernel_size, stride, padding, dilation)
    arguments.flag("ceil_mode", ceil_mode)
    kind = return_indices if isinstance(return_indices, str) else "position" if return_indices else "none"
    if not isinstance(return_indices, bool) and kind != "offset":
        raise ValueError(f"`return_indices` must be False, True or 'offset', got {return_indices!r}")
    taps = window.kernel[0] * window.kernel[1]
    if kind == "offset" and taps > _max.OFFSETS:
        raise ValueError(
            f"`return_indices` 'offset' needs a window of at most {_max.OFFSETS} pixels, got `kernel_size` {window.kernel}"
        )
    size = sizes.pooled_size(input.shape, window, ceil_mode)
    x = input if input.dim() == 4 else input.unsqueeze(0)
    if kind == "none":
        traced = not torch.compiler.is_compiling() and tracing_state() is not None
        # a trace is checked against another, which may be without gradients
        if traced or (torch.is_grad_enabled() and input.requires_grad):
            y, _ = _max.max_pool2d_with_indices(x, window, size, smallest, _max.kept_indices(x, window))
        else:
            y = _max.max_pool2d(x, window, size, smallest)
        return y if input.dim() == 4 else y.squeeze(0)
    y, indices = _max.max_pool2d_with_indices(x, window, size, smallest, kind)
    if input.dim() == 3:
        y, indices = y.squeeze(0), indices.squeeze(0)
    if kind == "offset" and not torch.compiler.is_compiling():
        setattr(indices, _MADE_FOR, (window, _version(indices)))
    return y, indices


@overload
def max_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, return_indices: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def max_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "offset"],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def max_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, return_indices: bool | str = False,
) -> Any: ...  # fmt: skip
def max_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, return_indices: bool | str = False,
) -> Any:  # fmt: skip
    r"""Maximum of every window.

    .. math:: y_{ncpq} = \max_{r,s} x_{n,\, c,\, p u - t + r d,\, q u - t + s d}

    with stride u, padding t and dilation d, over the pixels that lie in the image. A NaN is larger than anything.

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        kernel_size: of the window, in pixels: one number, or (rows, columns).
        stride: of the window, in pixels: one number, or (rows, columns); the kernel size by default.
        padding: pixels added on both sides, which are smaller than anything; at most half of the kernel size.
        dilation: distance of the pixels of a window: one number, or (rows, columns).
        ceil_mode: whether a last window may reach beyond the padding; it starts in the image, or in the padding before it.
        return_indices: True: also where the maxima lie, as flat positions h W + w, which are torch's. "offset": also where
            they lie, as offsets r S + s in their windows of R x S pixels: one byte instead of eight, for windows of up to 256
            pixels.

    Returns:
        (N, C, P, Q) or (C, P, Q), with P = (H + 2 padding - dilation (R - 1) - 1) // stride + 1, and Q likewise; in the dtype
        and the memory format of `input`. With `return_indices`, a pair: that, and int64 or uint8 of its shape. Of equal maxima
        the first in row-major order counts, of several NaN the last.

    Raises:
        TypeError: if an argument is of the wrong type, or `input` not dense or not floating point.
        ValueError: if a shape or a number is out of its range.

    With a stride of 1 and a padding of half the kernel it is the dilation of an image by a flat rectangle, and
    :func:`min_pool2d` its erosion. On a CPU a window of k x k pixels then costs about 2 log2 k passes, not k^2.

    Differs from `torch.nn.functional.max_pool2d` in "offset", in leaving integers to torch, and in refusing dilated windows
    that step over a small image, whose maximum torch says lies outside it. Its gradient is the same every run,
    for any number of threads; it adds what the windows over a pixel send to it, and is rounded once.

    Source: D. Scherer, A. Mueller, S. Behnke, "Evaluation of pooling operations in convolutional architectures for object
    recognition", 2010.

    >>> import torch, torchops
    >>> x = torch.tensor([[[1.0, 3, 2, 4], [5, 6, 8, 7]]])
    >>> torchops.max_pool2d(x, 2, return_indices=True)
    (tensor([[[6., 8.]]]), tensor([[[5, 6]]]))
    >>> torchops.max_pool2d(x, 2, return_indices="offset")[1]
    tensor([[[3, 2]]], dtype=torch.uint8)
    """
    if isinstance(return_indices, bool):
        found = quick_max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        if found is not None:
            return found
    return _pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, False)


@overload
def min_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, return_indices: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def min_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "offset"],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def min_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, return_indices: bool | str = False,
) -> Any: ...  # fmt: skip
def min_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, dilation: _Ints = 1,
    ceil_mode: bool = False, return_indices: bool | str = False,
) -> Any:  # fmt: skip
    r"""Minimum of every window: the maximum of -input, negated.

    .. math:: y_{ncpq} = \min_{r,s} x_{n,\, c,\, p u - t + r d,\, q u - t + s d}

    Args, returns and errors are those of :func:`max_pool2d`; padding is larger than anything. A NaN still wins. It saves the
    two copies that negation would cost. torch has no such function.

    With a stride of 1 and a padding of half the kernel it is the erosion of an image by a flat rectangle; the opening removes
    what is smaller than that: an erosion, and the dilation of it, :func:`max_pool2d`.

    Source: J. Serra, "Image analysis and mathematical morphology", 1982, where it is called erosion.

    >>> import torch, torchops
    >>> torchops.min_pool2d(torch.tensor([[[1.0, 3, 2, 4], [5, 6, 8, 7]]]), 2)
    tensor([[[1., 2.]]])
    >>> image = torch.tensor([[[0.0, 9, 0, 0, 0], [0, 0, 5, 5, 5], [0, 0, 5, 5, 5], [0, 0, 5, 5, 5]]])
    >>> torchops.max_pool2d(torchops.min_pool2d(image, 3, 1, 1), 3, 1, 1)
    tensor([[[0., 0., 0., 0., 0.],
             [0., 0., 5., 5., 5.],
             [0., 0., 5., 5., 5.],
             [0., 0., 5., 5., 5.]]])
    """
    return _pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, True)


def avg_pool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    r"""Mean of every window.

    .. math:: y_{ncpq} = \frac{1}{D_{pq}} \sum_{r,s} x_{n,\, c,\, p u - t + r,\, q u - t + s}

    with stride u and padding t, over the pixels that lie in the image.

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        kernel_size: of the window, in pixels: one number, or (rows, columns).
        stride: of the window, in pixels: one number, or (rows, columns); the kernel size by default.
        padding: zeros added on both sides, in pixels; at most half of the kernel size.
        ceil_mode: whether a last window may reach beyond the padding; it starts in the image, or in the padding before it.
        count_include_pad: whether D counts the zeros of the padding too, or only the pixels in the image.
        divisor_override: this number instead of D, not 0.

    Returns:
        (N, C, P, Q) or (C, P, Q), with P = (H + 2 padding - kernel_size) // stride + 1, and Q likewise; in the dtype and the
        memory format of `input`. float16 and bfloat16 are summed in float32 and rounded once.

    Raises:
        TypeError: if an argument is of the wrong type, or `input` not dense or not floating point.
        ValueError: if a shape or a number is out of its range.

    Differs from `torch.nn.functional.avg_pool2d` in nothing but the errors, and in leaving integers to torch.

    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, where it is called subsampling.

    >>> import torch, torchops
    >>> torchops.avg_pool2d(torch.tensor([[[1.0, 3, 2, 4], [5, 6, 8, 7]]]), 2)
    tensor([[[3.7500, 5.2500]]])
    """
    if divisor_override is None:
        quick = quick_avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)
        if quick is not None:
            return quick
    arguments.check_pooled(input)
    window = arguments.window(kernel_size, stride, padding)
    arguments.flag("ceil_mode", ceil_mode)
    arguments.flag("count_include_pad", count_include_pad)
    divisor = 1 if divisor_override is None else arguments.divisor(divisor_override)
    size = sizes.pooled_size(input.shape, window, ceil_mode)
    mean = "fixed" if divisor_override is not None else "padded" if count_include_pad else "inside"
    x = input if input.dim() == 4 else input.unsqueeze(0)
    y: Tensor = _avg.avg_pool2d(x, window, size, mean, divisor, is_channels_last(x))
    return y if input.dim() == 4 else y.squeeze(0)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0,
    output_size: Sequence[int] | None = None, *, dilation: _Ints = 1,
) -> Tensor:  # fmt: skip
    r"""Put maxima back to where they were, and zeros everywhere else.

    .. math:: y_{nchw} = x_{ncpq} \text{ of the last window } (p, q) \text{ whose index points to } (h, w)

    "Last" is in row-major order: where windows overlap, several may point to one pixel. It is the same every run, for any
    number of threads.

    Args:
        input: (N, C, P, Q) or (C, P, Q); float16, bfloat16, float32 or float64; any strides.
        indices: of the shape of `input`: flat positions h W + w in the output (int64, torch's), or offsets r S + s in windows
            of R x S pixels (uint8), as :func:`max_pool2d` and :func:`min_pool2d` return them. Positions may point anywhere in
            the output.
        kernel_size: of the pool, in pixels: one number, or (rows, columns).
        stride: of the pool: one number, or (rows, columns); the kernel size by default.
        padding: of the pool: one number, or (rows, columns).
        output_size: (H, W), or the size of the whole result; by default (P - 1) stride - 2 padding + dilation (kernel_size - 1)
            + 1, from which it may differ by less than a stride.
        dilation: of the pool: one number, or (rows, columns).

    Returns:
        (N, C, H, W) or (C, H, W), in the dtype and the memory format of `input`.

    Raises:
        TypeError: if an argument is of the wrong type: indices that are neither int64 nor uint8.
        ValueError: if a shape or a number is out of its range, or offsets were made for other windows.
        RuntimeError: if devices differ, or an index lies outside the output. A GPU would have to wait to find that out, and
            ignores such an index, unless TORCHOPS_CHECK_INDICES=1 is set; nothing is ever written outside the output.

    Differs from `torch.nn.functional.max_unpool2d`, which knows no offsets, leaves to chance on a GPU which of several values
    stays, and sends a gradient to all of them: here it is 0 for those that were lost. It refuses a padding of more than half
    the kernel.

    On a GPU offsets are the faster: with them each element of the result is written once, and nothing else is done. Positions
    take a second launch, which is short where they all lie in their windows. Where some do not, it goes through their planes
    window by window, and its gradient compares every window of these planes with all that follow: right, but slow.

    Source: V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
    segmentation", 2017.

    >>> import torch, torchops
    >>> y, indices = torchops.max_pool2d(torch.tensor([[[1.0, 3, 2, 4], [5, 6, 8, 7]]]), 2, return_indices="offset")
    >>> torchops.max_unpool2d(y, indices, 2)
    tensor([[[0., 0., 0., 0.],
             [0., 6., 8., 0.]]])
    """
    if output_size is None:
        quick = quick_max_unpool2d(input, indices, kernel_size, stride, padding, dilation)
        if quick is not None:
            return quick
    arguments.check_pooled(input)
    arguments.check_indices(indices, input)
    window = arguments.window(kernel_size, stride, padding, dilation)
    size = sizes.unpool_size(input.shape, window, output_size)
    if indices.dtype == torch.uint8:
        _unpool.check_kind("offset", window)
    if indices.dtype == torch.uint8 and not torch.compiler.is_compiling():
        made_for, version = getattr(indices, _MADE_FOR, (window, 0))
        if made_for != window and version == _version(indices):
            names = "kernel_size", "stride", "padding", "dilation"
            raise ValueError(
                "`indices` are offsets in windows of "
                + ", ".join(f"{name} {value}" for name, value in zip(names, made_for, strict=True))
                + ", got "
                + ", ".join(f"`{name}` {value}" for name, value in zip(names, window, strict=True))
            )
    if input.dim() == 4:
        y: Tensor = _unpool.max_unpool2d(input, indices, size, window, "last", is_channels_last(input))
        return y
    x, where = input.unsqueeze(0), indices.unsqueeze(0)
    return _unpool.max_unpool2d(x, where, size, window, "last", is_channels_last(x)).squeeze(0)


def avg_unpool2d(
    input: Tensor, kernel_size: _Ints, stride: _Ints | None = None, padding: _Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    r"""Spread means over their windows: every pixel is the mean of the windows that cover it, or 0 where none does.

    .. math:: y_{nchw} = \frac{1}{|\Omega_{hw}|} \sum_{(p, q) \in \Omega_{hw}} x_{ncpq}

    For windows that do not overlap, :func:`avg_pool2d` of the result is `input` again.

    Args:
        input: (N, C, P, Q) or (C, P, Q); float16, bfloat16, float32 or float64; any strides.
        kernel_size: of the pool, in pixels: one number, or (rows, columns).
        stride: of the pool: one number, or (rows, columns); the kernel size by default.
        padding: of the pool: one number, or (rows, columns); at most half of the kernel size.
        output_size: (H, W), or the size of the whole result; by default (P - 1) stride - 2 padding + kernel_size, from which
            it may differ by less than a stride.

    Returns:
        (N, C, H, W) or (C, H, W), in the dtype and the memory format of `input`. float16 and bfloat16 are summed in float32
        and rounded once.

    Raises:
        TypeError: if an argument is of the wrong type, or `input` not dense or not floating point.
        ValueError: if a shape or a number is out of its range.

    torch has no such function. Without overlap it is interpolation with the nearest value.

    Source: the transpose of average pooling, with weights that make a mean of it; H. Noh, S. Hong, B. Han, "Learning
    deconvolution network for semantic segmentation", 2015, for unpooling.

    >>> import torch, torchops
    >>> torchops.avg_unpool2d(torch.tensor([[[1.0, 3.0]]]), kernel_size=(1, 2), stride=1)
    tensor([[[1., 2., 3.]]])
    """
    arguments.check_pooled(input)
    window = arguments.window(kernel_size, stride, padding)
    size = sizes.unpool_size(input.shape, window, output_size)
    x = input if input.dim() == 4 else input.unsqueeze(0)
    y: Tensor = _avg.avg_unpool2d(x, window, size, "cover", 1, is_channels_last(x))
    return y if input.dim() == 4 else y.squeeze(0)


def interpolate(
    input: Tensor, size: _Ints | None = None, scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    r"""Enlarge images by whole factors: every pixel becomes a rectangle of its value.

    .. math:: y_{nchw} = x_{n,\, c,\, \lfloor h / a \rfloor,\, \lfloor w / b \rfloor}

    with the factors a and b. It is :func:`avg_unpool2d` of a x b windows without overlap.

    Args:
        input: (N, C, H, W); float16, bfloat16, float32 or float64; any strides.
        size: rows and columns of the result: one number, or (rows, columns), each a multiple of those of `input`.
        scale_factor: a whole number, or (rows, columns), instead of `size`.
        mode: "nearest", or "nearest-exact", which is the same for whole factors.
        align_corners: None, which is all that "nearest" takes.
        recompute_scale_factor: makes no difference for whole factors.
        antialias: False, which is all that "nearest" takes.

    Returns:
        (N, C, a H, b W), in the dtype and the memory format of `input`.

    Raises:
        TypeError: if an argument is of the wrong type, or `input` not dense or not floating point.
        ValueError: if `input` is no (N, C, H, W), a factor no whole number, or another argument asks for what it does not do.

    Differs from `torch.nn.functional.interpolate`, whose arguments it takes, in leaving other modes, other factors, other
    dimensions and integers to torch; and in being right where torch's "nearest" rounds: by a factor of 41, that gives pixel 41
    the value of the first.

    Source: nearest-neighbour interpolation, as in the decoder of A. Odena, V. Dumoulin, C. Olah, "Deconvolution and
    checkerboard artifacts", 2016.

    >>> import torch, torchops
    >>> torchops.interpolate(torch.tensor([[[[1.0, 3.0]]]]), scale_factor=(1, 2))
    tensor([[[[1., 1., 3., 3.]]]])
    """
    quick = quick_interpolate(input, size, scale_factor, mode, align_corners, antialias)
    if quick is not None:
        return quick
    arguments.check_pooled(input)
    factors = sizes.upsampling(input.shape, size, scale_factor, mode, align_corners, antialias)
    rows, cols = (n * k for n, k in zip(input.shape[2:], factors, strict=True))
    y: Tensor = _avg.avg_unpool2d(
        input, Window(factors, factors, (0, 0)), (rows, cols), "cover", 1, is_channels_last(input)
    )
    return y
