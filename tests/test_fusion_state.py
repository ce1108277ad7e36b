"""fuse: what a forward does besides computing tensors is no matter for a graph, and is not lost without a word."""

from __future__ import annotations

import collections
import copy
import itertools
import pickle
import random
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchops

from .conformance import close
from .networks import image
from .test_fusion import conv

LOG: list[Any] = []
CALLS = 0
LAST: Any = None


class Tracker:
    """No module, but a module has it."""

    def __init__(self) -> None:
        self.calls = 0
        self.seen: dict[str, Any] = {}

    def note(self, x: Tensor) -> None:
        self.calls += 1
        self.seen["last"] = x


class Noting(nn.Module):
    """A forward that does something besides, around a convolution."""

    history: ClassVar[list[Any]] = []
    count = 0

    def __init__(self, step: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self._step = conv(), step
        self.log, self.table, self.names = [], {}, set()
        self.queue: collections.deque[Any] = collections.deque(maxlen=2)
        self.tracker, self.numbers, self.times = Tracker(), np.zeros(2), itertools.count()
        self.random, self.generator = random.Random(0), np.random.default_rng(0)
        self.nested = {"inner": ([0],)}

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        extra = self._step(self, y)
        return y if extra is None else y * extra


def _sets_a_global(m: Any, y: Tensor) -> None:
    global LAST
    LAST = y


def _counts_in_a_global(m: Any, y: Tensor) -> None:
    global CALLS
    CALLS += 1


def _helped(y: Tensor) -> None:
    _helper(y)


def _helper(y: Tensor) -> None:
    LOG.append(y)


def _sets_an_item(m: Any, y: Tensor) -> None:
    m.numbers[0] += 1


def _sets_deeply(m: Any, y: Tensor) -> None:
    m.nested["inner"][0][0] += 1


def _sets_the_class(m: Any, y: Tensor) -> None:
    type(m).count += 1


def _sets_past_setattr(m: Any, y: Tensor) -> None:
    vars(m)["last"] = y


def _deletes(m: Any, y: Tensor) -> None:
    vars(m).pop("table", None)


def _remembers_defaults(m: Any, y: Tensor, seen: list[Any] = []) -> None:  # noqa: B006
    seen.append(y)


def _hooks_a_layer(m: Any, y: Tensor) -> None:
    m.conv.register_forward_hook(lambda module, args, result: None)


def _counter() -> Callable[[Any, Tensor], None]:
    calls = 0

    def count(m: Any, y: Tensor) -> None:
        nonlocal calls
        calls += 1

    return count


def _encloser() -> Callable[[Any, Tensor], None]:
    seen: list[Any] = []
    return lambda m, y: seen.append(y)


def _function_attribute(m: Any, y: Tensor) -> None:
    _function_attribute.last = y  # type: ignore[attr-defined]


SIDES: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "list": (lambda m, y: m.log.append(y), "it changes `log`"),
    "number_in_a_list": (lambda m, y: m.log.append(1), "it changes `log`"),
    "dict": (lambda m, y: m.table.update(last=y), "it changes `table`"),
    "set": (lambda m, y: m.names.add("x"), "it changes `names`"),
    "deque": (lambda m, y: m.queue.append(y), "it changes `queue`"),
    "nested": (_sets_deeply, "it changes `nested[0][0]`"),
    "array": (_sets_an_item, "it changes `numbers`"),
    "iterator": (lambda m, y: next(m.times), "it changes `times`"),
    "object": (lambda m, y: m.tracker.note(y), "it "),
    "past_setattr": (_sets_past_setattr, "it sets the attribute `last` of a module"),
    "deleted": (_deletes, "it sets the attribute `table` of a module"),
    "hooked": (_hooks_a_layer, "it changes `_forward_hooks"),
    "class_list": (lambda m, y: m.history.append(y), "it changes `history`"),
    "class": (_sets_the_class, "it sets `count` of Noting"),
    "global_list": (lambda m, y: LOG.append(y), "it changes `LOG`"),
    "global": (_sets_a_global, "it sets the global `LAST`"),
    "global_count": (_counts_in_a_global, "it sets the global `CALLS`"),
    "helper": (lambda m, y: _helped(y), "it changes `LOG`"),
    "default": (_remembers_defaults, "it changes `default 0"),
    "closure_list": (_encloser(), "it changes `seen`"),
    "closure": (_counter(), "it sets `calls`, a variable of the function around it"),
    "function": (_function_attribute, "it changes `_function_attribute`"),
    "random": (lambda m, y: random.random(), "it draws from Python's random numbers"),
    "randint": (lambda m, y: random.randint(1, 9), "it draws from Python's random numbers"),
    "numpy": (lambda m, y: float(np.random.rand()), "it draws from NumPy's random numbers"),
    "own_random": (lambda m, y: m.random.random(), "it changes `random`"),
    "own_numpy": (lambda m, y: m.generator.random(), "it changes `generator`"),
}


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    global CALLS, LAST
    yield
    CALLS, LAST = 0, None
    LOG.clear()
    Noting.history.clear()
    Noting.count = 0
    vars(_function_attribute).clear()


