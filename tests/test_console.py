"""What commands print: all that people chose stands as it is, on every terminal, and messages are one line."""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.progress import Progress
from rich.text import Text
from typer.testing import CliRunner

from torchops import __main__
from torchops.cli import app, console
from torchops.cli.console import App, bar, fail, one_line_errors, say, table, warn

NAMES = ["[b]", "[/]", "[red]x[/red]", ":smile:", "a\\[b]", "日本", "=1+1"]
ESCAPED = {"a\nb": r"a\nb", "\x1b[31mred": r"\x1b[31mred", "\udcff": r"\udcff", "a\u2028b": r"a\u2028b"}


def commands(command: Any = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All commands, groups too, by their names."""
    command = command or typer.main.get_command(app)
    found = {path: command}
    for name, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, (*path, name))
    return found


COMMANDS = commands()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(name)
    assert capsys.readouterr().out == f"{name}\n"
    shown = table(f"title {name}", caption=f"caption {name}")
    shown.add_column(f"heading {name}")
    shown.add_row(f"cell {name}")
    console.console.print(shown)
    told = capsys.readouterr().out
    for part in ("title", "caption", "heading", "cell"):
        assert f"{part} {name}" in told
    progress: Progress = bar()
    progress.add_task(name, total=1)
    console.console.print(progress.get_renderable())
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("name", ESCAPED)
def test_names_give_no_orders(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{name}.png", "yellow")
    assert capsys.readouterr().out == f"{ESCAPED[name]}.png\n"


def test_lines_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 100)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split() == ["word"] * 100


def test_cells_are_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.console, "_width", 30)
    shown = table("")
    shown.add_column("class")
    shown.add_column("share", justify="right")
    shown.add_row("long" * 20, "12.34%")
    shown.add_row(Text("wide" * 10, "red"), "1.00%")
    console.console.print(shown)
    told = re.sub(r"\s", "", capsys.readouterr().out)
    assert re.sub(r"[\d.]+%", "", told).endswith("long" * 20 + "wide" * 10)
    assert "12.34%" in told


class TestMessages:
    @pytest.fixture
    def shell(self) -> App:
        """Two commands, since one alone is no group."""
        made = App(add_completion=False)

        @made.command()
        def quiet() -> None:
            """Say nothing."""

        @made.command()
        def loud(lr: float = 1.0, kind: str = "value") -> None:
            """Fail."""
            with one_line_errors("stopped; nothing is lost"):
                warn("first\nsecond [b]")
                if kind == "value":
                    raise ValueError(f"`lr` (={lr}): is\n  wrong in \x1b[31m[b]a  b[/b]\n")
                if kind == "memory":
                    raise MemoryError
                if kind == "full":
                    raise OSError(errno.ENOSPC, "No space left on device", "a\nb.png")
                if kind == "module":
                    raise ModuleNotFoundError("No module named 'nothing'", name="nothing")
                if kind == "key":
                    raise KeyboardInterrupt
                if kind == "pipe":
                    raise BrokenPipeError
                fail("")

        return made

    @pytest.mark.parametrize(
        ("kind", "code", "line"),
        [
            ("value", 2, r"--lr 2.0: is wrong in \x1b[31m[b]a  b[/b]"),
            ("memory", 2, "MemoryError"),
            ("full", 2, r"a\nb.png: No space left on device"),
            ("module", 2, "nothing is not installed: pip install nothing"),
            ("key", 130, "stopped; nothing is lost"),
        ],
    )
    def test_are_one_line(self, kind: str, code: int, line: str, shell: App) -> None:
        result = CliRunner().invoke(shell, ["loud", "--lr", "2", "--kind", kind])
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr == f"torchops: first second [b]\ntorchops: {line}\n"

    def test_a_closed_pipe_is_no_mistake(self, shell: App) -> None:
        result = CliRunner().invoke(shell, ["loud", "--kind", "pipe"])
        assert result.exit_code == 1
        assert result.stderr == "torchops: first second [b]\n"

    def test_usage_shows_what_was_asked(self) -> None:
        result = CliRunner().invoke(app, ["compare", "[b]"])
        assert result.exit_code == 2
        assert "'[b]'" in result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(("torchops", *command)))
def test_help_is_in_words(command: tuple[str, ...]) -> None:
    texts = [COMMANDS[command].help, *(p.help for p in COMMANDS[command].params)]
    # typer takes brackets for markup, and drops them
    assert not [text for text in texts if text and "[" in text]
    told = CliRunner().invoke(app, [*command, "--help"]).output
    assert not re.search(r"<(bool|str|int|float|Path|list)\b|list\[", told), told
    # a paragraph is wrapped where the terminal ends, at no other place
    description = told.partition("╭")[0].partition("Usage:")[2].splitlines()[1:]
    for line, following in itertools.pairwise(map(str.strip, description)):
        assert not following or not line or len(line) + 1 + len(following.split()[0]) > 76, (line, following)


class TestStreams:
    def test_characters_that_a_terminal_lacks(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
        monkeypatch.setattr(sys, "argv", ["torchops", "nothing"])
        monkeypatch.setattr("torchops.cli.app", lambda: say("日本"))
        __main__.main()
        assert written.getvalue() == b"\\u65e5\\u672c\n"

    @pytest.mark.parametrize(("target", "said"), [(None, ""), ("/dev/full", "No space left on device")])
    def test_an_output_that_takes_nothing(self, target: str | None, said: str) -> None:
        """None: a pipe whose reader is gone, as of head."""
        if target is None:
            read, write = os.pipe()
            os.close(read)
        elif not Path(target).exists():
            pytest.skip(f"there is no {target} here")
        else:
            write = os.open(target, os.O_WRONLY)
        command = [sys.executable, "-m", "torchops", "explain", "sobel"]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        os.close(write)
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == bool(said)
        assert said in done.stderr
