"""The convolutions that a layer or a model calls, without their values: recorded on the meta device, in no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .conversion import convert
from .layers import CASES, LAYERS, ConvLayer
from .overrides import override

NAMED = {layer.name: layer for layer in CASES + LAYERS}
_OPERATORS = {"conv2d": "forward", "conv2d_input_grad": "input_grad", "conv2d_weight_grad": "weight_grad"}


@dataclass(frozen=True)
class Spec:
    """A tensor without its values."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def empty(self, device: torch.device) -> Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)


@dataclass(frozen=True)
class Call:
    """A call of a registered convolution, `torch.ops.torchops.<operator>`, without values."""

    name: str
    operator: str
    args: tuple[Any, ...]
    """A :class:`Spec` for every tensor."""

    def empty(self, device: torch.device) -> tuple[Any, ...]:
        """Its arguments, not initialised."""
        return tuple(a.empty(device) if isinstance(a, Spec) else a for a in self.args)

    def filled(self, device: torch.device) -> tuple[Any, ...]:
        """Its arguments with random values, the same every time."""
        args, generator = self.empty(device), torch.Generator(device).manual_seed(0)
        for a in args:
            if isinstance(a, Tensor):
                # what is expanded has one value
                a[tuple(slice(None if step else 1) for step in a.stride())].normal_(generator=generator)
        return args

    def run(self, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = getattr(torch.ops.torchops, self.operator)(*args)
        return found if isinstance(found, tuple) else (found,)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        if func.namespace == "torchops" and name in _OPERATORS:
            specs = tree_map_only(Tensor, lambda t: Spec(tuple(t.shape), t.stride(), t.dtype), args)
            self.calls.append((name, tuple(tuple(a) if isinstance(a, list) else a for a in specs)))
        return func(*args, **(kwargs or {}))


def _recorded(name: str, function: Callable[..., Any], *args: Tensor, backward: bool) -> list[Call]:
    with _Recorder() as recorder:
        outputs = [t for t in tree_leaves(function(*args)) if isinstance(t, Tensor) and t.requires_grad]
        if backward and outputs:
            torch.autograd.backward(outputs, [torch.empty_like(t) for t in outputs])
    several = len({operator for operator, _ in recorder.calls}) < len(recorder.calls)
    return [
        Call(f"{name}.{number}.{_OPERATORS[op]}" if several else f"{name}.{_OPERATORS[op]}", op, found)
        for number, (op, found) in enumerate(recorder.calls)
    ]


def _on_meta(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=form)


def layer_calls(
    layer: ConvLayer, dtype: torch.dtype = torch.bfloat16, *, channels_last: bool = True, backward: bool = True
) -> list[Call]:
    """The calls of a layer: its forward and, if asked for, its two gradients."""
    x, w = (_on_meta(shape, dtype, channels_last) for shape in (layer.input_shape, layer.weight_shape))
    return _recorded(layer.name, layer, x.requires_grad_(backward), w.requires_grad_(backward), backward=backward)


def model_calls(
    name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16, *,
    channels_last: bool = True, backward: bool = True,
) -> list[Call]:  # fmt: skip
    """The convolutions that a model runs, once converted. Nothing is downloaded, and nothing computed.

    Args:
        name: "torchvision:resnet50" or "timm:resnet18d".
        shape: (N, C, H, W) of its input.

    Raises:
        ValueError: if `name` is no such model.
        ModuleNotFoundError: if its library is not installed.
        RuntimeError: if the model does not take such an input.
    """
    with torch.device("meta"):
        model = convert(_untrained(name), inplace=True)[0].eval().to(dtype)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    with override():
        return _recorded(name.partition(":")[2], model, _on_meta(shape, dtype, channels_last), backward=backward)


def _untrained(name: str) -> nn.Module:
    library, _, short = name.partition(":")
    if library == "torchvision":
        from torchvision import models

        if short not in models.list_models():
            raise ValueError(f"--model: torchvision has no {short!r}")
        # detectors and segmenters would fetch a trained backbone
        backbone = {"weights_backbone": None} if short not in models.list_models(models) else {}
        return models.get_model(short, weights=None, **backbone)
    if library == "timm":
        import timm

        if not timm.is_model(short):
            raise ValueError(f"--model: timm has no {short!r}")
        return timm.create_model(short, pretrained=False)
    raise ValueError(f"--model must be torchvision:NAME or timm:NAME, got {name!r}")
