"""What the commands share: where they print, how they fail, how options are checked."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NoReturn

import typer
import typer.core
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Refused(Exception):  # noqa: N818 (it is what a command says)
    """Ends a command: one line on standard error, exit code 2."""

    code = 2


class Failed(Refused):
    """Ends a command that was asked for what can be, and went wrong: exit code 1."""

    code = 1


# a value may hold parentheses, as "photos (1)", and what follows it is no part of a word
_ARGUMENT = re.compile(r"`(\w+)`(?: \(=((?:[^()]|\([^()]*\))*)\)(?=[\s:;,]|$))?")


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """What the library says of arguments, said of flags: "`lr` (=2)" is "--lr 2". What has no flag stays as it is."""

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        return found[0] if name not in flags else flags[name] if value is None else f"{flags[name]} {value}"

    return _ARGUMENT.sub(flag, text)


class Commands(typer.core.TyperGroup):
    """Tells what a command refused in the flags of this command."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Refused as refused:
            parameters = self.commands[ctx.invoked_subcommand].params
            flags = {p.name: p.opts[0] for p in parameters if p.name and p.param_type_name == "option"}
            typer.echo(f"torchops: {in_flags(' '.join(str(refused).split()), flags)}", err=True)
            raise typer.Exit(refused.code) from None


app = typer.Typer(
    cls=Commands,
    help="torchops: readable Triton kernels as first-class PyTorch operators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()


def fail(message: object) -> NoReturn:
    """One line on standard error, in the flags of the command that runs; exit code 2."""
    raise Refused(message)


@contextlib.contextmanager
def one_line_errors(stopped: str) -> Iterator[None]:
    """Around a command that goes on for long: what it refuses or lacks is told in a line, and so is Ctrl-C, by `stopped`."""
    try:
        yield
    except typer.Exit:  # this is a RuntimeError, too
        raise
    except KeyboardInterrupt:
        typer.echo(f"torchops: {stopped}", err=True)
        raise typer.Exit(130) from None
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed: pip install {error.name}")
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        fail(error)


def choices(name: str, values: tuple[str, ...]) -> type[Enum]:
    return Enum(name, {v: v for v in values}, type=str)  # type: ignore[return-value]


Backend = choices("Backend", ("auto", "triton", "aten"))


def table(title: str, caption: str | None = None) -> Table:
    return Table(
        title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 0), title_justify="left", caption_justify="left"
    )


def bar() -> Progress:
    """A progress bar that is gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
