"""What both machines share: time that is over, and exceptions of a student's code as faults at a line of the student's file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from .lesson import Complaint
from .report import Fault

SECONDS = 5.0
"""How long a call of a student's function may take."""
AGAIN = 1.0
"""Seconds after which a call is interrupted once more, if it goes on."""
SOON = 0.001
"""Seconds after which one is interrupted that could not hear it."""


class Expired(BaseException):
    """The time of a call is over. It is no `Exception`, so that no `except Exception` of a student's file hides it."""

    line: int = 0
    """Of the student's file, where a machine knows better than the traceback."""


class Stopped(BaseException):
    """A machine has found something, and the call ends there. It is no `Exception` either."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


@contextlib.contextmanager
def time_limit(seconds: float, *, alarm: bool = hasattr(signal, "SIGALRM")) -> Iterator[None]:
    """Raise :class:`Expired` in the block after so many seconds: by a signal where there is one, otherwise by a thread, which
    interrupts Python and no call of C."""
    if alarm and threading.current_thread() is threading.main_thread():
        with _alarm(seconds):
            yield
    else:
        with _thread(seconds):
            yield


def _is_deaf(frame: FrameType | None) -> bool:
    """Whether Python would ignore an exception there: in a `__del__`, or in what is called when an object is gone.

    Not all such places can be told by their frames: so a call is interrupted again and again.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or os.path.basename(code.co_filename) in ("weakref.py", "_weakrefset.py"):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def expire(signum: int, frame: FrameType | None) -> None:
        if _is_deaf(frame):
            signal.setitimer(signal.ITIMER_REAL, SOON, AGAIN)
        else:
            raise Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _thread(seconds: float) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    lock, over = threading.Lock(), threading.Event()

    def expire() -> None:
        wait = seconds
        while not over.wait(wait):
            with lock:
                deaf = _is_deaf(sys._current_frames().get(thread.value))
                if not (deaf or over.is_set()):
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Expired))
            wait = SOON if deaf else AGAIN

    threading.Thread(target=expire, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            over.set()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)


def line_in(error: BaseException, file: Path) -> int:
    """The last line of the file that an exception has passed, or the exception that it comes from; 0 where none has."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        lines = [n.lineno or 0 for n in traceback.extract_tb(cause.__traceback__) if Path(n.filename) == file]
        if lines:
            return lines[-1]
        cause = cause.__cause__ or cause.__context__
    return 0


def fault_of(error: BaseException, file: Path, limit: float) -> Fault:
    """An exception of a student's code as a fault. What is meant for this process, as a KeyboardInterrupt, is raised again."""
    line = line_in(error, file)
    if isinstance(error, Stopped):
        return error.fault
    if isinstance(error, Expired):
        return Fault("timeout", error.line or line, detail=f"{limit:g}")
    if isinstance(error, Complaint):
        return Fault("says", line, detail=str(error))
    if isinstance(error, SystemExit):
        return Fault("exit", line)
    if isinstance(error, Exception):
        return Fault("exception", line, detail=f"{type(error).__name__}: {error}".rstrip(": "))
    raise error
