"""A model as graphs of calls: as much of it as torch.fx can follow without knowing any values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import fx
from torch.nn import Module


class Tracer(fx.Tracer):
    """Follows calls down to the layers of torch.nn and torchops, and to modules that are to stay as they are."""

    def __init__(self, whole: Container[Module] = ()) -> None:
        super().__init__()
        self.whole = whole
        self.inside: list[Module] = []
        """Where the trace is or, after an error, where it was."""

    def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("torchops.")
        # torchvision's is plain arithmetic, which nothing could recognise
        frozen = type(m).__name__ == "FrozenBatchNorm2d"
        return ours or frozen or m in self.whole or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.inside.append(m)
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result


def trace(model: Module, whole: dict[Module, str]) -> fx.Graph | str:
    """The graph of a module's calls; or why there is none.

    Args:
        whole: modules that are not to be looked into, with the reason; those that cannot be are added.
    """
    if isinstance(model, torch.jit.ScriptModule):
        return "scripted: its code is compiled"
    if type(model).forward is Module.forward or Tracer().is_leaf_module(model, ""):
        # a container, or one layer: there is nothing to follow
        return whole.get(model, "")
    optional = [
        name
        for name, p in inspect.signature(model.forward).parameters.items()
        if p.default is not p.empty or p.kind > 1
    ]
    if optional:
        # a graph would have one of its answers for good
        return f"its forward has the optional argument `{optional[0]}`"
    while True:
        tracer = Tracer(whole)
        try:
            return tracer.trace(model)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            within = [m for m in tracer.inside if m not in whole]
            if not within:
                return reason
            whole[within[-1]] = reason
