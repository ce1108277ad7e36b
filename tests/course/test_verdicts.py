"""Every student gets the verdict that is due, and the same one from both machines: right files, files with holes, wrong files.

Each file is checked as a student's is, in a process of its own, which a warm one forks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from torchops.course.lesson import Lesson, folders, load
from torchops.course.report import Report
from torchops.course.server import Server
from torchops.course.skeleton import MARK, exercise, skeleton
from torchops.course.source import used
from torchops.course.words import words

LESSONS = [folder.name for folder in folders()]
MACHINES = ("ttsem", "standin")
every_lesson = pytest.mark.parametrize("name", LESSONS)


@dataclass(frozen=True)
class Answer:
    report: Report
    told: str
    """All that the student reads of it, without seconds."""


class Checks:
    """What both machines say of a lesson's files, each asked once."""

    def __init__(self, servers: dict[str, Server], folder: Path) -> None:
        self.servers = servers
        self.folder = folder
        self.of = functools.cache(self._of)

    def _of(self, name: str) -> dict[str, dict[str, Answer]]:
        """By machine, then by file."""
        lesson = load(name)
        # CPython 3.11 confuses trees that two threads parse
        asked = [(file, text, _first(lesson, text)) for file, text in files(lesson).items()]
        with ThreadPoolExecutor(len(self.servers)) as pool:
            answers = pool.map(lambda machine: self._by(machine, lesson, asked), self.servers)
            return dict(zip(self.servers, answers, strict=True))

    def _by(self, machine: str, lesson: Lesson, asked: list[tuple[str, str, str | None]]) -> dict[str, Answer]:
        answers = {}
        for file, text, step in asked:
            answers[file] = self.one(machine, lesson, file, text, step)
            if step is not None and answers[file].report.verdict == "ok":
                answers[file] = self.one(machine, lesson, file, text)
        return answers

    def one(self, machine: str, lesson: Lesson, name: str, text: str, step: str | None = None) -> Answer:
        # both write the same text to the same place: kernels are known by their files
        file = self.folder / lesson.folder.name / name / f"{lesson.name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        report = self.servers[machine].check(file, lesson.name, step)
        return Answer(report, words(report, text))


def _first(lesson: Lesson, text: str) -> str | None:
    """The first step whose code is not the solution's: those before are checked with that."""
    try:
        changed = [s.name for s in lesson.steps if used(text, s.function) != used(lesson.solution, s.function)]
    except SyntaxError:
        return None
    return changed[0] if changed else None


def files(lesson: Lesson) -> dict[str, str]:
    return {
        "solution": lesson.solution,
        "exercise": exercise(lesson),
        **{wrong.name: wrong.made(lesson.solution) for wrong in lesson.wrong},
    }


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checks]:
    servers = {machine: Server(machine) for machine in MACHINES}
    try:
        yield Checks(servers, tmp_path_factory.mktemp("students"))
    finally:
        for one in servers.values():
            one.close()


@every_lesson
def test_a_solution_is_right(name: str, checks: Checks) -> None:
    told = {machine: (a["solution"].report.verdict, a["solution"].told) for machine, a in checks.of(name).items()}
    assert told == dict.fromkeys(MACHINES, ("ok", ""))


@every_lesson
def test_an_exercise_begins_with_a_hole(name: str, checks: Checks) -> None:
    assert {a["exercise"].report.verdict for a in checks.of(name).values()} == {"hole"}


@every_lesson
def test_every_hole_is_not_filled_in(name: str, checks: Checks) -> None:
    lesson = load(name)
    lines = lesson.solution.splitlines()
    marks = {n: found for n, line in enumerate(lines) if (found := MARK.search(line))}
    missed = []
    for n, mark in marks.items():
        others = [MARK.sub("", line).rstrip() if i in marks and i != n else line for i, line in enumerate(lines)]
        text = skeleton("\n".join(others) + "\n")
        hole = next(i for i, line in enumerate(text.splitlines(), 1) if "# TODO" in line)
        report = checks.one("standin", lesson, f"hole_{n}", text, str(_number(mark))).report
        if (report.verdict, report.last.line) != ("hole", hole):
            missed.append(f"{mark[0]}: {report.verdict}, line {report.last.line} and not {hole}")
    assert marks
    assert not missed


@every_lesson
def test_a_step_needs_no_later_one(name: str, checks: Checks) -> None:
    """Each is right once its holes are filled in, and those before."""
    lesson = load(name)
    missed = []
    for step in lesson.steps[:-1]:
        lines = lesson.solution.splitlines()
        marks = ((line, MARK.search(line)) for line in lines)
        filled = [
            MARK.sub("", line).rstrip() if mark and _number(mark) <= int(step.name) else line for line, mark in marks
        ]
        answer = checks.one("standin", lesson, f"until_{step.name}", skeleton("\n".join(filled) + "\n"), step.name)
        if answer.report.verdict != "ok":
            missed.append(f"step {step.name}: {answer.report.verdict}\n{answer.told}")
    assert not missed, "\n\n".join(missed)


def _number(mark: re.Match[str]) -> int:
    return int(re.match(r"\d+", mark[1])[0])


@every_lesson
def test_a_mistake_is_told(name: str, checks: Checks) -> None:
    lesson = load(name)
    missed = []
    for wrong in lesson.wrong:
        for machine, answers in checks.of(name).items():
            report, told = answers[wrong.name].report, answers[wrong.name].told
            line = wrong.line(lesson.solution)
            if report.verdict != wrong.kind:
                missed.append(f"{wrong.name}, {machine}: {report.verdict} and not {wrong.kind}\n{told}")
            elif wrong.says not in told:
                missed.append(f"{wrong.name}, {machine}: {wrong.says!r} is not said\n{told}")
            elif line and report.last.line != line:
                missed.append(f"{wrong.name}, {machine}: line {report.last.line} and not {line}\n{told}")
    assert lesson.wrong
    assert not missed, "\n\n".join(missed)


@every_lesson
def test_both_machines_say_the_same(name: str, checks: Checks) -> None:
    one, other = ({file: _said(answer) for file, answer in answers.items()} for answers in checks.of(name).values())
    assert [(file, one[file], other[file]) for file in one if one[file] != other[file]] == []


def _said(answer: Answer) -> Any:
    """What a student is told, the cases that were run, the bytes that a right file moved, and the numbers of the last case."""
    report, last = answer.report, answer.report.last
    # of a wrong file, the compiler leaves out loads of what nobody uses
    right = report.verdict == "ok"
    runs = [[(found.case, found.kind, found.traffic * right) for found in step.findings] for step in report.steps]
    if last is None:
        return answer.told, str(runs)
    numbers = re.sub(
        r"-?\d+\.\d+(e-?\d+)?", lambda found: f"{float(found[0]):.5g}", f"{last.got} {last.want} {last.patch}"
    )
    return answer.told, str(runs), last.line, last.mistake, last.first, last.wrong, last.of, numbers
