"""fuse while other threads compute: they do not notice, and neither do fusions that run at once."""

from __future__ import annotations

import math
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import torchops

from .conformance import close
from .networks import as_torch_has_it, image, small
from .test_fusion import conv


class Counting(nn.Module):
    """A forward that reads and sets attributes, of itself and of layers, and asks a wrapped function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale, self.calls, self.seen = conv(), nn.Parameter(torch.rand(4, 1, 1)), 0, [0.0]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.conv.note = self.calls
        self.seen[0] = math.sqrt(self.calls)
        self.last = self.conv(x) * self.scale
        return self.last + self.calls


class Threaded:
    """Another thread, which calls a function again and again."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.calls, self.errors = 0, list[Exception]()
        self._call, self.is_over = call, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.is_over.is_set():
            try:
                self._call()
            except Exception as error:
                self.errors.append(error)
            self.calls += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self.is_over.set()
            self._thread.join()


def _same_network() -> Callable[[], None]:
    model, x = small(), image(1, 3, 16, 16)
    expected = model(x)

    def call() -> None:
        assert torch.equal(model(x), expected)

    return call


def _counting() -> Callable[[], None]:
    model, x, calls = Counting().eval(), image(1, 4, 5, 5), 0
    expected = model.conv(x) * model.scale

    def call() -> None:
        nonlocal calls
        calls += 1
        assert torch.equal(model(x), expected + calls)
        assert (model.calls, model.conv.note, model.seen) == (calls, calls, [math.sqrt(calls)])

    return call


@pytest.mark.parametrize("make", [_same_network, _counting])
def test_other_threads_do_not_notice(make: Callable[[], Callable[[], None]]) -> None:
    model, x = small(), image(2, 3, 16, 16)
    with as_torch_has_it():
        expected, other = model(x), Threaded(make())
        with other.running():
            for _ in range(20):
                fused, report = torchops.fuse(model)
                assert report.kept == {}
                close(fused(x), expected, torch.float32, 10)
                # what is loaded is traced as well
                assert torch.equal(pickle.loads(pickle.dumps(fused))(x), fused(x))
    assert other.calls > 20
    assert other.errors == []


def test_a_thread_that_draws_all_the_time() -> None:
    """It cannot be told from a model that draws, which is kept whole and right."""
    model, x, other = Wrapped().eval(), image(1, 4, 9, 8), Threaded(lambda: random.seed(random.random()))
    with other.running():
        fused, report = torchops.fuse(model)
    assert list(report.kept) in ([], [""])
    close(fused(x), model(x), torch.float32, 10)


class Wrapped(nn.Module):
    """What torch.fx follows only while it has functions of its own in the globals of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = conv(), nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu() * math.sqrt(x.shape[2]) + math.floor(x.shape[3] / 2) * self.scale


def test_fusions_at_once() -> None:
    models = (
        (small(), image(1, 3, 16, 16)),
        (Wrapped().eval(), image(1, 4, 9, 8)),
        (Wrapped().eval(), image(1, 4, 5, 5)),
    )
    alone = [torchops.fuse(model)[1] for model, _ in models]
    assert [list(report.kept) for report in alone] == [[], [], []]

    def fusing(i: int) -> Callable[[], None]:
        model, x = models[i]
        expected = model(x)

        def call() -> None:
            fused, report = torchops.fuse(model)
            assert report == alone[i]
            close(fused(x), expected, torch.float32, 10)

        return call

    with as_torch_has_it():
        others = [Threaded(fusing(i)) for i in range(3)]
        with others[0].running(), others[1].running(), others[2].running():
            while min(other.calls for other in others) < 10:
                others[0].is_over.wait(0.01)
    assert [other.errors for other in others] == [[], [], []]


def test_modules_are_as_they_were() -> None:
    """Not even for the time of a trace are methods of torch.nn.Module replaced, for torch.compile looks at which they are."""
    names = ("__call__", "__getattr__", "__setattr__")
    before, seen = [getattr(nn.Module, name) for name in names], []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append([getattr(nn.Module, name) for name in names])
            return x + 1

    torchops.fuse(nn.Sequential(Looking(), conv()).eval())
    assert seen
    assert all(found == before for found in seen)
