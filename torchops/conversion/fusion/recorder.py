"""Calls of a model as a graph, as torch.fx records them, but that no other thread notices.

torch.fx puts methods of its own in the place of torch.nn.Module's, for all modules and threads of the process, while it traces.
Here the modules of the model that is traced, and no others, tell of what is asked of them: it must be a copy that no other
thread has.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.fx.proxy import TraceError
from torch.nn import Module

from torchops.torch_internals import (
    call_as_is,
    call_instead,
    functions_wrapped,
    parameters_in,
    thread_traces_by_fx,
)

from .calls import IN_PLACE

_ONE_AT_A_TIME = threading.RLock()
"""torch.fx wraps functions in the globals that have them: a second trace would find the first one's, and lose them midway."""


class _Proxy(fx.Proxy):
    """A tensor of the trace. `x += y` and `x[i] = y` are recorded as what they are, not as a sum, or not at all."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise TraceError(f"it sets the attribute `{name}` of a tensor")
        super().__setattr__(name, value)


def _recorded(name: str) -> Any:
    target = getattr(operator, name)
    return lambda self, other: self.tracer.create_proxy("call_function", target, (self, other), {})


for _name in IN_PLACE:
    setattr(_Proxy, f"__{_name}__", _recorded(_name))


class Recorder(fx.Tracer):
    """Records a graph. A fused model is loaded by it as well: what is pickled of a graph is code, which is traced again."""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """The graph of a module's calls."""
        with _ONE_AT_A_TIME, thread_traces_by_fx(), functions_wrapped() as self.wrap_in, self._heard(root):
            self.root, self.graph = root, fx.Graph(tracer_cls=Recorder)
            self.submodule_paths = {module: name for name, module in root.named_modules()}
            self.tensor_attrs = {
                value: f"{path}.{name}".lstrip(".")
                for module, path in self.submodule_paths.items()
                for name, value in vars(module).items()
                if isinstance(value, (torch.Tensor, torch.ScriptObject))
            }
            self.parameters: dict[str, fx.Proxy] = {}
            forward, args = self.create_args_for_root(type(root).forward, True, concrete_args)
            self.wrap_in(type(root).forward.__globals__)
            with self.observed(root):
                self.create_node("output", "output", (self.create_arg(forward(*args)),), {})
        self.submodule_paths = None
        return self.graph

    def observed(self, root: Module) -> contextlib.AbstractContextManager[None]:
        """A block in which the forward runs."""
        return contextlib.nullcontext()

    def called(self, module: Module, *args: Any, **kwargs: Any) -> Any:
        """A call of a module, and what it returns."""
        self.wrap_in(getattr(getattr(module, "forward", module), "__globals__", {}))
        return self.call_module(module, functools.partial(call_as_is, module), args, kwargs)

    def read(self, name: str, value: Any) -> Any:
        """A parameter that is asked for, by its name in its module, and what is got."""
        return self.getattr(name, value, self.parameters)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    @contextlib.contextmanager
    def _heard(self, root: Module) -> Iterator[None]:
        """A block in which the modules of `root` tell of their calls and their parameters. Those that would not have others in
        their places."""
        silent = [
            (parent, name, child)
            for parent in [module for module in root.modules() if not isinstance(module, torch.jit.ScriptModule)]
            for name, child in parent.named_children()
            if isinstance(child, torch.jit.ScriptModule) or overrides_call(child)
        ]
        stand_ins = {id(child): _StandIn(child) for _, _, child in silent}
        for parent, name, child in silent:
            parent.register_module(name, stand_ins[id(child)])
        modules = list(root.modules())
        for module in modules:
            call_instead(module, functools.partial(self.called, module))
            parameters_in(module, functools.partial(_Parameters, self))
        try:
            yield
        finally:
            for module in modules:
                call_instead(module, None)
                parameters_in(module, dict)
            for parent, name, child in silent:
                parent.register_module(name, child)


def overrides_call(module: Module) -> bool:
    """Whether what a call of a module does is not a matter of its forward and its hooks alone."""
    return type(module).__call__ is not Module.__call__ and not isinstance(module, fx.GraphModule)


class _StandIn(Module):
    """A module whose calls nobody sees but the trace. A scripted module is not even a copy, but the model's own."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        vars(self)["original"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # for `isinstance`
        return type(self.original)


class _Parameters(dict[str, Any]):
    """The parameters of a module: `module.weight` asks for one by its name, to list them does not."""

    def __init__(self, recorder: Recorder, parameters: dict[str, Any]) -> None:
        super().__init__(parameters)
        self.recorder = recorder

    def __getitem__(self, name: str) -> Any:
        return self.recorder.read(name, super().__getitem__(name))
