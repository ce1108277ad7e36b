"""Mutants find what they break: wherever it lies, however it is laid out, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .mistakes import MUTANTS, Edit, Mutant
from .mutants import mutate
from .tiers import ROOT

EDIT = Edit("scale", "tl.load(x_ptr + offs, mask=mask)", "tl.load(x_ptr + offs)")
SOURCE = """\
def other(x_ptr, offs, mask):
    return tl.load(x_ptr + offs, mask=mask)


def scale(x_ptr, offs, mask):
    é = 2  # é has two bytes
    return é * tl.load(x_ptr + offs, mask=mask)  # stays
"""
MUTATED = "    return é * (tl.load(x_ptr + offs))  # stays\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for room in ("kernels/device", "models"):
        (tmp_path / room).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_finds_its_target(mutant: Mutant) -> None:
    for edit in mutant.edits:
        path, text = mutate(ROOT, edit)
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(path.read_text()))


@pytest.mark.parametrize("place", ["kernels/scale.py", "kernels/device/elsewhere.py", "models/scale.py"])
def test_found_after_a_move(folder: Path, place: str) -> None:
    (folder / place).write_text(SOURCE)
    path, text = mutate(folder, EDIT)
    assert path == folder / place
    assert text.splitlines(keepends=True) == [*SOURCE.splitlines(keepends=True)[:-1], MUTATED]


def test_found_after_reformatting(folder: Path) -> None:
    laid_out = "(tl.load(\n        (x_ptr+offs),  # comment\n        mask = mask,\n    ))"
    (folder / "kernels/scale.py").write_text(SOURCE.replace("é * tl.load(x_ptr + offs, mask=mask)", laid_out))
    assert "return ((tl.load(x_ptr + offs)))  # stays\n" in mutate(folder, EDIT)[1]


def test_what_replaces_an_expression_stays_one(folder: Path) -> None:
    (folder / "kernels/scale.py").write_text("def scale(a, b, c):\n    return a * b * c\n")
    assert mutate(folder, Edit("scale", "a * b", "a + b"))[1] == "def scale(a, b, c):\n    return (a + b) * c\n"


def test_statement_is_replaced_by_a_statement(folder: Path) -> None:
    (folder / "kernels/scale.py").write_text("def scale(acc, x):\n    if x: acc += (x)\n    return acc\n")
    assert (
        mutate(folder, Edit("scale", "acc += x", "pass"))[1] == "def scale(acc, x):\n    if x: pass\n    return acc\n"
    )


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("", "found 0 times in scale, which is defined nowhere"),
        (SOURCE.replace("mask=mask", "mask=None"), "found 0 times in scale, which is defined kernels/scale.py:5"),
        (SOURCE.replace("é * ", "tl.load(x_ptr + offs, mask=mask) + "), "found 2 times in scale"),
        (SOURCE * 2, "found 2 times in scale, which is defined kernels/scale.py:5, kernels/scale.py:12"),
    ],
    ids=["no function", "no expression", "twice in the function", "two functions"],
)
def test_missing_or_doubled_target_is_an_error(folder: Path, source: str, complaint: str) -> None:
    (folder / "kernels/scale.py").write_text(source)
    with pytest.raises(LookupError, match=complaint):
        mutate(folder, EDIT)
