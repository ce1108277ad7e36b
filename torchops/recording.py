"""Calls of operators, recorded without their values; kernels/launch.py records launches of kernels.

Those of a layer or a model are recorded on the meta device, in no time. A list of calls can be written to a file and read from
one, so that a service knows its calls where its model is not.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .backend import Backend, use_backend
from .conversion import convert
from .conversion.fusion import fuse
from .conversion.overrides import override
from .files import replacing
from .torch_internals import TorchDispatchMode, schema_of, tree_leaves, tree_map_only
from .workloads import CASES, LAYERS, ConvLayer

if TYPE_CHECKING:
    from .kernels.launch import Launch
    from .kernels.planning.hardware import Device

NAMED = {layer.name: layer for layer in CASES + LAYERS}
_PASSES = {"conv2d": "forward", "conv2d_input_grad": "input_grad", "conv2d_weight_grad": "weight_grad"}


@dataclass(frozen=True)
class Spec:
    """A tensor without its values."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, t: Tensor) -> Spec:
        return cls(tuple(t.shape), t.stride(), t.dtype)

    def empty(self, device: torch.device) -> Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)

    def as_dict(self) -> dict[str, Any]:
        """The tensor as JSON has it: its "shape", "strides" and "dtype"."""
        return {"shape": self.shape, "strides": self.strides, "dtype": str(self.dtype).removeprefix("torch.")}

    def __str__(self) -> str:
        """Words like "8x3x5x5 float32", with the memory format for four sizes, and the strides if it has no format."""
        layout, t = "", self.empty(torch.device("meta"))
        if t.is_contiguous():
            layout = " contiguous" if t.dim() == 4 else ""
        elif t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last):
            layout = " channels_last"
        else:
            layout = f" strides {self.strides}"
        return f"{'x'.join(map(str, self.shape))} {str(self.dtype).removeprefix('torch.')}{layout}"


