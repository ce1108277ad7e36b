"""Where windows lie, and what lies beyond an image: numbers of an op that travel as one, and what follows from them.

    size of an output:   (size + padding of both ends - dilation (kernel - 1) - 1) // stride + 1

A pair is (rows, columns). The sides of a padding come in one order everywhere, that of `torch.nn.functional.pad`: left, right,
top, bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]
"""Left, right, top, bottom."""


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Outputs of a convolution along one dimension; `padding` is that of both ends together."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_transpose_size(size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int) -> int:
    """Outputs of a transposed convolution along one dimension; `padding` is that of both ends together."""
    return (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding


def pool_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Windows of a pool along one dimension, by ATen's rule; `padding` is that of one end.

    With `ceil_mode` a last window may reach beyond the padding, but has to start in the image or in the padding before it.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


class Border(NamedTuple):
    """What lies beyond an image."""

    mode: str
    """zeros, constant, reflect, replicate or circular."""
    value: float = 0.0
    """Of a constant border."""

    def canonical(self) -> Border:
        """The border as one of the four modes of kernels (see device/borders.py), which know zeros as the constant 0."""
        if self.mode in ("zeros", "constant"):
            return Border("constant", float(self.value) if self.mode == "constant" else 0.0)
        return Border(self.mode)

    def adjoint(self) -> Border:
        """The border of the op whose adjoint its gradient is: a constant beyond the image has no derivative."""
        return Border("zeros") if self.mode == "constant" else self


class Conv2d(NamedTuple):
    """A convolution without its tensors."""

    stride: Pair
    padding: Sides
    """Right and bottom may be negative, where they leave out rows or columns that no window reaches."""
    dilation: Pair
    groups: int
    border: str
    """What lies beyond the image: zeros, constant, reflect, replicate or circular."""
    value: float = 0.0
    """Of a constant border."""

    def output_size(self, image: Sequence[int], kernel: Sequence[int]) -> Pair:
        """Rows and columns of the result, for an image and a kernel of so many."""
        left, right, top, bottom = self.padding
        return (
            conv_size(image[0], kernel[0], self.stride[0], top + bottom, self.dilation[0]),
            conv_size(image[1], kernel[1], self.stride[1], left + right, self.dilation[1]),
        )

    def reach(self, kernel: Sequence[int]) -> Pair:
        """Rows and columns from the first tap of a window to the last."""
        return self.dilation[0] * (kernel[0] - 1), self.dilation[1] * (kernel[1] - 1)

    def adjoint(self) -> Conv2d:
        """The convolution whose adjoint in x is the input gradient: a constant beyond the image has no derivative.

        The weight gradient is that of the convolution itself, which multiplies the constant by weights.
        """
        return Conv2d(*self[:4], *Border(self.border, self.value).adjoint())


class Window(NamedTuple):
    """The windows of a pool."""

    kernel: Pair
    stride: Pair
    padding: Pair
    """Of both ends alike."""
    dilation: Pair = (1, 1)

    def output_size(self, image: Sequence[int], ceil_mode: bool = False) -> Pair:
        """Rows and columns of windows, in an image of so many pixels."""
        kernel, stride, padding, dilation = self
        return (
            pool_size(image[0], kernel[0], stride[0], padding[0], dilation[0], ceil_mode),
            pool_size(image[1], kernel[1], stride[1], padding[1], dilation[1], ceil_mode),
        )

    def axes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Kernel, stride, padding and dilation of the rows, then of the columns."""
        return tuple(zip(*self, strict=True))

    def overlap(self) -> bool:
        """Whether a pixel may lie in several windows."""
        return any(dilation * (kernel - 1) >= stride for kernel, stride, _, dilation in self.axes())

    def covering(self) -> Pair:
        """How many windows may lie over a pixel, by rows and by columns."""
        rows, cols = (-(-(dilation * (kernel - 1) + 1) // stride) for kernel, stride, _, dilation in self.axes())
        return rows, cols
