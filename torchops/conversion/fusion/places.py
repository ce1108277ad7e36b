"""Where a forward may leave something that is no tensor: in what the model holds, and in what its code names outside."""

from __future__ import annotations

import dis
import functools
import inspect
import pickle
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import Module

from torchops.torch_internals import TENSOR_CONSTANT

_FOREIGN = {*sys.stdlib_module_names, "torch", "torchops", "numpy"}
"""Packages whose code is not looked into: what it changes for itself, as caches and logs, is no matter of a model's."""
_PICKLED = ("numpy", "random", "itertools", "array")
"""Packages whose objects show their values to pickle alone: arrays, generators of numbers, counters."""
_CONSTANT = (Tensor, torch.jit.ScriptModule, torch.Generator, fx.Proxy, str, bytes, int, float, complex, type(None))
"""What does not change, or what a trace is told of when it does."""
_EMPTY = object()
_DEPTH = 3
"""How deep what the model shares with others is looked into: it may hold whatever there is."""


@dataclass(frozen=True)
class Place:
    """Something that a forward may change."""

    name: str
    """What tells it from others; every copy of a model has the same names."""
    read: Callable[[], Any]
    """What is there now: a copy of a container, or the value itself."""
    said: str
    """What a forward does that changes it; {} stands for the names of what it changes there."""
    module: Module | None = None
    """The module of the model that it is in."""
    shared: Any = None
    """The container, if the model has it in common with its copies."""


def places(root: Module) -> list[Place]:
    """All places of a copy of a model, and random numbers."""
    found = _Finder()
    found.walk("", "model", root, root)
    while found.functions:
        found.look_into(*found.functions.pop())
    return [
        Place("random", random.getstate, "it draws from Python's random numbers, if no other thread does"),
        Place("numpy.random", _numpys_state, "it draws from NumPy's random numbers, if no other thread does"),
        *found.places,
    ]


