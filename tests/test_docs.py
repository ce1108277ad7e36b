"""Every example in the documentation runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = [
    ".".join((*prefix, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    # models/ is imported by its long name
    for room, prefix in (("torchops", ()), ("models", ("torchops",)))
    for path in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in path.read_text()
]
"""The modules with examples."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_examples() -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_names_targets_that_exist() -> None:
    named = set(re.findall(r"(?:^\$ |`)make ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= named <= known


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "bench/README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
            assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), (page, target)
