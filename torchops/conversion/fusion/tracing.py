"""A model as a graph of calls: as much of it as torch.fx can follow without knowing any values."""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import threading
import traceback
from collections.abc import Callable, Collection, Container
from typing import Any

import torch
from torch import fx
from torch.fx.proxy import TraceError
from torch.nn import Module

from torchops.torch_internals import (
    TorchDispatchMode,
    call_as_is,
    functions_wrapped,
    schema_of,
    thread_traces_by_fx,
)

from .calls import IN_PLACE, OURS, has_hooks, is_frozen_norm, layer_class
from .probe import heard, overrides_call, probe_of, refuse_attributes
from .state import State


class _Proxy(fx.Proxy):
    """A tensor of the trace. `x += y` and `x[i] = y` are recorded as what they are, not as a sum, or not at all."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise TraceError(f"it sets the attribute `{name}` of a tensor")
        super().__setattr__(name, value)


def _recorded(name: str) -> Callable[[_Proxy, Any], fx.Proxy]:
    target = getattr(operator, name)
    return lambda self, other: self.tracer.create_proxy("call_function", target, (self, other), {})


for _name in IN_PLACE:
    setattr(_Proxy, f"__{_name}__", _recorded(_name))


class _NothingHappens(TorchDispatchMode):
    """Refuses what a trace would do once and for all to tensors that exist: writes and random draws."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = schema_of(func)
        if schema.is_mutable or torch.Tag.nondeterministic_seeded in func.tags:
            what = "writes to a tensor that is no result" if schema.is_mutable else "draws random numbers"
            raise TraceError(f"it {what}: {schema.name}")
        return func(*args, **(kwargs or {}))


def _autocast_blocks() -> int:
    """How many autocast blocks this thread is in, switched on or off."""
    blocks: int = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return blocks


class Tracer(fx.Tracer):
    """Follows calls down to the layers of torch.nn and torchops, and to modules that are to stay as they are.

    Args:
        whole: names of the modules that are not to be looked into.
        watched: places of a `State` of which is asked at every call who changes them.
    """

    def __init__(self, whole: Container[str] = (), watched: Collection[str] = ()) -> None:
        super().__init__()
        self.whole, self.watched = whole, watched
        self.changed: set[str] = set()
        """Further places that were changed, at the end or when a layer was called that has them."""
        self.autocast_blocks = _autocast_blocks()
        self.inside: list[str] = []
        self.failed: list[str] | None = None
        """Where the trace was when it first met what it cannot follow, whether or not the model caught the error."""
        self.line = ""
        """The file and the line of the model's code there, in parentheses."""

    def trace(self, root: Module, concrete_args: dict[str, Any] | None = None) -> fx.Graph:  # type: ignore[override]
        """As torch.fx does it, but that it takes a probe, and no other thread notices."""
        self.root, self.graph = root, fx.Graph(tracer_cls=type(self))
        self.submodule_paths = {module: name for name, module in root.named_modules()}
        self.tensor_attrs = {
            value: f"{path}.{name}".lstrip(".")
            for module, path in self.submodule_paths.items()
            for name, value in vars(module).items()
            if isinstance(value, (torch.Tensor, torch.ScriptObject))
        }
        self.parameters: dict[str, fx.Proxy] = {}
        forward, args = self.create_args_for_root(type(root).forward, True, concrete_args)
        with thread_traces_by_fx(), heard(root, self), functions_wrapped(self) as self.wrap_in:
            self.state = State(root)
            refuse_attributes(self.state.modules(self.watched))
            try:
                self.wrap_in(type(root).forward.__globals__)
                self.create_node("output", "output", (self.create_arg(forward(*args)),), {})
                self.ask_who_changed(root)
                self.changed.update(self.state.changed())
            finally:
                self.state.clear()
        self.submodule_paths = None
        return self.graph

    def called(self, module: Module, *args: Any, **kwargs: Any) -> Any:
        self.wrap_in(getattr(getattr(module, "forward", module), "__globals__", {}))
        return self.call_module(module, functools.partial(call_as_is, module), args, kwargs)

    def read(self, name: str, value: Any) -> Any:
        return self.getattr(name, value, self.parameters)

    def ask_who_changed(self, returning: Module | None = None) -> None:
        """Fail if a watched place was changed: by the module that returns now, or else by the one that is running."""
        if changed := self.state.changed(self.watched):
            error = TraceError(self.state.reason(changed[0]))
            self.fail(error)
            if returning is not None:
                self.line = _first_line(returning)
            raise error

    def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
        cls = layer_class(m)
        # a frozen norm is plain arithmetic, which nothing could recognise in a graph
        if cls.__module__ in OURS or is_frozen_norm(m) or module_qualified_name in self.whole:
            return True
        # torch makes the class of a parametrized module itself
        return cls.__module__.startswith("torch.") and super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.ask_who_changed()
        name = self.path_of_module(m)
        if is_leaf := self.is_leaf_module(m, name):
            # it will not be what it is now when the graph calls it
            self.changed.update(self.state.changed(self.state.inside(m)))
        self.inside.append(name)
        try:
            result = super().call_module(m, forward, args, kwargs)
            if not is_leaf:
                self.ask_who_changed(m)
            return result
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self.inside.pop()

    def fail(self, error: Exception | None = None) -> None:
        if self.failed is None:
            self.failed = list(self.inside)
            self.line = _line(error)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        self.fail()
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Any:
        try:
            return super().iter(obj)
        except TraceError as error:
            self.fail(error)
            raise

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if _autocast_blocks() != self.autocast_blocks or not torch.is_grad_enabled():
            raise TraceError("it sets autocast or no_grad by itself, which a graph of calls does not record")
        return super().create_node(*args, **kwargs)


