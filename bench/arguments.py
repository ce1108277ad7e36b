"""Arguments of the programs: files and folders that have to be there, and programs that take none."""

from __future__ import annotations

import argparse
from pathlib import Path


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


def none(program: str, what: str) -> None:
    """End with an error that names what was given to a program that takes nothing, before it writes a file."""
    argparse.ArgumentParser(prog=program, description=what).parse_args()
