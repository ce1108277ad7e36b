"""Receptive fields: the pixels that a unit can see, and how much it looks at each of them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchops.functional import avg_unpool2d

from .layers import Inputs, arguments, output_of, recorded


class Field(NamedTuple):
    """A rectangle of the image, in pixels; what lies beyond the image's border is no part of it."""

    top: int
    left: int
    height: int
    width: int


def receptive_field(net: nn.Module, x: Inputs, layer: str, unit: tuple[int, int] | None = None) -> Field:
    """The smallest rectangle that holds every pixel that a unit of a layer depends on.

    It is that of the pixels with a gradient, in a copy of the network whose weights are all positive and whose norms are
    left out, with means in the place of maxima: what kernels, strides, dilations and paddings allow, whatever was learned.
    A norm of the whole map, as GroupNorm, makes every unit depend on every pixel; that is left aside.

    Args:
        net: any network; it is left as it was.
        x: an image (N, C, H, W), or all arguments of the network; what is in it does not matter.
        layer: its name.
        unit: row and column in the layer's map; the centre by default.

    Raises:
        ValueError: if the layer does not exist, gives no maps, or does not depend on the image.

    >>> import torch
    >>> from torchops.models import LeNet
    >>> from torchops.models.inside import receptive_field
    >>> receptive_field(LeNet(), torch.rand(1, 1, 28, 28), "features.4")
    Field(top=8, left=8, height=14, width=14)
    """
    given = arguments(net, x)
    # activations that end at a largest value, as ReLU6, are far from it
    faint = [torch.full_like(given[0][:1], 1e-30, dtype=torch.float64)]
    faint += [t[:1].double() if t.is_floating_point() else t[:1] for t in given[1:]]
    with _Means():
        seen = _gradient(_transparent(net), faint, layer, unit)[0] > 0
    rows, columns = (seen.any(dim).nonzero() for dim in (1, 0))
    if not len(rows):
        raise ValueError(f"`layer` (={layer}): does not depend on the image")
    top, left = int(rows[0]), int(columns[0])
    return Field(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)


def effective_field(net: nn.Module, x: Inputs, layer: str, unit: tuple[int, int] | None = None) -> Tensor:
    """How much a unit of a layer changes with every pixel: the size of the gradient of its channels' sum.

    Args:
        net: any network; it is asked in eval mode, and left as it was.
        x: an image (N, C, H, W), or all arguments of the network.
        layer: its name.
        unit: row and column in the layer's map; the centre by default.

    Returns:
        (N, H, W), the mean over the image's channels, float32, on the CPU.

    Raises:
        ValueError: if the layer does not exist, or gives no maps.

    Source: W. Luo et al., Understanding the Effective Receptive Field in Deep Convolutional Neural Networks, NeurIPS 2016.
    """
    return _gradient(net, arguments(net, x), layer, unit).float()


