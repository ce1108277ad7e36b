"""A student's file, run on the cases of a lesson.

What is said first: what is not filled in, then syntax, then what Triton cannot compile, accesses out of bounds, races, what was
never written, wrong values, and at last whether a kernel has done it. A case that is not right ends its step, a step that is not
done ends the check.
"""

from __future__ import annotations

import ast
import dataclasses
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .lesson import Case, Complaint, Lesson, Step, module
from .machine import Machine
from .report import Fault, Finding, Patch, Ran, Report, StepReport
from .skeleton import HOLE
from .trace import traffic

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Of results, relative and absolute; integers are equal."""
SECONDS = 5.0
"""How long one case may take."""


def check(file: Path, lesson: Lesson, machine: Machine, *, step: str | None = None, limit: float = SECONDS) -> Report:
    """Run the steps of a lesson, or only one of them, on a student's file."""
    start = time.perf_counter()
    report = Report(str(file), lesson.name, machine.name)
    loaded = _load(file, machine)
    if isinstance(loaded, Finding):
        return dataclasses.replace(report, finding=loaded, seconds=time.perf_counter() - start)
    done: list[StepReport] = []
    for one in lesson.steps:
        if step is None or one.name == step:
            done.append(_step(loaded, one, machine, file, limit))
            if not done[-1].done:
                break
    return dataclasses.replace(report, steps=tuple(done), seconds=time.perf_counter() - start)


def _load(file: Path, machine: Machine) -> ModuleType | Finding:
    try:
        compile(file.read_text(encoding="utf-8"), str(file), "exec")
        machine.prepare()
        return module(file, "exercise")
    except SyntaxError as error:
        return Finding("syntax", line=error.lineno or 0, detail=error.msg)
    except OSError as error:
        return Finding("missing", detail=f"{file}: {error.strerror}")
    except Exception as error:  # whatever a student's file raises
        return Finding("import", line=line_in(error, file), detail=f"{type(error).__name__}: {error}")


def line_in(error: BaseException, file: Path) -> int:
    """The last line of the file that an exception has passed."""
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return lines[-1] if lines else 0


def holes(source: str) -> list[tuple[int, str]]:
    """Lines that are not filled in, and the steps that they belong to; "" where no comment says."""
    lines = source.splitlines()
    subscripts = {
        id(part)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript)
        for part in ast.walk(node.slice)
    }
    found = {
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.value is ... and id(node) not in subscripts
    }
    return [(n, mark[1] if (mark := HOLE.search(lines[n - 1])) else "") for n in sorted(found)]


def _step(loaded: ModuleType, step: Step, machine: Machine, file: Path, limit: float) -> StepReport:
    start = time.perf_counter()
    findings: list[Finding] = []
    source = file.read_text(encoding="utf-8")
    mine = [n for n, name in holes(source) if name in (step.name, "")]
    if mine:
        findings.append(Finding("hole", line=mine[0]))
    elif not callable(getattr(loaded, step.function, None)):
        findings.append(Finding("missing", detail=f"the file has no function `{step.function}`"))
    else:
        for case in step.cases:
            findings.append(_case(getattr(loaded, step.function), step, case, machine, file, limit))
            if findings[-1].kind != "ok":
                break
        if step.far is not None and findings[-1].kind == "ok":
            findings.append(_far(getattr(loaded, step.function), step, machine, file))
    done = findings[-1].kind == step.expect
    seconds = round(time.perf_counter() - start, 3)
    return StepReport(step.name, step.title, done, seconds, tuple(findings), step.seen if done else "")


def _far(function: Any, step: Step, machine: Machine, file: Path) -> Finding:
    assert step.far is not None
    name = "more than 2^31 elements"
    fault = machine.far(lambda: (step.call or (lambda f, *inputs: f(*inputs)))(function, *step.far()), file)  # type: ignore[misc]
    if fault is None:
        return Finding("ok", name)
    if fault.kind == "unchecked":
        return Finding("ok", name, unchecked=(fault.detail,))
    return Finding(fault.kind, name, fault=fault, line=fault.line, detail=fault.detail)


def _case(function: Any, step: Step, case: Case, machine: Machine, file: Path, limit: float) -> Finding:
    torch.manual_seed(0)
    inputs = case.inputs()
    clones = tuple(one.clone() if isinstance(one, Tensor) else one for one in inputs)
    more = {} if case.block is None else {"block": case.block}

    def call() -> Any:
        if step.call is not None:
            return step.call(function, *inputs, **more)
        return function(*inputs, **more)

    ran = machine.run(call, file, limit)
    found = _judge(ran, step, inputs, clones)
    moved = tuple(traffic(launch) for launch in ran.launches if launch.accesses is not None)
    return dataclasses.replace(
        found, case=case.name, why=case.why, printed=ran.printed[:20], traffic=moved, unchecked=ran.unchecked
    )