def _first_line(module: Module) -> str:
    code = inspect.unwrap(type(module).forward).__code__
    return f" ({code.co_filename}:{code.co_firstlineno})"


def _line(error: Exception | None) -> str:
    """The innermost line of an error, or of the trace that is running, that is neither torch's nor ours."""
    deeper = [] if error is None else reversed(list(traceback.walk_tb(error.__traceback__)))
    running = itertools.takewhile(lambda at: at[0].f_code is not trace.__code__, traceback.walk_stack(None))
    for frame, line in (*deeper, *running):
        name = f"{frame.f_globals.get('__name__', '')}."
        if name.startswith("torchops.models.") or not name.startswith(("torch.", "torchops.")):
            return f" ({frame.f_code.co_filename}:{line})"
    return ""


def trace(model: Module) -> tuple[fx.Graph | None, Module, dict[str, str]]:
    """The graph of a model's calls, or None; the copy that was traced, which has the tensors that it met; and what is not
    looked into, with the reason: by name, "" for the model itself."""
    whole = {name: why for name, module in model.named_modules() if (why := _stays(module))}
    if isinstance(model, torch.jit.ScriptModule):
        return None, model, {"": "scripted: its code is compiled"}
    if (why := whole.pop("", None)) is not None and why != _HOOKED:
        return None, model, {"": why}
    defaults: dict[str, Any] = {}
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            return None, model, {"": f"its forward takes `{parameter}`"}
        if parameter.default is not parameter.empty:
            # a trace decides for this value whatever the forward decides by it; defaults of other types are refused
            if not isinstance(parameter.default, (type(None), bool, int, float, str)):
                return None, model, {"": f"its forward has the optional argument `{parameter}`"}
            defaults[name] = parameter.default
    if Tracer().is_leaf_module(model, "") or type(model).forward is Module.forward:
        return None, model, {}
    watched: set[str] = set()
    while True:
        # a forward may leave its marks on the modules that it runs through, and so each trace gets a copy
        probe, reason = probe_of(model), "it catches the error of a trace"
        with _ONE_AT_A_TIME, _NothingHappens(), torch.enable_grad():
            tracer = Tracer(whole, watched)
            try:
                graph = tracer.trace(probe, defaults or None)
            except Exception as error:
                tracer.fail(error)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if tracer.failed is None and not tracer.changed <= watched:
            # what else was changed may be another thread's doing: the next trace asks who does it, and believes it if so
            watched |= tracer.changed
            continue
        if tracer.failed is None:
            for node in graph.nodes:
                if isinstance(node.type, str):
                    # `from __future__ import annotations` makes types strings, which torch 2.11 cannot pickle
                    node.type = None
            called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
            return graph, probe, {name: why for name, why in whole.items() if name in called}
        reason += tracer.line
        within = [name for name in tracer.failed if name not in whole]
        if not within:
            return None, model, {"": reason}
        whole[within[-1]] = reason


_ONE_AT_A_TIME = threading.RLock()
"""torch.fx wraps functions in the globals that have them: a second trace would find the first one's, and lose them midway."""


def _stays(module: Module) -> str | None:
    """Why a module is not looked into, if it must not be."""
    if isinstance(module, torch.jit.ScriptModule):
        return "scripted: its code is compiled"
    if "forward" in vars(module):
        return "its forward is replaced"
    if overrides_call(module):
        return "it overrides __call__"
    return _HOOKED if has_hooks(module) else None


_HOOKED = "it has hooks"