@pytest.mark.parametrize("which", SIDES)
def test_what_a_forward_does_besides_is_kept(which: str) -> None:
    step, why = SIDES[which]
    model = nn.Sequential(conv(), nn.ReLU(), Noting(step)).eval()
    other = copy.deepcopy(model)
    fused, report = torchops.fuse(model)
    assert report.fused == {"0": "conv2d + relu"}
    assert list(report.kept) == ["2"]
    assert why in report.kept["2"]
    assert ".py:" in report.kept["2"]
    x = image(1, 4, 5, 5)
    kept = fused.get_submodule("2")
    for _ in range(2):
        states = []
        for inner, run in ((kept, fused), (other[2], other)):
            random.seed(0)
            np.random.seed(0)
            Noting.count = 0
            result = run(x)
            states.append((result, len(inner.log), len(inner.queue), inner.tracker.calls, inner.numbers[0]))
        close(states[0][0], states[1][0], torch.float32, 10)
        assert states[0][1:] == states[1][1:]


def test_proxies_are_not_left_behind() -> None:
    """A trace runs the forward, and what that leaves elsewhere is of no use to anybody."""

    def everything(m: Any, y: Tensor) -> None:
        global LAST
        LOG.append(y)
        LAST = y
        m.history.append(y)
        type(m).last = y
        _function_attribute(m, y)

    LOG.append("mine")
    torchops.fuse(Noting(everything).eval())
    assert LOG == ["mine"]
    assert LAST is None
    assert Noting.history == []
    assert not hasattr(Noting, "last")
    assert vars(_function_attribute) == {}


def test_the_innermost_module_is_named() -> None:
    model = nn.Sequential(nn.Sequential(Noting(lambda m, y: None), Noting(lambda m, y: m.log.append(y))), conv()).eval()
    _, report = torchops.fuse(model)
    assert report.fused == {"0.0.conv": "conv2d", "1": "conv2d"}
    line = Noting.forward.__code__.co_firstlineno
    assert report.kept == {"0.1": f"TraceError: it changes `log` ({__file__}:{line})"}


def test_functions_of_one_line_are_told_apart() -> None:
    first, second, third = _counter(), _counter(), _counter()
    model = nn.Sequential(Noting(lambda m, y: None), *(Noting(step) for step in (first, second, third))).eval()
    _, report = torchops.fuse(model)
    assert list(report.kept) == ["1", "2", "3"]


class Outer(nn.Module):
    """What sets something and then calls others is not what they do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.log = Noting(lambda m, y: None), []

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(1)
        return self.inner(x)


def test_what_runs_is_blamed_not_what_it_calls() -> None:
    _, report = torchops.fuse(nn.Sequential(Outer(), conv()).eval())
    assert list(report.kept) == ["0"]


class Restoring(nn.Module):
    """It leaves all as it was; but its layer is another one meanwhile."""

    def __init__(self, layer: bool) -> None:
        super().__init__()
        self.conv, self.stack, self.scale, self.layer = conv(), [], 1, layer

    def forward(self, x: Tensor) -> Tensor:
        self.stack.append(x)
        if self.layer:
            self.conv.padding = (2, 2)
        y = self.conv(x)
        self.conv.padding = (1, 1)
        self.scale = 1
        return y + self.stack.pop().sum()


def test_what_is_as_before_in_the_end_is_followed() -> None:
    x = image(1, 4, 5, 5)
    for layer, kept in ((False, []), (True, ["0"])):
        model = nn.Sequential(Restoring(layer)).eval()
        fused, report = torchops.fuse(model)
        assert list(report.kept) == kept
        close(fused(x), model(x), torch.float32, 10)


def test_another_threads_random_numbers_are_its_own() -> None:
    """A change that the next trace does not find with the same module was somebody else's."""
    model, is_over = nn.Sequential(conv(), Noting(lambda m, y: None), nn.ReLU()).eval(), threading.Event()

    class Once(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if not is_over.is_set():
                is_over.set()
                other = threading.Thread(target=lambda: (random.random(), LOG.append(1)))
                other.start()
                other.join()
            return x

    model.append(Once().eval())
    model[1]._step = lambda m, y: None if LOG is None else 1
    _, report = torchops.fuse(model)
    assert report.kept == {}
    assert LOG == [1]


class Doubling(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


def test_a_layer_that_overrides_call_is_called_once() -> None:
    """And so it is when the fused model is loaded, which traces what is pickled of it."""
    model, x = nn.Sequential(conv(), Doubling(conv()), nn.ReLU()).eval(), image(1, 4, 5, 5)
    fused, report = torchops.fuse(model)
    assert report.kept == {"1": "it overrides __call__"}
    with torch.no_grad():
        for run in (fused, pickle.loads(pickle.dumps(fused)), torchops.fuse(fused)[0]):
            close(run(x), model(x), torch.float32, 10)
