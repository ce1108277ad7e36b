"""What was found, in words for the student."""

from __future__ import annotations

import math
from collections.abc import Callable

from .advice import advice, tidied
from .report import Fault, Finding, Report
from .table import table

_OWNER = "which value stays is chance. Let every element have one owner."


def words(report: Report, source: str) -> str:
    """What is to be told of a report, with the student's line; "" where all is well."""
    found = report.last
    return "" if found is None or report.verdict == "ok" else told(found, source)


def told(found: Finding, source: str) -> str:
    """A finding in words.

    Args:
        found: what was found.
        source: of the student's file, whose line is quoted.
    """
    said = _SAID.get(found.kind, _other)
    return said(found, _Lines(source, found)).rstrip()


def shown(report: Report, source: str) -> str:
    """A whole report: a line a step, and what is to be told."""
    lines = []
    for step in report.steps:
        n = _count(len(step.findings), "case")
        lines.append(f"{'✓' if step.done else '✗'} step {step.step}  {step.title:<44} {n}, {step.seconds:.1f} s")
        if step.seen:
            shown_it = told(step.findings[-1], source) if step.findings[-1].kind != "ok" else ""
            lines += ["  " + line for line in f"{shown_it}\n{step.seen}".strip().splitlines()]
    if report.verdict == "ok":
        lines += _moved(report)
    elif text := words(report, source):
        lines += ["", text]
    for what, steps in _unchecked(report).items():
        lines.append(f"Not checked: {what} (step{'s' * (len(steps) > 1)} {', '.join(steps)}).")
    lines += _printed("printed by a kernel", report.last.printed if report.last else (), 6)
    lines += _printed("printed", report.printed, 20)
    return "\n".join(lines)


def _moved(report: Report) -> list[str]:
    launches = [one for step in report.steps for found in step.findings for one in found.traffic if one.least]
    if not launches:
        return ["Done."] if report.steps else []
    last = launches[-1]
    programs = _count(last.programs, "program")
    verb = "moves" if last.programs == 1 else "move"
    return [f"Done. {last.kernel}: {programs} {verb} {last.moved:,} bytes, {last.moved / last.least:.2f} of the least."]


def _unchecked(report: Report) -> dict[str, list[str]]:
    """What was not looked at, and in which steps."""
    found: dict[str, list[str]] = {}
    for step in report.steps:
        for finding in step.findings:
            for what in finding.unchecked:
                if step.step not in found.setdefault(what, []):
                    found[what].append(step.step)
    return found


def _printed(title: str, printed: tuple[str, ...], most: int) -> list[str]:
    if not printed:
        return []
    more = [f"  ... and {_count(len(printed) - most, 'line')} more"] if len(printed) > most else []
    return ["", f"{title}:", *(f"  {line}" for line in printed[:most]), *more]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{value:.0f}" if value == round(value, 0) and abs(value) < 1e15 else f"{value:g}"


class _Lines:
    """The student's line, and the case."""

    def __init__(self, source: str, found: Finding) -> None:
        lines = source.splitlines()
        n = found.line
        self.n = n
        self.text = lines[n - 1].strip() if 0 < n <= len(lines) else ""
        self.quoted = f"\n    {n} | {self.text}\n" if self.text else " "
        self.where = f" [{found.case}]" if found.case else ""
        self.at = f", line {n}" if n else ""


def _hole(found: Finding, at: _Lines) -> str:
    more = "" if "TODO" in at.text else "Something is to stand there in place of the three dots."
    return f"Not filled in yet, line {at.n}:{at.quoted}{more}"


def _syntax(found: Finding, at: _Lines) -> str:
    return f"Python cannot read the file: {found.detail}{at.at}:{at.quoted}"


def _import(found: Finding, at: _Lines) -> str:
    return f"The file could not be loaded: {tidied(found.detail)}{at.at}.{at.quoted}{advice(found.detail)}"


def _missing(found: Finding, at: _Lines) -> str:
    return f"{found.detail[:1].upper()}{found.detail[1:]}. Has it been renamed, or moved? The course asks for it by its name."


