"""Every list of the ops is that of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import torchops
from torchops import catalog, functional, ops, reference

ROOT = Path(__file__).parent.parent


def _of_page() -> set[str]:
    """In the first column of the table of docs/reference/operators.md."""
    rows = re.findall(r"^\| (`torchops\.[^|]*)\|", (ROOT / "docs/reference/operators.md").read_text(), re.M)
    return {name for row in rows for name in re.findall(r"`(?:torchops\.)?(\w+)`", row)}


def _of_tests() -> set[str]:
    """That are asked the questions of `conformance`."""
    texts = (path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    return {name for text in texts for name in re.findall(r'^ +op=catalog\.OPS\["(\w+)"\]', text, re.M)}


def _families() -> set[str]:
    """The files and folders of torchops/ops that register operators."""
    folder = ROOT / "torchops/ops"
    files = (path.relative_to(folder) for path in folder.rglob("*.py") if " = register(" in path.read_text())
    return {file.parts[0].removesuffix(".py") for file in files}


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (functional.__all__, {"PADDING_MODES", *catalog.OPS}),
        (set(torchops.__all__) & set(functional.__all__), catalog.OPS),
        (set(vars(reference)) & set(functional.__all__), catalog.OPS),
        (_of_page(), catalog.OPS),
        (_of_tests(), catalog.OPS),
        (ops.__all__, {"flops", *_families()}),
    ],
    ids=["functional", "torchops", "reference", "page", "tests", "ops"],
)
def test_every_list_of_ops_is_that_of_the_catalog(listed: Iterable[str], expected: Iterable[str]) -> None:
    assert set(listed) == set(expected)


@pytest.mark.parametrize("name", catalog.OPS)
def test_an_op_has_one_name(name: str) -> None:
    op = catalog.OPS[name]
    assert op.function is getattr(torchops, name) is getattr(functional, name)
    assert op.reference is getattr(reference, name)
