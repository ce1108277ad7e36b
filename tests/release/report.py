"""What was asked and what came of it, as a table."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """One question: its name, what was found, whether that is right, and the seconds it took."""

    name: str
    found: str
    right: bool
    seconds: float


@dataclass
class Report:
    """Asks questions, keeps the answers, goes on after a wrong one."""

    rows: list[Row] = field(default_factory=list)

    def ask(self, name: str, question: Callable[[], str]) -> bool:
        """Ask; what the question raises is its answer, and wrong."""
        print(f"... {name}", flush=True)
        start = time.monotonic()
        try:
            found, right = question(), True
        except subprocess.CalledProcessError as error:
            said = "\n".join(text for text in (error.stdout, error.stderr) if text)
            print(said[-6000:], flush=True)
            found, right = f"exit code {error.returncode} of {' '.join(map(str, error.cmd))[:80]}", False
        except Exception as error:
            found, right = f"{type(error).__name__}: {error}", False
        self.rows.append(Row(name, found, right, time.monotonic() - start))
        print(f"    {'ok' if right else 'FAILED'}: {found}", flush=True)
        return right

    def close(self) -> int:
        """Print the table and the counts; return the exit code."""
        width = max(len(row.name) for row in self.rows)
        print()
        for row in self.rows:
            print(f"{'ok    ' if row.right else 'FAILED'}  {row.name:<{width}}  {row.seconds:6.1f} s  {row.found}")
        failed = sum(not row.right for row in self.rows)
        print(f"\n{len(self.rows) - failed} passed, {failed} failed")
        return 1 if failed else 0


def environment() -> dict[str, str]:
    """The environment of a command: without the paths by which a checkout would be found in place of what is installed."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def run(*command: object, **options: Any) -> str:
    """Run a command; return what it printed.

    Raises:
        subprocess.CalledProcessError: its exit code is not 0. What it printed is in the error.
    """
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True, env=environment(), **options
    )
    return done.stdout


def want(condition: object, message: str) -> None:
    """A question's way to say that something is wrong.

    Raises:
        AssertionError: the condition does not hold.
    """
    if not condition:
        raise AssertionError(message)