def placement(net: nn.Module, x: Inputs, layer: str, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Where a layer's map lies on the image: left, right, bottom and top in pixels, as `extent` of matplotlib's `imshow`.

    Without padding a map covers less than the image: there it lies as the fields of two units in the middle do. Where these are
    cut off by the image's border, or do not lie as evenly as units do, behind an unpooling, the map is stretched over the
    image, as is usual.

    Args:
        net, x, layer: as :func:`receptive_field` takes them.
        shape: height and width of the layer's map.
    """
    size = (x if isinstance(x, Tensor) else x[0]).shape[-2:]
    whole = 0.0, float(size[1]), float(size[0]), 0.0
    if min(shape) < 2:
        return whole
    unit = shape[0] // 2, shape[1] // 2
    here = receptive_field(net, x, layer, unit)
    before = receptive_field(net, x, layer, (unit[0] - 1, unit[1] - 1))
    sides = []
    for axis, sizes in enumerate(size):
        start, length = here[axis], here[axis + 2]
        step = start - before[axis]
        if before[axis] == 0 or start + length == sizes or not 0 < step * shape[axis] <= sizes:
            return whole
        first = start + length / 2 - (unit[axis] + 0.5) * step
        sides.append((first, first + shape[axis] * step))
    (top, bottom), (left, right) = sides
    return left, right, bottom, top


def _gradient(net: nn.Module, given: list[Tensor], layer: str, unit: tuple[int, int] | None) -> Tensor:
    """|d unit / d image|, the mean over the channels of the image, (N, H, W), on the CPU."""
    image = given[0].requires_grad_()
    with torch.enable_grad(), recorded(net, {layer} & {name for name, _ in net.named_modules() if name}) as outputs:
        net(*given)
    maps = output_of(outputs, net, given, layer)
    row, column = (maps.shape[2] // 2, maps.shape[3] // 2) if unit is None else unit
    score = maps[:, :, row, column].sum()
    gradient = torch.autograd.grad(score, image, allow_unused=True)[0] if score.requires_grad else None
    return torch.zeros_like(image[:, 0]).cpu() if gradient is None else gradient.abs().mean(1).cpu()


def _transparent(net: nn.Module) -> nn.Module:
    """A copy in which a gradient comes to every pixel that a unit can depend on."""
    clear = copy.deepcopy(net).double()
    with torch.no_grad():
        for name, parameter in clear.named_parameters():
            # means: they neither overflow nor, in float64, vanish
            many = parameter.dim() > 1
            parameter.fill_(1 / parameter[0].numel() if many else float(not name.endswith("bias")))
        for name, buffer in clear.named_buffers():
            # norms that hold an activation stay
            if name.endswith(("running_mean", "running_var")):
                buffer.fill_(float(name.endswith("running_var")))
    for module in clear.modules():
        kind = type(module).__name__
        if "Norm" in kind and not any(module.children()):
            module.forward = lambda x, *_: x
        elif "AdaptiveMaxPool2d" in kind:
            module.forward = partial(F.adaptive_avg_pool2d, output_size=cast(Any, module.output_size))
        elif "MaxPool2d" in kind or "MinPool2d" in kind:
            module.forward = partial(_means_of, module)
        elif "MaxUnpool2d" in kind:
            module.forward = partial(_spread, module)
    return clear


def _means_of(pool: Any, x: Tensor) -> Any:
    """What a layer gives that takes maxima, with means in their place."""
    return _means(
        x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, bool(pool.return_indices)
    )


def _spread(unpool: Any, x: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
    """Every value in all of the window in which its maximum lay."""
    return avg_unpool2d(x, unpool.kernel_size, unpool.stride, unpool.padding)


def _means(
    x: Tensor, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The means of windows, whose places are those of `max_pool2d`, and zeros for its indices."""
    (kh, kw), (dh, dw) = ((n, n) if isinstance(n, int) else n for n in (kernel, dilation))
    windows = F.max_pool2d(x.detach(), kernel, stride or kernel, padding, dilation, ceil_mode).shape[-2:]
    (sh, sw), (ph, pw) = ((n, n) if isinstance(n, int) else n for n in (stride or kernel, padding))
    # as much on the right and below as the last window needs
    needed = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(windows, (sh, sw), (kh, kw), (dh, dw), strict=True)]
    x = F.pad(x, (pw, needed[1] - x.shape[-1] - pw, ph, needed[0] - x.shape[-2] - ph))
    weight = torch.full((x.shape[1], 1, kh, kw), 1 / (kh * kw), dtype=x.dtype, device=x.device)
    y = F.conv2d(x, weight, None, (sh, sw), 0, (dh, dw), x.shape[1])
    return (y, torch.zeros_like(y, dtype=torch.int64)) if return_indices else y


class _Means(TorchFunctionMode):
    """Within it `max_pool2d` gives means, too, where a forward calls it, and what a forward made in float32 goes into layers of
    float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.max_pool2d, F.max_pool2d_with_indices, torch.max_pool2d) and args[0].requires_grad:
            return _means(*args, **(kwargs or {}))
        if func is F.linear:
            args = (args[0].to(args[1].dtype), *args[1:])
        return func(*args, **(kwargs or {}))
