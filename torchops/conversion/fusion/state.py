"""What a trace leaves behind besides a graph: that is what the forward does each time, and the graph never would."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from types import new_class
from typing import Any

from torch import fx
from torch.fx.proxy import TraceError
from torch.nn import Module

from torchops.torch_internals import TENSOR_CONSTANT, tree_leaves

from .places import Place, places

_ABSENT = object()


class State:
    """All that a forward may change besides tensors, as it was before.

    Args:
        root: the copy of a model that is to be traced.
    """

    def __init__(self, root: Module) -> None:
        self._places: dict[str, Place] = {place.name: place for place in places(root)}
        self._before = {name: place.read() for name, place in self._places.items()}
        self._in: dict[int, list[str]] = {}
        for name, place in self._places.items():
            self._in.setdefault(id(place.module), []).append(name)

    def changed(self, names: Iterable[str] | None = None) -> list[str]:
        """Of those places, or of all, the ones that are not as they were."""
        known = self._places if names is None else [name for name in names if name in self._places]
        return [name for name in known if not _same(self._before[name], self._places[name].read())]

    def inside(self, module: Module) -> list[str]:
        """The places of a module, with all in it."""
        return [name for inner in module.modules() for name in self._in.get(id(inner), ())]

    def modules(self, names: Iterable[str]) -> list[Module]:
        """The modules that those places are in."""
        found = (self._places[name].module for name in names if name in self._places)
        return [module for module in found if module is not None]

    def reason(self, name: str) -> str:
        """What a forward did that changed that place."""
        before, after = self._before[name], self._places[name].read()
        names: list[str] = []
        if isinstance(before, dict) and isinstance(after, dict):
            both = {**before, **after}
            names = [f"`{n}`" for n in both if not _same(before.get(n, _ABSENT), after.get(n, _ABSENT))]
        return self._places[name].said.replace("{}", ", ".join(names))

    def clear(self) -> None:
        """Take what the trace recorded with out of containers that are not the copy's alone."""
        for name in self.changed():
            shared, before = self._places[name].shared, self._before[name]
            if isinstance(shared, type):
                for key in [key for key, value in [*vars(shared).items()] if _recorded(value)]:
                    if key in before:
                        setattr(shared, key, before[key])
                    else:
                        delattr(shared, key)
            elif isinstance(shared, dict):
                for key in [key for key, value in [*shared.items()] if _recorded((key, value))]:
                    if key in before:
                        shared[key] = before[key]
                    else:
                        shared.pop(key, None)
            elif isinstance(shared, (list, deque)):
                for at in [i for i, value in enumerate(shared) if _recorded(value)][::-1]:
                    del shared[at]
            elif isinstance(shared, set):
                shared -= {value for value in [*shared] if _recorded(value)}


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


def _recorded(value: Any) -> bool:
    return any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(value))


_VALUES = (bool, int, float, complex, str, bytes)


def _same(one: Any, other: Any) -> bool:
    """Whether what is in a place did not change. Values may be equal, all else has to be the same objects."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, _VALUES):
        return bool(one == other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, set):
        return one == other
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    return False
