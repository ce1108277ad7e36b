"""One op on several threads of a CPU: each takes pieces of the work through all of its calls.

ATen splits each of its calls among its threads, and the call ends when the last of them does. An op that is made of many calls
waits that often, and where another process keeps a core busy, each time for the thread that has to share that core. Here a
thread takes a piece from the first call to the last, and then the next that is left: they wait for each other once, and one
that gets less of its core does less of the work.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

_Piece = TypeVar("_Piece")
_Tools = TypeVar("_Tools")


@functools.cache
def _set_num_threads() -> Callable[[int], None] | None:
    """Sets how many threads ATen splits a call among that comes from this thread. `torch.set_num_threads` tells all new ones.

    None where ATen does not split its calls by OpenMP.
    """
    if sys.platform == "win32" or not torch.backends.openmp.is_available():
        return None
    function: Callable[[int], None] | None = getattr(ctypes.CDLL(None), "omp_set_num_threads", None)
    if function is None:
        return None
    before = torch.get_num_threads()
    function(before + 1)
    takes_effect = torch.get_num_threads() == before + 1
    function(before)
    return function if takes_effect else None


def _be_one_of_many() -> None:
    # ATen sets the number in a new thread when that first asks for it
    torch.get_num_threads()
    set_num_threads = _set_num_threads()
    assert set_num_threads is not None
    set_num_threads(1)


@functools.cache
def _others() -> ThreadPoolExecutor:
    """The threads that join the one that calls."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "torchops", _be_one_of_many)


if hasattr(os, "register_at_fork"):
    # a fork has none of the threads of its parent
    os.register_at_fork(after_in_child=_others.cache_clear)


def count() -> int:
    """How many threads `share_out` takes: those that ATen may use, or 1 where they cannot be told from ATen's."""
    allowed = torch.get_num_threads()
    return allowed if allowed > 1 and _set_num_threads() is not None else 1


def share_out(pieces: Iterable[_Piece], tools: Callable[[], _Tools], do: Callable[[_Piece, _Tools], object]) -> None:
    """Do every piece, each on one thread by itself.

    Pieces are handed out in order, and done in any: they must not write what others read or write. Nothing is recorded for
    autograd.

    Args:
        pieces: of the work.
        tools: makes what each thread works with, as scratch memory.
        do: takes a piece and the tools of the thread it is on.
    """
    work = list(pieces)
    allowed = min(count(), len(work))
    if allowed < 2:
        mine = tools()
        with torch.no_grad():
            for piece in work:
                do(piece, mine)
        return
    remaining, lock = iter(work), threading.Lock()
    # a tensor of inference mode can only be written to in inference mode
    inference = torch.is_inference_mode_enabled()

    def take() -> _Piece | None:
        with lock:
            return next(remaining, None)

    def run() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            mine = tools()
            while (piece := take()) is not None:
                do(piece, mine)

    set_num_threads, before = _set_num_threads(), torch.get_num_threads()
    assert set_num_threads is not None
    others = _started(run, allowed - 1)
    try:
        # what is done here is not split either, nor shared out again
        set_num_threads(1)
        run()
    finally:
        set_num_threads(before)
        # nothing is left to do, or nobody will need it
        while take() is not None:
            pass
        others = [other for other in others if not other.cancel()]
        # they write to memory of this call
        wait(others)
    for other in others:
        other.result()


def _started(run: Callable[[], None], times: int) -> list[Future[None]]:
    """As many times as there are threads: the system may give no more, or the interpreter be about to end."""
    started: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):
        # those that have started are kept if the next does not
        started.extend(_others().submit(run) for _ in range(times))
    return started
