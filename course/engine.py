"""A student's file, run on the cases of a lesson.

What is said first: what is not filled in, then syntax, then what Triton cannot compile, accesses out of bounds, races, what was
never written, wrong values, and at last whether a kernel has done it. A case that is not right ends its step, a step that is
not done ends the check.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.torch_internals import tree_leaves, tree_map_only

from .compare import compare, recognised
from .faults import SECONDS, fault_of, line_in, time_limit
from .lesson import Case, Complaint, Lesson, Step
from .machine import Machine
from .report import Finding, Ran, Report, StepReport
from .source import holes, holes_of, holes_outside, load, read
from .trace import traffic

FAR = "offsets beyond 2^31"
MASKED_OFF = (
    "It would be right if lanes that are masked off loaded 0. They load anything, here -999: "
    "give them a value by `other=`, or leave them out of what follows."
)


def check(file: Path, lesson: Lesson, machine: Machine, *, step: str | None = None, limit: float = SECONDS) -> Report:
    """Run the steps of a lesson on a student's file.

    Args:
        file: the student's.
        lesson: whose steps it is to fulfil.
        machine: which runs its kernels.
        step: the only one to run.
        limit: how many seconds a call of a function may take.

    Raises:
        ValueError: if the lesson has no such step.
    """
    steps = [one for one in lesson.steps if step in (None, one.name)]
    if not steps:
        raise ValueError(
            f"lesson {lesson.number} has no step {step!r}; it has {', '.join(s.name for s in lesson.steps)}"
        )
    if lesson.prepare is not None:
        lesson.prepare()
    start = time.perf_counter()
    file = Path(os.path.abspath(file))
    report = Report(str(file), lesson.name, machine.name)
    loaded = _load(file, machine, limit)
    if isinstance(loaded, Finding):
        return dataclasses.replace(report, finding=loaded, seconds=time.perf_counter() - start)
    done: list[StepReport] = []
    for one in steps:
        done.append(_step(*loaded, one, machine, file, limit, _is_far_elsewhere(one, steps)))
        if not done[-1].done:
            break
    return dataclasses.replace(report, steps=tuple(done), seconds=time.perf_counter() - start)


def _load(file: Path, machine: Machine, limit: float) -> tuple[ModuleType, str] | Finding:
    """The student's module, and its text."""
    try:
        text = read(file)
        compile(text, str(file), "exec")
    except (SyntaxError, ValueError) as error:
        return Finding("syntax", line=getattr(error, "lineno", 0) or 0, detail=getattr(error, "msg", str(error)))
    except OSError as error:
        return Finding("missing", detail=f"{file}: {error.strerror}")
    try:
        machine.prepare()
        with time_limit(limit):
            return load(file, text), text
    except BaseException as error:  # whatever a student's file raises
        open_ = holes_outside(text)
        if open_ and isinstance(error, Exception):
            return Finding("hole", line=open_[0])
        fault = fault_of(error, file, limit)
        return Finding("import" if fault.kind == "exception" else fault.kind, line=fault.line, detail=fault.detail)


def _is_far_elsewhere(step: Step, steps: list[Step]) -> bool:
    """Whether a later one of the steps checks the offsets of the same function."""
    later = steps[steps.index(step) + 1 :]
    return any(one.function == step.function and one.far is not None for one in later)


def _step(
    loaded: ModuleType, text: str, step: Step, machine: Machine, file: Path, limit: float, far_elsewhere: bool
) -> StepReport:
    start = time.perf_counter()
    findings: list[Finding] = []
    function = getattr(loaded, step.function, None)
    if open_ := holes_of(text, step):
        findings.append(Finding("hole", line=open_[0]))
    elif not callable(function):
        findings.append(Finding("missing", detail=f"the file has no function `{step.function}`"))
    else:
        for case in step.cases:
            findings.append(_case(function, step, case, machine, file, limit))
            if findings[-1].kind != "ok":
                break
        if findings[-1].kind == "ok" and step.expect != "ok":
            findings[-1] = dataclasses.replace(findings[-1], kind="unseen", detail=step.expect)
        elif findings[-1].kind == "ok" and step.far is not None:
            findings.append(_far(function, step, step.far(), machine, file))
        elif findings[-1].kind == "ok" and step.kernels and not far_elsewhere:
            findings[-1] = dataclasses.replace(findings[-1], unchecked=(*findings[-1].unchecked, FAR))
    done = findings[-1].kind == step.expect
    seconds = round(time.perf_counter() - start, 3)
    return StepReport(step.name, step.title, done, seconds, tuple(findings), step.seen if done else "")


