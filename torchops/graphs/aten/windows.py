"""Windows of pools. Of what has no size but for its strides, ATen's pools make what is promised."""

from __future__ import annotations

from torch.fx.experimental.symbolic_shapes import statically_known_true as known

from torchops.kernels.geometry import Window

from .promises import Ints


def window_of(kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints = (1, 1)) -> Window:
    (r, s), (u, v), (top, left), (a, b) = kernel_size, stride, padding, dilation
    return Window((r, s), (u, v), (top, left), (a, b))


def ceil_mode_for(size: Ints, windows: Ints, window: Window) -> bool | None:
    """The mode of ATen's pools that makes so many windows of an image of `size`; None where neither does."""
    for sure in (known, bool):
        for ceil_mode in (False, True):
            found = window.output_size(size, ceil_mode)
            if all(sure(a == b) for a, b in zip(found, windows, strict=True)):
                return ceil_mode
    return None