class _Finder:
    """Walks through what a model holds and what its code names."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.names: Counter[str] = Counter()
        self.functions: list[tuple[FunctionType, type | None]] = []
        """Functions to look into, and the class that they are methods of."""
        self.met: dict[Any, Any] = {}
        """What was walked through, by identity; it is held, so that nothing else gets its identity."""

    def walk(
        self, path: str, called: str, thing: Any, module: Module | None, names: Iterable[str] | None = None
    ) -> None:
        """Note what a thing holds.

        Args:
            path: it tells the thing from others.
            called: it tells a reader what the thing is.
            thing: anything.
            module: the module that holds it; None if the model shares it with its copies.
            names: of methods that may be called of what is held; None for all.
        """
        waiting = [(path, called, thing, module, 0)]
        while waiting:
            path, called, thing, module, depth = waiting.pop()
            if isinstance(thing, _CONSTANT) or id(thing) in self.met or (module is None and depth > _DEPTH):
                continue
            self.met[id(thing)] = thing
            inner: Iterable[tuple[Any, Any]]
            if isinstance(thing, Module):
                # a module that is not the model's own may be another thread's
                module = None if module is None else thing
                self.note(path, functools.partial(_attributes, thing), "it sets the attribute {} of a module", module)
                self.look_into_class(type(thing), ["forward"])
                inner = dict(vars(thing)).items()
            elif isinstance(thing, (dict, list, deque, set)):
                self.note(path, functools.partial(_copy, thing), f"it changes `{called}`", module, thing)
                # keys may be written by their addresses, which other copies do not have
                values = _copy(thing).values() if isinstance(thing, dict) else [] if isinstance(thing, set) else thing
                inner = [(f"{called}[{i}]", value) for i, value in enumerate(values)]
            elif isinstance(thing, tuple):
                inner = [(f"{called}[{i}]", value) for i, value in enumerate(thing)]
            elif isinstance(thing, (FunctionType, type)):
                if isinstance(thing, FunctionType):
                    self.functions.append((thing, None))
                elif names is not None:
                    self.look_into_class(thing, ["__init__", *names])
                continue
            elif isinstance(thing, MethodType):
                inner = [("__func__", thing.__func__), (called, thing.__self__)]
            elif isinstance(thing, functools.partial):
                inner = [("func", thing.func), ("args", thing.args), ("keywords", thing.keywords)]
            elif isinstance(thing, (bytearray, Iterator)) or _package(type(thing).__module__) in _PICKLED:
                self.note(path, functools.partial(_pickled, thing), f"it changes `{called}`", module)
                continue
            elif hasattr(thing, "__dict__") and _package(type(thing).__module__) not in _FOREIGN:
                held = vars(thing)
                self.note(path, functools.partial(dict, held), f"it sets {{}} of `{called}`", module, held)
                self.look_into_class(type(thing), names)
                inner = dict(held).items()
            else:
                # as a function with a cache has
                inner = [(called, getattr(thing, "__wrapped__", None))]
            waiting += [(f"{path}.{name}", str(name), value, module, depth + 1) for name, value in inner]

    def note(
        self, name: str, read: Callable[[], Any], said: str, module: Module | None = None, shared: Any = None
    ) -> None:
        # of functions that were made by one line there may be several, which are met in the same order in every copy
        self.names[name] += 1
        name = f"{name} #{self.names[name]}"
        self.places.append(Place(name, read, said, module, shared if module is None else None))

    def look_into_class(self, cls: type, names: Iterable[str] | None = None) -> None:
        """Note what a class has that is no method, and look into methods of those names, or into all."""
        bases = [base for base in cls.__mro__ if _package(base.__module__) not in _FOREIGN]
        for base in bases:
            if base not in self.met:
                self.met[base] = base
                self.look_at(base.__qualname__, base, f"it sets {{}} of {base.__name__}")
        for name in [name for base in bases for name in vars(base)] if names is None else names:
            if (method := _method(inspect.getattr_static(cls, name, None))) is not None:
                self.functions.append((method, cls))

    def look_into(self, function: FunctionType, cls: type | None) -> None:
        """Note what a function may change outside of itself, and look into what it calls."""
        if (function, cls) in self.met:
            return
        self.met[function, cls] = function
        package, line = str(function.__globals__.get("__name__", "")), function.__code__.co_firstlineno
        if _package(package) in _FOREIGN:
            # a decorator of torch's, for one
            self.walk("", function.__name__, getattr(function, "__wrapped__", None), None)
            return
        path, (names, attributes) = f"{package}.{function.__qualname__}:{line}", _names(function.__code__)
        self.look_at(f"{path} globals", function.__globals__, "it sets the global {}", names, attributes)
        if cls is not None:
            # the others of its methods that it calls
            self.look_into_class(cls, attributes)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        read = functools.partial(_contents, cells)
        self.note(f"{path} closure", read, "it sets {}, a variable of the function around it")
        defaults = enumerate((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()))
        further = {**read(), **{f"default {i}": value for i, value in defaults}, function.__name__: vars(function)}
        for name, value in further.items():
            self.walk(f"{path} {name}", name, value, None, attributes)

    def look_at(
        self, path: str, owner: Any, said: str, names: Iterable[str] | None = None, attributes: Iterable[str] = ()
    ) -> None:
        """Note what a class, a module of Python or its globals have by those names, or by all, and what that holds.

        Args:
            path: it tells the owner from others.
            owner: a class, or a dictionary.
            said: what a forward does that sets one of the names.
            names: None for all.
            attributes: what may be asked of what is found.
        """
        space = owner if isinstance(owner, dict) else vars(owner)
        self.note(path, functools.partial(_values, space, names), said, shared=owner)
        for name, value in [(name, space[name]) for name in (space if names is None else names) if name in space]:
            if isinstance(value, ModuleType):
                key = value.__name__, *attributes
                if names is not None and _package(value.__name__) not in _FOREIGN and key not in self.met:
                    self.met[key] = value
                    said = f"it sets {{}} of {value.__name__}"
                    self.look_at(f"{path}.{name}", vars(value), said, attributes, attributes)
            elif names is not None or not isinstance(value, FunctionType):
                self.walk(f"{path}.{name}", name, value, None, attributes)


def _package(module: str | None) -> str:
    return str(module).partition(".")[0]


def _method(found: Any) -> FunctionType | None:
    """The function of a method, a property or the like."""
    found = getattr(found, "fget", getattr(found, "__func__", found))
    return found if isinstance(found, FunctionType) else None


def _names(code: CodeType) -> tuple[list[str], list[str]]:
    """The names of globals in a function and in those within, and the names of attributes."""
    names, attributes = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname.endswith(("_GLOBAL", "_NAME")):
            names.add(instruction.argval)
        elif instruction.opname.endswith(("_ATTR", "_METHOD", "IMPORT_FROM")):
            attributes.add(instruction.argval)
        elif isinstance(instruction.argval, CodeType):
            inner = _names(instruction.argval)
            names.update(inner[0])
            attributes.update(inner[1])
    return sorted(names), sorted(attributes)


def _attributes(module: Module) -> dict[str, Any]:
    # torch.fx keeps the tensors that it meets in attributes of this name
    return {name: value for name, value in vars(module).items() if not name.startswith(TENSOR_CONSTANT)}


def _copy(container: Any) -> Any:
    kind = next((kind for kind in (dict, set) if isinstance(container, kind)), list)
    return kind(container)


def _values(space: Any, names: Iterable[str] | None) -> dict[str, Any]:
    """Values by name, without functions and classes: torch.fx itself puts others in their place for a while."""
    found = dict(space) if names is None else {name: space[name] for name in names if name in space}
    return {name: value for name, value in found.items() if isinstance(value, fx.Proxy) or not callable(value)}


def _contents(cells: dict[str, Any]) -> dict[str, Any]:
    # a variable without a value is left out
    return {name: value for name, cell in cells.items() if (value := _content(cell)) is not _EMPTY}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _pickled(thing: Any) -> bytes | None:
    try:
        return pickle.dumps(thing)
    except Exception:
        return None


def _numpys_state() -> bytes | None:
    numpys = sys.modules.get("numpy.random")
    return None if numpys is None else _pickled(numpys.get_state(legacy=False))
