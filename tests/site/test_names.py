"""Every public name and every command is in the reference, once."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"
PUBLIC = (
    "torchops",
    "torchops.compile",
    "torchops.conversion",
    "torchops.course.trial",
    "torchops.export",
    "torchops.functional",
    "torchops.inspect",
    "torchops.models",
    "torchops.models.data",
    "torchops.models.inside",
    "torchops.models.inside.drawing",
    "torchops.models.options",
    "torchops.models.predict",
    "torchops.models.runs",
    "torchops.models.sampling",
    "torchops.models.training",
    "torchops.nn",
    "torchops.precompile",
    "torchops.recording",
)
"""Modules whose names people use."""
_DIRECTIVE = re.compile(r"^(\s*)\.\. (currentmodule|autosummary|auto\w+|commands)::[ ]?(.*)$", re.M)


def _found(name: str) -> Any:
    """What a dotted name is, whose first parts are modules."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def _documented(page: Path) -> list[str]:
    """The full names that a page documents, in order."""
    names, module = [], ""
    for _, directive, argument in _DIRECTIVE.findall(page.read_text()):
        if directive == "currentmodule":
            module = argument
        elif directive not in ("autosummary", "commands"):
            names.append(argument if argument.startswith("torchops.") else f"{module}.{argument}")
    return names


def _public(module: str) -> list[str]:
    """The names of a module that are for its users."""
    found = importlib.import_module(module)
    own = [
        n for n, value in vars(found).items() if getattr(value, "__module__", "") == module and not n.startswith("_")
    ]
    return [name for name in getattr(found, "__all__", own) if not name.startswith("_")]


@pytest.fixture(scope="module")
def documented() -> list[str]:
    return [name for page in sorted(REFERENCE.glob("*.md")) for name in _documented(page)]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_in_the_reference(module: str, documented: list[str]) -> None:
    objects = [_found(name) for name in documented]
    names = _public(module)
    assert names
    modules = type(importlib)
    missing = [
        name
        for name in names
        if not isinstance(value := _found(f"{module}.{name}"), modules) and not any(value is o for o in objects)
    ]
    assert missing == []


def test_nothing_is_documented_twice(documented: list[str]) -> None:
    assert len(documented) > 100
    assert [name for name, count in Counter(documented).items() if count > 1] == []


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*.md")), ids=lambda page: page.stem)
def test_summaries_have_what_the_page_documents(page: Path) -> None:
    text = page.read_text()
    summaries = re.findall(r"autosummary::\n   :nosignatures:\n\n((?:   \S+\n)+)", text)
    listed = [name for summary in summaries for name in summary.split()]
    documented = re.findall(r"^\.\. auto(?!summary)\w+:: (\S+)$", text, re.M)
    assert sorted(listed) == sorted(documented)


def test_commands_left_out_of_a_page_have_their_own() -> None:
    text = "\n".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
    shown = dict(re.findall(r"^\.\. commands:: (.+)\n(?:   :but: (.+)\n)?", text, re.M))
    assert "torchops" in shown
    left_out = {f"{command} {name}" for command, names in shown.items() for name in names.split()}
    assert left_out == set(shown) - {"torchops"}
