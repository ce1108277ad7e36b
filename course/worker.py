"""The process that checks: warm, it has imported everything and compiled once, and forks for every check.

Started by server.py, which sends a line of JSON and gets one back. What a student's file does to its process, it does to a
child: the child is killed if it gives no answer, and what became of it is the answer. Where there is no fork, the process
takes one check itself, and ends; server.py has the next one ready.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from . import engine
from .lesson import Lesson, folders, load
from .machine import Machine, machine
from .report import Finding, Report

KEPT = 1 << 16
"""Bytes of what a student's file prints that are kept; the rest is read, so that nobody waits, and dropped."""

MODULES = 500
"""Compiled kernels that are kept."""


def main(name: str, how: str) -> None:
    """Answer checks until there are no more.

    Args:
        name: of the machine; "" for the first that can run here.
        how: "fork", or "once".
    """
    asked, answers = os.dup(0), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what anybody prints is no answer
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    torch.set_num_threads(1)
    # autograd starts its threads once, and no child can use them: so now, when there is no device that needs one
    torch.ones(1, requires_grad=True).sum().backward()

    def answer(given: dict[str, Any]) -> None:
        answers.write(json.dumps(given) + "\n")
        answers.flush()

    try:
        made = machine(name or None)
    except (RuntimeError, ValueError) as error:
        answer({"error": str(error)})
        return
    _warm(made)
    answer({"engine": made.name})
    for line in os.fdopen(os.dup(asked)):
        request = json.loads(line)
        try:
            lesson = load(Path(request["folder"]))
            if lesson.prepare is not None:
                lesson.prepare()
            if any(step.far is not None for step in lesson.steps):
                torch.ones(1, device="meta").sqrt()  # the first time, arithmetic without memory imports half of torch
        except Exception:  # a lesson that is not right
            answer(_lost(request, made, Finding("checker", detail=traceback.format_exc())).to_json())
            continue
        answer({})  # from here it is the student's time
        if how == "fork":
            answer(_forked(request, lesson, made, asked))
        else:
            _alone(request)
            report = _checked(request, lesson, made)
            sys.stdout.flush()
            answer(report)
            os._exit(0)
    os._exit(0)  # nobody waits for Python to take itself down


def _warm(made: Machine) -> None:
    """Compile and run once: what is imported late is imported."""
    for folder in folders()[:1]:
        lesson = load(folder.name)
        engine.check(folder / "solution.py", lesson, made, step=lesson.steps[0].name)


def _checked(request: dict[str, Any], lesson: Lesson, made: Machine) -> dict[str, Any]:
    try:
        report = engine.check(Path(request["file"]), lesson, made, step=request["step"], limit=request["limit"])
    except BaseException:  # the checker itself is wrong
        report = _lost(request, made, Finding("checker", detail=traceback.format_exc()))
    return report.to_json()


def _alone(request: dict[str, Any]) -> None:
    """Make this process the student's: it finds the files beside the student's, and says where it was when it dies."""
    folder = str(Path(request["file"]).parent)
    if os.path.isdir(folder):
        os.chdir(folder)
    sys.path.insert(0, folder)
    faulthandler.enable(sys.stderr, all_threads=False)
    # before it is killed from outside
    faulthandler.dump_traceback_later(max(0.1, request["hard"] - 0.5), file=sys.stderr)


def _kept(made: Machine) -> dict[str, str]:
    """What a machine has compiled: the next child need not do it again."""
    return getattr(made, "kept", {})


def _lost(request: dict[str, Any], made: Machine, finding: Finding, printed: tuple[str, ...] = ()) -> Report:
    return Report(request["file"], request["lesson"], made.name, finding=finding, printed=printed)


def _forked(request: dict[str, Any], lesson: Lesson, made: Machine, asked: int) -> dict[str, Any]:
    """Check in a child of this process, and tell what became of it."""
    start = time.perf_counter()
    (result, write), (output, out) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(request, lesson, made, write, out)
    os.close(write)
    os.close(out)
    said, printed = bytearray(), bytearray()
    status = None
    while status is None and not said.endswith(b"\n") and time.perf_counter() - start < request["hard"]:
        ready, _, _ = select.select([result, output, asked], [], [], 0.2)
        if asked in ready:  # whoever has asked is gone
            _kill(pid)
            os._exit(0)
        if not ready or (result in ready and not _take(result, said)):
            ended, code = os.waitpid(pid, os.WNOHANG)
            status = code if ended else None
        if output in ready and not _take(output, printed, KEPT):
            time.sleep(0.01)  # a file may close its stdout and go on
    _kill(pid)
    while select.select([output], [], [], 0)[0] and _take(output, printed, KEPT):
        pass
    os.close(result)
    os.close(output)
    text = printed.decode(errors="replace")
    if said.endswith(b"\n"):
        os.waitpid(pid, 0)
        answer = json.loads(said)
        kept = _kept(made)
        kept.update(answer["kept"])
        for key in list(kept)[: max(0, len(kept) - MODULES)]:
            del kept[key]
        return answer["report"] | {"printed": lines(text)}
    if status is None:
        os.waitpid(pid, 0)
        finding = Finding("killed", detail=f"{request['hard']:g}")
    elif os.WIFSIGNALED(status):
        finding = Finding("crash", detail=signal.Signals(os.WTERMSIG(status)).name)
    else:
        finding = Finding("exit", detail=str(os.WEXITSTATUS(status)))
    return lost(request, made.name, finding, text, time.perf_counter() - start).to_json()


def lost(request: dict[str, Any], name: str, finding: Finding, text: str, seconds: float) -> Report:
    """The report of a process that has given none: what it was doing stands in what it has printed."""
    trace = re.split(r"^(?:Fatal Python error|Timeout \()", text, maxsplit=1, flags=re.MULTILINE)
    at = re.search(rf'File "{re.escape(request["file"])}", line (\d+) in', trace[1]) if len(trace) > 1 else None
    found = Finding(finding.kind, detail=finding.detail, line=int(at[1]) if at else 0)
    return Report(
        request["file"], request["lesson"], name, finding=found, seconds=seconds, printed=tuple(lines(trace[0]))
    )


def lines(text: str) -> list[str]:
    """What was printed, a line each, without colours and other control characters."""
    return [re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]", "", line) for line in text.splitlines()]


def _take(source: int, into: bytearray, most: int | None = None) -> bool:
    """Read what is there, and keep so many bytes of it; whether there may be more."""
    part = os.read(source, 1 << 16)
    into += part if most is None else part[: max(0, most - len(into))]
    return bool(part)


def _kill(pid: int) -> None:
    """A child, and what it has started."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _child(request: dict[str, Any], lesson: Lesson, made: Machine, write: int, out: int) -> None:
    """The student's process. It never returns."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with who has forked it
        os.setsid()
        os.dup2(out, 1)
        os.dup2(out, 2)
        _alone(request)
        known = set(_kept(made))
        report = _checked(request, lesson, made)
        new = {key: value for key, value in _kept(made).items() if key not in known}
        data = (json.dumps({"report": report, "kept": new}) + "\n").encode()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        while data:
            data = data[os.write(write, data) :]
    finally:  # also where nobody reads the answer
        os._exit(0)