def _judge(ran: Ran, step: Step, inputs: Sequence[Any], clones: Sequence[Any]) -> Finding:
    if ran.fault is not None:
        return Finding(ran.fault.kind, fault=ran.fault, line=ran.fault.line, detail=ran.fault.detail)
    doubled = (one.double() if isinstance(one, Tensor) and one.is_floating_point() else one for one in clones)
    want = step.reference(*doubled)
    floats = [one.dtype for one in clones if isinstance(one, Tensor) and one.is_floating_point()]
    found = compare(ran.value, want, floats[0] if floats else torch.float32)
    if found.kind == "values":
        return _recognised(found, ran.value, want, step, clones)
    if found.kind != "ok":
        return found
    if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(inputs, clones, strict=True)):
        return Finding("input", detail="a kernel has written to what the function was given")
    stored = any(launch.accesses is None or any(a.stores for a in launch.accesses) for launch in ran.launches)
    if step.kernels and not stored:
        return Finding("nokernel")
    try:
        if step.after is not None:
            step.after(ran.launches, *clones)
    except Complaint as said:
        return Finding("says", detail=str(said))
    return found


def _recognised(found: Finding, got: Any, want: Any, step: Step, clones: Sequence[Any]) -> Finding:
    """A finding of wrong values, with the mistake that it is, or words for the first of them."""
    explained = "" if step.explain is None else step.explain(tuple(clones), found.first, found.got, found.want)
    for mistake in step.mistakes:
        wrong = mistake.formula(*clones)
        if _same(got, wrong) and not _same(wrong, want):
            return dataclasses.replace(found, mistake=mistake.name, says=mistake.says, explained=explained)
    return dataclasses.replace(found, explained=explained)


def _same(a: Any, b: Any) -> bool:
    first, second = (one if isinstance(one, tuple) else (one,) for one in (a, b))
    return len(first) == len(second) and all(
        x.shape == y.shape and torch.allclose(x.double(), y.double(), rtol=1e-5, atol=1e-5, equal_nan=True)
        for x, y in zip(first, second, strict=True)
    )


def compare(got: Any, want: Any, dtype: torch.dtype) -> Finding:
    """A result beside the reference's, which is in float64 where a result is to be `dtype`; a tuple one by one."""
    if not isinstance(want, tuple):
        return _compare(got, want, dtype)
    if not isinstance(got, tuple) or len(got) != len(want):
        given = f"a tuple of {len(got)}" if isinstance(got, tuple) else f"one {type(got).__name__}"
        return Finding("shape", detail=f"the function returned {given}, expected {len(want)} tensors")
    for n, (one, other) in enumerate(zip(got, want, strict=True), 1):
        found = _compare(one, other, dtype)
        if found.kind != "ok":
            return dataclasses.replace(found, output=f"result {n} of {len(want)}")
    return Finding("ok")


def _compare(got: Any, want: Tensor, dtype: torch.dtype) -> Finding:
    if not isinstance(got, Tensor):
        return Finding("shape", detail=f"the function returned {type(got).__name__}, not a tensor")
    expected = dtype if want.is_floating_point() else want.dtype
    if got.shape != want.shape or got.dtype != expected:
        given, asked = (f"{tuple(t.shape)} {str(d)[6:]}" for t, d in ((got, got.dtype), (want, expected)))
        return Finding("shape", detail=f"the function returned {given}, expected {asked}")
    a, b = got.detach().double(), want.detach().double()
    tolerance = TOLERANCE.get(expected, 0.0)
    bad = ~torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not bad.any():
        return Finding("ok")
    never = a.isnan() & ~b.isnan()
    first = tuple(int(i) for i in (never if never.any() else bad).nonzero()[0])
    return Finding(
        "unwritten" if never.any() else "values",
        wrong=int((never if never.any() else bad).sum()), of=want.numel(), first=first,
        got=float(a[first]), want=float(b[first]), patch=_patch(a, b, bad, first),
    )  # fmt: skip


def _patch(got: Tensor, want: Tensor, bad: Tensor, first: tuple[int, ...]) -> Patch:
    """Five rows of seven columns around the first wrong element, of its plane."""
    planes = [t.reshape(*((1,) * (2 - t.dim())), *t.shape)[first[:-2]] for t in (got, want, bad)]
    row, col = (0, 0, *first)[-2:]
    h = max(0, min(row - 2, planes[0].shape[0] - 5))
    w = max(0, min(col - 3, planes[0].shape[1] - 7))
    cut = [plane[h : h + 5, w : w + 7].tolist() for plane in planes]
    return Patch(h, w, *cut)


__all__ = ["SECONDS", "Fault", "check", "compare", "holes"]
