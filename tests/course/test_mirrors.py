"""A solution computes what the kernel computes that it mirrors, bit for bit: both run in Triton's interpreter on all cases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from triton.runtime.interpreter import InterpretedFunction

from torchops.course.lesson import Case, Lesson, Step, folders, load
from torchops.course.source import load as load_file
from torchops.course.source import read

ROOT = Path(__file__).parent.parent.parent
LESSONS = [load(folder.name) for folder in folders()]

pytestmark = [
    pytest.mark.tiers("interpreter"),
    pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.folder.name for lesson in LESSONS]),
]


@contextlib.contextmanager
def interpreted() -> Iterator[set[Path]]:
    """The files of the kernels that are launched in the block, and of the functions that they call."""
    files: set[Path] = set()
    rewrite = InterpretedFunction.rewrite

    def noted(self: InterpretedFunction[Any]) -> Any:
        files.add(Path(self.fn.__code__.co_filename).resolve())
        return rewrite(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpretedFunction, "rewrite", noted)
        yield files


def solved(lesson: Lesson, step: Step, case: Case) -> Any:
    file = lesson.folder / "solution.py"
    function = getattr(load_file(file, read(file)), step.function)
    more = {} if case.block is None else {"block": case.block}
    inputs = given(case)
    # lanes that are not stored may divide 0 by 0
    with np.errstate(all="ignore"):
        return function(*inputs, **more) if step.call is None else step.call(function, *inputs, **more)


def given(case: Case) -> tuple[Any, ...]:
    torch.manual_seed(0)
    return case.inputs()


def results(value: Any) -> list[torch.Tensor]:
    return list(value) if isinstance(value, tuple) else [value]


def test_a_solution_equals_what_it_mirrors(lesson: Lesson) -> None:
    if lesson.prepare is not None:
        lesson.prepare()
    different, files = [], set()
    for step in lesson.steps:
        for case in step.cases if step.mirror is not None else ():
            mine = results(solved(lesson, step, case))
            with interpreted() as kernels:
                theirs = results(step.mirror(*given(case)))
            files |= kernels
            for n, (one, other) in enumerate(zip(mine, theirs, strict=True)):
                if one.dtype != other.dtype or not torch.equal(one, other):
                    different.append((step.name, case.name, n, one, other))
    assert different == []
    # what is named runs, and what runs of kernels/ beside it does the same another way
    assert [file for file in lesson.mirrors if (ROOT / file).resolve() not in files] == []


def test_a_lesson_with_kernels_mirrors_some(lesson: Lesson) -> None:
    mirrored = any(step.mirror is not None for step in lesson.steps)
    assert bool(lesson.mirrors) == mirrored == any(step.kernels for step in lesson.steps)
