"""Pieces of an op on several threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops.measure.rivals import threads as on_threads
from torchops.ops.cpu import threads, tiles

from .pieces import Pieces

pytestmark = pytest.mark.tiers("aten")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    with on_threads(3):
        yield


def test_every_piece_is_done_once_on_threads_that_aten_does_not_split() -> None:
    done, seen, met = [], set(), threading.Barrier(2, timeout=60)

    def do(piece: int, tools: str) -> None:
        if piece < 2:
            # two threads are inside a piece at once, or this waits in vain
            met.wait()
        done.append(piece)
        seen.add((threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled(), tools))

    threads.share_out(range(100), lambda: threading.current_thread().name, do)
    assert sorted(done) == list(range(100))
    assert len({who for who, *_ in seen}) >= 2
    assert all(count == 1 and not grad for _, count, grad, _ in seen)
    # each has tools of its own
    assert len({who for who, *_ in seen}) == len({tools for *_, tools in seen})
    assert torch.get_num_threads() == 3


def test_one_thread_does_all_by_itself() -> None:
    with on_threads(1):
        seen = set()
        threads.share_out(range(9), lambda: None, lambda piece, _: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("bad", [0, 5, 99])
def test_an_error_is_raised_where_the_work_was_asked_for(bad: int) -> None:
    running = []

    def do(piece: int, _: None) -> None:
        running.append(piece)
        if piece == bad:
            raise IndexError(f"piece {bad}")
        running.remove(piece)

    with pytest.raises(IndexError, match=f"piece {bad}"):
        threads.share_out(range(100), lambda: None, do)
    # nobody goes on writing
    assert running == [bad]
    assert torch.get_num_threads() == 3
    threads.share_out([bad + 1], lambda: None, do)


def test_where_the_system_gives_no_more_threads_those_there_are_do_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have started are waited for, and their errors are heard."""
    with ThreadPoolExecutor(1, initializer=threads._be_one_of_many) as pool:
        submitted = []

        def submit(run: Callable[[], None]) -> Future[None]:
            if submitted:
                raise RuntimeError("can't start new thread")
            submitted.append(pool.submit(run))
            return submitted[0]

        monkeypatch.setattr(threads, "_others", lambda: SimpleNamespace(submit=submit))
        met, ours, done = threading.Barrier(2, timeout=60), threading.get_ident(), []

        def do(piece: int, _: None) -> None:
            if piece < 2:
                met.wait()
            if threading.get_ident() != ours:
                time.sleep(0.05)
                raise IndexError("of another thread")
            done.append(piece)

        with pytest.raises(IndexError, match="of another thread"):
            threads.share_out(range(5), lambda: None, do)
        assert submitted[0].done()
        # that thread had taken one
        assert len(done) == 4


def test_tensors_of_inference_mode_are_written_to_from_every_thread() -> None:
    with Pieces(40, 3).of_any_image(), torch.inference_mode():
        x = torch.randn(4, 3, 20, 20)
        assert torch.equal(torchops.max_pool2d(x, 3, 1, 1), F.max_pool2d(x, 3, 1, 1))
        assert torchops.avg_pool2d(x, 3, 1, 1).is_inference()


def test_callers_at_the_same_time_share_the_threads() -> None:
    images = [torch.randn(4, 3, 20, 20) for _ in range(8)]
    expected = [F.max_pool2d(x, 3, 1, 1) for x in images]

    def often(number: int) -> list[Tensor]:
        torch.set_num_threads(3)
        return [torchops.max_pool2d(images[number], 3, 1, 1) for _ in range(20)]

    with Pieces(40, 3).of_any_image(), ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(often, range(8))):
            assert all(torch.equal(y, expected[number]) for y in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix forks")
def test_a_fork_has_threads_of_its_own() -> None:
    """In a process by itself: this one has threads that a fork would not have."""
    program = """
import os, torch
from torchops.ops.cpu import threads
torch.set_num_threads(3)
def ask():
    done = []
    threads.share_out(range(50), lambda: None, lambda piece, _: done.append(piece))
    assert sorted(done) == list(range(50))
ask()
child = os.fork()
if child == 0:
    ask()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
ask()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120)


def test_what_is_called_at_the_end_of_the_process_does_all_by_itself() -> None:
    program = """
import atexit, threading, torch
from torchops.ops.cpu import threads
torch.set_num_threads(3)
def ask():
    done = []
    threads.share_out(range(50), lambda: None, lambda piece, _: done.append(piece))
    print(sorted(done) == list(range(50)))
atexit.register(ask)
ask()
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "True\nTrue\n"


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("elements", [64, 500, 1 << 17])
def test_gradients_that_overlap_are_the_same_for_any_number_of_threads(count: int, elements: int) -> None:
    """Bands of Sobel's gradient add to the rows of their neighbours."""
    x, dy = torch.randn(2, 3, 37, 23), torch.randn(2, 3, 37, 23)
    exact = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(torchops.sobel(exact), exact, dy.double())
    found = []
    with Pieces(elements, count).of_any_image():
        for _ in range(5):
            leaf = x.clone().requires_grad_()
            found += torch.autograd.grad(torchops.sobel(leaf), leaf, dy)
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(grad, found[0]) for grad in found)


@pytest.mark.parametrize("elements", [1, 24, 50, 200])
def test_every_other_band_adds_to_rows_of_its_own(elements: int) -> None:
    """They are done at once."""
    with Pieces(elements, 3).of_any_image():
        bands, frame = tiles.tiles(torch.Size((2, 3, 11, 23, 1)), torch.device("cpu"))
    assert frame
    for some in (bands[::2], bands[1::2]):
        rows = [(a.start, b.start, row) for a, b, rows, _ in some for row in range(rows.start - 1, rows.stop + 1)]
        assert len(set(rows)) == len(rows)
