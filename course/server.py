"""Checks in processes of their own: whatever a student's file does, this process goes on.

with Server() as server:
    report = server.check(file, "unpooling")
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .faults import SECONDS
from .lesson import load
from .machine import MACHINES
from .report import Finding, Report
from .worker import KEPT, lines, lost

HARD = 20.0
"""Seconds after which a check is killed, whatever it does. A call of a function ends long before."""
START = 300.0
"""Seconds that a process may take to get warm."""
END = 5.0
"""Seconds that one may take to end by itself, when nobody can ask any more."""

_MAIN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from torchops.course.worker import main; main(*sys.argv[2:])"


class Server:
    """Keeps a warm process, which forks for every check; or, where there is no fork, one that waits for the next check.

    Args:
        machine: the name of the machine that runs kernels; the first that can run here if not given.
        fork: whether checks are forked; where forking is safe if not given.
        limit: seconds that a call of a student's function may take.
        hard: seconds that a check may take.

    Raises:
        ValueError: if there is no such machine.
        RuntimeError: on entering, if the machine cannot run here; the message says what to install.
    """

    def __init__(
        self, machine: str | None = None, *, fork: bool | None = None, limit: float = SECONDS, hard: float = HARD
    ) -> None:
        if machine not in (None, *MACHINES):
            raise ValueError(f"`machine` (={machine}): must be one of {', '.join(MACHINES)}")
        self.machine, self.limit, self.hard = machine, limit, hard
        self.fork = sys.platform == "linux" if fork is None else fork
        self._process: _Process | None = None

    def __enter__(self) -> Server:
        self._warm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a check that is under way ends too."""
        if self._process is not None:
            self._process.close()
            self._process = None

    @property
    def engine(self) -> str:
        """What runs kernels, as it is called in reports."""
        return self._warm().engine

    def check(self, file: Path | str, lesson: str | int | Path, step: str | None = None) -> Report:
        """Run a student's file on the steps of a lesson, or only one of them.

        Raises:
            KeyError: if there is no such lesson.
            ValueError: if it has no such step.
        """
        meant = load(lesson)
        if step is not None and step not in (names := [one.name for one in meant.steps]):
            raise ValueError(f"`step` (={step}): lesson {meant.number} has steps {', '.join(names)}")
        request = {
            "file": os.path.abspath(file), "lesson": meant.name, "folder": str(meant.folder), "step": step,
            "limit": self.limit, "hard": self.hard,
        }  # fmt: skip
        process = self._warm()
        # one that forks ends the check itself, and knows more of it
        report = process.ask(request, self.hard + (10.0 if self.fork else 0.0))
        if not (self.fork and process.alive):
            self.close()
        if not self.fork:
            self._process = self._started()
        return report

    def _started(self) -> _Process:
        return _Process(self.machine or "", "fork" if self.fork else "once")

    def _warm(self) -> _Process:
        if self._process is None:
            self._process = self._started()
        try:
            self._process.wait()
        except BaseException:
            self.close()
            raise
        return self._process


class _Process:
    """A process of worker.py, and what it says."""

    def __init__(self, machine: str, how: str) -> None:
        path = [os.path.abspath(one) for one in sys.path]
        apart = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | apart
        self.engine = ""
        self._forks = how == "fork"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, json.dumps(path), machine, how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._printed = bytearray()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._drain)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _drain(self) -> None:
        assert self._process.stderr is not None
        while part := os.read(self._process.stderr.fileno(), 1 << 16):
            self._printed += part[: max(0, KEPT - len(self._printed))]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> None:
        """Until it is warm."""
        if self.engine:
            return
        try:
            given = json.loads(self._answers.get(timeout=START) or b"null")
        except queue.Empty:
            given = None
        if given is None:
            raise RuntimeError(f"the process that checks has not started: {self._text().strip()[-2000:]}")
        if "error" in given:
            raise RuntimeError(given["error"])
        self.engine = given["engine"]
        self._printed.clear()

    def ask(self, request: dict[str, Any], seconds: float) -> Report:
        """What comes of a check; also if the process ends or hangs."""
        start = time.perf_counter()
        line, killed = b"", False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            # a lesson may prepare what takes long; then it says that it begins
            line = self._answers.get(timeout=START)
            if line == b"{}\n":
                start = time.perf_counter()
                line = self._answers.get(timeout=seconds)
        except queue.Empty:
            killed = True
        except OSError:
            pass  # it has ended
        if line:
            report = Report.from_json(json.loads(line))
            return report if self._forks else dataclasses.replace(report, printed=tuple(lines(self._text())))
        if killed:
            finding = Finding("killed", detail=f"{request['hard']:g}")
        else:
            code = self._ended()
            kind = "exit" if 0 <= code < 256 else "crash"
            finding = Finding(
                kind, detail=signal.Signals(-code).name if code < 0 else f"{code:#x}" if code > 255 else f"{code}"
            )
        return lost(request, self.engine, finding, self._text(), time.perf_counter() - start)

    def _text(self) -> str:
        """What it has printed, once it has ended."""
        self.close()
        return self._printed.decode(errors="replace")

    def _ended(self) -> int:
        """Its exit code; it is killed if it does not end, as one does not that has closed what it answers on."""
        try:
            return self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def close(self) -> None:
        """End it, and what it has started."""
        assert self._process.stdin is not None
        # one that forks ends its child when there is nobody who asks; one that is killed cannot
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self._forks:
            self._process.kill()
        self._ended()
        for thread, stream in zip(self._threads, (self._process.stdout, self._process.stderr), strict=True):
            thread.join(1.0)
            # whoever reads has the stream until its other end is closed, by all that have it
            if stream is not None and not thread.is_alive():
                stream.close()
