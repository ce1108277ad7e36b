"""conv2d and conv_transpose2d on layers of real networks, against ATen and Inductor, in both memory formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops.measure.rivals import threads
from torchops.workloads import CASES, LAYERS, ConvLayer

from .harness import (
    CLOCK,
    Contest,
    blank,
    close,
    compete,
    compiled,
    hold,
    leave_default_stream,
    normal,
    replay,
    short,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
TOLERANCE = {torch.float32: 2**-9 if DEVICE == "cuda" else 1e-4, torch.bfloat16: 2**-7, torch.float16: 2**-9}
"""Of the largest value. A float32 sum of the millions of terms of a weight gradient loses about their root times 6e-8; on a GPU
float32 is multiplied as TF32, with the mantissa of float16. 2**-7 is four roundings to bfloat16, 2**-9 four to float16, and a
formula of several ops makes up to three."""
PASSES = {"forward": 1, "input_grad": 1, "weight_grad": 1, "train": 3}
"""How often each does the arithmetic of the forward pass; "train" is that and all gradients."""
TELLING = (
    ("body", "forward"), ("body", "train"), ("mid", "forward"), ("deep", "train"), ("stem", "forward"),
    ("pointwise", "forward"), ("aspp", "forward"), ("unet-up", "train"), ("depthwise", "forward"), ("depthwise", "weight_grad"),
)  # fmt: skip
"""A layer of every kind, with the passes that are hardest or commonest for it."""


class Epilogue(NamedTuple):
    """What follows the products, in this order."""

    bias: bool = False
    residual: bool = False
    relu: bool = False


ALONE, BIAS, RELU, BLOCK = Epilogue(), Epilogue(True), Epilogue(True, relu=True), Epilogue(True, True, True)
"""The last as at the end of ResNet's blocks."""
SUFFIXES = {ALONE: ".alone", BIAS: "", RELU: ".relu", BLOCK: ".relu.residual"}


@dataclass(frozen=True)
class Case:
    layer: ConvLayer
    """With the batch that is timed."""
    what: str
    channels_last: bool
    dtype: torch.dtype
    epilogue: Epilogue = BIAS

    @property
    def name(self) -> str:
        return f"{self.layer.name}{SUFFIXES[self.epilogue]}.{self.what}.{self.layout}.{short(self.dtype)}"

    @property
    def layout(self) -> str:
        return "channels_last" if self.channels_last else "nchw"

    @property
    def providers(self) -> tuple[str, ...]:
        """Inductor calls the same library for a convolution: it has something to win where there is something to fuse."""
        fuses = self.epilogue.relu or self.layer.padding_mode != "zeros"
        return ("torchops", "aten", "inductor") if fuses and self.what in ("forward", "train") else ("torchops", "aten")


def _sized(layer: ConvLayer, gpu: bool) -> ConvLayer:
    """The batch that networks are trained with on a GPU; on a CPU one image, or as many as make 10 MFLOP."""
    return layer if gpu else layer.with_batch(max(1, math.ceil(1e7 * layer.N / layer.flops)))


def _dtype(gpu: bool) -> torch.dtype:
    return torch.bfloat16 if gpu else torch.float32


def every_case(gpu: bool) -> list[Case]:
    """What there is to time on a GPU, or on a CPU, wherever this runs."""
    layers, goals = ([_sized(layer, gpu) for layer in found] for found in (CASES + LAYERS, CASES))
    dtype = _dtype(gpu)
    cases = [Case(layer, what, form, dtype) for layer in layers for what in PASSES for form in (True, False)]
    blocks = [layer for layer in goals if layer.name in ("body", "mid", "deep")]
    cases += [
        Case(layer, what, form, dtype, BLOCK)
        for layer in blocks
        for what in ("forward", "train")
        for form in (True, False)
    ]
    # these are the cases of the goals in the other dtypes
    cases += [
        Case(layer, what, True, other)
        for other in DTYPES
        for layer in goals
        for what in ("forward", "train")
        if other != dtype
    ]
    return cases + telling(gpu)


