"""The public functions: typed, documented, validating. Each checks its arguments, then calls a registered op."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .ops import sobel as _sobel

PADDING_MODES = ("replicate", "reflect", "circular", "zeros", "constant")
_IMAGE_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _check_image(input: Tensor) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"`input` must be a tensor, got {type(input).__name__}")
    if input.dim() not in (3, 4):
        raise ValueError(f"`input` must have shape (C, H, W) or (N, C, H, W), got {tuple(input.shape)}")
    if input.dtype not in _IMAGE_DTYPES:
        raise TypeError(f"`input` must be uint8 or floating point (16, 32 or 64 bits), got {input.dtype}")
    if input.layout != torch.strided:
        raise TypeError(f"`input` must be a dense tensor, got layout {input.layout}")
    if input.shape[-1] == 0 or input.shape[-2] == 0:
        raise ValueError(f"`input` must have at least one pixel, got shape {tuple(input.shape)}")


def check_padding_mode(padding_mode: str) -> None:
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"`padding_mode` must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")


def _check_border(input: Tensor, padding: int, padding_mode: str, padding_value: float) -> None:
    check_padding_mode(padding_mode)
    if not isinstance(padding_value, (int, float, torch.SymFloat)):
        raise TypeError(f"`padding_value` must be a number, got {padding_value!r}")
    if padding_mode == "reflect" and (input.shape[-1] <= padding or input.shape[-2] <= padding):
        raise ValueError(
            f"`padding_mode` 'reflect' needs more than {padding} pixel{'s' * (padding > 1)} in each direction, "
            f"got `input` of shape {tuple(input.shape)}"
        )
    if padding_value != 0.0 and padding_mode != "constant":
        raise ValueError(f"`padding_value` (={padding_value}) needs `padding_mode` 'constant', got {padding_mode!r}")


def sobel(
    input: Tensor,
    normalized: bool = True,
    eps: float = 1e-6,
    *,
    padding_mode: str = "replicate",
    padding_value: float = 0.0,
) -> Tensor:
    r"""Magnitude of the Sobel gradients: edges are bright.

    .. math:: y = \sqrt{g_x^2 + g_y^2 + \epsilon}

    with :math:`g_x, g_y` from :func:`spatial_gradient`. One kernel, no padded copy. At a flat patch the gradient is 0, for
    `eps=0` too.

    Args:
        input: (N, C, H, W) or (C, H, W); uint8, float16, bfloat16, float32 or float64; any strides. uint8 counts from 0
            to 255, and is computed in float32.
        normalized: divide the filters by 8, the sum of their absolute weights, so that y has the range of `input`.
        eps: added under the root, in squared units of y; not negative. It keeps the gradient finite.
        padding_mode: what lies beyond the border: "replicate", "reflect", "circular", "zeros" or "constant".
        padding_value: the value beyond the border for `padding_mode="constant"`.

    Returns:
        Tensor of the shape of `input`, in its dtype (float32 for uint8) and memory format.

    Raises:
        TypeError: if `input` is not a dense tensor of one of these dtypes.
        ValueError: if an argument is out of its range, or `input` is too small for the border.

    Differs from `kornia.filters.sobel`, which has the same defaults, in taking any border, uint8 and unbatched images. The
    middle tap of the filters is 0 and is not read: a NaN reaches its eight neighbours, not its own place.

    Source: I. Sobel, G. Feldman, "A 3x3 isotropic gradient operator for image processing", 1968.

    >>> import torch, torchops
    >>> step = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    >>> torchops.sobel(step, eps=0.0)
    tensor([[[0.0000, 0.5000, 0.5000, 0.0000]]])
    """
    _check_image(input)
    _check_border(input, 1, padding_mode, padding_value)
    if not isinstance(eps, (int, float, torch.SymFloat)):
        raise TypeError(f"`eps` must be a number, got {eps!r}")
    if not 0.0 <= eps < math.inf:
        raise ValueError(f"`eps` must be finite and not negative, got {eps}")
    if input.dim() == 3:
        return _sobel.sobel(input.unsqueeze(0), normalized, eps, padding_mode, padding_value).squeeze(0)
    return _sobel.sobel(input, normalized, eps, padding_mode, padding_value)


def spatial_gradient(
    input: Tensor,
    normalized: bool = True,
    *,
    padding_mode: str = "replicate",
    padding_value: float = 0.0,
) -> Tensor:
    r"""Sobel gradients of an image, along x and along y.

    .. math::
        g_x = \begin{pmatrix} -1 & 0 & 1 \\ -2 & 0 & 2 \\ -1 & 0 & 1 \end{pmatrix} \star x \qquad
        g_y = \begin{pmatrix} -1 & -2 & -1 \\ 0 & 0 & 0 \\ 1 & 2 & 1 \end{pmatrix} \star x

    Args:
        input: (N, C, H, W) or (C, H, W); uint8, float16, bfloat16, float32 or float64; any strides. uint8 counts from 0
            to 255, and is computed in float32.
        normalized: divide the filters by 8, the sum of their absolute weights.
        padding_mode: what lies beyond the border: "replicate", "reflect", "circular", "zeros" or "constant".
        padding_value: the value beyond the border for `padding_mode="constant"`.

    Returns:
        (N, C, 2, H, W) or (C, 2, H, W), x then y, in the dtype of `input` (float32 for uint8); channels_last_3d if `input`
        is channels_last.

    Raises:
        TypeError: if `input` is not a dense tensor of one of these dtypes.
        ValueError: if an argument is out of its range, or `input` is too small for the border.

    Differs from `kornia.filters.spatial_gradient` (mode "sobel", order 1), whose values it has, as :func:`sobel` does from
    kornia's.

    Source: I. Sobel, G. Feldman, "A 3x3 isotropic gradient operator for image processing", 1968.

    >>> import torch, torchops
    >>> ramp = torch.arange(4.0).expand(1, 3, 4)
    >>> torchops.spatial_gradient(ramp)[0, :, 1]
    tensor([[0.5000, 1.0000, 1.0000, 0.5000],
            [0.0000, 0.0000, 0.0000, 0.0000]])
    """
    _check_image(input)
    _check_border(input, 1, padding_mode, padding_value)
    if input.dim() == 3:
        return _sobel.spatial_gradient(input.unsqueeze(0), normalized, padding_mode, padding_value).squeeze(0)
    return _sobel.spatial_gradient(input, normalized, padding_mode, padding_value)
