"""Every op once more, from its formula: indices, then one sum, in float64. Drawn tests compare with it.

It shares no code with torch's convolutions, pools and paddings, which torchops calls on a CPU, nor with `torchops.reference`.
Every op is the same two steps: which pixels each output sees (`_windows`, or backwards `_covers`), and what becomes of them.
Sizes are pairs (rows, columns), images (N, C, H, W). Autograd differentiates all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Pair = Sequence[int]
BEYOND = -1


def _windows(count: int, kernel: int, stride: int, before: int, dilation: int = 1) -> Tensor:
    """The pixel under every tap of every window along one dimension, (count, kernel); also beyond the image."""
    return torch.arange(count)[:, None] * stride - before + torch.arange(kernel) * dilation


def _covers(size: int, windows: int, kernel: int, stride: int, before: int, dilation: int = 1) -> Tensor:
    """The window whose tap lies on each pixel along one dimension, (size, kernel); BEYOND where there is none."""
    distance = torch.arange(size)[:, None] + before - torch.arange(kernel) * dilation
    window = torch.div(distance, stride, rounding_mode="floor")
    return torch.where(distance % stride == 0, _inside(window, windows), BEYOND)


def _inside(index: Tensor, size: int) -> Tensor:
    return torch.where((index >= 0) & (index < size), index, BEYOND)


def _border(index: Tensor, size: int, mode: str) -> Tensor:
    """Which pixel of the image is read there; BEYOND for a border that has a value of its own."""
    if mode == "replicate":
        return index.clamp(0, size - 1)
    if mode == "circular":
        return index % size
    if mode == "reflect":
        there_and_back = max(1, 2 * (size - 1))
        index = index % there_and_back
        return torch.minimum(index, there_and_back - index)
    return _inside(index, size)


def _read(x: Tensor, rows: Tensor, cols: Tensor, beyond: float = 0.0) -> Tensor:
    """x at all rows (P, R) and columns (Q, S): (N, C, P, R, Q, S)."""
    i, j = rows.flatten(), cols.flatten()
    pixels = x.index_select(2, i.clamp(min=0)).index_select(3, j.clamp(min=0))
    inside = (i != BEYOND)[:, None] & (j != BEYOND)
    return torch.where(inside, pixels, beyond).unflatten(3, cols.shape).unflatten(2, rows.shape)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda z: z.clamp(min=0),
    "relu6": lambda z: z.clamp(0, 6),
    "leaky_relu": lambda z: torch.where(z > 0, z, 0.01 * z),
    "silu": lambda z: z / (1 + (-z).exp()),
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
    "tanh": lambda z: 1 - 2 / ((2 * z).exp() + 1),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "hardsigmoid": lambda z: (z / 6 + 0.5).clamp(0, 1),
    "hardswish": lambda z: z * (z / 6 + 0.5).clamp(0, 1),
}


def _product(pixels: Tensor, weight: Tensor, groups: int, equation: str) -> Tensor:
    """The sum over taps and channels, group by group."""
    pixels = pixels.unflatten(1, (groups, pixels.shape[1] // groups))
    return torch.einsum(equation, pixels, weight.unflatten(0, (groups, weight.shape[0] // groups))).flatten(1, 2)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, *,
    stride: Pair, padding: Pair | str, dilation: Pair, groups: int, padding_mode: str = "zeros", padding_value: float = 0.0,
    activation: str | None = None,
) -> Tensor:  # fmt: skip
    if padding == "same":
        rows_more, cols_more = (d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True))
        left, right, top, bottom = (
            cols_more // 2,
            cols_more - cols_more // 2,
            rows_more // 2,
            rows_more - rows_more // 2,
        )
    elif padding == "valid":
        left = right = top = bottom = 0
    elif len(padding) == 2:
        top, left = bottom, right = padding
    else:
        left, right, top, bottom = padding
    seen = []
    for n, k, u, d, before, after in zip(
        input.shape[2:], weight.shape[2:], stride, dilation, (top, left), (bottom, right), strict=True
    ):
        count = (n + before + after - d * (k - 1) - 1) // u + 1
        seen.append(_border(_windows(count, k, u, before, d), n, padding_mode))
    pixels = _read(input, *seen, padding_value if padding_mode == "constant" else 0.0)
    z = _product(pixels, weight, groups, "ngcpiqj,gkcij->ngkpq")
    z = z if bias is None else z + bias[:, None, None]
    z = z if residual is None else z + residual
    return z if activation is None else ACTIVATIONS[activation](z)


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *,
    stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int,
) -> Tensor:  # fmt: skip
    seen = []
    for n, k, u, d, t, more in zip(
        input.shape[2:], weight.shape[2:], stride, dilation, padding, output_padding, strict=True
    ):
        size = (n - 1) * u - 2 * t + d * (k - 1) + more + 1
        seen.append(_covers(size, n, k, u, t, d))
    y = _product(_read(input, *seen), weight, groups, "ngchiwj,gckij->ngkhw")
    return y if bias is None else y + bias[:, None, None]


def _count(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Windows along one dimension, one after the other: as long as they fit, or, with `ceil_mode`, as long as the one before
    leaves pixels over and they start in the image or in the padding before it."""
    count, end = 1, size + 2 * padding
    while True:
        start = count * stride
        reach = start + dilation * (kernel - 1)
        fits = reach - stride < end - 1 and start < size + padding if ceil_mode else reach < end
        if not fits:
            return count
        count += 1