def telling(gpu: bool) -> list[Case]:
    """The cases that say most, those in channels_last first: convolutions alone, and forward with a bias and a ReLU too."""
    layers = {layer.name: _sized(layer, gpu) for layer in CASES + LAYERS}
    return [
        Case(layers[name], what, form, _dtype(gpu), epilogue)
        for form in (True, False)
        for name, what in TELLING
        for epilogue in ((ALONE, RELU) if what == "forward" else (ALONE,))
    ]


def _default_on_cpu(case: Case) -> bool:
    """Few enough for ten minutes on two cores, every pass among them."""
    name = case.layer.name
    if case.dtype != torch.float32 or case.epilogue in (ALONE, RELU):
        return False
    if case.epilogue == BLOCK or not case.channels_last or case.what in ("input_grad", "weight_grad"):
        return name in ("body", "depthwise") and (case.channels_last or case.what in ("forward", "train"))
    return name not in ("expand", "grouped", "reflect-stem", "unet-stem", "unet-deep")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_conv2d:
        gpu = DEVICE == "cuda"
        everything = gpu or metafunc.config.getoption("--all-cases")
        cases = [case for case in every_case(gpu) if everything or _default_on_cpu(case)]
        pairs = [(case, provider) for case in cases for provider in case.providers]
        metafunc.parametrize(("case", "provider"), pairs, ids=[f"{case.name}-{provider}" for case, provider in pairs])


def _bias_and_residual(case: Case, rest: tuple[Tensor, ...]) -> tuple[Tensor | None, Tensor | None]:
    return rest[0] if case.epilogue.bias else None, rest[-1] if case.epilogue.residual else None


def _formula(case: Case, x: Tensor, w: Tensor, *rest: Tensor) -> Tensor:
    """As most people write it, but for the ReLU."""
    layer, (b, residual) = case.layer, _bias_and_residual(case, rest)
    if layer.transposed:
        return F.conv_transpose2d(x, w, b, layer.stride, layer.padding)
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, (padding,) * 4, mode=layer.padding_mode), 0
    y = F.conv2d(x, w, b, layer.stride, padding, layer.dilation, layer.groups)
    return y if residual is None else y + residual


def _theirs(case: Case, *tensors: Tensor) -> Tensor:
    y = _formula(case, *tensors)
    return F.relu(y) if case.epilogue.relu else y


def _ours(case: Case, x: Tensor, w: Tensor, *rest: Tensor) -> Tensor:
    b, residual = _bias_and_residual(case, rest)
    if case.epilogue.relu:
        return case.layer(x, w, b, residual=residual, activation="relu")
    return case.layer(x, w, b)


def _tensors(case: Case, make: Callable[[Sequence[int]], Tensor]) -> tuple[list[Tensor], Tensor]:
    """What each provider computes from: x, w, and the bias and the residual that the case has; and dy."""
    layer, epilogue = case.layer, case.epilogue
    shapes: list[Sequence[int]] = [layer.input_shape, layer.weight_shape]
    shapes += [(layer.K,)] * epilogue.bias + [layer.output_shape] * epilogue.residual
    return [make(shape) for shape in shapes], make(layer.output_shape)


