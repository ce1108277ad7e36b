"""The pages as notebooks: `python -m torchops.course.notebook 8` writes unpooling.ipynb. Needs jupytext.

A notebook holds the page's text and its cells, a cell that writes the student's file, and after every step one that checks it.
"""

from __future__ import annotations

import atexit
import functools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchops.files import replacing

from .lesson import Lesson, folders, load
from .skeleton import exercise
from .words import shown

if TYPE_CHECKING:
    from .server import Server

STEP = re.compile(r"## Step (\w+)\b")

_FILE = """## Your file

The next cell writes your file, `{name}.py`, whenever it is run: fill in what is marked TODO there, run it, and run the check
after each step. If you would rather edit the file itself, do not run the cell.

```python
%%writefile {name}.py
{source}
```
"""

_CHECK = """```python
from torchops.course.notebook import check

check("{name}", step="{step}")
```
"""


def notebook(lesson: Lesson, path: Path, source: str | None = None) -> Path:
    """Write a lesson as a notebook, which is to lie beside the page's pictures.

    Args:
        lesson: the lesson.
        path: of the notebook.
        source: of the student's file; the skeleton if not given.

    Raises:
        ModuleNotFoundError: if jupytext is not installed.
    """
    page = (lesson.folder / "page.md").read_text(encoding="utf-8")
    text = as_notebook(with_file(page, lesson, exercise(lesson) if source is None else source), lesson.name)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def as_notebook(page: str, name: str) -> str:
    """The JSON of a notebook, without outputs and the same every time.

    Args:
        page: its Markdown; blocks that begin with three backticks and "python" become cells.
        name: what the ids of its cells begin with.

    Raises:
        ModuleNotFoundError: if jupytext is not installed.
    """
    import jupytext

    made: Any = jupytext.reads(page, fmt="md")
    for n, cell in enumerate(made.cells):
        cell["id"] = f"{name}-{n}"  # jupytext draws them at random
    return jupytext.writes(made, fmt="ipynb")


def with_file(page: str, lesson: Lesson, source: str) -> str:
    """A page in which the student's file is written before the first step, and checked after every one."""
    steps = {step.name for step in lesson.steps}
    lines: list[str] = []
    step, written, fenced = "", False, False
    for line in [*page.splitlines(), "## "]:
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            if step:
                lines.append(_CHECK.format(name=lesson.name, step=step))
            found = STEP.match(line)
            step = found[1] if found and found[1] in steps else ""
            if step and not written:
                lines.append(_FILE.format(name=lesson.name, source=source.rstrip()))
                written = True
        lines.append(line)
    return "\n".join(lines[:-1]) + "\n"


def check(lesson: str | int, step: str | None = None) -> None:
    """Check the student's file of a lesson, which lies where one is, in a process of its own, and print what is found.

    Args:
        lesson: its name or number.
        step: the only one to check.

    Raises:
        KeyError: if there is no such lesson.
        ValueError: if it has no such step.
        FileNotFoundError: if the file is not here.
    """
    file = Path(f"{load(lesson).name}.py")
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file} in {Path.cwd()}: run the cell that writes it")
    report = _server().check(file, lesson, step)
    print(shown(report, file.read_text(encoding="utf-8", errors="replace")))


@functools.cache
def _server() -> Server:
    """One for all checks of a notebook."""
    from .server import Server

    server = Server()
    atexit.register(server.close)
    return server


def main(asked: list[str]) -> None:
    """Write the lessons that are asked for, or all of them, where one is."""
    for lesson in [load(one) for one in asked] or [load(folder.name) for folder in folders()]:
        file = Path(f"{lesson.name}.py")
        source = file.read_text(encoding="utf-8") if file.is_file() else None
        print(notebook(lesson, Path(f"{lesson.name}.ipynb"), source))


if __name__ == "__main__":
    main(sys.argv[1:])
