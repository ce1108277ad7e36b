"""Modules: subclasses of `torch.nn`'s where one exists, with the same constructor and the same state_dict."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from . import functional as F
from .functional.arguments import check_activation, check_padding_value
from .ops.checks import check_padding_mode
from .ops.conv2d import packed
from .torch_internals import MaxPoolNd


class _Layer(nn.Module):
    """A layer that refuses TorchScript in words of its own."""

    def __prepare_scriptable__(self) -> Any:
        """`torch.jit.script` asks here for a form that it can compile; its own error would speak of an annotation somewhere."""
        F.unscriptable(f"layer {type(self).__name__}")


class _Convolution(_Layer):
    """A layer that `torch.ao.quantization` would not see: it looks for torch.nn's very classes."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig" and value is not None:
            raise RuntimeError(
                f"the layer {type(self).__name__} of torchops cannot be quantized, and torch.ao.quantization would leave it "
                "in floating point: prepare the model first, then torchops.convert it; or set the layer's `qconfig` to None"
            )
        super().__setattr__(name, value)


class Conv2d(_Convolution, nn.Conv2d):
    """2-D convolution with any border, and with residual and activation in the same pass. The state_dict is torch.nn's.

    Arguments as `torch.nn.Conv2d`, with a `padding` of four sides and a `padding_mode` "constant" too, and `padding_value` and
    `activation` as :func:`torchops.conv2d`.

    Shape:
        (N, C, H, W) or (C, H, W) to (N, K, P, Q) or (K, P, Q); `residual`, if given, as the result.

    Memory:
        In float32 on a CPU, in eval mode and without grad mode, ATen hands many convolutions to oneDNN, which reorders the
        weight in every call. From the third call on the layer keeps a reordered copy, of the size of the weight, for each
        memory format in use. Results have the same bits. The copy is not part of the layer, which is copied, pickled and saved
        without it; it goes with the weight, when the weight is written to or replaced, after a step of its optimizer, and by
        `train()`. Writes that torch does not count, as those to `p.data`, through memory that NumPy shares or by
        `torch.distributed.broadcast`, are seen by 32 elements, spread evenly, that every call compares. One that leaves these
        as they were goes unseen, as `p.data[0] = 0` may: call :func:`torchops.forget` after it.

    >>> import torch, torchops
    >>> layer = torchops.nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect", activation="relu")
    >>> layer(torch.rand(2, 3, 8, 8), residual=torch.rand(2, 8, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), padding_mode=reflect, activation='relu')
    """

    # a torch.nn.Conv2d whose class was changed has these too
    padding_value: float = 0.0
    activation: str | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] | tuple[int, int, int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        padding_value: float = 0.0,
        activation: str | None = None,
    ) -> None:
        check_padding_mode(padding_mode)
        check_padding_value(padding_mode, padding_value)
        check_activation(activation)
        # torch.nn knows no "constant", and no padding of four sides
        sides: Any = padding
        known: Any = "zeros" if padding_mode == "constant" else padding_mode
        super().__init__(
            in_channels, out_channels, kernel_size, stride, sides, dilation, groups, bias, known, device, dtype
        )
        self.padding_mode: Any = padding_mode
        self.padding_value = padding_value
        self.activation = activation

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        weight = self.weight
        constant = not (self.training or torch.is_grad_enabled() or torch.compiler.is_compiling())
        # what a parametrization computes is another tensor in every call
        if constant and type(weight) is nn.Parameter:
            packed.declare(weight)
        return F.conv2d(
            input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            padding_mode=self.padding_mode, padding_value=self.padding_value, activation=self.activation,
            residual=residual,
        )  # fmt: skip

    def train(self, mode: bool = True) -> Any:
        if mode:
            for parameter in self.parameters(recurse=False):
                packed.drop(parameter)
        return super().train(mode)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.padding_value != 0.0:
            text += f", padding_value={self.padding_value}"
        return text if self.activation is None else f"{text}, activation={self.activation!r}"


class ConvTranspose2d(_Convolution, nn.ConvTranspose2d):
    """Transposed 2-D convolution. Constructor, state_dict and `output_size` are torch.nn's.

    >>> import torch, torchops
    >>> torchops.nn.ConvTranspose2d(8, 3, 2, stride=2)(torch.rand(2, 8, 4, 4)).shape
    torch.Size([2, 3, 8, 8])
    """

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        # torch.nn types these as lists, but they are given as tuples
        stride, padding, kernel_size, dilation = cast(Any, (self.stride, self.padding, self.kernel_size, self.dilation))
        output_padding: Any = self._output_padding(input, output_size, stride, padding, kernel_size, 2, dilation)
        return F.conv_transpose2d(input, self.weight, self.bias, stride, padding, output_padding, self.groups, dilation)