def _pass(
    what: str, function: Callable[..., Tensor], tensors: Sequence[Tensor], dy: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
    """The pass to time, by what it returns."""
    every = range(len(tensors))
    needed = {"forward": (), "input_grad": (0,), "weight_grad": every[1:3], "train": every}[what]
    leaves = [t.detach().requires_grad_(i in needed) for i, t in enumerate(tensors)]
    wanted = [leaves[i] for i in needed]
    if what == "forward":
        return lambda: (function(*leaves),)
    if what == "train":
        return lambda: torch.autograd.grad(function(*leaves), wanted, dy)
    y = function(*leaves)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def rehearse(case: Case, device: torch.device) -> None:
    """torchops's part of a contest, once, on blank tensors of its sizes.

    Where launches are recorded, CPU tensors take no room and nothing is computed: these are the launches of `contest` on
    the GPU that they are recorded for.
    """
    tensors, dy = _tensors(case, lambda shape: blank(shape, case.dtype, device, case.channels_last))
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        _pass(case.what, partial(_ours, case), tensors, dy)()


def contest(case: Case, rounds: int, *, inductor: bool = False) -> Contest:
    """Race a case on this machine, on its GPU where it has one: all providers but Inductor, or torchops and Inductor alone."""
    leave_default_stream()
    if inductor:
        torch.compiler.reset()
    layer, generator = case.layer, torch.Generator(DEVICE).manual_seed(0)
    tensors, dy = _tensors(case, lambda shape: normal(shape, case.dtype, generator, case.channels_last))
    # this makes results of about 1, as the initialisation of a network does
    tensors[1] *= (layer.flops / 2 / math.prod(layer.output_shape)) ** -0.5
    exact = [t.double() for t in tensors]
    if case.epilogue.relu and case.what != "forward":
        # where rounding can decide about the sign, it decides about the gradient
        dy *= _formula(case, *exact).abs() > 0.05
    expected = _pass(case.what, partial(_theirs, case), exact, dy.double())()
    functions: dict[str, Callable[..., Tensor]] = {"torchops": partial(_ours, case)}
    if inductor:
        functions["inductor"] = compiled(lambda *tensors: _theirs(case, *tensors))
    else:
        functions["aten"] = partial(_theirs, case)

    def check(name: str, results: tuple[Tensor, ...]) -> float:
        return max(
            close(actual, exactly, TOLERANCE[case.dtype] * float(exactly.abs().max()), f"{case.name}, {name}")
            for actual, exactly in zip(results, expected, strict=True)
        )

    residual = case.epilogue.residual * math.prod(layer.output_shape)
    elements = PASSES[case.what] * layer.elements + residual
    # three passes read what one can leave in the L2 cache
    floor = min(PASSES[case.what], 2) * layer.elements + residual
    with threads(1), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        found = hold(
            {name: _pass(case.what, function, tensors, dy) for name, function in functions.items()},
            check=check, bytes_least=elements * case.dtype.itemsize, flops=PASSES[case.what] * layer.flops, rounds=rounds,
            device=DEVICE, floor_bytes=floor * case.dtype.itemsize, itemsize=case.dtype.itemsize, apart=inductor,
        )  # fmt: skip
    found.info = {
        "case": case.name,
        "threads": 1 if DEVICE == "cpu" else "gpu",
        "layer": layer.layer,
        "batch": layer.N,
        "dtype": short(case.dtype),
        "layout": case.layout,
    }
    return found


@pytest.mark.benchmark(timer=CLOCK)
def test_conv2d(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    benchmark.group = case.name
    compete(contest, case, provider, held, benchmark, request)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d"])
def test_call(op: str, grad: bool, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """So small an image that the call is what takes the time; on a CPU, where nothing is launched."""
    what = "train" if grad else "forward"

    def race_calls() -> Contest:
        x, w, b = torch.rand(1, 3, 4, 4), torch.rand(3, 3, 3, 3), torch.rand(3)
        functions: dict[str, Callable[..., Tensor]] = {"torchops": getattr(torchops, op), "aten": getattr(F, op)}
        dy = torch.rand_like(functions["aten"](x, w, b))
        contenders = {name: _pass(what, function, (x, w, b), dy) for name, function in functions.items()}
        with threads(1):
            found = hold(
                contenders,
                check=lambda name, results: None,
                bytes_least=0,
                rounds=2 * request.config.getoption("--rounds"),
            )
        found.info = {
            "case": f"call.{op}.{'training' if grad else 'inference'}",
            "threads": 1,
            "dtype": "f32",
            "layout": "nchw",
        }
        return found

    benchmark.group = f"call, {op}, {'with' if grad else 'without'} gradient"
    replay(benchmark, held(("call", op, grad), race_calls), provider)
