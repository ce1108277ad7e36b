"""What the commands of the networks share: how they fail, and options of several of them. Needs the extra `models`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import fail, one_line_errors
from .options import help_of

SeedOption = Annotated[int, typer.Option(help=help_of("seed"))]
FUSE_HELP = "Compute batch norm and activations within the convolutions: the same values, faster."
CompileOption = Annotated[bool, typer.Option("--compile", help=help_of("compile"))]
DeviceOption = Annotated[str | None, typer.Option(help=help_of("device"))]


@contextmanager
def failing(stopped: str = "stopped") -> Iterator[None]:
    """One line for what a user can get wrong, and `stopped` for Ctrl-C."""
    lacking = "networks need {0}: pip install 'torchops[models]'"
    try:
        from torchops.files.images import ImageError
        from torchops.models import CheckpointError
        from torchops.models.data import DataError
    except ModuleNotFoundError as error:
        fail(lacking.format(error.name))
    with one_line_errors(stopped, lacking=lacking, refused=(CheckpointError, DataError, ImageError)):
        yield


def plain(value: Any) -> Any:
    """What a configuration file can hold."""
    return str(value) if isinstance(value, Path) else getattr(value, "value", value)
