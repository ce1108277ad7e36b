"""What `torchops.torch_internals` says of modules, and of tracing them: questions that `test_torch_internals.py` asks."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from torchops import torch_internals as internals

from .internals import Questions

ABOUT_MODULES = Questions(internals)
_about = ABOUT_MODULES.about


class _Calling(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@_about("tracing_state")
def _tracing_state() -> None:
    found = []
    assert internals.tracing_state() is None
    torch.jit.trace(lambda x: found.append(internals.tracing_state()) or x.exp(), torch.ones(2), check_trace=False)
    assert found[0] is not None
    assert internals.tracing_state() is None


@_about("TENSOR_CONSTANT")
def _tensor_constant() -> None:
    module = _Calling(lambda x: x + torch.ones(2))
    fx.Tracer().trace(module)
    (name,) = vars(module).keys() - vars(_Calling(len)).keys()
    assert name.startswith(internals.TENSOR_CONSTANT)


@_about("functions_wrapped")
def _functions_wrapped() -> None:
    """A proxy is recorded, a number is not, and globals are what they were afterwards."""
    tracer, names, original = fx.Tracer(), {"root": math.sqrt}, math.sqrt
    tracer.root, tracer.graph = nn.Module(), fx.Graph(tracer_cls=fx.Tracer)
    proxy = tracer.create_proxy("placeholder", "x", (), {})
    with internals.functions_wrapped() as wrap_in:
        assert names["root"] is original
        wrap_in(names)
        for sqrt in (names["root"], math.sqrt):
            assert isinstance(sqrt(proxy), fx.Proxy)
            assert sqrt(4) == 2
    assert names["root"] is math.sqrt is original


@_about("thread_traces_by_fx")
def _thread_traces_by_fx() -> None:
    """Only the thread is told; with a torch that can only tell all of them, nobody is."""
    told = []
    with internals.thread_traces_by_fx():
        told.append(fx._symbolic_trace.is_fx_symbolic_tracing())
        other = threading.Thread(target=lambda: told.append(fx._symbolic_trace.is_fx_symbolic_tracing()))
        other.start()
        other.join()
    told.append(fx._symbolic_trace.is_fx_symbolic_tracing())
    assert told == [hasattr(fx._symbolic_trace, "_is_fx_tracing_context"), False, False]


@_about("call_as_is", "call_instead")
def _calls_instead() -> None:
    """Of two modules of one class, one runs the other function, until it no longer has to."""
    called = []

    def noting(x: Tensor) -> Tensor:
        called.append(True)
        return internals.call_as_is(layer, x)

    layer, other, x = nn.ReLU(), nn.ReLU(), torch.tensor(-1.0)
    layer.register_forward_hook(lambda module, args, y: y + 1)
    internals.call_instead(layer, noting)
    assert (layer(x), other(x), called) == (1, 0, [True])
    internals.call_instead(layer, None)
    assert (layer(x), called) == (1, [True])


@_about("parameters_in")
def _parameters_in() -> None:
    class Noting(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.append(name)
            return super().__getitem__(name)

    read: list[str] = []
    layer = nn.Linear(1, 1)
    weight = layer.weight
    internals.parameters_in(layer, Noting)
    assert layer.weight is weight
    assert read == ["weight"]
    assert next(layer.parameters()) is weight
    assert read == ["weight"]
    internals.parameters_in(layer, dict)
    assert layer.weight is weight
    assert read == ["weight"]


_BASES = {
    "ConvNd": r"(Lazy)?Conv(Transpose)?\dd",
    "MaxPoolNd": r"MaxPool\dd",
    "AvgPoolNd": r"AvgPool\dd",
    "MaxUnpoolNd": r"MaxUnpool\dd",
    "LPPoolNd": r"LPPool\dd",
    "AdaptiveAvgPoolNd": r"AdaptiveAvgPool\dd",
    "AdaptiveMaxPoolNd": r"AdaptiveMaxPool\dd",
    "BatchNorm": r"(Lazy)?BatchNorm\dd|SyncBatchNorm",
}


@_about(*_BASES)
def _bases() -> None:
    """Of all layers, those of such names and no others are its subclasses."""
    layers = {name: cls for name, cls in vars(nn).items() if isinstance(cls, type)}
    for base, names in _BASES.items():
        found = {name for name, cls in layers.items() if issubclass(cls, getattr(internals, base))}
        assert found == {name for name in layers if re.fullmatch(names, name)}


@_about("METHODS")
def _methods() -> None:
    """A call of some layer goes through each."""
    called = []
    x = torch.ones(1, 1, 4, 4)
    for layer in (nn.Conv2d(1, 1, 1), nn.ConvTranspose2d(1, 1, 1)):
        cls = type(layer)

        def noting(name: str, method: Any) -> Any:
            return lambda *args, **kwargs: called.append(name) or method(*args, **kwargs)

        methods = {name: noting(name, getattr(cls, name)) for name in internals.METHODS if hasattr(cls, name)}
        layer.__class__ = type("Noting", (cls,), methods)
        layer(x)
    assert set(called) == set(internals.METHODS)


@_about("HOOKS")
def _hooks() -> None:
    """Each of the ways to add one fills another place, and there are no more."""
    fresh = nn.ReLU()
    places = {name for name, value in vars(fresh).items() if name.endswith(("_hooks", "hooks_with_kwargs", "_called"))}
    about_calls = {name for name in places if "forward" in name or "backward" in name}
    assert about_calls | {"_is_full_backward_hook"} == set(internals.HOOKS)
    empty = {name: getattr(fresh, name) for name in internals.HOOKS}
    assert not any(empty.values())
    for add in (
        lambda layer: layer.register_forward_hook(print, with_kwargs=True, always_call=True),
        lambda layer: layer.register_forward_pre_hook(print, with_kwargs=True),
        lambda layer: layer.register_full_backward_hook(print),
        lambda layer: layer.register_full_backward_pre_hook(print),
    ):
        layer = nn.ReLU()
        add(layer)
        assert any(getattr(layer, name) for name in internals.HOOKS)


@_about("WrappedHook")
def _wrapped_hook() -> None:
    """A state dict is loaded through such hooks."""
    layer = nn.ReLU()
    layer.register_load_state_dict_pre_hook(print)
    (wrapped,) = layer._load_state_dict_pre_hooks.values()
    assert isinstance(wrapped, internals.WrappedHook)
    assert wrapped.hook is print


@_about("pads_of", "set_pads")
def _pads() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=(1, 2), padding_mode="circular")
    assert internals.pads_of(layer) == [2, 2, 1, 1]
    x = torch.ones(1, 1, 4, 4)
    internals.set_pads(layer, [1, 1, 0, 0])
    assert internals.pads_of(layer) == [1, 1, 0, 0]
    # rows and columns, by what was set and not by the padding
    assert layer(x).shape[2:] == (2, 4)
