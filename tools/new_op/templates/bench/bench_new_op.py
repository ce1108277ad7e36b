"""new_op against ATen and Inductor: forward and training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import torchops
from torchops import reference
from torchops.measure.rivals import threads

from .harness import CLOCK, Contest, blank, close, compete, compiled, hold, leave_default_stream, normal, short

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCALE = 0.5


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    train: bool = False
    channels_last: bool = False

    @property
    def providers(self) -> tuple[str, ...]:
        return "torchops", "aten", "inductor"


def every_case(gpu: bool) -> list[Case]:
    """What there is to time on a GPU, or on a CPU, wherever this runs."""
    batch, dtype = (8, torch.bfloat16) if gpu else (1, torch.float32)
    return [
        Case(
            f"new_op.unet.{what}.{layout}.{short(dtype)}",
            (batch, 64, 256, 256),
            dtype,
            what == "train",
            layout != "nchw",
        )
        for what in ("forward", "train")
        for layout in ("nchw", "channels_last")
    ]


def telling(gpu: bool) -> list[Case]:
    """The case that says most."""
    return every_case(gpu)[:1]


def _ours(x: Tensor) -> Tensor:
    return torchops.new_op(x, SCALE)


def _aten(x: Tensor) -> Tensor:
    return x * SCALE


def _exactly(x: Tensor) -> Tensor:
    return reference.new_op(x, SCALE)


def _pass(case: Case, function: Callable[[Tensor], Tensor], x: Tensor, dy: Tensor) -> Callable[[], Tensor]:
    """The pass to time: the result, or the gradient."""
    leaf = x.detach().requires_grad_(case.train)
    return lambda: torch.autograd.grad(function(leaf), leaf, dy)[0] if case.train else function(leaf)


def rehearse(case: Case, device: torch.device) -> None:
    """torchops's part of a contest, once, on blank tensors of its sizes: where launches are recorded, those of `contest`."""
    x, dy = (blank(case.shape, case.dtype, device, case.channels_last) for _ in range(2))
    _pass(case, _ours, x, dy)()


def contest(case: Case, rounds: int, *, inductor: bool = False) -> Contest:
    """Race a case on this machine, on its GPU where it has one: all providers but Inductor, or torchops and Inductor alone."""
    leave_default_stream()
    if inductor:
        torch.compiler.reset()
    generator = torch.Generator(DEVICE).manual_seed(0)
    x, dy = (normal(case.shape, case.dtype, generator, case.channels_last) for _ in range(2))
    other = {"inductor": compiled(_aten)} if inductor else {"aten": _aten}
    expected = _pass(case, _exactly, x.double(), dy.double())()
    tolerance = 2**-7 * float(expected.abs().max())
    with threads(1):
        found = hold(
            {name: _pass(case, function, x, dy) for name, function in {"torchops": _ours, **other}.items()},
            check=lambda name, result: close(result, expected, tolerance, f"{case.name}, {name}"),
            bytes_least=2 ** (1 + case.train) * x.nbytes,
            rounds=rounds,
            device=DEVICE,
            itemsize=x.element_size(),
            apart=inductor,
        )
    found.info = {
        "case": case.name,
        "threads": 1 if DEVICE == "cpu" else "gpu",
        "batch": case.shape[0],
        "dtype": short(case.dtype),
        "layout": "channels_last" if case.channels_last else "nchw",
    }
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    pairs = [(case, provider) for case in every_case(DEVICE == "cuda") for provider in case.providers]
    metafunc.parametrize(("case", "provider"), pairs, ids=[f"{case.name}-{provider}" for case, provider in pairs])


@pytest.mark.benchmark(timer=CLOCK)
def test_new_op(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    benchmark.group = case.name
    compete(contest, case, provider, held, benchmark, request)