class MaxPool2d(_Layer, nn.MaxPool2d):
    """Maximum of every window. Constructor and attributes are torch.nn's; `return_indices` may be "offset" too.

    Arguments as :func:`torchops.max_pool2d`.

    >>> import torch, torchops
    >>> pool, unpool = torchops.nn.MaxPool2d(2, return_indices="offset"), torchops.nn.MaxUnpool2d(2)
    >>> unpool(*pool(torch.rand(2, 3, 8, 8))).shape
    torch.Size([2, 3, 8, 8])
    """

    return_indices: Any

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool | str = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, dilation, cast(Any, return_indices), ceil_mode)

    def forward(self, input: Tensor) -> Any:
        return F.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class MinPool2d(_Layer, MaxPoolNd):
    """Minimum of every window, with the constructor of :class:`MaxPool2d`.

    Arguments as :func:`torchops.min_pool2d`.

    >>> import torch, torchops
    >>> torchops.nn.MinPool2d(2)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 4, 4])
    """

    return_indices: Any

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool | str = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, dilation, cast(Any, return_indices), ceil_mode)

    def forward(self, input: Tensor) -> Any:
        pool: Any = F.min_pool2d
        return pool(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class AvgPool2d(_Layer, nn.AvgPool2d):
    """Mean of every window. Constructor and attributes are torch.nn's.

    Arguments as :func:`torchops.avg_pool2d`.

    >>> import torch, torchops
    >>> torchops.nn.AvgPool2d(2)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class AdaptiveAvgPool2d(_Layer, nn.AdaptiveAvgPool2d):
    """Mean of every window, of as many as are asked for. Constructor and attributes are torch.nn's.

    Arguments as :func:`torchops.adaptive_avg_pool2d`.

    >>> import torch, torchops
    >>> torchops.nn.AdaptiveAvgPool2d((1, None))(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 1, 8])
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, cast(Any, self.output_size))


class AdaptiveMaxPool2d(_Layer, nn.AdaptiveMaxPool2d):
    """Maximum of every window, of as many as are asked for. Constructor and attributes are torch.nn's.

    Arguments as :func:`torchops.adaptive_max_pool2d`.

    >>> import torch, torchops
    >>> torchops.nn.AdaptiveMaxPool2d(3)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 3, 3])
    """

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool2d(input, cast(Any, self.output_size), self.return_indices)


class MaxUnpool2d(_Layer, nn.MaxUnpool2d):
    """Maxima back to where they were, zeros elsewhere. Constructor and attributes are torch.nn's.

    Arguments as :func:`torchops.max_unpool2d`, with `dilation` by keyword.
    """

    # a torch.nn.MaxUnpool2d whose class was changed has this too
    dilation: int | tuple[int, int] = 1

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *, dilation: int | tuple[int, int] = 1
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = dilation

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool2d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size, dilation=self.dilation
        )

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.dilation == 1 else f"{text}, dilation={self.dilation}"


class AvgUnpool2d(_Layer):
    """Means spread over their windows.

    Arguments as :func:`torchops.avg_unpool2d`.

    >>> import torch, torchops
    >>> torchops.nn.AvgUnpool2d(2)(torch.rand(2, 3, 4, 4), output_size=(9, 9)).shape
    torch.Size([2, 3, 9, 9])
    """

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return F.avg_unpool2d(input, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Upsample(_Layer, nn.Upsample):
    """Images enlarged by whole factors. Constructor and attributes are torch.nn's; (N, C, L) and (N, C, D, H, W), which the
    same layer takes there, are enlarged by torch.

    Arguments as :func:`torchops.interpolate`.

    >>> import torch, torchops
    >>> torchops.nn.Upsample(scale_factor=2)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 16, 16])
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() in (3, 5):
            return super().forward(input)
        size: Any = self.size
        return F.interpolate(
            input, size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )  # fmt: skip


class UpsamplingNearest2d(Upsample, nn.UpsamplingNearest2d):
    """:class:`Upsample` with the constructor of torch.nn's layer of this name.

    >>> import torch, torchops
    >>> torchops.nn.UpsamplingNearest2d(scale_factor=2)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 16, 16])
    """

    __init__ = nn.UpsamplingNearest2d.__init__


class Sobel(_Layer):
    """Magnitude of the Sobel gradients, as a layer. It has no parameters.

    Arguments as :func:`torchops.sobel`.

    Shape:
        (N, C, H, W) or (C, H, W), in and out.

    >>> import torch, torchops
    >>> torchops.nn.Sobel(padding_mode="reflect")(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        normalized: bool = True,
        eps: float = 1e-6,
        *,
        padding_mode: str = "replicate",
        padding_value: float = 0.0,
    ) -> None:
        super().__init__()
        check_padding_mode(padding_mode)
        self.normalized = normalized
        self.eps = eps
        self.padding_mode = padding_mode
        self.padding_value = padding_value

    def forward(self, input: Tensor) -> Tensor:
        return F.sobel(
            input, self.normalized, self.eps, padding_mode=self.padding_mode, padding_value=self.padding_value
        )

    def extra_repr(self) -> str:
        text = f"normalized={self.normalized}, eps={self.eps}, padding_mode={self.padding_mode!r}"
        return f"{text}, padding_value={self.padding_value}" if self.padding_mode == "constant" else text
