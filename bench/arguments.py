"""Arguments of the programs: files and folders that have to be there, and programs that take none."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import kept


def folder(text: str) -> Path:
    """A folder that is there, for `type=` of an option: argparse then names the option and what was given."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return Path(text)


def file(text: str) -> Path:
    """A file that is there, for `type=` of an option."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file")
    return Path(text)


def figures(parser: argparse.ArgumentParser, path: Path, shown: bool) -> Path:
    """The file that a program shows or adds to; an error that names `--file` where it is no file of figures.

    Args:
        parser: of the program.
        path: the file.
        shown: whether it is only shown, so that it has to be there.
    """
    try:
        if shown or path.exists():
            kept.read(path)
    except kept.BadFiguresError as error:
        parser.error(f"argument --file: {error}")
    return path


def none(program: str, what: str) -> None:
    """End with an error that names what was given to a program that takes nothing, before it writes a file."""
    argparse.ArgumentParser(prog=program, description=what).parse_args()
