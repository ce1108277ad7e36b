"""What the commands share: where they print, how they fail, how options are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import Enum
from typing import NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(
    help="torchops: readable Triton kernels as first-class PyTorch operators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()


def fail(message: object) -> NoReturn:
    """One line on standard error, exit code 2."""
    typer.echo(f"torchops: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(2)


@contextlib.contextmanager
def one_line_errors(stopped: str) -> Iterator[None]:
    """Around a command that goes on for long: what it refuses or lacks is told in a line, and so is Ctrl-C, by `stopped`."""
    try:
        yield
    except typer.Exit:  # a RuntimeError, too
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
