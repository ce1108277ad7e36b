"""Single keys of a terminal, without Enter."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

try:
    import select
    import termios
    import tty
except ImportError:  # there are none on Windows
    termios = None  # type: ignore[assignment]

_NAMED = re.compile(r"\x1b(?:\[[\d;]*[A-Za-z~]|O[A-Za-z])?")
"""What arrows and the like send: an escape, and letters that are no keys."""
Wait = Callable[[float], str]
"""Waits so many seconds for a key; "" if none was pressed."""


@contextlib.contextmanager
def keys() -> Iterator[Wait | None]:
    """In the block the terminal gives keys one by one; None where there is no terminal. It is what it was afterwards."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
    elif termios is None:
        yield _wait_on_windows
    elif _in_background(sys.stdin.fileno()):  # keys are the shell's
        yield None
    else:
        handle = sys.stdin.fileno()
        with _one_by_one(handle):
            yield _Terminal(handle).wait


def _in_background(handle: int) -> bool:
    try:
        return os.tcgetpgrp(handle) != os.getpgrp()
    except OSError:  # it is no terminal that controls this process
        return False


class _Terminal:
    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.pressed: deque[str] = deque()

    def wait(self, seconds: float) -> str:
        if not self.pressed and select.select([self.handle], [], [], seconds)[0]:
            given = os.read(self.handle, 1024)
            if not given:  # the terminal is gone
                raise EOFError("the terminal was closed")
            self.pressed.extend(_NAMED.sub("", given.decode(errors="ignore")))
        return self.pressed.popleft() if self.pressed else ""


@contextlib.contextmanager
def _one_by_one(handle: int) -> Iterator[None]:
    before = termios.tcgetattr(handle)

    def again(*_: Any) -> None:
        tty.setcbreak(handle)

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    # who is stopped and goes on finds the terminal as the shell had it; who is ended gives it back
    handlers = {signal.SIGCONT: again, signal.SIGTERM: end}
    others = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    tty.setcbreak(handle)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
        for number, handler in others.items():
            signal.signal(number, handler)


def _wait_on_windows(seconds: float) -> str:
    import msvcrt

    end = time.monotonic() + seconds
    while not msvcrt.kbhit():  # type: ignore[attr-defined]
        if time.monotonic() >= end:
            return ""
        time.sleep(0.02)
    key: str = msvcrt.getwch()  # type: ignore[attr-defined]
    if key in ("\x00", "\xe0"):  # an arrow or the like: its name follows
        msvcrt.getwch()  # type: ignore[attr-defined]
        return ""
    if key == "\x03":
        raise KeyboardInterrupt
    return key
