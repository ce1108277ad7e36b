"""Work in processes of its own, which may die: with one goes what it was doing, not the rest.

One illegal access ends everything that a process does on a GPU, a fault of the compiler the whole process. So whatever may
cause either is done here: a process that is lost is replaced, and its item is a :class:`Failure`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

GPU_LOST = 86
"""Exit code of a process whose GPU answers no more."""


@dataclass(frozen=True)
class Failure:
    """What became of an item in place of a result."""

    reason: str
    """In a line."""
    trace: str = ""
    """The traceback, if an exception was raised."""
    doing: Any = None
    """What :func:`doing` said last."""
    late: bool = False
    """Whether it was at work when the time of all items was out: no fault of its own."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_is_lost() -> bool:
    """Whether the GPU of this process answers no more, as after an illegal access: nothing can run on it any longer."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


_parent: Connection | None = None


def doing(what: Any) -> None:
    """Say what this process is about to do, in case that it dies of it. Outside a worker nobody listens."""
    if _parent is not None:
        _parent.send(("doing", what))


def in_a_line(error: BaseException) -> str:
    """Kind and message of an exception."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _serve(function: Callable[[Any], Any], parent: Connection) -> None:
    """What a worker does: call the function on what it is sent, until nothing more comes."""
    global _parent
    _parent = parent
    # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    while True:
        try:
            item = parent.recv()
        except EOFError:
            return
        try:
            answer = function(item)
        except Exception as error:
            answer = Failure(in_a_line(error), traceback.format_exc())
        lost = gpu_is_lost()
        parent.send(("last" if lost else "done", answer))
        if lost:
            parent.close()
            # what is left of CUDA would wait for a GPU that does not answer
            os._exit(GPU_LOST)


class _Worker:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number = -1
        self.since = 0.0
        self.doing: Any = None

    def give(self, number: int, item: Any) -> None:
        self.number, self.since, self.doing = number, time.monotonic(), None
        self.connection.send(item)

    def answer(self) -> tuple[bool, Any]:
        """Whether it is done, and with what; to be asked when its connection has something."""
        try:
            kind, what = self.connection.recv()
        except (EOFError, OSError):
            return True, self.died()
        if kind == "doing":
            self.doing = what
            return False, None
        if kind == "last":
            # the process takes no further item
            self.process.join(10)
        if isinstance(what, Failure):
            what = Failure(what.reason, what.trace, self.doing)
        return True, what

    def died(self) -> Failure:
        self.process.join(10)
        code = self.process.exitcode
        if code is not None and code < 0:
            reason = f"the process was killed by {signal.Signals(-code).name}"
        else:
            reason = f"the process ended with exit code {code}"
        return Failure(reason, doing=self.doing)

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def run(
    function: Callable[[Any], Any], items: Iterable[Any], *, processes: int = 1, seconds: float | None = None,
    until: float | None = None,
) -> Iterator[tuple[int, Any]]:  # fmt: skip
    """Call a function on items in processes of its own, and go on in fresh ones when they die.

    A process begins with the main module of this one: call it from a file, under `if __name__ == "__main__"`, or a module.

    Args:
        function: of a module, or a `functools.partial` of one; its results can be pickled.
        items: what can be pickled.
        processes: how many at once.
        seconds: after which an item is given up, and its process ended.
        until: time of `time.monotonic` at which all is ended: items that are not begun by then are never mentioned.

    Yields:
        (place of the item, result), as they come; a :class:`Failure` for an item that raised, died or took too long.
    """
    waiting = deque(enumerate(items))
    idle: list[_Worker] = []
    busy: dict[Connection, _Worker] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < processes and not (until and time.monotonic() >= until):
                worker = idle.pop() if idle else _Worker(function)
                try:
                    worker.give(*waiting[0])
                except OSError:  # it died after its last item
                    worker.end()
                    continue
                waiting.popleft()
                busy[worker.connection] = worker
            if not busy:
                return
            now = time.monotonic()
            limits = [worker.since + seconds for worker in busy.values()] if seconds else []
            limits += [until] if until else []
            ready = wait(list(busy), max(0.0, min(limits) - now) if limits else None)
            for connection in ready:
                worker = busy[connection]  # type: ignore[index]
                done, result = worker.answer()
                if not done:
                    continue
                del busy[worker.connection]
                if worker.process.is_alive():
                    idle.append(worker)
                else:
                    worker.end()
                yield worker.number, result
            now = time.monotonic()
            late = bool(until and now >= until)
            for worker in [w for w in busy.values() if late or (seconds and now - w.since >= seconds)]:
                del busy[worker.connection]
                worker.end()
                spent = f"{now - worker.since:.0f} s"
                reason = f"stopped after {spent}: the time was out" if late else f"stopped after {spent}: no answer"
                yield worker.number, Failure(reason, doing=worker.doing, late=late)
    finally:
        for worker in [*idle, *busy.values()]:
            worker.end()


class Apart:
    """A function whose calls are made in one process of its own, the same for all of them until it dies.

    It is a context manager: the process ends with the block.
    """

    def __init__(self, function: Callable[[Any], Any], seconds: float | None = None) -> None:
        self._function = function
        self._seconds = seconds
        self._worker: _Worker | None = None

    def __call__(self, item: Any) -> Any:
        """The result, or a :class:`Failure`."""
        if self._worker is not None and not self._worker.process.is_alive():
            self.__exit__()
        if self._worker is None:
            self._worker = _Worker(self._function)
        worker = self._worker
        worker.give(0, item)
        done, result = False, None
        while not done:
            left = None if self._seconds is None else worker.since + self._seconds - time.monotonic()
            if not worker.connection.poll(left):
                done, result = True, Failure(f"stopped after {self._seconds:.0f} s: no answer", doing=worker.doing)
                self.__exit__()
                break
            done, result = worker.answer()
        return result

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
