"""The pages of the course: what they name is there, and what they promise is what the lessons hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import torchops
from torchops.course.lesson import FOLDER, Lesson, folders, load
from torchops.course.notebook import STEP

LESSONS = [load(folder.name) for folder in folders()]
COURSE = FOLDER.parent
GUIDES = ("README.md", "INSTRUCTOR.md", "AGENTS.md")
ROOT = Path(torchops.__file__).resolve().parents[1]
each = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
guides = pytest.mark.parametrize("name", GUIDES)


def page(lesson: Lesson) -> str:
    return (lesson.folder / "page.md").read_text(encoding="utf-8")


def guide(name: str) -> str:
    return (COURSE / name).read_text(encoding="utf-8")


def cells(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """Without what stands in fences."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead(text: str, folder: Path) -> list[str]:
    """Links of a file in that folder that lead nowhere."""
    found = []
    for link in links(text):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        there = folder / name
        if not there.exists():
            found.append(link)
            continue
        aim = there.read_text(encoding="utf-8") if name and anchor else text
        if anchor and anchor not in anchors(aim):
            found.append(link)
    return found


def test_there_are_twelve_lessons() -> None:
    assert [lesson.number for lesson in LESSONS] == list(range(1, 13))


@each
def test_a_page_begins_with_its_number_and_its_title(lesson: Lesson) -> None:
    heading = re.search(r"^# (.*)$", page(lesson), re.MULTILINE)
    assert heading is not None
    assert heading[1].startswith(f"{lesson.number}. ")


@each
def test_minutes_are_those_of_the_lesson(lesson: Lesson) -> None:
    said = re.search(r"^\*(\d+) minutes\.", page(lesson), re.MULTILINE)
    assert said is not None
    assert int(said[1]) == lesson.minutes


@each
def test_every_step_has_a_heading_with_its_minutes(lesson: Lesson) -> None:
    """Those of an experiment behind or before a step may be counted with it."""
    headings = re.findall(r"^## Step (\w+): .* \((\d+) minutes\)$", page(lesson), re.MULTILINE)
    assert [name for name, _ in headings] == [step.name for step in lesson.steps]
    assert all(int(minutes) <= step.minutes for (_, minutes), step in zip(headings, lesson.steps, strict=True))
    assert len(re.findall(rf"^{STEP.pattern}", page(lesson), re.MULTILINE)) == len(lesson.steps)


@each
def test_minutes_add_up(lesson: Lesson) -> None:
    of_headings = re.findall(r"^## .* \((\d+) minutes\)$", page(lesson), re.MULTILINE)
    assert sum(map(int, of_headings)) == lesson.minutes
    assert sum(step.minutes for step in lesson.steps) <= lesson.minutes


@each
def test_pictures_are_those_of_the_lesson(lesson: Lesson) -> None:
    shown = [link for link in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page(lesson)) if "/" not in link]
    assert sorted(shown) == sorted(f"{picture.name}.png" for picture in lesson.pictures)


@each
def test_links_lead_somewhere(lesson: Lesson) -> None:
    assert dead(page(lesson), lesson.folder) == []


@each
def test_cells_are_python(lesson: Lesson) -> None:
    found = cells(page(lesson), "python")
    assert found
    for cell in found:
        ast.parse(cell)


@each
def test_files_that_are_named_are_there(lesson: Lesson) -> None:
    """The page lies in the student's folder, and names files of the repository from its root."""
    named = re.findall(r"`((?:kernels|torchops|models|tests|bench)/[\w/.]+)`", page(lesson))
    assert [name for name in named if not (ROOT / name).exists()] == []


@each
def test_mirrored_kernels_are_there(lesson: Lesson) -> None:
    assert [name for name in lesson.mirrors if not (ROOT / name).is_file()] == []


@each
def test_lines_fit(lesson: Lesson) -> None:
    assert [line for line in page(lesson).splitlines() if len(line) > 128] == []


@each
def test_the_checker_is_called_by_its_number_or_name(lesson: Lesson) -> None:
    """What a page shows of the shell is about its own lesson, and its steps are called as they are."""
    shown = "\n".join(cells(page(lesson), "console"))
    asked = re.findall(r"\$ torchops course (?:check|watch|hint|look|draw|solution) (\S+)", shown)
    assert set(asked) <= {str(lesson.number), lesson.name}
    titles = re.findall(r"^[✓✗] step (\w+)  (.{44}) ", shown, re.MULTILINE)
    steps = {step.name: step.title for step in lesson.steps}
    assert [(name, title.strip()) for name, title in titles] == [(name, steps[name]) for name, _ in titles]


@guides
def test_links_of_guides_lead_somewhere(name: str) -> None:
    assert dead(guide(name), COURSE) == []


@guides
def test_lines_of_guides_fit(name: str) -> None:
    assert [line for line in guide(name).splitlines() if len(line) > 128] == []


def test_the_table_of_lessons_is_right() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]+ \| (\d+)(, class)? \|", guide("README.md"), re.MULTILINE)
    assert [(int(n), name, int(minutes), bool(in_class)) for n, name, minutes, in_class in rows] == [
        (lesson.number, lesson.name, lesson.minutes, lesson.in_class) for lesson in LESSONS
    ]


def test_the_class_takes_three_hours() -> None:
    """The plan by the minute begins where the last row has ended, and holds the lessons of the class in their order."""
    rows = re.findall(r"^\| (\d):(\d\d) \| (\d+) \| (.*) \|$", guide("INSTRUCTOR.md"), re.MULTILINE)
    clock = 0
    for hours, minutes, length, _ in rows:
        assert int(hours) * 60 + int(minutes) == clock
        clock += int(length)
    assert clock == 180
    planned = {int(n): int(length) for _, _, length, what in rows for n in re.findall(r"lesson (\d+)", what)[:1]}
    taught = {lesson.number: lesson.minutes for lesson in LESSONS if lesson.in_class}
    assert sorted(planned) == list(taught)
    assert all(planned[n] >= taught[n] for n in taught)


def test_commands_in_guides_exist() -> None:
    """`torchops course X`, and the options that are given to it and to `torchops train`."""
    import typer

    from torchops.cli import app

    tree = typer.main.get_command(app)
    text = "\n".join(guide(name) for name in GUIDES)
    shown = re.findall(r"(?:^\$ |`)torchops ((?:course|train|predict)[^`\n#|;)]*)", text, re.MULTILINE)
    assert shown
    for line in shown:
        command, words = tree, line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        assert not getattr(command, "commands", None) or set(words) <= {"--help"}, line
        assert [word for word in words if word.startswith("--") and word not in options] == [], line