def _pooled(size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool) -> list[int]:
    """Rows and columns of windows."""
    dims = zip(size, kernel_size, stride, padding, dilation, strict=True)
    return [_count(*dim, ceil_mode) for dim in dims]


def _flat(rows: Tensor, cols: Tensor, width: int) -> Tensor:
    """The flat position of every tap of every window, (P, Q, R S); BEYOND where it lies beyond."""
    i, j = rows[:, None, :, None], cols[None, :, None, :]
    return torch.where((i != BEYOND) & (j != BEYOND), i * width + j, BEYOND).flatten(2)


def positions(size: Pair, windows: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Of every tap of every window in an image of that size, (P, Q, R S)."""
    rows, cols = (
        _inside(_windows(*dim), n)
        for n, *dim in zip(size, windows, kernel_size, stride, padding, dilation, strict=True)
    )
    return _flat(rows, cols, size[1])


def _largest(input: Tensor, seen: Tensor, smallest: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Of every window, the position and the tap too.

    Tap after tap, a pixel takes the place of one that is smaller, and a NaN that of anything.
    """
    x = (-input if smallest else input).flatten(2)
    found = torch.full((*x.shape[:2], *seen.shape[:2]), BEYOND)
    taps, best = found.clone(), torch.full(found.shape, -math.inf, dtype=x.dtype)
    for tap, at in enumerate(seen.unbind(-1)):
        value = x.detach()[..., at.clamp(min=0)]
        takes = (at != BEYOND) & ((found == BEYOND) | (value > best) | value.isnan())
        best, found, taps = (
            torch.where(takes, new, old) for new, old in ((value, best), (at, found), (torch.tensor(tap), taps))
        )
    return input.flatten(2).gather(2, found.flatten(2)).view(found.shape), found, taps


def max_pool2d(
    input: Tensor, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool,
    return_indices: bool | str, smallest: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    size, geometry = input.shape[2:], (kernel_size, stride, padding, dilation)
    seen = positions(size, _pooled(size, *geometry, ceil_mode), *geometry)
    y, found, taps = _largest(input, seen, smallest)
    return y, taps if return_indices == "offset" else found


def avg_pool2d(
    input: Tensor, *, kernel_size: Pair, stride: Pair, padding: Pair, ceil_mode: bool, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    size, geometry = input.shape[2:], (kernel_size, stride, padding)
    windows = _pooled(size, *geometry, (1, 1), ceil_mode)
    seen = [_windows(*dim) for dim in zip(windows, *geometry, strict=True)]
    least, beyond = ((-padding[0], -padding[1]), padding) if count_include_pad else ((0, 0), (0, 0))
    counts = [
        ((i >= first) & (i < n + after)).sum(1) for i, n, first, after in zip(seen, size, least, beyond, strict=True)
    ]
    divisor = counts[0][:, None] * counts[1] if divisor_override is None else divisor_override
    return _read(input, *map(_inside, seen, size)).sum((3, 5)) / divisor


def _parts(size: int, count: int) -> Tensor:
    """The pixels of every window of an adaptive pool along one dimension, (count, longest); BEYOND after a shorter one."""
    p = torch.arange(count)
    first, end = p * size // count, -(-(p + 1) * size // count)
    index = first[:, None] + torch.arange(int((end - first).max()))
    return torch.where(index < end[:, None], index, BEYOND)


def adaptive_avg_pool2d(input: Tensor, output_size: Pair) -> Tensor:
    rows, cols = map(_parts, input.shape[2:], output_size)
    return _read(input, rows, cols).sum((3, 5)) / ((rows != BEYOND).sum(1)[:, None] * (cols != BEYOND).sum(1))


def adaptive_max_pool2d(input: Tensor, output_size: Pair) -> tuple[Tensor, Tensor]:
    rows, cols = map(_parts, input.shape[2:], output_size)
    return _largest(input, _flat(rows, cols, input.shape[3]))[:2]


def interpolate(input: Tensor, factors: Pair) -> Tensor:
    rows, cols = (torch.arange(n * factor) // factor for n, factor in zip(input.shape[2:], factors, strict=True))
    return input[:, :, rows[:, None], cols]


def max_unpool2d(
    input: Tensor, indices: Tensor, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, output_size: Pair
) -> Tensor:
    """Window after window: a later one takes the pixel of an earlier."""
    n, c, p, q = input.shape
    if indices.dtype == torch.uint8:
        seen = positions(output_size, (p, q), kernel_size, stride, padding, dilation).expand(n, c, -1, -1, -1)
        indices = seen.gather(-1, indices.long().unsqueeze(-1)).squeeze(-1)
    last = torch.full((n * c, output_size[0] * output_size[1]), BEYOND)
    planes = torch.arange(n * c)
    for window, at in enumerate(indices.reshape(n * c, p * q).unbind(1)):
        last[planes, at] = window
    last = last.view(n, c, -1)
    values = input.flatten(2).gather(2, last.clamp(min=0))
    return torch.where(last != BEYOND, values, 0.0).view(n, c, *output_size)


def avg_unpool2d(input: Tensor, *, kernel_size: Pair, stride: Pair, padding: Pair, output_size: Pair) -> Tensor:
    rows, cols = (
        _covers(n, count, k, u, t)
        for n, count, k, u, t in zip(output_size, input.shape[2:], kernel_size, stride, padding, strict=True)
    )
    windows = (rows != BEYOND).sum(1)[:, None] * (cols != BEYOND).sum(1)
    return _read(input, rows, cols).sum((3, 5)) / windows.clamp(min=1)


_SMOOTH, _DIFFERENCE = torch.tensor([1.0, 2.0, 1.0]).double(), torch.tensor([-1.0, 0.0, 1.0]).double()


def spatial_gradient(
    input: Tensor, normalized: bool = True, *, padding_mode: str = "replicate", padding_value: float = 0.0
) -> Tensor:
    seen = (_border(_windows(n, 3, 1, 1), n, padding_mode) for n in input.shape[2:])
    pixels = _read(input, *seen, padding_value if padding_mode == "constant" else 0.0)
    x, y = (
        torch.einsum("nchiwj,i,j->nchw", pixels, *filters)
        for filters in ((_SMOOTH, _DIFFERENCE), (_DIFFERENCE, _SMOOTH))
    )
    return torch.stack((x, y), 2) / (8 if normalized else 1)


def sobel(input: Tensor, normalized: bool = True, eps: float = 1e-6, **border: str | float) -> Tensor:
    x, y = spatial_gradient(input, normalized, **border).unbind(2)  # type: ignore[arg-type]
    return (x * x + y * y + eps).sqrt()