def _compile(found: Finding, at: _Lines) -> str:
    said = tidied(found.detail)
    where = f"line {at.n}" if at.n else "a kernel"
    return f"Triton cannot compile {where}: {said}.{at.quoted}{advice(found.detail) or advice(said)}"


def _exception(found: Finding, at: _Lines) -> str:
    said = tidied(found.detail)
    return f"{said}{at.at}{at.where}{':' if at.n else '.'}{at.quoted}{advice(said)}"


def _outside(found: Finding, at: _Lines) -> str:
    fault = found.fault or Fault(found.kind)
    verb = "loads" if found.kind == "oob_read" else "stores"
    n, side = (fault.past, "behind the end") if fault.past else (fault.before, "before the start")
    return (
        f"Line {at.n} {verb} {_count(n, 'element')} {side} of `{fault.buffer}`{at.where}:{at.quoted}"
        f"A GPU may not notice: the memory there is somebody else's. Should these lanes {verb[:-1]} anything? If not, put "
        "them into the mask; if so, their address is wrong."
    )


def _far(found: Finding, at: _Lines) -> str:
    fault = found.fault or Fault(found.kind)
    verb = "stores to" if fault.both_store else "loads from"
    program = f" Program {fault.programs[0]} {verb}" if fault.programs else f"It {verb}"
    element = "" if fault.element is None else f" element {fault.element} of"
    return (
        f"Right for small tensors, and line {at.n} goes astray in one of more than 2^31 elements:{at.quoted}"
        f"{program.strip()}{element} `{fault.buffer}`. An offset was computed in 32 bits: beyond 2147483647 it "
        "wraps around and turns negative. Widen before you multiply: tl.program_id(0).to(tl.int64)."
    )


def _race(found: Finding, at: _Lines) -> str:
    fault = found.fault or Fault(found.kind)
    both = f"Programs {fault.programs[0]} and {fault.programs[1]} both" if len(fault.programs) == 2 else "Two programs"
    verb = "store to" if fault.both_store else "touch"
    element = "" if fault.element is None else f" element {fault.element} of"
    return (
        f"A race{at.where}. {both} {verb}{element} `{fault.buffer}`, line {at.n}:{at.quoted}"
        f"Programs run in any order and at the same time: {_OWNER}"
    )


def _lanes(found: Finding, at: _Lines) -> str:
    fault = found.fault or Fault(found.kind)
    element = "the same element" if fault.element is None else f"the same element, {fault.element} of `{fault.buffer}`"
    return (
        f"Two lanes of one store write different values to {element}{at.where}, line {at.n}:{at.quoted}"
        "Which stays is chance, as in a race between programs: here it is within one program. Let every element have one "
        "owner: do two lanes want it, or is an address wrong?"
    )


def _undefined(found: Finding, at: _Lines) -> str:
    if "zero" in found.detail:
        more = "What a GPU makes of it is anything. Which number is zero here?"
        return f"Line {at.n} divides by zero{at.where}:{at.quoted}{more}"
    return f"The result of line {at.n} is undefined{at.where}: {tidied(found.detail)}.{at.quoted}"


def _uninitialised(found: Finding, at: _Lines) -> str:
    fault = found.fault or Fault(found.kind)
    element = "an element" if fault.element is None else f"element {fault.element}"
    return (
        f"Line {at.n} loads {element} of `{fault.buffer}`, which nobody has written{at.where}:{at.quoted}"
        "torch.empty takes memory as it is: what it holds is chance. Begin with torch.zeros, or store before you load."
    )


def _unwritten(found: Finding, at: _Lines) -> str:
    of = f" of {found.output}" if found.output else ""
    verb, they = ("was", "it holds") if found.wrong == 1 else ("were", "they hold")
    first = found.first[0] if len(found.first) == 1 else found.first
    return (
        f"{found.wrong} of {_count(found.of, 'element')}{of} {verb} never written{at.where}: {they} what memory "
        f"held before, here {_number(found.got)}. The first is {first}. "
        "Does your mask leave it out, is no program there for it, or do several store to one place?\n"
        f"{_table(found)}"
    )


