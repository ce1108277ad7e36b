"""Every command of README and the pages: run, made small and run, or parsed; what nobody has listed fails."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer.main
from typer.core import TyperGroup

from tests.shell import invoke
from torchops.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from . import pages, sandbox
from .commands import COMMANDS, PACKAGES, PROGRAMS, Parse, Run
from .pages import ROOT, Command

TALKING = [page for page in pages.PAGES if pages.commands(page)]
"""The pages with commands."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that pages speak of."""
    folder = tmp_path_factory.mktemp("furnished")
    sandbox.fill(folder)
    return folder


@pytest.fixture
def here(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, where a page's commands are run, one after the other, without a network."""
    folder = tmp_path / "here"
    shutil.copytree(furnished, folder)
    sandbox.known_sets(folder, monkeypatch)
    sandbox.offline(monkeypatch)
    monkeypatch.chdir(folder)
    # what is written beside the folder that a command names
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    torch.compiler.reset()


def parsed(words: list[str]) -> str | None:
    """What the application finds wrong with the words of a command, to the last option."""
    group = typer.main.get_command(app)
    names = ["torchops"]
    try:
        while isinstance(group, TyperGroup):
            context = group.make_context(" ".join(names), words, resilient_parsing=False)
            _, command, words = group.resolve_command(context, [*context._protected_args, *context.args])
            assert command is not None
            group = command
            names.append(str(command.name))
        group.make_context(" ".join(names), words)
    except Exception as error:  # of click, which typer may bring along
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"
    return None


def _run(words: tuple[str, ...]) -> tuple[int, str]:
    result = invoke(*words)
    return result.exit_code, result.output


LOOKING = ("check", "explain", "inspect", "tune")
"""Commands that say the same in every folder: they are run once, on whatever page they stand."""
_once = functools.cache(_run)


def torchops(words: list[str], listed: Run | Parse) -> str | None:
    """Run or parse a command; what is wrong with it."""
    if isinstance(listed, Parse):
        missing = [name for name in listed.needs.split() if not Path(name).exists()]
        return f"{missing} is not there" if missing else parsed(words)
    if words[0] == "train" and "--resume" not in words and "--out" in words:
        # one of the furniture, or of a command that the page has instead of this one
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    code, output = (_once if words[0] in LOOKING else _run)((*words, *shlex.split(listed.more)))
    if code != 0:
        return f"exit code {code}: {output[-2000:]}"
    missing = [name for name in listed.makes.split() if not Path(name).exists()]
    if missing:
        return f"it makes no {missing}: {sorted(str(path) for path in Path().rglob('*'))}"
    if not re.search(listed.says, output):
        return f"it does not say {listed.says!r}: {output[-2000:]}"
    return None


def torchrun(words: list[str], listed: Run | Parse) -> str | None:
    """Have torchrun's parser read what is its own, and run the rest in one process."""
    from torch.distributed.run import get_args_parser

    try:
        found = get_args_parser().parse_args(words)
    except SystemExit:
        return "torchrun does not take that"
    if not (found.module and found.training_script == "torchops"):
        return "it starts something else"
    return torchops(found.training_script_args, listed)


def make(words: list[str]) -> str | None:
    unknown = {word for word in words if "=" not in word} - TARGETS
    return f"the Makefile has no {unknown}" if unknown or not words else None


def pip(words: list[str]) -> str | None:
    """What is installed is torchops, with extras that exist, or what it is installed with."""
    if words[:1] != ["install"]:
        return "it installs nothing"
    known = {
        "torchops",
        ".",
        *(re.split(r"[^\w-]", d)[0] for extra in EXTRAS.values() for d in extra),
        "torch",
        "triton",
        *PACKAGES,
    }
    for requirement in (word for word in words[1:] if not word.startswith("-") and "://" not in word):
        name, extras = re.fullmatch(r"([^\[]+)(?:\[([\w,]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name not in known and not name.endswith(".whl"):
            return f"{name} is not known"
        missing = set((extras or "").split(",")) - {"", *EXTRAS}
        if missing:
            return f"there is no extra {missing}"
    return None


def python(words: list[str]) -> str | None:
    if words[:1] != ["-m"]:
        return "it runs no module"
    if words[1] == "torchops":
        return parsed(words[2:])
    return None if importlib.util.find_spec(words[1]) else f"there is no module {words[1]}"


def cd(words: list[str]) -> str | None:
    (folder,) = words
    return None if Path(folder).is_dir() or (ROOT / folder).is_dir() or folder == "torchops" else f"no folder {folder}"


def said_to_be_wrong(command: Command) -> str | None:
    """Run one command of a page, as it is listed; what is wrong with it, if anything."""
    for part in command.text.split(" && "):
        words = shlex.split(part)
        while re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        program, *rest = words
        program = Path(program).name if program.startswith(".venv") else program
        listed = COMMANDS.get(part)
        if program in ("torchops", "torchrun"):
            if listed is None:
                return "nobody has listed it in tests/docs/commands.py"
            wrong = torchops(rest, listed) if program == "torchops" else torchrun(rest, listed)
        elif program == "make":
            wrong = make(rest)
        elif program in ("pip", "pip3"):
            wrong = pip(rest)
        elif program in ("python", "python3"):
            wrong = python(rest)
        elif program == "cd":
            wrong = cd(rest)
        else:
            wrong = None if program in PROGRAMS else "nobody has listed it in tests/docs/commands.py"
        if wrong is not None:
            return wrong
    return None


@pytest.mark.parametrize("page", TALKING)
def test_commands_of_a_page_do_what_it_says(page: str, here: Path) -> None:
    wrong = [f"{command}\n{why}" for command in pages.commands(page) if (why := said_to_be_wrong(command)) is not None]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("torchops dance", "nobody has listed it"),
        ("rm -rf /tmp/x", "nobody has listed it"),
        ("make dances", "the Makefile has no {'dances'}"),
        ("pip install 'torchops[dances]'", "there is no extra {'dances'}"),
        ("pip install dances", "dances is not known"),
        ("python -m dances", "there is no module dances"),
        ("python -m torchops train lenet --dances 3", "No such option: --dances"),
        ("cd nowhere && torchops check", "no folder nowhere"),
    ],
)
def test_a_command_that_is_wrong_is_seen(typed: str, why: str, here: Path) -> None:
    assert why in str(said_to_be_wrong(Command("page", 1, typed)))


def test_a_command_that_fails_is_seen(here: Path) -> None:
    assert "exit code 2" in str(torchops(["predict", "runs/nowhere", "digit.png"], Run()))
    assert "it makes no ['b.png']" in str(torchops(["sobel", "photo.jpg", "a.png"], Run(makes="b.png")))
    assert "it does not say 'dances'" in str(torchops(["sobel", "photo.jpg", "a.png"], Run(says="dances")))


def test_what_is_listed_is_on_a_page() -> None:
    typed = {part for page in TALKING for command in pages.commands(page) for part in command.text.split(" && ")}
    assert sorted(COMMANDS.keys() - typed) == []


def test_nothing_of_the_user_is_touched(here: Path) -> None:
    """The folders that commands write to without being told are of the sandbox."""
    for name in ("TRITON_CACHE_DIR", "XDG_CACHE_HOME"):
        assert Path(os.environ[name]).is_relative_to(here.parent)
