"""The copy of a model that is traced: its modules, and no others, tell the trace what is asked of them.

torch.fx puts methods of its own in the place of torch.nn.Module's, for all modules and threads of the process, while it traces.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from types import new_class
from typing import Any, Protocol

import torch
from torch import fx
from torch.fx.proxy import TraceError
from torch.nn import Module

from torchops.conversion import shared_copy
from torchops.torch_internals import TENSOR_CONSTANT, call_instead, parameters_in


class Listener(Protocol):
    """What the modules of a probe tell."""

    def called(self, module: Module, *args: Any, **kwargs: Any) -> Any:
        """A call of a module, and what it returns."""

    def read(self, name: str, value: Any) -> Any:
        """A parameter that is asked for, by its name in its module, and what is got."""


def probe_of(model: Module) -> Module:
    """A copy of a model to trace, in which modules that do not tell of their calls have others in their places."""
    probe = shared_copy(model)
    places = [
        (parent, name, child)
        for parent in list(probe.modules())
        if not isinstance(parent, torch.jit.ScriptModule)
        for name, child in parent.named_children()
    ]
    stand_ins: dict[int, _StandIn] = {}
    for parent, name, child in places:
        if isinstance(child, torch.jit.ScriptModule) or overrides_call(child):
            parent.register_module(name, stand_ins.setdefault(id(child), _StandIn(child)))
    return probe


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


@contextlib.contextmanager
def heard(probe: Module, listener: Listener) -> Iterator[None]:
    """A block in which the modules of a probe tell a listener of their calls and their parameters."""
    modules = list(probe.modules())
    for module in modules:
        call_instead(module, functools.partial(listener.called, module))
        parameters_in(module, lambda parameters: _Parameters(listener, parameters))
    try:
        yield
    finally:
        for module in modules:
            call_instead(module, None)
            parameters_in(module, dict)


class _Parameters(dict[str, Any]):
    """The parameters of a module: `module.weight` asks for one by its name, to list them does not."""

    def __init__(self, listener: Listener, parameters: dict[str, Any]) -> None:
        super().__init__(parameters)
        self.listener = listener

    def __getitem__(self, name: str) -> Any:
        return self.listener.read(name, super().__getitem__(name))


class _Quiet:
    """A base that stands before a user's class, which is then not told of a subclass that its user did not write."""

    def __init_subclass__(cls) -> None:
        pass


def refuse_attributes(modules: Iterable[Module]) -> None:
    """Have modules of a probe refuse to have attributes set, which names the line that does it. Their classes are others then,
    and so this is for a trace that will fail."""
    for module in modules:
        # a class may refuse to have subclasses; then the module is named, but not the line
        with contextlib.suppress(Exception):
            object.__setattr__(module, "__class__", _refusing(type(module)))


def _refusing(cls: type[Module]) -> type[Module]:
    def refuse(self: Module, name: str, value: Any) -> None:
        if not name.startswith(TENSOR_CONSTANT):
            raise TraceError(f"it sets the attribute `{name}` of a module")
        cls.__setattr__(self, name, value)

    own = {"__setattr__": refuse, "__module__": cls.__module__}
    return new_class(cls.__name__, (_Quiet, cls), exec_body=lambda space: space.update(own))
