"""LICENSES.md names every package that is asked for, and every picture and data file of the repository."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .test_package import ROOT, asked

TEXT = {
    ".py",
    ".md",
    ".toml",
    ".cff",
    ".in",
    ".yml",
    ".yaml",
    ".j2",
    ".typed",
    ".mplstyle",
    ".template",
    ".tmpl",
    ".rst",
    "",
}
"""Suffixes of what is written, rather than drawn, measured or taken from somewhere."""


def _section(heading: str) -> list[list[str]]:
    """The rows of the table below a heading of LICENSES.md."""
    text = (ROOT / "LICENSES.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def _patterns() -> list[str]:
    return [pattern for row in _section("Pictures and data") for pattern in re.findall(r"`([^`]+)`", row[0])]


def _matches(path: str, pattern: str) -> bool:
    """A star stands for a part of a name, and not for folders."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatchcase, names, wanted))


def _files() -> list[str]:
    said = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [line for line in said.stdout.splitlines() if not (ROOT / line).is_symlink()]


def test_every_picture_and_data_file_has_a_source() -> None:
    files = [name for name in _files() if Path(name).suffix.lower() not in TEXT]
    assert len(files) > 30
    assert [name for name in files if not any(_matches(name, pattern) for pattern in _patterns())] == []
    # a row of what is gone would be believed
    assert [pattern for pattern in _patterns() if not any(_matches(name, pattern) for name in _files())] == []


def test_every_row_says_where_its_files_come_from() -> None:
    for row in _section("Pictures and data"):
        assert len(row) == 3
        assert all(row)
        assert re.search(r"MIT|CC0|CC BY|public domain", row[2]), row


def test_every_package_that_is_asked_for_has_a_licence() -> None:
    listed = {name.strip() for row in _section("What is installed with it") for name in row[0].split(",")}
    project = asked()
    assert sorted(project.keys() - listed) == []


@pytest.mark.parametrize("path", ["assets/a/b.png", "assets/new.png", "photo.jpg"])
def test_a_file_that_nobody_listed_is_noticed(path: str) -> None:
    assert not any(_matches(path, pattern) for pattern in _patterns())


def test_requirements_are_read_with_the_extras_they_name() -> None:
    assert {"torch", "numpy", "ruff", "onnx"} <= asked().keys()
    assert isinstance(asked()["torch"], Requirement)
