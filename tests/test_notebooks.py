"""The notebooks of the workshop: executed without a network, with every exercise as it is, answered wrongly, and solved."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from typer.main import get_command

from notebooks.write import FOLDER, made, sources
from torchops.cli import app

from .notebook_answers import WRONG

ROOT = FOLDER.parent
SOURCES = sources()
each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)

# an audit hook sees every connection and every name that Python looks up, whichever library asks
BEGIN = """
import sys
import matplotlib.pyplot  # its fonts are looked for once, which it says
import torchvision

def alone(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise ConnectionError(f"a cell asks for the network: {event} {arguments[1:]}")

sys.addaudithook(alone)
sys.modules["torchvision.models._api"].WeightsEnum.get_state_dict = lambda *_, **__: torchvision.models.resnet18().state_dict()
"""
CONNECTS = "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')"


def read(source: Path) -> Any:
    """The notebook of a text, as nbformat has it."""
    return nbformat.reads(made(source), as_version=4)


def code(source: Path) -> list[str]:
    return [cell.source for cell in read(source).cells if cell.cell_type == "code"]


def exercises(source: Path) -> dict[str, tuple[str, str, str]]:
    """By its name every exercise: the cell as it is, the solution, the cell that checks."""
    found: dict[str, list[str]] = {}
    name = ""
    for cell in read(source).cells:
        begins = re.match(r"# (exercise|check): (\w+)\n", cell.source)
        if begins and begins[1] == "exercise":
            name = begins[2]
            found[name] = [cell.source, "", ""]
        elif begins:
            found[begins[2]][2] = cell.source
        elif cell.cell_type == "markdown" and (solution := re.search(r"```py\n(.*?)```", cell.source, re.DOTALL)):
            found[name][1] = solution[1]
    return {name: (given, solution, check) for name, (given, solution, check) in found.items()}


EXERCISES = [(source, name) for source in SOURCES for name in exercises(source)]


def executed_cells(source: Path) -> list[tuple[str, str]]:
    """The cells of a run, each with what it is: a check is asked about a wrong answer and the solution before what is there."""
    cells = [("begin", "%reset -f")]
    for text in code(source):
        begins = re.match(r"# exercise: (\w+)\n", text)
        if begins:
            name = begins[1]
            _, solution, check = exercises(source)[name]
            cells += [("try", WRONG[name][0]), (f"wrong {name}", check), ("try", solution), (f"solved {name}", check)]
        if "DOWNLOAD = False" in text:
            cells.append(("download", text.replace("DOWNLOAD = False", "DOWNLOAD = True")))
        begins = re.match(r"# check: (\w+)\n", text)
        cells.append((f"as it is {begins[1]}" if begins else "cell", text))
    return cells


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, Any]]]:
    """What cells are, and the cells with their outputs, by notebook; all run in one process, which imports once."""
    begin, connects = (nbformat.v4.new_code_cell(text) for text in (BEGIN, CONNECTS))
    runs = {"begin": [("begin", begin)]}
    for source in SOURCES:
        runs[source.stem] = [(what, nbformat.v4.new_code_cell(text)) for what, text in executed_cells(source)]
    runs["end"] = [("connects", connects)]
    whole = nbformat.v4.new_notebook(cells=[cell for run in runs.values() for _, cell in run])
    # pip, which a cell may call, has no packages to install
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PIP_NO_INDEX": "1"}
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("notebooks"))}}
    NotebookClient(whole, timeout=400, allow_errors=True, resources=place).execute(env=env)
    return runs


def said(cell: Any) -> str:
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")


def complaints(cell: Any) -> list[str]:
    """Errors and warnings."""
    errors = [out.evalue for out in cell.outputs if out.output_type == "error"]
    return errors + [out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stderr"]


def test_the_network_is_out_of_reach(executed: dict[str, list[tuple[str, Any]]]) -> None:
    assert complaints(executed["begin"][0][1]) == []
    assert "a cell asks for the network: socket." in "".join(complaints(executed["end"][0][1]))


@each
def test_a_notebook_runs_without_an_error_or_a_warning(
    source: Path, executed: dict[str, list[tuple[str, Any]]]
) -> None:
    found = [(cell.source[:80], text) for _, cell in executed[source.stem] for text in complaints(cell)]
    assert found == []
    pictures = [out for _, cell in executed[source.stem] for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 4
    first = next(cell for what, cell in executed[source.stem] if what == "cell")
    assert re.fullmatch(r"torchops \S+, torch \S+, on .+\n", said(first))


@pytest.mark.parametrize(("source", "name"), EXERCISES, ids=[name for _, name in EXERCISES])
def test_a_check_tells_wrong_from_right(source: Path, name: str, executed: dict[str, list[tuple[str, Any]]]) -> None:
    verdicts = {what: said(cell).splitlines()[-1] for what, cell in executed[source.stem] if what.endswith(f" {name}")}
    assert verdicts[f"as it is {name}"].startswith("not yet: ")
    assert re.match(f"no: .*{re.escape(WRONG[name][1])}", verdicts[f"wrong {name}"]), verdicts[f"wrong {name}"]
    assert verdicts[f"solved {name}"].startswith("right: "), verdicts[f"solved {name}"]


def _names(text: str, kind: type[ast.expr_context]) -> set[str]:
    tree = ast.parse(TransformerManager().transform_cell(text))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}
    return names | {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and kind is ast.Store}


@pytest.mark.parametrize(("source", "name"), EXERCISES, ids=[name for _, name in EXERCISES])
def test_nothing_else_depends_on_an_exercise(source: Path, name: str) -> None:
    """So whoever leaves it out can go on, and to ask a check thrice where it stands says what three runs would."""
    given, solution, check = exercises(source)[name]
    assert "# TODO" in given
    assert {name} <= _names(given, ast.Store)
    assert {name} <= _names(solution, ast.Store)
    others = [text for text in code(source) if text not in (given, check)]
    assert [text for text in others if name in _names(text, ast.Load)] == []


@each
def test_a_notebook_is_what_its_text_says(source: Path) -> None:
    """If not: make notebooks."""
    committed = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert committed == made(source)
    notebook = nbformat.reads(committed, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []


def test_there_is_no_notebook_without_a_text() -> None:
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == [path.stem for path in SOURCES]


def test_all_begin_with_the_same_cell() -> None:
    assert len({code(source)[0] for source in SOURCES}) == 1


@pytest.mark.parametrize("missing", [None, "torchops", "sklearn"])
def test_the_first_cell_installs_what_is_missing(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    text = TransformerManager().transform_cell(code(SOURCES[0])[0]).split("import matplotlib")[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else name)
    shell = SimpleNamespace(run_line_magic=lambda *magic: asked.append(magic))
    exec(text, {"get_ipython": lambda: shell})
    assert asked == ([] if missing is None else [("pip", 'install -q "torchops[models]"')])


def _titles() -> list[tuple[str, str, str, str]]:
    found = []
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        heading = re.search(r"^# (\d)\. (.+?): ", text, re.MULTILINE)
        minutes = re.search(r"^\*(\d+) minutes\.", text, re.MULTILINE)
        assert heading
        assert minutes
        found.append((heading[1], heading[2], f"../notebooks/{source.name}", minutes[1]))
    return found


def test_the_page_lists_the_notebooks() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| \[(.+?)\]\((.+?)\) \| .+ \| (\d+) \| \[(.+?)\]\((.+?)\) \|$", page, re.MULTILINE)
    assert [row[:4] for row in rows] == _titles()
    assert [row[4:] for row in rows] == [(f"{s.stem}.ipynb", f"../notebooks/{s.stem}.ipynb") for s in SOURCES]
    shown = re.findall(r"^notebooks/(.+)$", page, re.MULTILINE)
    assert shown == [source.stem.replace("_", "-") for source in SOURCES]
    for name, source in zip(shown, SOURCES, strict=True):
        text = (ROOT / "docs" / "notebooks" / f"{name}.md").read_text(encoding="utf-8")
        assert text == f"```{{include}} ../../notebooks/{source.name}\n```\n"


@each
def test_files_names_and_commands_that_a_text_points_to_exist(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    files = re.findall(r"`((?:kernels|models|course|torchops)/[\w/.]+)`", text)
    assert len(files) >= 2
    assert [file for file in files if not (ROOT / file).exists()] == []
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    named = set(re.findall(r"`(torchops(?:\.\w+)+)", prose))
    assert [name for name in sorted(named) if not _exists(name)] == []
    for line in re.findall(r"`torchops ([^`]+)`", prose):
        command: Any = get_command(app)
        words = line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_sources_hold_no_outputs_of_a_machine() -> None:
    for source in SOURCES:
        kept = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))["metadata"]
        assert kept == {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
