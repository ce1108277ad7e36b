"""The layers of a model that `include` and `exclude` mean."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch.nn import Module

Selection: TypeAlias = str | type[Module] | Iterable[str | type[Module]] | None
"""Names of layers, patterns of names, or classes."""


class Choice:
    """The modules that are wanted, by `include` and `exclude`.

    Args:
        include: names of modules, patterns, classes, or several of these; None for all.
        exclude: likewise; None for none.
        names: all names of the model, to check those that are given; None if the model is not there yet.

    Raises:
        TypeError: if an entry is neither a name nor a class of modules.
        ValueError: if a name is not in the model.
    """

    def __init__(self, include: Selection, exclude: Selection, names: list[str] | None = None) -> None:
        self.included = None if include is None else _entries("include", include, names)
        self.excluded = _entries("exclude", () if exclude is None else exclude, names)

    def refuses(self, name: str, classes: Mapping[str, Any]) -> str | None:
        """Why the module of that name is not wanted; None if it is.

        Args:
            name: of the module.
            classes: by name, as far as they are known, of that module and of those that it lies in.
        """
        parts = name.split(".") if name else []
        outer = [".".join(parts[:i]) for i in range(len(parts) + 1)]
        around = {name: classes.get(name) for name in outer}
        if any(_matches(entry, around) for entry in self.excluded):
            return "excluded"
        if self.included is not None and not any(_matches(entry, around) for entry in self.included):
            return "not included"
        return None


def _matches(entry: Any, around: Mapping[str, Any]) -> bool:
    """Whether an entry means a module, or one that it lies in."""
    if isinstance(entry, type):
        return any(isinstance(cls, type) and issubclass(cls, entry) for cls in around.values())
    return entry in around or any(fnmatch.fnmatchcase(name, entry) for name in around if name)


def selection(model: Module, include: Selection, exclude: Selection) -> Callable[[str, Module], str | None]:
    """A function of a layer's name and the layer: None if it is wanted, or why it is not.

    Raises:
        TypeError: if an entry is neither a name nor a class of modules.
        ValueError: if a name is not in the model.
    """
    classes = {name: type(module) for name, module in model.named_modules(remove_duplicate=False)}
    choice = Choice(include, exclude, list(classes))

    return lambda name, module: choice.refuses(name, classes)


def _entries(argument: str, given: Any, names: list[str] | None) -> tuple[Any, ...]:
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
        if names is not None and entry not in names and not fnmatch.filter(names, entry):
            near = difflib.get_close_matches(entry, names, n=4, cutoff=0.4)
            some = f"its names are like {', '.join(names[1:5])}" if len(names) > 1 else "it is one layer, of no name"
            hint = f"near it are {', '.join(near)}" if near else some
            raise ValueError(f"`{argument}` must name layers of the model, got {entry!r}; {hint}")
    return entries
