"""The options of `torchops train` in the shell, made of the fields of models/options.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from torchops.models.declared import Option, options_of
from torchops.models.options import Config, NetworkOptions

from .console import Backend, choices, in_flags

_PATH = Option(None, "Folder that the run is written to; runs/NET-TIME by default.", path=True)
_RESUME = Option(
    None, "Folder of a run to go on with, as it was asked for; beside it, `epochs` may ask for more, "
    "`device`, `workers` and `log` may differ.", path=True,
)  # fmt: skip
_LIST = Option(False, "Say which images, classes and network would be trained, and stop.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parameter(name: str, hint: Any, option: Option, flags: dict[str, str]) -> Parameter:
    optional = type(None) in get_args(hint)
    values = [value for part in (hint, *get_args(hint)) if get_origin(part) is Literal for value in get_args(part)]
    default = option.default
    if values:
        kind = choices(name, tuple(values))
        default = None if default is None else kind(default)
        hint = kind | None if optional else kind
    elif option.path:
        hint = Path | None if optional else Path
    switch = bool in (hint, *get_args(hint))
    # what is off can only be put on
    declared = f"{flags[name]}/--no-{flags[name][2:]}" if switch and default is not False else flags[name]
    told = typer.Option(declared, help=in_flags(option.help, flags))
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, told])


def with_options(net: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function of any keywords those that the command of a network takes, in the order in which it shows them.

    They are the shown fields of :class:`Config` and, where it has its `options`, the run's folder as `path` and the fields of
    :class:`NetworkOptions`; `list` and `resume` come last. The function also gets the names of those that were `given`.
    """
    found: dict[str, tuple[Any, Option]] = {}
    own, networks = (
        {name: (get_type_hints(cls)[name], option) for name, option in options_of(cls, net).items() if option.shown}
        for cls in (Config, NetworkOptions)
    )
    for field in dataclasses.fields(Config):
        if field.name == "options":
            found |= {"path": (str | None, _PATH), **networks}
        elif field.name in own:
            found[field.name] = own[field.name]
    found |= {"list": (bool, _LIST), "resume": (str | None, _RESUME)}
    order = list(found)
    for name, (_, option) in found.items():
        if option.before is not None:
            order.remove(name)
            order.insert(order.index(option.before), name)
    flags = {name: _flag(name) for name in found} | {"path": "--out"}
    parameters = [_parameter(name, *found[name], flags) for name in order]

    context = Parameter("ctx", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    def give(function: Callable[..., None]) -> Callable[..., None]:
        def command(ctx: typer.Context, **asked: Any) -> None:
            # it is an enumeration of typer's own or of click, by typer's version
            sources = {name: getattr(ctx.get_parameter_source(name), "name", None) for name in asked}
            function(**asked, given=[name for name in asked if sources[name] == "COMMANDLINE"])

        command.__signature__ = Signature([context, *parameters])  # type: ignore[attr-defined]
        return command

    return give


def help_of(name: str) -> str:
    """What a field of :class:`Config` says, for commands that share it."""
    return options_of(Config, "lenet")[name].help


BackendOption = Annotated[Backend | None, typer.Option(help=help_of("backend"))]  # type: ignore[valid-type]