def _values(found: Finding, at: _Lines) -> str:
    of = f" of {found.output}" if found.output else ""
    verb = "is" if found.wrong == 1 else "are"
    first = found.first[0] if len(found.first) == 1 else found.first
    which = f"The first is {first}: " if found.first else "It is "
    text = (
        f"{found.wrong} of {_count(found.of, 'element')}{of} {verb} wrong{at.where}. "
        f"{which}{_number(found.got)}, expected {_number(found.want)}."
    )
    if found.says:
        text += f"\n{found.says}"
    elif found.explained:
        text += f" {found.explained}"
    elif math.isnan(found.got):
        text += " NaN comes of 0 / 0, of inf - inf, and of anything computed with NaN."
    if found.why:
        text += f"\nThis case is there for: {found.why}."
    return text + "\n" + _table(found)


def _table(found: Finding) -> str:
    return "" if found.patch is None else table(found.patch)


def _timeout(found: Finding, at: _Lines) -> str:
    loops = at.text.startswith(("while", "for"))
    more = (
        "Does the loop end?"
        if loops
        else "What takes so long there? Does a loop not end, or are there too many programs?"
    )
    return f"Stopped after {found.detail} s{at.where}" + (
        f", at line {at.n}:{at.quoted}{more}" if at.n else f". {more}"
    )


def _shape(found: Finding, at: _Lines) -> str:
    of = f" as {found.output}" if found.output else ""
    return f"{found.detail[:1].upper()}{found.detail[1:]}{of}{at.where}."


def _input(found: Finding, at: _Lines) -> str:
    return (
        f"{found.detail[:1].upper()}{found.detail[1:]} of the function has other values after the call{at.where}: a kernel "
        "has written to what it was given, which its owner still needs. Write to a tensor of your own, torch.empty_like(x) say."
    )


def _nokernel(found: Finding, at: _Lines) -> str:
    more = " The kernels that you have launched store nothing." if found.detail else ""
    return f"Right, but no kernel of yours has written it{at.where}.{more}"


def _unseen(found: Finding, at: _Lines) -> str:
    what = {"race": "a race", "lanes": "two lanes on one element"}.get(found.detail, found.detail)
    return f"This experiment is to show {what}, and has shown none{at.where}. Is the function still that of the step before?"


def _unchecked_kernel(found: Finding, at: _Lines) -> str:
    return (
        f"This could not be checked{at.where}{at.at}:{at.quoted}"
        f"The checker does not know what to make of it ({tidied(found.detail)}): it may be right or wrong."
    )


def _crash(found: Finding, at: _Lines) -> str:
    return (
        f"Python itself crashed ({found.detail}){at.at}.{at.quoted}Your progress is kept. "
        "Did something outside of the kernel touch memory, or was there too little of it?"
    )


def _killed(found: Finding, at: _Lines) -> str:
    after = f" after {found.detail} s" if found.detail else ""
    return f"Stopped{after}: no answer in time{at.at}.{at.quoted}Your progress is kept. Does something not end?"


def _exit(found: Finding, at: _Lines) -> str:
    return f"The file ended the process{at.at}{at.where}: remove exit() or os._exit().{at.quoted}"


def _checker(found: Finding, at: _Lines) -> str:
    return f"The checker itself has failed, which is no mistake of yours. Please report it:\n{found.detail}"


def _other(found: Finding, at: _Lines) -> str:
    return f"{found.kind}: {found.detail}"


_SAID: dict[str, Callable[[Finding, _Lines], str]] = {
    "hole": _hole, "syntax": _syntax, "import": _import, "missing": _missing, "compile": _compile, "exception": _exception,
    "oob_read": _outside, "oob_write": _outside, "far": _far, "race": _race, "lanes": _lanes, "undefined": _undefined,
    "uninitialised": _uninitialised, "unwritten": _unwritten, "values": _values, "timeout": _timeout, "shape": _shape,
    "input": _input, "nokernel": _nokernel, "unseen": _unseen, "unchecked": _unchecked_kernel,
    "says": lambda found, at: f"{found.detail}{at.where}{at.quoted}",
    "crash": _crash, "killed": _killed, "exit": _exit, "checker": _checker,
}  # fmt: skip
"""A kind each, in words."""

__all__ = ["shown", "told", "words"]
