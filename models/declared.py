"""An option of training: a field of a dataclass with its default, help and limits by network; and whether a value fits it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from .checkpoints import NETS


@dataclass(frozen=True)
class Option:
    """What the command of one network says of a field."""

    default: Any
    help: str
    """Arguments stand in backticks; the shell shows their flags."""
    path: bool = False
    """A file or folder is named."""
    before: str | None = None
    """The option that it is shown before; without one, it stands where its field does."""
    shown: bool = True


def option(
    default: Any, help: str, *, nets: Collection[str] = NETS, path: bool = False, least: float | None = None,
    read: Callable[[Any], Any] | None = None, kept: Any = None, **by_net: Mapping[str, Any],
) -> Any:  # fmt: skip
    """A field of a dataclass that is an option of `torchops train`.

    Args:
        default: of the field and of the option.
        help: what the option means.
        nets: the networks whose commands show it.
        path: whether it names a file or folder.
        least: the smallest value that it may have.
        read: from the option's value to what the network takes.
        kept: the type of what `read` gives.
        **by_net: by network, what differs there: "default", "help", "path" or "before" of :class:`Option`.
    """
    shared = {"default": default, "help": help, "path": path}
    options = {net: Option(**{**shared, "shown": net in nets, **by_net.get(net, {})}) for net in NETS}
    return dataclasses.field(default=default, metadata={"options": options, "least": least, "read": read, "kept": kept})


def options_of(cls: type, net: str) -> dict[str, Option]:
    """The options among the fields of a dataclass, by name, as a network has them; those that it does not show, too."""
    return {f.name: f.metadata["options"][net] for f in dataclasses.fields(cls) if "options" in f.metadata}


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}


def _in_words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is list:
        return "a list of whole numbers"
    return _WORDS.get(hint, "options by name")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as configurations have types: JSON's, and choices."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is list:
        return isinstance(value, list) and all(_fits(v, parts[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def check(name: str, value: Any, hint: Any, least: float | None = None) -> None:
    """Raise TypeError or ValueError, by name, where a value is of another type, out of range or no number."""
    if not _fits(value, hint):
        wrong = ValueError if isinstance(value, str) and "one of" in _in_words(hint) else TypeError
        raise wrong(f"`{name}` must be {_in_words(hint)}, got {shortened(value)}")
    # torch takes 64 bits
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"`{name}` must be less than 2^63, got {shortened(value)}")
    if isinstance(value, float) and not abs(value) <= sys.float_info.max:
        raise ValueError(f"`{name}` must be finite, got {value}")
    if least is not None and value is not None and value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}")


__all__ = ["Option", "check", "option", "options_of"]
