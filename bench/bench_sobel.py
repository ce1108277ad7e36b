"""Sobel against what people use: forward, training, and the cost of a call."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import torchops
from torchops import reference
from torchops.kernels.geometry import Border
from torchops.measure.rivals import aten_sobel, sobel_providers, threads
from torchops.ops import sobel as ops

from .harness import (
    CLOCK,
    Contest,
    blank,
    close,
    company,
    compete,
    compiled,
    hold,
    laid_out,
    leave_default_stream,
    replay,
    short,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    train: bool = False
    channels_last: bool = False
    threads: int = 1
    busy: bool = False
    """Whether another process keeps a core busy meanwhile."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Inductor of torch 2.14 fails on the gradient of a replicated border of several channels on a CPU."""
        if self.busy:
            return "torchops", "kornia", "opencv"
        others = ("aten", "kornia", "opencv", "scikit-image")
        compiles = DEVICE == "cuda" or not self.train or self.shape[1] == 1
        return ("torchops", *others, "inductor") if compiles else ("torchops", *others)


CASES = (
    Case("video4k.gray.f32", (1, 1, 2160, 3840), torch.float32),
    Case("video4k.gray.u8", (1, 1, 2160, 3840), torch.uint8),
    Case("video4k.rgb.u8.channels_last", (1, 3, 2160, 3840), torch.uint8, channels_last=True),
    Case("imagenet.batch32.f32", (32, 3, 224, 224), torch.float32),
    Case("video4k.gray.f32.train", (1, 1, 2160, 3840), torch.float32, train=True),
    Case("imagenet.batch32.f32.train", (32, 3, 224, 224), torch.float32, train=True),
)
BUSY = Case("video4k.gray.f32.busy", (1, 1, 2160, 3840), torch.float32, busy=True)
"""Timed on a CPU only."""
BATCHES = (
    Case("video4k.batch8.bf16", (8, 1, 2160, 3840), torch.bfloat16),
    Case("video4k.batch8.f32", (8, 1, 2160, 3840), torch.float32),
)
"""Timed on a GPU only."""


def every_case(gpu: bool) -> list[Case]:
    """What there is to time on a GPU, or on a CPU on one thread and on all, wherever this runs."""
    if gpu:
        return [*CASES, *BATCHES]
    counts = sorted({1, os.cpu_count() or 1})
    return [replace(case, threads=count) for case in (*CASES, BUSY) for count in counts]


def telling(gpu: bool) -> list[Case]:
    """The case that says most; on a CPU a smaller one."""
    return [BATCHES[1] if gpu else CASES[0]]


def _input(case: Case) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(0)
    x = torch.randint(0, 256, case.shape, generator=generator, device=DEVICE).to(case.dtype)
    return laid_out(x, case.channels_last).requires_grad_(case.train)


def _inductor(x: Tensor) -> Tensor:
    return aten_sobel(x if x.is_floating_point() else x.float())


def _train(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    return torch.autograd.grad(function(x), x, grad)[0]


def rehearse(case: Case, device: torch.device) -> None:
    """torchops's part of a contest, once, on blank tensors of its sizes: where launches are recorded, those of `contest`."""
    x = blank(case.shape, case.dtype, device, case.channels_last)
    if case.train:
        _train(torchops.sobel, x.requires_grad_(), blank(case.shape, torch.float32, device, False))
    else:
        torchops.sobel(x)


def contest(case: Case, rounds: int, *, inductor: bool = False) -> Contest:
    """Race a case on this machine, on its GPU where it has one: all providers but Inductor, or torchops and Inductor alone."""
    leave_default_stream()
    if inductor:
        torch.compiler.reset()
    x = _input(case)
    exact = x.detach().double().requires_grad_(case.train)
    expected = reference.sobel(exact)
    providers = {name: f for name, f in sobel_providers(x).items() if name in case.providers}
    if inductor:
        providers = {"torchops": providers["torchops"], "inductor": compiled(_inductor)}
    size = x.element_size() if x.is_floating_point() else torch.float32.itemsize
    pixels = x.numel()
    contenders: dict[str, Callable[[], Any]]
    if case.train:
        grad = torch.rand(case.shape, device=DEVICE)
        expected = _train(reference.sobel, exact, grad.double())
        contenders = {name: functools.partial(_train, f, x, grad) for name, f in providers.items()}
        # the forward moves x and y, the backward dy, x and dx
        bytes_least = pixels * size * 5
    else:
        contenders = {name: functools.partial(f, x) for name, f in providers.items()}
        bytes_least = pixels * (x.element_size() + size)

    def check(name: str, result: Tensor) -> float:
        # some libraries know no eps, which shows where there is no edge; gradients of near-flat places amplify rounding
        tolerance = 2e-3 if name in ("opencv", "scikit-image") or case.train else 2e-4
        if case.dtype == torch.bfloat16:
            # a formula of several ops rounds several times, at first numbers as large as the border's 255
            tolerance = 2**-6 * float(expected.max())
        return close(result, expected, tolerance, f"{case.name}, {name}")

    with company(case.busy), threads(case.threads), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        found = hold(
            contenders, check=check, bytes_least=bytes_least, rounds=rounds, device=DEVICE, itemsize=size, apart=inductor,
            floor_bytes=pixels * size * 4 if case.train else bytes_least,
        )  # fmt: skip
    found.info = {
        "case": case.name,
        "threads": case.threads if DEVICE == "cpu" else "gpu",
        "batch": case.shape[0],
        "dtype": short(case.dtype),
        "layout": "channels_last" if case.channels_last else "nchw",
    }
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_sobel:
        pairs = [(case, provider) for case in every_case(DEVICE == "cuda") for provider in case.providers]
        ids = [f"{case.name}-{case.threads}threads-{provider}" for case, provider in pairs]
        metafunc.parametrize(("case", "provider"), pairs, ids=ids)


@pytest.mark.benchmark(timer=CLOCK)
def test_sobel(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    benchmark.group = f"{case.name}, {case.threads} threads"
    compete(contest, case, provider, held, benchmark, request)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "operator", "function"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_call(grad: bool, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """An empty batch: what the public function and the registered operator add to the Python function behind them."""

    def race_calls() -> Contest:
        x = torch.rand(0, 1, 8, 8, requires_grad=grad)
        plain = x.detach()
        arguments = (True, 1e-6, "replicate", 0.0)
        contenders = {
            "torchops": lambda: torchops.sobel(x),
            "operator": lambda: torch.ops.torchops.sobel(x, *arguments),
            "function": lambda: ops._sobel(plain, True, 1e-6, Border("replicate")),
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

    benchmark.group = f"call, {'with' if grad else 'without'} gradient"
    replay(benchmark, held(("call", grad), race_calls), provider)
