"""The backend in several threads at once: none feels another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from torchops.compile import Backend

from .networks import Block, image, small

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def _block(k: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(Block(3, k, 1), Block(k, k, 2)).eval()


@pytest.mark.skipif(
    torch.__version__.startswith("2.11."),
    reason="torch 2.11's Dynamo dies of a segmentation fault when it compiles after several threads did, for any backend",
)
def test_three_threads_compile_beside_a_fourth_that_runs() -> None:
    x = image(2, 3, 16, 16)
    beside = small()
    with torch.no_grad():
        expected = beside(x)
    stop, failures, calls = threading.Event(), [], [0]

    def go_on() -> None:
        with torch.no_grad():
            while not stop.is_set():
                calls[0] += 1
                if not torch.equal(beside(x), expected):
                    failures.append(calls[0])

    def compiled(build: Callable[[], nn.Module]) -> float:
        with torch.no_grad():
            model = build()
            run = torch.compile(model, backend=Backend(rest="eager"))
            return max(float((run(x) - model(x)).abs().max()) for _ in range(3))

    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(go_on)
        errors = list(pool.map(compiled, [_block(4), _block(5), _block(6)]))
        stop.set()
        running.result()
    assert max(errors) < 1e-5
    assert failures == []
    assert calls[0] > 10


def test_one_compiled_model_in_three_threads_while_its_weights_change() -> None:
    model = _block(4)()
    run, x = torch.compile(model, backend=Backend(rest="eager")), image(2, 3, 16, 16)
    with torch.no_grad():
        run(x)

    def call(i: int) -> None:
        with torch.no_grad():
            run(x)
            if i % 10 == 0:
                for parameter in model.parameters():
                    parameter.mul_(0.99)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(call, range(60)))
    with torch.no_grad():
        assert torch.allclose(run(x), model(x), atol=1e-5)
