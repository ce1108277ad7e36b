"""What the commands of the networks share: how they fail, and options of several of them. Needs the extra `models`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import fail
from .options import help_of

SeedOption = Annotated[int, typer.Option(help=help_of("seed"))]
CompileOption = Annotated[bool, typer.Option("--compile", help=help_of("compile"))]
DeviceOption = Annotated[str | None, typer.Option(help=help_of("device"))]


@contextmanager
def failing() -> Iterator[None]:
    """One line for what a user can get wrong."""
    try:
        from torchops.files.images import ImageError
        from torchops.models import CheckpointError
        from torchops.models.data import DataError
    except ModuleNotFoundError as error:
        fail(f"networks need {error.name}: pip install 'torchops[models]'")
    try:
        yield
    except typer.Exit:  # this is a RuntimeError, too
        raise
    except ModuleNotFoundError as error:
        fail(f"networks need {error.name}: pip install 'torchops[models]'")
    except (CheckpointError, DataError, ImageError, ValueError, OSError, FloatingPointError, RuntimeError) as error:
        fail(error)


def plain(value: Any) -> Any:
    """What a configuration file can hold."""
    return str(value) if isinstance(value, Path) else getattr(value, "value", value)
