"""Sobel against what people use: forward, training, and the cost of a call."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import torchops
from torchops import reference
from torchops.ops import sobel as ops
from torchops.providers import sobel_providers, threads

from .harness import CLOCK, Contest, close, hold, replay


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    train: bool = False
    channels_last: bool = False


CASES = (
    Case("video4k.gray.f32", (1, 1, 2160, 3840), torch.float32),
    Case("video4k.gray.u8", (1, 1, 2160, 3840), torch.uint8),
    Case("video4k.rgb.u8.channels_last", (1, 3, 2160, 3840), torch.uint8, channels_last=True),
    Case("imagenet.batch32.f32", (32, 3, 224, 224), torch.float32),
    Case("video4k.gray.f32.train", (1, 1, 2160, 3840), torch.float32, train=True),
    Case("imagenet.batch32.f32.train", (32, 3, 224, 224), torch.float32, train=True),
)


def _input(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, case.shape, generator=generator).to(case.dtype)
    x = x.contiguous(memory_format=torch.channels_last) if case.channels_last else x
    return x.requires_grad_(case.train)


def _train(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    return torch.autograd.grad(function(x), x, grad)[0]


def _contest(case: Case, count: int, rounds: int) -> Contest:
    x = _input(case)
    exact = x.detach().double().requires_grad_(case.train)
    expected = reference.sobel(exact)
    providers = sobel_providers(x)
    size = torch.float32.itemsize
    pixels = x.numel()
    contenders: dict[str, Callable[[], Any]]
    if case.train:
        grad = torch.rand(case.shape)
        expected = _train(reference.sobel, exact, grad.double())
        contenders = {name: functools.partial(_train, f, x, grad) for name, f in providers.items()}
        # forward: x and y; backward: dy, x and dx
        bytes_least = pixels * size * 5
    else:
        contenders = {name: functools.partial(f, x) for name, f in providers.items()}
        bytes_least = pixels * (x.element_size() + size)

    def check(name: str, result: Tensor) -> None:
        # OpenCV knows no eps, which is seen where there is no edge; gradients of near-flat places amplify rounding
        close(result, expected, 2e-3 if name == "opencv" or case.train else 2e-4, f"{case.name}, {name}")

    with threads(count):
        contest = hold(contenders, check=check, bytes_least=bytes_least, rounds=rounds)
    contest.info = {"case": case.name, "threads": count}
    return contest


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten", "kornia", "opencv"])
@pytest.mark.parametrize("count", sorted({1, os.cpu_count() or 1}), ids=lambda n: f"{n}threads")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_sobel(
    case: Case, count: int, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest
) -> None:
    contest = held((case, count), lambda: _contest(case, count, request.config.getoption("--rounds")))
    if provider not in contest.times:
        pytest.skip(f"{provider} does not take {case.name}, or is not installed")
    benchmark.group = f"{case.name}, {count} threads"
    replay(benchmark, contest, provider)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "operator", "function"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_call(grad: bool, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """An empty batch: what the public function and the registered operator add to the Python function behind them."""

    def contest() -> Contest:
        x = torch.rand(0, 1, 8, 8, requires_grad=grad)
        plain = x.detach()
        arguments = (True, 1e-6, "replicate", 0.0)
        contenders = {
            "torchops": lambda: torchops.sobel(x),
            "operator": lambda: torch.ops.torchops.sobel(x, *arguments),
            "function": lambda: ops._sobel(plain, *arguments),
        }
        with threads(1):
            found = hold(
                contenders,
                check=lambda name, y: None,
                bytes_least=0,
                rounds=2 * request.config.getoption("--rounds"),
            )
        found.info = {"case": f"call.sobel.{'training' if grad else 'inference'}", "threads": 1}
        return found

    contest_held = held(("call", grad), contest)
    benchmark.group = f"call, {'with' if grad else 'without'} gradient"
    replay(benchmark, contest_held, provider)
