"""Single keys of a terminal, and the terminal as it was: after the end, Ctrl-C, a kill and a stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from torchops.cli import keys

from .terminals import Terminal

READER = """
import runpy, sys
keys = runpy.run_path(sys.argv[1])["keys"]
with keys() as wait:
    print("ready", wait is not None, flush=True)
    while wait and (key := wait(0.05)) != "q":
        if key:
            print(repr(key), flush=True)
"""
CONTROL_C = "\x03"


class Reader:
    """A process that says which keys it was given."""

    def __init__(self) -> None:
        self.terminal = Terminal()
        self.press = self.terminal.press
        self.process = self.terminal.python(
            "-c", READER, keys.__file__, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).strip()

    @property
    def gives_lines(self) -> bool:
        return bool(termios.tcgetattr(self.terminal.inner)[3] & termios.ICANON)


@pytest.fixture
def reader() -> Iterator[Reader]:
    one = Reader()
    yield one
    one.process.kill()
    one.process.communicate()
    one.terminal.close()


def test_keys_come_one_by_one(reader: Reader) -> None:
    assert reader.says() == "ready True"
    assert not reader.gives_lines
    # three at once, an arrow, F1, a letter of two bytes
    reader.press("hnC\x1b[C\x1bOP\xe4l")
    assert [reader.says() for _ in range(5)] == ["'h'", "'n'", "'C'", "'\xe4'", "'l'"]
    reader.press("q")
    assert reader.process.wait(30) == 0
    assert reader.terminal.is_as_before


@pytest.mark.parametrize("end", ["Ctrl-C", "kill"])
def test_the_terminal_is_given_back(end: str, reader: Reader) -> None:
    assert reader.says() == "ready True"
    if end == "Ctrl-C":
        reader.press(CONTROL_C)
    else:
        reader.process.send_signal(signal.SIGTERM)
    assert reader.process.wait(30) == (-signal.SIGINT if end == "Ctrl-C" else 128 + signal.SIGTERM)
    assert reader.terminal.is_as_before


def test_who_goes_on_after_a_stop_has_keys(reader: Reader) -> None:
    """A shell gives a stopped process the terminal as the shell has it."""
    assert reader.says() == "ready True"
    termios.tcsetattr(reader.terminal.inner, termios.TCSANOW, reader.terminal.before)
    assert reader.gives_lines
    reader.process.send_signal(signal.SIGCONT)
    end = time.monotonic() + 30
    while reader.gives_lines:
        assert reader.process.poll() is None
        assert time.monotonic() < end
    reader.press("h")
    assert reader.says() == "'h'"


@pytest.mark.parametrize("given", ["", "hq"])
def test_there_are_none_without_a_terminal(given: str) -> None:
    command = [sys.executable, "-c", READER, keys.__file__]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    assert done.stdout == "ready False\n"
