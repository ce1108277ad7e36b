"""What was found, in words for the student."""

from __future__ import annotations

from .report import Finding, Report
from .table import table

_COMPILER = {
    "ambiguous": "An `if` takes one value, and this is a whole block of them: use tl.where, or put the condition into the mask.",
    "multiple comparison": "In Python & binds closer than <: put every comparison into parentheses, (a >= 0) & (a < n).",
    "power of 2": "Blocks have 2, 4, 8, ... elements: take the next power of two, and mask what is too much.",
}
_RACE = "Programs run in any order and at the same time: which value stays is chance. Let every element have one owner."


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
    said = _SAID.get(found.kind)
    text = f"{found.kind}: {found.detail}" if said is None else said(found, _Lines(source, found))
    return text.rstrip()


class _Lines:
    def __init__(self, source: str, found: Finding) -> None:
        lines = source.splitlines()
        n = found.line
        self.n = n
        self.quoted = f"\n    {n} | {lines[n - 1].strip()}\n" if 0 < n <= len(lines) else " "
        self.where = f" [{found.case}]" if found.case else ""


def _hole(found: Finding, at: _Lines) -> str:
    return f"Not filled in yet, line {at.n}:{at.quoted}"


def _syntax(found: Finding, at: _Lines) -> str:
    return f"Python cannot read the file: {found.detail}, line {at.n}:{at.quoted}"


def _import(found: Finding, at: _Lines) -> str:
    return f"The file could not be loaded: {found.detail}.{at.quoted}"


def _compile(found: Finding, at: _Lines) -> str:
    more = next((words for key, words in _COMPILER.items() if key in found.detail), "")
    return f"Triton cannot compile line {at.n}: {found.detail}.{at.quoted}{more}"


def _outside(found: Finding, at: _Lines) -> str:
    fault = found.fault
    assert fault is not None
    verb = "loads" if found.kind == "oob_read" else "stores"
    n, side = (fault.past, "behind the end") if fault.past else (fault.before, "before the start")
    return (
        f"Line {at.n} {verb} {n} element{'s' * (n != 1)} {side} of `{fault.buffer}`{at.where}:{at.quoted}"
        "A GPU may not notice: the memory there is somebody else's. Which lanes lie outside? Put them into the mask."
    )


def _race(found: Finding, at: _Lines) -> str:
    fault = found.fault
    assert fault is not None
    both = f"Programs {fault.programs[0]} and {fault.programs[1]} both" if len(fault.programs) == 2 else "Two programs"
    verb = "store to" if fault.both_store else "touch"
    element = "" if fault.element is None else f" element {fault.element} of"
    return f"A race{at.where}. {both} {verb}{element} `{fault.buffer}`, line {at.n}:{at.quoted}{_RACE}"


def _lanes(found: Finding, at: _Lines) -> str:
    return (
        f"Two lanes of one store write different values to the same element{at.where}, line {at.n}:{at.quoted}"
        "Which stays is chance, as in a race between programs: here it is within one program. Let every element have one owner."
    )


def _undefined(found: Finding, at: _Lines) -> str:
    return f"The result of line {at.n} is undefined{at.where}: {found.detail}.{at.quoted}"


def _unwritten(found: Finding, at: _Lines) -> str:
    text = (
        f"{found.wrong} of {found.of} elements were never written{at.where}: they hold what memory held before, here NaN. "
        f"The first is {found.first}. Does your mask leave it out, or is no program there for it?"
    )
    return text + "\n" + _table(found)


def _values(found: Finding, at: _Lines) -> str:
    of = f" of {found.output}" if found.output else ""
    text = (
        f"{found.wrong} of {found.of} elements{of} are wrong{at.where}. "
        f"The first is {found.first}: {found.got:g}, expected {found.want:g}."
    )
    if found.says:
        text += f"\n{found.says}"
    elif found.explained:
        text += f" {found.explained}"
    if found.why:
        text += f"\nThis case is there for: {found.why}."
    return text + "\n" + _table(found)


def _table(found: Finding) -> str:
    return "" if found.patch is None else table(found.patch)


def _timeout(found: Finding, at: _Lines) -> str:
    return f"Stopped after {found.detail} s{at.where}, at line {at.n}:{at.quoted}Does the loop end?"


def _sentence(found: Finding, at: _Lines) -> str:
    return f"{found.detail[:1].upper()}{found.detail[1:]}{at.where}."


def _exception(found: Finding, at: _Lines) -> str:
    return f"{found.detail}, line {at.n}{at.where}:{at.quoted}"


_SAID = {
    "hole": _hole,
    "syntax": _syntax,
    "import": _import,
    "missing": _import,
    "compile": _compile,
    "oob_read": _outside,
    "oob_write": _outside,
    "race": _race,
    "lanes": _lanes,
    "undefined": _undefined,
    "unwritten": _unwritten,
    "values": _values,
    "timeout": _timeout,
    "shape": _sentence,
    "input": _sentence,
    "exception": _exception,
    "says": lambda found, at: f"{found.detail}{at.where}{at.quoted}",
    "nokernel": lambda found, at: f"Right, but no kernel of yours has written it{at.where}.",
    "crash": lambda found, at: (
        f"Python itself crashed ({found.detail}). Your progress is kept. Did something outside the kernel touch memory?"
    ),
    "killed": lambda found, at: "Stopped: no answer in time. Your progress is kept.",
    "exit": lambda found, at: "The file ended the process: remove exit() or os._exit().",
}


def shown(report: Report, source: str) -> str:
    """A whole report: a line a step, and what is to be told."""
    lines = []
    for step in report.steps:
        n = len(step.findings)
        lines.append(
            f"{'✓' if step.done else '✗'} step {step.step}  {step.title:<44} {n} case{'s' * (n != 1)}, {step.seconds:.1f} s"
        )
        if step.seen:
            lines += ["  " + line for line in f"{told(step.findings[-1], source)}\n{step.seen}".splitlines()]
    if report.verdict == "ok" and report.steps and (moved := report.steps[-1].findings[-1].traffic):
        last = moved[-1]
        lines.append(
            f"Done. {last.kernel}: {last.programs} programs move {last.moved:,} bytes, {last.moved / last.least:.2f} of the least."
        )
    text = words(report, source)
    printed = report.last.printed if report.last else ()
    return "\n".join(
        [
            *lines,
            *(["", text] if text else []),
            *(["", "printed:", *(f"  {p}" for p in printed[:6])] if printed else []),
        ]
    )
