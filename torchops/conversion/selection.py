"""The layers of a model that `include` and `exclude` mean."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from torch.nn import Module

Selection: TypeAlias = "str | type[Module] | Iterable[str | type[Module]] | None"
"""Names of layers, patterns of names, or classes."""


def selection(model: Module, include: Selection, exclude: Selection) -> Callable[[str, Module], str | None]:
    """A function of a layer's name and the layer: None if it is wanted, or why it is not.

    Raises:
        TypeError: if an entry is neither a name nor a class of modules.
        ValueError: if a name is not in the model.
    """
    classes = {name: type(module) for name, module in model.named_modules(remove_duplicate=False)}
    included = None if include is None else _entries("include", include, list(classes))
    excluded = _entries("exclude", () if exclude is None else exclude, list(classes))

    def matches(entry: Any, name: str) -> bool:
        """Whether an entry means the layer, or a module that the layer is in."""
        parts = name.split(".") if name else []
        around = [".".join(parts[:i]) for i in range(len(parts) + 1)]
        if isinstance(entry, type):
            return any(issubclass(classes[outer], entry) for outer in around if outer in classes)
        return entry in around or any(fnmatch.fnmatchcase(outer, entry) for outer in around[1:])

    def refused(name: str, module: Module) -> str | None:
        if any(matches(entry, name) for entry in excluded):
            return "excluded"
        if included is not None and not any(matches(entry, name) for entry in included):
            return "not included"
        return None

    return refused


def _entries(argument: str, given: Any, names: list[str]) -> tuple[Any, ...]:
    if isinstance(given, (str, type)):
        given = (given,)
    if not isinstance(given, Iterable):
        raise TypeError(f"`{argument}` must be names or classes of layers, got {given!r}")
    entries = tuple(given)
    for entry in entries:
        if isinstance(entry, type) and issubclass(entry, Module):
            continue
        if not isinstance(entry, str):
            raise TypeError(f"`{argument}` must be names or classes of layers, got {entry!r}")
        if entry not in names and not fnmatch.filter(names, entry):
            near = difflib.get_close_matches(entry, names, n=4, cutoff=0.4)
            some = f"its names are like {', '.join(names[1:5])}" if len(names) > 1 else "it is one layer, of no name"
            hint = f"near it are {', '.join(near)}" if near else some
            raise ValueError(f"`{argument}` must name layers of the model, got {entry!r}; {hint}")
    return entries
