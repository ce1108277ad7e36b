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
from torchops.providers import aten_sobel, sobel_providers, threads

from .harness import CLOCK, Contest, close, compiled, has_compiler, hold, replay, short, skip_unless_raced

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COUNTS = [1] if DEVICE == "cuda" else sorted({1, os.cpu_count() or 1})
"""Threads."""


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
    *[Case("video4k.batch8.bf16", (8, 1, 2160, 3840), torch.bfloat16)] * (DEVICE == "cuda"),
    *[Case("video4k.batch8.f32", (8, 1, 2160, 3840), torch.float32)] * (DEVICE == "cuda"),
)


def _input(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, case.shape, generator=generator).to(case.dtype)
    x = x.contiguous(memory_format=torch.channels_last) if case.channels_last else x
    return x.to(DEVICE).requires_grad_(case.train)


def _inductor(x: Tensor) -> Tensor:
    return aten_sobel(x if x.is_floating_point() else x.float())


def _train(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    return torch.autograd.grad(function(x), x, grad)[0]


def _contest(case: Case, count: int, rounds: int) -> Contest:
    torch.compiler.reset()
    x = _input(case)
    exact = x.detach().double().requires_grad_(case.train)
    expected = reference.sobel(exact)
    providers = sobel_providers(x)
    # Inductor of torch 2.14 fails on the gradient of a replicated border of several channels on a CPU
    if has_compiler() and (DEVICE == "cuda" or not case.train or case.shape[1] == 1):
        providers["inductor"] = compiled(_inductor)
    size = x.element_size() if x.is_floating_point() else torch.float32.itemsize
    pixels = x.numel()
    contenders: dict[str, Callable[[], Any]]
    if case.train:
        grad = torch.rand(case.shape).to(DEVICE)
        expected = _train(reference.sobel, exact, grad.double())
        contenders = {name: functools.partial(_train, f, x, grad) for name, f in providers.items()}
        # forward: x and y; backward: dy, x and dx
        bytes_least = pixels * size * 5
    else:
        contenders = {name: functools.partial(f, x) for name, f in providers.items()}
        bytes_least = pixels * (x.element_size() + size)

    def check(name: str, result: Tensor) -> float:
        # some know no eps, which is seen where there is no edge; gradients of near-flat places amplify rounding
        tolerance = 2e-3 if name in ("opencv", "scikit-image") or case.train else 2e-4
        if case.dtype == torch.bfloat16:
            # formulas of several ops round as often, the first ones bytes of a border of 255
            tolerance = 2**-6 * float(expected.max())
        return close(result, expected, tolerance, f"{case.name}, {name}")

    with threads(count), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        contest = hold(
            contenders, check=check, bytes_least=bytes_least, rounds=rounds, device=DEVICE, itemsize=size, name=case.name,
            floor_bytes=pixels * size * 4 if case.train else bytes_least,
        )  # fmt: skip
    contest.info = {
        "case": case.name,
        "threads": count if DEVICE == "cpu" else "gpu",
        "batch": case.shape[0],
        "dtype": short(case.dtype),
        "layout": "channels_last" if case.channels_last else "nchw",
    }
    return contest


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten", "inductor", "kornia", "opencv", "scikit-image"])
@pytest.mark.parametrize("count", COUNTS, ids=lambda n: f"{n}threads")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_sobel(
    case: Case, count: int, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest
) -> None:
    contest = held((case, count), lambda: _contest(case, count, request.config.getoption("--rounds")))
    skip_unless_raced(contest, provider)
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
        found.info = {
            "case": f"call.sobel.{'training' if grad else 'inference'}",
            "threads": 1,
            "dtype": "f32",
            "layout": "nchw",
        }
        return found

    contest_held = held(("call", grad), contest)
    benchmark.group = f"call, {'with' if grad else 'without'} gradient"
    replay(benchmark, contest_held, provider)
