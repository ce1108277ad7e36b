"""The module that a fused graph is run by."""

from __future__ import annotations

import contextlib
import copy
import pkgutil
from collections.abc import Callable
from typing import Any, cast

from torch import fx
from torch.nn import Module

from torchops.conversion.copying import reached


class Fused(fx.GraphModule):
    """A graph of calls, which answers for what else the model has that it was made of.

    Those are the model's plain attributes, and the methods, properties and constants of its class, as far as a
    `torch.fx.GraphModule` has none of that name. The class is asked, not inherited: what it overrides of `torch.nn.Module`, as
    `train` or `state_dict`, may be about layers that are no more.
    """

    _torchops_class: type[Module] | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Python looks for special methods to see what an object can do
            classes = () if self._torchops_class is None or name.startswith("__") else self._torchops_class.__mro__
            owner = next((cls for cls in classes if name in vars(cls)), None)
            if owner is None:
                raise
        found = vars(owner)[name]
        return found.__get__(self, self._torchops_class) if hasattr(found, "__get__") else found

    def _having(self, attributes: dict[str, Any]) -> Fused:
        """The module itself, once it is given those attributes that it has not."""
        vars(self).update((name, value) for name, value in attributes.items() if name not in vars(self))
        return self

    # torch.fx's versions of these three methods keep only what the graph refers to

    def __copy__(self) -> Fused:
        twin = Fused(self, self.graph, type(self).__name__)
        twin.meta = self.meta
        return twin._having(vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Fused:
        twin = cast(Fused, super().__deepcopy__(memo))
        return twin._having(copy.deepcopy(vars(self), memo))

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (attributes, *further) = super().__reduce__()
        cls = attributes.pop("_torchops_class", None)
        name = "" if cls is None else f"{cls.__module__}:{cls.__qualname__}"
        return _revived, (rebuild, (attributes, *further), name)


def _revived(rebuild: Callable[..., fx.GraphModule], args: tuple[Any, ...], name: str) -> Fused:
    """The module that was pickled; where the class of the model is not to be found it lacks its methods, as torch.fx's do."""
    graph_module = rebuild(*args)
    fused = Fused(graph_module, graph_module.graph)._having(vars(graph_module))
    with contextlib.suppress(ImportError, AttributeError, ValueError):
        fused._torchops_class = pkgutil.resolve_name(name)
    return fused


def fused_module(model: Module, root: Module | dict[str, Any], graph: fx.Graph) -> Fused:
    """The module of a graph that was made of the model.

    Args:
        model: it may change its attributes later: those that hold no module are copied.
        root: layers and tensors, by the names that the graph has for them.
        graph: of calls.
    """
    fused = Fused(root, graph, type(model).__name__)
    fused.eval()
    plain = {
        name: value
        for name, value in vars(model).items()
        if not hasattr(fused, name) and not any(isinstance(thing, Module) for thing in reached(value).values())
    }
    # torch.fx makes a class for each graph, and so the model's class is passed on
    is_graph = isinstance(model, fx.GraphModule)
    plain["_torchops_class"] = getattr(model, "_torchops_class", None) if is_graph else type(model)
    return fused._having(plain)
