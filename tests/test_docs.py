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


@pytest.mark.tiers("interpreter")
def test_lesson_of_the_kernels_runs() -> None:
    result = doctest.testfile(str(ROOT / "kernels" / "README.md"), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_names_targets_that_exist() -> None:
    named = set(re.findall(r"(?:^\$ |`)make ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= named <= known


PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "bench/README.md",
    "course/INSTRUCTOR.md",
    "course/README.md",
    "kernels/README.md",
    "kernels/conv2d/README.md",
    "torchops/ops/cpu/README.md",
)


def _anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_of_the_pages_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), (target, anchor)


@pytest.fixture(scope="module")
def code() -> str:
    """All of kernels/."""
    return "\n".join(file.read_text() for file in sorted((ROOT / "kernels").rglob("*.py")))


def test_words_of_the_glossary_are_in_the_code(code: str) -> None:
    page = (ROOT / "kernels/README.md").read_text()
    words = re.findall(r"^\| `(\w+)` \|", page[page.index("## Glossary") :], re.M)
    assert len(words) > 20
    assert [w for w in words if not re.search(rf"(?<![^\W_]){w}(?![^\W_])", code, re.I)] == []


def test_names_in_the_derivations_are_in_the_code(code: str) -> None:
    named = re.findall(r"`(\w+)`", (ROOT / "kernels/conv2d/README.md").read_text())
    names = {name for name in named if "_" in name}
    assert len(names) > 20
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []
