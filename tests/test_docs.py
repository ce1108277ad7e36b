"""Every example in the documentation runs and prints what it says."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

import torchops
from torchops import backend, functional, inspect, nn

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("module", [torchops, backend, functional, inspect, nn], ids=lambda m: m.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_examples() -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_names_files_and_targets_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = {word.split("`")[0] for word in text.split("make ")[1:]}
    named = {t.split()[0].strip(".,:;)") for t in targets if t and t.split()}
    known = {line.partition(":")[0] for line in makefile.splitlines() if line and line[0].isalpha()}
    assert {"demo", "test"} <= named
    assert {t for t in named if t.isalpha()} - known <= {"a", "an", "it", "sense", "the"}
    assert (ROOT / "assets" / "edges.png").exists()
