"""Python in a pseudo-terminal that controls it, as a shell's does."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from typing import Any

# what is called between fork and exec may wait for ever for a lock that another thread has: so it is a process of its own
_CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A pseudo-terminal: what is written to `outer` is typed, what is read from it is on the screen."""

    def __init__(self) -> None:
        self.outer, self.inner = pty.openpty()
        self.before = termios.tcgetattr(self.inner)

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.inner) == self.before

    def python(self, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """Start Python with the terminal as stdin; of stdout and stderr `options` say what becomes."""
        command = [sys.executable, "-c", _CONTROLLED, *arguments]
        return subprocess.Popen(command, stdin=self.inner, start_new_session=True, **options)

    def press(self, keys: str) -> None:
        os.write(self.outer, keys.encode())

    def close(self) -> None:
        os.close(self.outer)
        os.close(self.inner)
