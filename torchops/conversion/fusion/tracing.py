"""A model as a graph of calls: as much of it as torch.fx can follow without knowing any values."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import traceback
from collections.abc import Callable, Collection, Container, Iterator
from typing import Any

import torch
from torch import fx
from torch.fx.proxy import TraceError
from torch.nn import Module

from torchops.conversion import shared_copy
from torchops.torch_internals import TorchDispatchMode, schema_of

from .calls import OURS, has_hooks, is_frozen_norm, layer_class
from .recorder import Recorder, overrides_call
from .state import State, refuse_attributes


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


class Tracer(Recorder):
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

    @contextlib.contextmanager
    def observed(self, root: Module) -> Iterator[None]:
        self.state = State(root)
        refuse_attributes(self.state.modules(self.watched))
        try:
            yield
            self.ask_who_changed(root)
            self.changed.update(self.state.changed())
        finally:
            self.state.clear()

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
        probe, tracer, reason = shared_copy(model), Tracer(whole, watched), "it catches the error of a trace"
        try:
            with _NothingHappens(), torch.enable_grad():
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