def _far(function: Any, step: Step, inputs: tuple[Any, ...], machine: Machine, file: Path) -> Finding:
    name = "more than 2^31 elements"
    fault = machine.far(lambda: _called(step, function, inputs, {}), file)
    if fault is None:
        return Finding("ok", name)
    if fault.kind == "unchecked":
        return Finding("ok", name, unchecked=(f"{FAR}: {fault.detail}",))
    return Finding(fault.kind, name, fault=fault, line=fault.line, detail=fault.detail)


def _called(step: Step, function: Any, inputs: tuple[Any, ...], more: dict[str, Any]) -> Any:
    return function(*inputs, **more) if step.call is None else step.call(function, *inputs, **more)


def _case(function: Any, step: Step, case: Case, machine: Machine, file: Path, limit: float) -> Finding:
    ran, found = _ran(function, step, case, machine, file, limit)
    if found.kind in ("values", "unwritten") and not found.mistake:
        zeros = _ran(function, step, case, machine, file, limit, zeros=True)[1]
        if zeros.kind == "ok":
            found = dataclasses.replace(found, mistake="masked off", says=MASKED_OFF)
    moved = tuple(traffic(launch) for launch in ran.launches if launch.accesses is not None)
    return dataclasses.replace(
        found, case=case.name, why=case.why, printed=ran.printed[:20], traffic=moved, unchecked=ran.unchecked
    )


def _ran(
    function: Any, step: Step, case: Case, machine: Machine, file: Path, limit: float, *, zeros: bool = False
) -> tuple[Ran, Finding]:
    """One run of a case, and what is found in it."""
    torch.manual_seed(0)
    inputs = case.inputs()
    clones = tree_map_only(Tensor, lambda one: one.detach().clone(), inputs)
    more = {} if case.block is None else {"block": case.block}
    ran = machine.run(lambda: _called(step, function, inputs, more), file, limit, zeros=zeros)
    return ran, _judge(ran, step, inputs, clones, file)


def _judge(ran: Ran, step: Step, inputs: tuple[Any, ...], clones: tuple[Any, ...], file: Path) -> Finding:
    if ran.fault is not None:
        return Finding(ran.fault.kind, fault=ran.fault, line=ran.fault.line, detail=ran.fault.detail)
    if (changed := _changed(inputs, clones)) is not None:
        return Finding("input", detail=f"argument {changed + 1}")
    want = step.reference(*tree_map_only(Tensor, lambda one: one.double() if one.is_floating_point() else one, clones))
    dtype = next((one.dtype for one in tree_leaves(clones) if _floats(one)), torch.float32)
    found = compare(ran.value, want, dtype, ran.memory)
    if found.kind == "values":
        return recognised(found, ran.value, want, step, clones, dtype)
    if found.kind != "ok":
        return found
    try:
        if step.after is not None:
            step.after(ran.launches, *clones)
    except Complaint as said:
        return Finding("says", line=line_in(said, file), detail=str(said))
    stored = any(launch.accesses is None or any(a.stores for a in launch.accesses) for launch in ran.launches)
    if step.kernels and not stored:
        return Finding("nokernel", detail="launched" if ran.launches else "")
    return found


def _floats(one: Any) -> bool:
    return isinstance(one, Tensor) and one.is_floating_point()


def _changed(inputs: tuple[Any, ...], clones: tuple[Any, ...]) -> int | None:
    """The first argument that is not what it was."""
    for n, (argument, clone) in enumerate(zip(inputs, clones, strict=True)):
        for a, b in zip(tree_leaves(argument), tree_leaves(clone), strict=True):
            if isinstance(a, Tensor) and not ((a == b) | ((a != a) & (b != b))).all():
                return n
    return None


__all__ = ["SECONDS", "check", "compare", "holes"]