@dataclass(frozen=True)
class Call:
    """A call of a registered operator, `torch.ops.torchops.<operator>`, without values."""

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
                # an expanded dimension has one value, which is written once
                a[tuple(slice(None if step else 1) for step in a.stride())].normal_(generator=generator)
        return args

    def launches(self, device: Device) -> list[Launch]:
        """What it launches on a GPU that need not be there."""
        from .kernels.launch import record

        with record(device) as launches, use_backend("triton"):
            self.run(self.empty(torch.device("cpu")))
        return launches

    def run(self, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = getattr(torch.ops.torchops, self.operator)(*args)
        return found if isinstance(found, tuple) else (found,)


class _Recorder(TorchDispatchMode):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = schema_of(func).name.partition("::")[2]
        if func.namespace == "torchops":
            specs = tree_map_only(Tensor, Spec.of, args)
            constants = tuple(tuple(a) if isinstance(a, list) else a for a in specs)
            name = f"{self.name}.{len(self.calls)}.{_PASSES.get(operator, operator)}"
            self.calls.append(Call(name, operator, constants))
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def record_calls(name: str = "call") -> Iterator[list[Call]]:
    """The calls of registered operators inside the block, in their order, in this thread and in the backward of CPU tensors.

    They are those of the device that they are made on: a max pool that is trained keeps indices of eight bytes on a CPU, and of
    one on a GPU. :func:`module_calls` records what a GPU would be asked, on any machine.

    Args:
        name: of the calls, before their number and operator.

    >>> import torch, torchops
    >>> from torchops.recording import record_calls
    >>> with record_calls("edges") as calls:
    ...     _ = torchops.sobel(torch.rand(1, 3, 8, 8))
    >>> calls[0].name, calls[0].args[0].shape
    ('edges.0.sobel', (1, 3, 8, 8))
    """
    with _Recorder(name) as recorder:
        yield recorder.calls


def write_calls(file: str | Path, calls: Iterable[Call]) -> None:
    """Write calls to a file, one as JSON a line; it is there whole or not at all."""
    with replacing(Path(file)) as beside:
        beside.write_text("".join(f"{json.dumps(_as_json(call))}\n" for call in calls))


def read_calls(file: str | Path) -> list[Call]:
    """The calls that :func:`write_calls` wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if a line of it is no call.
    """
    calls = []
    for number, line in enumerate(Path(file).read_text().splitlines(), 1):
        try:
            calls.append(_from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # noqa: PERF203
            raise ValueError(f"{file}, line {number} is no call of torchops: {error}") from None
    return calls


def _as_json(call: Call) -> dict[str, Any]:
    args = [a.as_dict() if isinstance(a, Spec) else a for a in call.args]
    return {"name": call.name, "operator": call.operator, "args": args}


def _from_json(found: dict[str, Any]) -> Call:
    name, operator = found["name"], found["operator"]
    if not hasattr(torch.ops.torchops, operator):
        raise ValueError(f"torchops has no operator {operator!r}")
    args: list[Any] = []
    for a in found["args"]:
        if isinstance(a, dict):
            dtype = getattr(torch, a["dtype"])
            if not isinstance(dtype, torch.dtype):
                raise ValueError(f"{a['dtype']!r} is no dtype")
            args.append(Spec(tuple(a["shape"]), tuple(a["strides"]), dtype))
        else:
            args.append(tuple(a) if isinstance(a, list) else a)
    return Call(str(name), operator, tuple(args))


@contextlib.contextmanager
def _naming(recorder: _Recorder, module: nn.Module) -> Iterator[None]:
    """Calls inside the block are named after the submodule that makes them."""
    outer: list[str] = []

    def enter(name: str, *_: Any) -> None:
        outer.append(recorder.name)
        recorder.name = name

    def leave(*_: Any) -> None:
        recorder.name = outer.pop()

    with contextlib.ExitStack() as hooks:
        for name, submodule in module.named_modules(prefix=recorder.name):
            hooks.callback(submodule.register_forward_pre_hook(partial(enter, name)).remove)
            hooks.callback(submodule.register_forward_hook(leave, always_call=True).remove)
        yield


def _recorded(
    name: str, function: Callable[..., Any], *args: Any,
    backward: bool, module: nn.Module | None = None, backend: Backend = "triton",
) -> list[Call]:  # fmt: skip
    with contextlib.ExitStack() as block:
        # the backend is in force, so that nothing is decided as for the CPU
        block.enter_context(use_backend(backend))
        recorder = block.enter_context(_Recorder(name))
        if module is not None:
            block.enter_context(_naming(recorder, module))
        outputs = [t for t in tree_leaves(function(*args)) if isinstance(t, Tensor) and t.requires_grad]
        if backward and outputs:
            torch.autograd.backward(outputs, [torch.empty_like(t) for t in outputs])
    return recorder.calls


def _on_meta(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=form)


def layer_calls(
    layer: ConvLayer, dtype: torch.dtype = torch.bfloat16, *, channels_last: bool = True, backward: bool = True
) -> list[Call]:
    """The calls of a layer: its forward and, if asked for, its two gradients."""
    x, w = (_on_meta(shape, dtype, channels_last) for shape in (layer.input_shape, layer.weight_shape))
    calls = _recorded(layer.name, layer, x.requires_grad_(backward), w.requires_grad_(backward), backward=backward)
    # a layer calls each operator once, and so its pass names it
    return [replace(call, name=f"{layer.name}.{_PASSES[call.operator]}") for call in calls]


def module_calls(
    name: str, module: nn.Module, *inputs: Any,
    backward: bool = False, kwargs: Mapping[str, Any] | None = None, backend: Backend = "triton",
) -> list[Call]:  # fmt: skip
    """The calls of a module on a GPU that need not be there. Nothing is computed, and the module is not changed.

    Args:
        name: of the calls, before the submodule that makes them, their number and operator.
        module: on any device, in the mode (train, eval) and dtype it will run in.
        inputs, kwargs: of its forward; of tensors, their sizes, strides and dtypes are what counts.
        backward: the gradients of its parameters too.
        backend: in force while it runs, "triton" or "aten".

    Raises:
        RuntimeError: if the module does not take such inputs, or asks for values on its way.
    """

    def on_meta(t: Tensor) -> Tensor:
        empty = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta")
        return empty.requires_grad_(backward and t.requires_grad)

    state = {key: on_meta(t) for key, t in itertools.chain(module.named_parameters(), module.named_buffers())}

    args, further = tree_map_only(Tensor, on_meta, (inputs, dict(kwargs or {})))

    def run(*args: Any) -> Any:
        return torch.func.functional_call(module, state, args, further)

    return _recorded(name, run, *args, backward=backward, module=module, backend=backend)


def model_calls(
    name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16, *,
    channels_last: bool = True, backward: bool = True, fused: bool = False,
) -> list[Call]:  # fmt: skip
    """The operators that a model runs, once converted. Nothing is downloaded, and nothing computed.

    Args:
        name: "torchvision:resnet50" or "timm:resnet18d".
        shape: (N, C, H, W) of its input.
        backward: its gradients too, in training mode; else it is in eval mode.
        fused: after `torchops.fuse`, for inference.

    Raises:
        ValueError: if `name` is no such model, or both `fused` and `backward` are asked for.
        ModuleNotFoundError: if its library is not installed.
        RuntimeError: if the model does not take such an input.
    """
    if fused and backward:
        raise ValueError("`fused` is for inference, and excludes `backward`")
    # a fusion folds values, which tensors on the meta device do not have
    with torch.device("cpu" if fused else "meta"):
        model = _untrained(name).eval()
    model = fuse(model)[0] if fused else convert(model, inplace=True)[0].train(backward)
    model = model.to(dtype)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    image = _on_meta(shape, dtype, channels_last)
    try:
        with override():
            return module_calls(name.partition(":")[2], model, image, backward=backward)
    except RuntimeError as error:
        raise RuntimeError(f"{name} does not take an input of {tuple(shape)}: {error}") from error


def _untrained(name: str) -> nn.Module:
    library, _, short = name.partition(":")
    if library == "torchvision":
        from torchvision import models

        if short not in models.list_models():
            raise ValueError(f"`name` (={name}): torchvision has no {short!r}")
        # detectors and segmenters would fetch a trained backbone
        backbone = {"weights_backbone": None} if short not in models.list_models(models) else {}
        return models.get_model(short, weights=None, **backbone)
    if library == "timm":
        import timm

        if not timm.is_model(short):
            raise ValueError(f"`name` (={name}): timm has no {short!r}")
        return timm.create_model(short, pretrained=False)
    raise ValueError(f"`name` must be torchvision:NAME or timm:NAME, got {name!r}")
