"""Sobel gradients: `torchops::sobel` and `torchops::spatial_gradient`, and their gradients.

`spatial_gradient` is affine and `spatial_gradient_backward` its adjoint, so each is the other's derivative; `sobel_backward`
is differentiated in terms of the two. Derivatives of every order therefore run on registered ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.reference import pad
from torchops.shapes import memory_format

from .registration import accumulation_dtype, each_image, prefer_huge_pages, register, uses_triton


def _kernels() -> ModuleType:
    from torchops.kernels import sobel

    return sobel


def _scale(normalized: bool) -> float:
    return 0.125 if normalized else 1.0


def _output_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float32


def _empty_sobel(x: Tensor, *_: Any) -> Tensor:
    return torch.empty(
        x.shape, dtype=_output_dtype(x), device=x.device, memory_format=memory_format(x.shape, x.stride())
    )


def _empty_spatial_gradient(x: Tensor, *_: Any) -> Tensor:
    n, c, h, w = x.shape
    if memory_format(x.shape, x.stride()) == torch.channels_last:
        return torch.empty((n, 2, h, w, c), dtype=_output_dtype(x), device=x.device).permute(0, 4, 1, 2, 3)
    return torch.empty((n, c, 2, h, w), dtype=_output_dtype(x), device=x.device)


def _empty_sobel_backward(dy: Tensor, x: Tensor, *_: Any) -> Tensor:
    return _empty_sobel(x)


def _empty_spatial_gradient_backward(dg: Tensor, *_: Any) -> Tensor:
    return _empty_sobel(dg[:, :, 0])


def _sobel(x: Tensor, normalized: bool, eps: float, padding_mode: str, padding_value: float) -> Tensor:
    y = _empty_sobel(x)
    if y.numel() == 0:
        return y
    if uses_triton(x):
        _kernels().sobel_fwd(x, y, _scale(normalized), eps, padding_mode, padding_value)
    else:
        _aten_fwd(x, y, _scale(normalized), eps, padding_mode, padding_value)
    return y


def _spatial_gradient(x: Tensor, normalized: bool, padding_mode: str, padding_value: float) -> Tensor:
    g = _empty_spatial_gradient(x)
    if g.numel() == 0:
        return g
    if uses_triton(x):
        _kernels().spatial_gradient_fwd(x, g, _scale(normalized), padding_mode, padding_value)
    else:
        _aten_fwd(x, g, _scale(normalized), None, padding_mode, padding_value)
    return g


def _sobel_backward(
    dy: Tensor, x: Tensor, normalized: bool, eps: float, padding_mode: str, padding_value: float
) -> Tensor:
    dx = _empty_sobel_backward(dy, x)
    if dx.numel() == 0:
        return dx
    if uses_triton(x):
        _kernels().sobel_bwd(dy, x, dx, _scale(normalized), eps, padding_mode, padding_value)
    else:
        _aten_bwd(dy, x, dx, _scale(normalized), eps, padding_mode, padding_value)
    return dx


def _spatial_gradient_backward(dg: Tensor, normalized: bool, padding_mode: str) -> Tensor:
    dx = _empty_spatial_gradient_backward(dg)
    if dx.numel() == 0:
        return dx
    if uses_triton(dg):
        _kernels().spatial_gradient_bwd(dg, dx, _scale(normalized), padding_mode)
    else:
        _aten_bwd(dg, None, dx, _scale(normalized), 0.0, padding_mode, 0.0)
    return dx


#
# ATen has no Sobel, and its convolution takes 20 times as long as these slices. They run tile by tile, through buffers that
# all tiles share and that stay in cache: nothing of the size of the image is allocated but the output. Inside the image a
# tile is a view; a tile that touches the border reads a small padded copy of itself.

_TILE = 1 << 18
"""Elements of a tile on a CPU. Fewer cost more in calls than the cache gives back, more fall out of it."""

_TINY = 1e-30
"""Below this eps, the square of a magnitude can be 0 in float32."""

Tile = tuple[slice, slice, slice, slice]
"""Planes (two dimensions), rows and columns of outputs."""


class _Scratch:
    """Buffers that all tiles of a call share, by name. Fresh memory would cost more than the arithmetic."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}
        self._views: dict[tuple[str, torch.Size, torch.dtype], tuple[Tensor, ...]] = {}

    def __call__(self, name: str, size: torch.Size, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """An uninitialised tensor of that size, and its columns from 0, 1 and 2 on that leave two out."""
        views = self._views.get((name, size, dtype))
        if views is None:
            buffer = self._buffers.get((name, dtype))
            if buffer is None or buffer.numel() < size.numel():
                buffer = self._buffers[name, dtype] = torch.empty(size.numel(), dtype=dtype, device=self._device)
            whole = buffer[: size.numel()].view(size)
            views = whole, whole[:, :, :, :-2], whole[:, :, :, 1:-1], whole[:, :, :, 2:]
            self._views[name, size, dtype] = views
        return views


def _planar(t: Tensor, channels_last: bool) -> Tensor:
    """(N, C, H, W) as a view (N, C, H, W, 1), or (N, 1, H, W, C) for channels_last: rows and pixels keep their order."""
    return t.permute(0, 2, 3, 1).unsqueeze(1) if channels_last else t.unsqueeze(-1)


def _tiles(size: torch.Size, device: torch.device) -> Iterator[Tile]:
    """Tiles that cover (A, B, H, W, L): whole planes while these are small, else the frame, then bands of rows."""
    a, b, h, w, lanes = size
    limit = _TILE if device.type == "cpu" else 1 << 62
    everything = slice(0, None)
    planes = limit // (h * w * lanes)
    if planes:
        for j in range(0, b, planes):
            step = max(1, planes // b)
            for i in range(0, a, step):
                yield slice(i, i + step), slice(j, j + planes), slice(0, h), slice(0, w)
        return
    for r in sorted({0, h - 1}):
        yield everything, everything, slice(r, r + 1), slice(0, w)
    if h <= 2:
        return
    for c in sorted({0, w - 1}):
        yield everything, everything, slice(1, h - 1), slice(c, c + 1)
    if w <= 2:
        return
    step = max(1, limit // (w * lanes))
    for i in range(a):
        for j in range(b):
            for r in range(1, h - 1, step):
                yield slice(i, i + 1), slice(j, j + 1), slice(r, min(r + step, h - 1)), slice(1, w - 1)


def _runs(span: slice, size: int, padding_mode: str) -> list[tuple[slice, slice | None]]:
    """What a span of outputs reads, in runs: where in the padded tile, and where in the image (None: beyond it)."""
    beyond = {"replicate": (0, size - 1), "reflect": (1, size - 2), "circular": (size - 1, 0)}.get(padding_mode)
    first, last = max(span.start - 1, 0), min(span.stop + 1, size)
    runs: list[tuple[slice, slice | None]] = [
        (slice(first - span.start + 1, last - span.start + 1), slice(first, last))
    ]
    if span.start == 0:
        runs.append((slice(0, 1), slice(beyond[0], beyond[0] + 1) if beyond else None))
    if span.stop == size:
        end = span.stop - span.start + 1
        runs.append((slice(end, end + 1), slice(beyond[1], beyond[1] + 1) if beyond else None))
    return runs


def _is_inside(tile: Tile, size: torch.Size) -> bool:
    _, _, rows, cols = tile
    return rows.start > 0 and cols.start > 0 and rows.stop < size[2] and cols.stop < size[3]


def _halo(tile: Tile) -> Tile:
    a, b, rows, cols = tile
    return a, b, slice(rows.start - 1, rows.stop + 1), slice(cols.start - 1, cols.stop + 1)


def _read(x: Tensor, tile: Tile, padding_mode: str, padding_value: float, scratch: _Scratch) -> Tensor:
    """What the outputs of a tile read, in a dtype that holds their sums: (A, B, rows + 2, columns + 2, L)."""
    a, b, rows, cols = tile
    if _is_inside(tile, x.shape):
        part = x[_halo(tile)]
        # the gradients of bytes are integers of 11 bits, and the arithmetic of shorts is twice as fast
        dtype = torch.int16 if x.dtype == torch.uint8 else accumulation_dtype(x.dtype)
        return part if part.dtype == dtype else scratch("x", part.shape, dtype)[0].copy_(part)
    x, acc = x[a, b], accumulation_dtype(x.dtype)
    if rows == slice(0, x.shape[2]) and cols == slice(0, x.shape[3]):
        planes = x.movedim(-1, 2).flatten(1, 2).to(acc)
        return pad(planes, 1, padding_mode, padding_value).unflatten(1, (x.shape[1], -1)).movedim(2, -1)
    size = torch.Size((*x.shape[:2], rows.stop - rows.start + 2, cols.stop - cols.start + 2, x.shape[-1]))
    padded = scratch("x", size, acc)[0]
    for to_rows, from_rows in _runs(rows, x.shape[2], padding_mode):
        for to_cols, from_cols in _runs(cols, x.shape[3], padding_mode):
            target = padded[:, :, to_rows, to_cols]
            if from_rows is None or from_cols is None:
                target.fill_(padding_value if padding_mode == "constant" else 0.0)
            else:
                target.copy_(x[:, :, from_rows, from_cols])
    return padded


def _gradients(x: Tensor, scratch: _Scratch) -> tuple[Tensor, Tensor]:
    """gx and gy, unscaled, from what `_read` read; floating point."""
    upper, middle, lower = x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]
    smooth, smooth_l, _, smooth_r = scratch("smooth", upper.shape, x.dtype)
    diff, diff_l, diff_m, diff_r = scratch("diff", upper.shape, x.dtype)
    torch.add(upper, lower, out=smooth).add_(middle, alpha=2)
    torch.sub(lower, upper, out=diff)
    gx = torch.sub(smooth_r, smooth_l, out=scratch("gx", diff_m.shape, x.dtype)[0])
    gy = torch.add(diff_r, diff_l, out=scratch("gy", diff_m.shape, x.dtype)[0]).add_(diff_m, alpha=2)
    if gx.is_floating_point():
        return gx, gy
    return tuple(scratch(n, g.shape, torch.float32)[0].copy_(g) for n, g in (("gx", gx), ("gy", gy)))  # type: ignore


def _square(gx: Tensor, gy: Tensor, scale: float, eps: Tensor, out: Tensor) -> Tensor:
    """scale^2 (gx^2 + gy^2) + eps"""
    torch.addcmul(eps, gx, gx, value=scale * scale, out=out)
    return out.addcmul_(gy, gy, value=scale * scale)


def _aten_fwd(x: Tensor, out: Tensor, scale: float, eps: float | None, padding_mode: str, padding_value: float) -> None:
    """Fill out with the magnitude (N, C, H, W), or with the gradients (N, C, 2, H, W) where eps is None."""
    channels_last = not out.is_contiguous()
    targets = [_planar(t, channels_last) for t in ((out,) if eps is not None else out.unbind(2))]
    x = _planar(x, channels_last)
    prefer_huge_pages(out)
    scratch = _Scratch(x.device)
    offset = x.new_tensor(eps or 0.0, dtype=accumulation_dtype(x.dtype))
    for tile in _tiles(x.shape, x.device):
        gx, gy = _gradients(_read(x, tile, padding_mode, padding_value, scratch), scratch)
        if eps is None:
            targets[0][tile].copy_(gx.mul_(scale))
            targets[1][tile].copy_(gy.mul_(scale))
        elif out.dtype == gx.dtype:
            torch.sqrt(_square(gx, gy, scale, offset, out=gx), out=targets[0][tile])
        else:
            targets[0][tile].copy_(_square(gx, gy, scale, offset, out=gx).sqrt_())


def _add_adjoint(dgx: Tensor, dgy: Tensor, dx: Tensor, scratch: _Scratch) -> None:
    """Add to dx, of the size that `_read` reads, the adjoint of `_gradients`."""
    a, b, rows, cols, lanes = dgx.shape
    size = torch.Size((a, b, rows, cols + 2, lanes))
    smooth, smooth_l, _, smooth_r = scratch("smooth", size, dgx.dtype)
    diff, diff_l, diff_m, diff_r = scratch("diff", size, dgx.dtype)
    smooth[:, :, :, :2].zero_()
    smooth_r.copy_(dgx)
    smooth_l.sub_(dgx)
    diff[:, :, :, :2].zero_()
    diff_r.copy_(dgy)
    diff_l.add_(dgy)
    diff_m.add_(dgy, alpha=2)
    dx[:, :, :-2].add_(smooth).sub_(diff)
    dx[:, :, 1:-1].add_(smooth, alpha=2)
    dx[:, :, 2:].add_(smooth).add_(diff)


def _aten_bwd(
    dout: Tensor, x: Tensor | None, dx: Tensor, scale: float, eps: float, padding_mode: str, padding_value: float
) -> None:
    """Fill dx with the gradient of `_aten_fwd`: of the magnitude, or of the gradients where x is None."""
    prefer_huge_pages(dx)
    channels_last = not dx.is_contiguous()
    sources = [_planar(t, channels_last) for t in ((dout,) if x is not None else dout.unbind(2))]
    acc = accumulation_dtype(dx.dtype)
    target = dx.zero_() if dx.dtype == acc else torch.zeros_like(dx, dtype=acc)
    total = _planar(target, channels_last)
    x = None if x is None else _planar(x, channels_last)
    scratch = _Scratch(dx.device)
    offset = dx.new_tensor(eps, dtype=acc)
    for tile in _tiles(total.shape, dx.device):
        if x is None:
            size = sources[0][tile].shape
            dgx, dgy = (
                torch.mul(t[tile], scale, out=scratch(name, size, acc)[0])
                for t, name in zip(sources, ("gx", "gy"), strict=True)
            )
        else:
            gx, gy = _gradients(_read(x, tile, padding_mode, padding_value, scratch), scratch)
            ratio = _square(gx, gy, scale, offset, out=scratch("ratio", gx.shape, acc)[0])
            flat = ratio == 0 if eps < _TINY else None
            ratio.rsqrt_().mul_(sources[0][tile]).mul_(scale * scale)
            if flat is not None:
                ratio.masked_fill_(flat, 0.0)
            dgx, dgy = gx.mul_(ratio), gy.mul_(ratio)
        a, b, rows, cols = tile
        if _is_inside(tile, total.shape):
            _add_adjoint(dgx, dgy, total[_halo(tile)], scratch)
            continue
        part, share = total[a, b], dgx.new_zeros((*dgx.shape[:2], dgx.shape[2] + 2, dgx.shape[3] + 2, dgx.shape[4]))
        _add_adjoint(dgx, dgy, share, scratch)
        for from_rows, to_rows in _runs(rows, part.shape[2], padding_mode):
            for from_cols, to_cols in _runs(cols, part.shape[3], padding_mode):
                if to_rows is not None and to_cols is not None:
                    part[:, :, to_rows, to_cols].add_(share[:, :, from_rows, from_cols])
    if target is not dx:
        dx.copy_(target)


def _border_of_adjoint(padding_mode: str) -> tuple[str, float]:
    """The border of the linear part of the op: a constant beyond the image has no derivative."""
    return ("zeros", 0.0) if padding_mode == "constant" else (padding_mode, 0.0)


def _setup_sobel(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.constants = inputs
    ctx.save_for_backward(x)


def _grad_sobel(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return sobel_backward(dy, x, *ctx.constants), None, None, None, None


def _setup_spatial_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.normalized, ctx.padding_mode, _ = inputs


def _grad_spatial_gradient(ctx: Any, dg: Tensor) -> tuple[Any, ...]:
    return spatial_gradient_backward(dg, ctx.normalized, ctx.padding_mode), None, None, None


def _setup_spatial_gradient_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.normalized, ctx.padding_mode = inputs


def _grad_spatial_gradient_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    return spatial_gradient(v, ctx.normalized, *_border_of_adjoint(ctx.padding_mode)), None, None


def _setup_sobel_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, x, *ctx.constants = inputs
    ctx.save_for_backward(dy, x)


def _grad_sobel_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    """With g = S x, y = |g| and w = g / y, the op is S^T (w dy); S^T is `spatial_gradient_backward`."""
    dy, x = ctx.saved_tensors
    normalized, eps, padding_mode, padding_value = ctx.constants
    acc = accumulation_dtype(x.dtype)
    u = spatial_gradient(v.to(acc), normalized, *_border_of_adjoint(padding_mode))
    g = spatial_gradient(x.to(acc), normalized, padding_mode, padding_value)
    square = g.square().sum(2, keepdim=True) + eps
    flat = square == 0
    inverse = torch.where(flat, 0.0, torch.where(flat, 1.0, square).rsqrt())
    w = g * inverse
    along = (w * u).sum(2, keepdim=True)
    d_dy = d_x = None
    if ctx.needs_input_grad[0]:
        d_dy = along.squeeze(2).to(dy.dtype)
    if ctx.needs_input_grad[1]:
        across = (u - w * along) * inverse * dy.to(acc).unsqueeze(2)
        d_x = spatial_gradient_backward(across, normalized, padding_mode).to(x.dtype)
    return d_dy, d_x, None, None, None, None


sobel = register(
    "sobel", "(Tensor x, bool normalized, float eps, str padding_mode, float padding_value) -> Tensor",
    impl=_sobel, fake=_empty_sobel, setup=_setup_sobel, grad=_grad_sobel, vmap=each_image("sobel", 1),
)  # fmt: skip
spatial_gradient = register(
    "spatial_gradient", "(Tensor x, bool normalized, str padding_mode, float padding_value) -> Tensor",
    impl=_spatial_gradient, fake=_empty_spatial_gradient, setup=_setup_spatial_gradient, grad=_grad_spatial_gradient,
    vmap=each_image("spatial_gradient", 1),
)  # fmt: skip
sobel_backward = register(
    "sobel_backward",
    "(Tensor dy, Tensor x, bool normalized, float eps, str padding_mode, float padding_value) -> Tensor",
    impl=_sobel_backward, fake=_empty_sobel_backward, setup=_setup_sobel_backward, grad=_grad_sobel_backward,
    vmap=each_image("sobel_backward", 2),
)  # fmt: skip
spatial_gradient_backward = register(
    "spatial_gradient_backward", "(Tensor dg, bool normalized, str padding_mode) -> Tensor",
    impl=_spatial_gradient_backward, fake=_empty_spatial_gradient_backward, setup=_setup_spatial_gradient_backward,
    grad=_grad_spatial_gradient_backward, vmap=each_image("spatial_gradient_backward", 1),
)  # fmt: skip
