"""Sobel gradients and their magnitude."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchops.kernels.geometry import Border
from torchops.ops import sobel as _sobel
from torchops.ops.checks import check_border

from . import arguments


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

    Same inputs, same bits; on a CPU for a number of threads (`torch.set_num_threads`): the gradient of a large image is summed
    in tiles, whose size follows it.

    Differs from `kornia.filters.sobel`, which has the same defaults, in taking any border, uint8 and unbatched images. The
    middle tap of the filters is 0 and is not read: a NaN reaches its eight neighbours, not its own place.

    Source: I. Sobel, G. Feldman, "A 3x3 isotropic gradient operator for image processing", 1968.

    >>> import torch, torchops
    >>> step = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    >>> torchops.sobel(step, eps=0.0)
    tensor([[[0.0000, 0.5000, 0.5000, 0.0000]]])
    """
    arguments.check_image(input)
    arguments.check_padding_value(padding_mode, padding_value)
    check_border(input.shape, (1, 1, 1, 1), padding_mode, "`input`")
    if not isinstance(eps, (int, float, torch.SymFloat)):
        raise TypeError(f"`eps` must be a number, got {eps!r}")
    if not 0.0 <= eps < math.inf:
        raise ValueError(f"`eps` must be finite and not negative, got {eps}")
    border = Border(padding_mode, padding_value)
    if input.dim() == 3:
        return _sobel.sobel(input.unsqueeze(0), normalized, eps, border).squeeze(0)
    return _sobel.sobel(input, normalized, eps, border)


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
    arguments.check_image(input)
    arguments.check_padding_value(padding_mode, padding_value)
    check_border(input.shape, (1, 1, 1, 1), padding_mode, "`input`")
    border = Border(padding_mode, padding_value)
    if input.dim() == 3:
        return _sobel.spatial_gradient(input.unsqueeze(0), normalized, border).squeeze(0)
    return _sobel.spatial_gradient(input, normalized, border)
