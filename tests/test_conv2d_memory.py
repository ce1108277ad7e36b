"""What a convolution allocates and launches on the Triton backend: no padded copy, no other layout, bounded workspaces.

Real launchers run on real arguments. Their launches are recorded for an H100, so that weight gradients are split as they are
there, or run in the interpreter, where results show that what was not allocated was not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import torchops
from torchops import reference
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.hardware import DEVICES
from torchops.ops.registration import IMPLEMENTATIONS

from .conformance import close
from .opinfo import LAYOUTS, laid_out

H100 = DEVICES["sm_90"]
PADDING_MODES = ("zeros", "constant", "reflect", "replicate", "circular")
CONSTANT = 0.5
BORDERS = ("reflect", "replicate", "circular")


@dataclass(frozen=True)
class Layer:
    input: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def ring(self) -> int:
        """Bytes of the padding around the images in float32, without rows and columns at the end that no window reaches."""
        n, c, *size = self.input
        padded = 1
        for pixels, kernel in zip(size, self.weight[2:], strict=True):
            reach = self.dilation * (kernel - 1)
            windows = (pixels + 2 * self.padding - reach - 1) // self.stride + 1
            padded *= max(self.padding + pixels, (windows - 1) * self.stride + reach + 1)
        return 4 * n * c * (padded - math.prod(size))

    def copied(self, w: Tensor, *, gradient: bool = False) -> list[int]:
        """Bytes of a copy of a weight that is not channels_last: a product over 16 or more channels reads them together."""
        k, c, r, s = self.weight
        channels = k // self.groups if gradient else c
        # narrow groups are no matrix product
        direct = self.groups > 1 and c * k // self.groups < 256
        return nbytes(w) if channels >= 16 and r * s > 1 and not direct else []

    def tensors(self, dtype: torch.dtype, layout: str = "channels_last", of_weight: str = "channels_last") -> Any:
        """Input, weight and bias."""
        shapes = (self.input, self.weight, self.weight[:1])
        x, w, b = (torch.randn(shape, dtype=dtype) for shape in shapes)
        # sums of the order of 1
        w *= math.prod(self.weight[1:]) ** -0.5
        return laid_out(x, layout), laid_out(w, of_weight), b

    def __call__(
        self, x: Tensor, w: Tensor, b: Tensor | None = None, function: Any = torchops.conv2d, **kwargs: Any
    ) -> Tensor:
        if kwargs.get("padding_mode") == "constant":
            kwargs["padding_value"] = CONSTANT
        y: Tensor = function(x, w, b, self.stride, self.padding, self.dilation, self.groups, **kwargs)
        return y


# one for each way to multiply, at a size for which a GPU is not too large
LAYERS = {
    "stem": Layer((8, 3, 112, 112), (64, 3, 7, 7), stride=2, padding=3),
    "body": Layer((32, 64, 56, 56), (64, 64, 3, 3)),
    "deep": Layer((32, 512, 7, 7), (512, 512, 3, 3)),
    "strided": Layer((8, 64, 56, 56), (128, 64, 3, 3), stride=2),
    "dilated": Layer((2, 64, 33, 33), (48, 64, 3, 3), padding=12, dilation=12),
    "odd": Layer((2, 17, 63, 65), (19, 17, 2, 5), padding=2),
    "pointwise": Layer((8, 64, 56, 56), (256, 64, 1, 1), padding=0),
    "grouped": Layer((8, 64, 28, 28), (64, 32, 3, 3), groups=2),
    "depthwise": Layer((8, 96, 28, 28), (96, 1, 3, 3), groups=96),
}
SMALL = {
    "flat": Layer((2, 3, 5, 6), (4, 3, 3, 3)),
    "gemm": Layer((1, 17, 5, 4), (18, 17, 3, 2), stride=2),
    "direct": Layer((1, 6, 5, 4), (6, 3, 3, 3), groups=2),
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
padding_modes = pytest.mark.parametrize("padding_mode", PADDING_MODES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


class Allocations(TorchDispatchMode):
    """The bytes of every new storage, in order: a view has none, an uninitialised tensor has one as a copy has."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        # what is kept alive keeps its address
        self.kept: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func._schema.name.partition("::")
        if space == "torchops":
            # a mode sees an operator, but not what it calls
            with self:
                return IMPLEMENTATIONS[name](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for t in tree_leaves(out):
            if not isinstance(t, Tensor):
                continue
            storage = t.untyped_storage()
            if storage.nbytes() and storage.data_ptr() not in given | self.kept.keys():
                self.kept[storage.data_ptr()] = storage
                self.sizes.append(storage.nbytes())
        return out


@contextmanager
def recorded() -> Iterator[tuple[list[Launch], list[int]]]:
    """Launches for an H100, and bytes allocated."""
    with record(H100) as launches, torchops.use_backend("triton"), Allocations() as allocations:
        yield launches, allocations.sizes


def nbytes(*tensors: Tensor) -> list[int]:
    return [t.numel() * t.element_size() for t in tensors]


def pixel(padding_mode: str, t: Tensor) -> list[int]:
    """Bytes of what lies beyond a constant border: 256 channels of its value."""
    return [256 * t.element_size()] if padding_mode == "constant" else []


def partial_sums(launches: list[Launch], dw: Tensor, db: Tensor | None = None) -> list[int]:
    """Bytes of a float32 for each range of pixels and each element, where there is more than one range."""
    elements = {"weight_grad": dw.numel(), "bias_grad": 0 if db is None else db.numel()}
    return [
        4 * launch.config.splits * count
        for launch in launches
        for name, count in elements.items()
        if name in launch.name and launch.config.splits > 1
    ]


def differentiated(layer: Layer, padding_mode: str, tensors: Any, needed: Any, dy: Tensor) -> Any:
    """Gradients of the needed tensors, what was launched for them, what was allocated."""
    for t in needed:
        t.requires_grad_()
    with recorded():
        y = layer(*tensors, padding_mode=padding_mode)
    with recorded() as (launches, sizes):
        return torch.autograd.grad(y, needed, dy), launches, sizes


def output_size(layer: Layer) -> torch.Size:
    return layer(torch.empty(layer.input, device="meta"), torch.empty(layer.weight, device="meta"), None).shape


def test_a_padded_copy_would_be_seen() -> None:
    layer = LAYERS["grouped"]
    x, w, b = layer.tensors(torch.float32)
    with torchops.use_backend("aten"), Allocations() as allocations:
        y = layer(x, w, b, padding_mode="reflect")
    assert allocations.sizes[0] > nbytes(x)[0]
    assert allocations.sizes[1:] == nbytes(y)


@dtypes
@padding_modes
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@layers
def test_fused_forward_is_one_launch_and_one_allocation(
    layer: Layer, layout: str, padding_mode: str, dtype: torch.dtype
) -> None:
    """Convolution, border, bias, residual and activation. An NCHW input takes no copy in the layout of the weight."""
    x, w, b = layer.tensors(dtype, layout)
    residual = torch.empty(output_size(layer), dtype=dtype)
    with recorded() as (launches, sizes):
        y = layer(x, w, b, padding_mode=padding_mode, residual=residual, activation="gelu")
    assert len(launches) == 1
    assert sizes == nbytes(y) + pixel(padding_mode, x)


@padding_modes
@pytest.mark.parametrize("of_weight", ["contiguous", "sliced"])
@layers
def test_at_most_the_weight_is_copied(layer: Layer, of_weight: str, padding_mode: str) -> None:
    x, w, b = layer.tensors(torch.float32, "channels_last", of_weight)
    with recorded() as (launches, sizes):
        y = layer(x, w, b, padding_mode=padding_mode)
    assert len(launches) == 1
    assert sizes == nbytes(y) + layer.copied(w) + pixel(padding_mode, x)


@pytest.mark.parametrize("layout", LAYOUTS)
@padding_modes
def test_no_layout_of_the_input_is_copied(padding_mode: str, layout: str) -> None:
    layer = LAYERS["grouped"]
    x, w, b = layer.tensors(torch.float32, layout)
    with recorded() as (_, sizes):
        y = layer(x, w, b, padding_mode=padding_mode)
    assert sizes == nbytes(y) + pixel(padding_mode, x)


@dtypes
@padding_modes
@layers
def test_input_gradient_takes_a_workspace_for_the_border_at_most(
    layer: Layer, padding_mode: str, dtype: torch.dtype
) -> None:
    x, w, b = layer.tensors(dtype)
    dy = torch.empty(output_size(layer), dtype=dtype)
    (dx,), launches, sizes = differentiated(layer, padding_mode, (x, w, b), [x], dy)
    ring = [layer.ring] if padding_mode in BORDERS and layer.padding else []
    assert len(launches) == 1 + len(ring)
    assert sorted(sizes) == sorted(nbytes(dx) + ring)


@pytest.mark.parametrize("padding_mode", BORDERS)
def test_workspace_of_the_border_is_float64_for_float64(padding_mode: str) -> None:
    layer = LAYERS["grouped"]
    x, w, b = layer.tensors(torch.float64)
    dy = torch.empty(output_size(layer), dtype=torch.float64)
    (dx,), _, sizes = differentiated(layer, padding_mode, (x, w, b), [x], dy)
    assert sorted(sizes) == sorted([2 * layer.ring, *nbytes(dx)])


@padding_modes
@layers
def test_input_gradient_copies_a_weight_once(layer: Layer, padding_mode: str) -> None:
    x, w, b = layer.tensors(torch.float32, of_weight="contiguous")
    dy = torch.empty(output_size(layer))
    (dx,), _, sizes = differentiated(layer, padding_mode, (x, w, b), [x], dy)
    ring = layer.ring if padding_mode in BORDERS else 0
    assert sum(sizes) <= ring + sum(nbytes(dx) + layer.copied(w, gradient=True))


@dtypes
@padding_modes
@layers
def test_weight_gradient_takes_a_workspace_for_ranges_that_fill_the_device_four_times_at_most(
    layer: Layer, padding_mode: str, dtype: torch.dtype
) -> None:
    """Nothing of the size of the input or of the gradient that comes in."""
    x, w, b = layer.tensors(dtype)
    dy = torch.empty(output_size(layer), dtype=dtype)
    (dw,), launches, sizes = differentiated(layer, padding_mode, (x, w, b), [w], dy)
    splits = launches[0].config.splits
    assert len(launches) == (2 if splits > 1 else 1)
    assert sizes == nbytes(dw) + pixel(padding_mode, x) + partial_sums(launches, dw)
    # with one range fewer the device would not be full four times
    assert (splits - 1) * (launches[0].programs // splits) < 4 * H100.sms


@dtypes
@padding_modes
@layers
def test_bias_gradient_adds_ranges_that_fill_the_device_twice_at_most(
    layer: Layer, padding_mode: str, dtype: torch.dtype
) -> None:
    x, w, b = layer.tensors(dtype)
    dy = torch.empty(output_size(layer), dtype=dtype)
    (dw, db), launches, sizes = differentiated(layer, padding_mode, (x, w, b), [w, b], dy)
    workspaces = partial_sums(launches, dw, db)
    assert len(launches) == 2 + len(workspaces)
    assert sorted(sizes) == sorted(nbytes(dw, db) + pixel(padding_mode, x) + workspaces)
    (of_bias,) = (launch for launch in launches if "bias_grad" in launch.name)
    assert of_bias.config.splits == 1 or of_bias.programs <= 2 * H100.sms


@pytest.mark.parametrize("layer", ["stem", "grouped", "depthwise", "pointwise"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_of_a_gradient_is_copied(layout: str, layer: str) -> None:
    """`sum` hands back an expansion, `cat` a slice."""
    x, w, b = LAYERS[layer].tensors(torch.float32)
    dy = laid_out(torch.empty(output_size(LAYERS[layer])), layout)
    (dx, dw, db), launches, sizes = differentiated(LAYERS[layer], "reflect", (x, w, b), [x, w, b], dy)
    ring = [LAYERS[layer].ring] if LAYERS[layer].ring else []
    assert sorted(sizes) == sorted(nbytes(dx, dw, db) + ring + partial_sums(launches, dw, db))


@pytest.mark.tiers("interpreter")
@padding_modes
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("layer", SMALL.values(), ids=SMALL)
def test_what_is_not_allocated_is_not_needed(layer: Layer, layout: str, padding_mode: str) -> None:
    """The same counts where kernels run, and right results."""
    x, w, b = layer.tensors(torch.float32, layout)
    tensors = x, w, b, torch.randn(output_size(layer))
    exact = [t.double().requires_grad_() for t in tensors]
    leaves = [t.requires_grad_() for t in tensors]
    expected = layer(
        *exact[:3], function=reference.conv2d, residual=exact[3], activation="tanh", padding_mode=padding_mode
    )
    with torch.no_grad(), Allocations() as forward:
        fused = layer(x, w, b, residual=leaves[3], activation="tanh", padding_mode=padding_mode)
    assert forward.sizes == nbytes(fused) + pixel(padding_mode, x)
    close(fused, expected, torch.float32)

    y = layer(x, w, b, padding_mode=padding_mode)
    dy = torch.randn_like(y)
    expected = layer(*exact[:3], function=reference.conv2d, padding_mode=padding_mode)
    with Allocations() as backward:
        grads = torch.autograd.grad(y, leaves[:3], dy)
    for a, e in zip(grads, torch.autograd.grad(expected, exact[:3], dy.double()), strict=True):
        close(a, e, torch.float32, factor=4)
    ring = layer.ring if padding_mode in BORDERS else 0
    assert sorted(backward.sizes) == sorted(nbytes(*grads) + ([ring] if ring else []) + pixel(padding_mode, x))
