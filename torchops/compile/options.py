"""What `torch.compile(model, backend="torchops", options={...})` takes."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from torchops.compiler_internals import inductor_settings, settings_of_mode
from torchops.conversion.selection import Choice, Selection
from torchops.graphs.nodes import module_name, modules

Rest = str | Callable[[fx.GraphModule, list[Any]], Callable[..., Any]]
_RESTS = ("inductor", "eager")
_WEIGHTS = ("guarded", "in_graph")


@dataclass(frozen=True)
class Options:
    """How a graph is compiled; the fields are the options of :class:`torchops.compile.Backend`."""

    rest: Rest = "inductor"
    weights: str = "guarded"
    channels_last: bool | None = None
    include: Selection = None
    exclude: Selection = None
    inductor: dict[str, Any] = field(default_factory=dict)
    """Settings of Inductor's own."""

    def __post_init__(self) -> None:
        if not callable(self.rest) and self.rest not in _RESTS:
            raise ValueError(f"`rest` must be {', '.join(_RESTS)} or a backend, got {self.rest!r}")
        if self.weights not in _WEIGHTS:
            raise ValueError(f"`weights` must be one of {', '.join(_WEIGHTS)}, got {self.weights!r}")
        if self.channels_last not in (None, True, False):
            raise TypeError(f"`channels_last` must be True, False or None, got {self.channels_last!r}")
        if self.inductor and self.rest != "inductor":
            names = ", ".join(map(repr, self.inductor))
            raise ValueError(f"`mode` and options of Inductor's ({names}) need `rest` 'inductor', got {self.rest!r}")
        # names and classes are checked before anything is compiled
        _ = self.choice

    @functools.cached_property
    def choice(self) -> Choice:
        """The modules that `include` and `exclude` mean."""
        return Choice(self.include, self.exclude)

    def with_more(self, mode: str | None, options: dict[str, Any] | None) -> Options:
        """These options, with those that `torch.compile` was given.

        Raises:
            ValueError: if a name or a value is none of ours, nor of Inductor's.
        """
        own = [f.name for f in dataclasses.fields(self) if f.name != "inductor"]
        changed: dict[str, Any] = {}
        inductor = dict(self.inductor)
        if mode is not None and mode != "default":
            try:
                inductor |= settings_of_mode(mode)
            except (RuntimeError, KeyError) as error:
                raise ValueError(f"`mode` must be one of torch.compile's, got {mode!r}") from error
        for name, given in (options or {}).items():
            if name in own:
                changed[name] = given
            elif name in inductor_settings():
                inductor[name] = given
            else:
                near = difflib.get_close_matches(name, own, n=1)
                hint = f"; near it is {near[0]!r}" if near else ""
                raise ValueError(f"`options` must be of {', '.join(own)}, or Inductor's, got {name!r}{hint}")
        return dataclasses.replace(self, **changed, inductor=inductor)

    def refused(self, node: fx.Node) -> str | None:
        """Why `include` and `exclude` leave a call to torch; None if they do not."""
        return self.choice.refuses(module_name(node), modules(node))
