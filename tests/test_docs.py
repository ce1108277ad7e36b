"""Every example in the documentation runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from .docs import pages

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


ILLUSTRATED = [page for page in pages.PAGES if any(fence.kind == "python" for fence in pages.fences(page))]
"""The pages with examples."""


@pytest.mark.filterwarnings(
    "ignore:No complete tensor found"
)  # torch, of channels_last weights, though each is complete
@pytest.mark.parametrize("page", ILLUSTRATED)
def test_examples_of_a_page_run(page: str) -> None:
    """One after the other, as a reader types them."""
    names: dict[str, Any] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    torch.compiler.reset()
    for fence in pages.fences(page):
        if fence.kind == "python":
            assert ">>> " in fence.body, f"{page}:{fence.line}: what is no example is not run"
            example = doctest.DocTestParser().get_doctest(fence.body, names, page, page, fence.line - 1)
            runner.run(example, clear_globs=False)
            names = example.globs
    torch.compiler.reset()
    assert runner.tries > 0
    assert runner.failures == 0


@pytest.mark.tiers("interpreter")
def test_lesson_of_the_kernels_runs() -> None:
    result = doctest.testfile(str(ROOT / "kernels" / "README.md"), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", pages.LINKING)
def test_links_of_the_pages_lead_somewhere(page: str) -> None:
    for target, anchor in pages.links(page):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in pages.anchors(file), (target, anchor)


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
