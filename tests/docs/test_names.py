"""What pages and help texts name in passing exists: subcommands, options, networks of other libraries, GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torchvision
import typer.main
from typer.core import TyperGroup

from torchops.cli import app
from torchops.kernels.planning import hardware

from . import pages

OTHERS = {
    "--nproc-per-node": "torchrun", "--nnodes": "torchrun", "--node-rank": "torchrun", "--master-addr": "torchrun",
    "--master-port": "torchrun", "--logdir": "tensorboard",
}  # fmt: skip
"""Options that pages name, of other programs."""
OURS = ["README.md", "docs/start.md", *(page for page in pages.PAGES if page.startswith("docs/how-to/"))]
"""Pages that speak of the options of `torchops` alone."""


def _commands(command: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Every command of the application, by the words that call it."""
    yield " ".join(names), command
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _commands(inner, *names, name)


COMMANDS = dict(_commands(typer.main.get_command(app), "torchops"))


def _flags(command: Any) -> set[str]:
    return {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}


ALL_FLAGS = {flag for command in COMMANDS.values() for flag in _flags(command)} | set(OTHERS)


def _helps(command: Any) -> str:
    """All that the help of a command says in words."""
    return "\n".join((command.help or "", *(getattr(option, "help", None) or "" for option in command.params)))


def _flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


@pytest.mark.parametrize("page", [page for page in OURS if "measure-on-a-gpu" not in page])
def test_options_that_a_page_names_exist(page: str) -> None:
    assert _flags_in("\n".join(pages.spans(page))) - ALL_FLAGS == set()
    comments = re.findall(r"^\$ torchops .*?# (.*)$", pages.text(page), re.M)
    assert _flags_in("\n".join(comments)) - ALL_FLAGS == set()


@pytest.mark.parametrize("page", pages.PAGES)
def test_subcommands_that_a_page_names_in_passing_exist_and_take_the_options(page: str) -> None:
    for span in pages.spans(page):
        words = span.split()
        if words[0] != "torchops" or len(words) == 1:
            continue
        length = next((n for n in (3, 2) if " ".join(words[:n]) in COMMANDS), None)
        assert length is not None, span
        command = COMMANDS[" ".join(words[:length])]
        inner = [c for name, c in COMMANDS.items() if name.startswith(" ".join(words[:length]))]
        known = _flags(command).union(*map(_flags, inner))
        assert _flags_in(span) <= known, span


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_help_text_names_exists(name: str) -> None:
    said = _helps(COMMANDS[name])
    assert _flags_in(said) - _flags(COMMANDS[name]) == set()
    for library, network in re.findall(r"\b(timm|torchvision):([a-z]\w+)", said):
        known = timm.list_models() if library == "timm" else torchvision.models.list_models()
        assert network in known
    for gpu in re.findall(r"\b(?:sm_\d+|gfx\w+|[AH]\d00)\b", said):
        assert hardware.find(gpu).name


def test_help_texts_name_something() -> None:
    """Else the test above would ask nothing."""
    said = "\n".join(map(_helps, COMMANDS.values()))
    assert len(_flags_in(said)) > 5
    assert {"timm:resnet18", "torchvision:resnet50"} <= set(re.findall(r"\b(?:timm|torchvision):\w+", said))
