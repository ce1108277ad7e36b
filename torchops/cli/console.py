"""What the commands share: where they print, how they fail, how options are checked.

Nothing that is printed is markup: names that people chose stand as they are, and what is styled is a `rich.text.Text`.
"""

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
from rich.text import Text

from torchops.files.names import printable


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


def one_line(message: object) -> str:
    """A message of several lines in one, without what a terminal would obey."""
    return printable(" ".join(line for part in str(message).splitlines() if (line := part.strip())))


_KINDS = {"bool": "", "int": "integer", "int range": "integer", "float": "number", "str": "text", "Path": "path"}


def _in_words(kind: str | None) -> str | None:
    """What values an option takes, as "<list[str]>", in words for people; a switch takes none."""
    found = re.fullmatch(r"<(?:list\[)?([\w ]+)\]?>", kind or "")
    if found is None or found[1] not in _KINDS:
        return kind
    return f"<{_KINDS[found[1]]}>" if _KINDS[found[1]] else None


class _PlainHelp:
    """Says in words what values the options of a command take."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            # typer before 0.25 has other words, which are plain
            said = getattr(param, "display_type_rich", None)
            if said is not None and "display_type_rich" not in vars(param):
                param.display_type_rich = lambda ctx, said=said: _in_words(said(ctx=ctx))
        return params


class Command(_PlainHelp, typer.core.TyperCommand):
    """A command whose help is wrapped where the terminal ends; typer keeps the line ends of all paragraphs but the first."""

    def __init__(self, *args: Any, help: str | None = None, **settings: Any) -> None:
        told = "\n\n".join(" ".join(part.split()) for part in (help or "").split("\n\n"))
        super().__init__(*args, help=told, **settings)


class Commands(_PlainHelp, typer.core.TyperGroup):
    """Tells what a command refused in the flags of this command."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Refused as refused:
            parameters = self.commands[ctx.invoked_subcommand].params
            flags = {p.name: p.opts[0] for p in parameters if p.name and p.param_type_name == "option"}
            typer.echo(f"torchops: {in_flags(one_line(refused), flags)}", err=True)
            raise typer.Exit(refused.code) from None


class App(typer.Typer):
    """Commands as they are here: what they refuse is told in a line, their help speaks plainly."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Commands, no_args_is_help=True, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Any:
        return super().command(name, **{"cls": Command, **settings})


app = App(
    help="torchops: readable Triton kernels as first-class PyTorch operators.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(markup=False, emoji=False, highlight=False)


def say(text: object, style: str = "") -> None:
    """Print a line, whatever stands in it, and do not wrap it, so that names of files can be copied."""
    console.print(Text(printable(text), style), soft_wrap=True)


def fail(message: object) -> NoReturn:
    """One line on standard error, in the flags of the command that runs; exit code 2."""
    raise Refused(message)


def warn(message: object) -> None:
    """One line on standard error; the command goes on."""
    typer.echo(f"torchops: {one_line(message)}", err=True)


_TOLD: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError, MemoryError)


@contextlib.contextmanager
def one_line_errors(
    stopped: str = "stopped", *, lacking: str = "{0} is not installed: pip install {0}",
    refused: tuple[type[Exception], ...] = (),
) -> Iterator[None]:  # fmt: skip
    """Around a command: what it refuses or lacks is told in a line, and so is Ctrl-C.

    Args:
        stopped: what is said of Ctrl-C.
        lacking: what is said of a module that is missing, by its name.
        refused: exceptions that are told besides Python's own.
    """
    told = (*_TOLD, *refused)
    try:
        yield
    except (typer.Exit, BrokenPipeError):  # these are a RuntimeError and an OSError, too
        raise
    except KeyboardInterrupt:
        warn(stopped)
        raise typer.Exit(130) from None
    except ModuleNotFoundError as error:
        # who knows what to install has said it
        fail(error if "pip install" in str(error) else lacking.format(error.name))
    except told as error:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            fail(f"{printable(error.filename)}: {error.strerror}")
        fail(str(error) or type(error).__name__)


def choices(name: str, values: tuple[str, ...]) -> type[Enum]:
    return Enum(name, {v: v for v in values}, type=str)  # type: ignore[return-value]


Backend = choices("Backend", ("auto", "triton", "aten"))


class _Folded(Table):
    """A table whose cells go on in the next line where they are too long; rich would cut them."""

    def add_column(self, *args: Any, overflow: Any = "fold", **settings: Any) -> None:
        super().add_column(*args, overflow=overflow, **settings)


def table(title: str, caption: str | None = None) -> Table:
    return _Folded(
        title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 0), title_justify="left", caption_justify="left"
    )


def bar(*, disable: bool = False) -> Progress:
    """A progress bar that is gone when it is done; none if `disable`."""
    said = TextColumn("{task.description}", markup=False)
    columns = said, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=disable)
