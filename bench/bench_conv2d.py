"""conv2d and conv_transpose2d on layers of real networks, against ATen and Inductor, in both memory formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops.providers import threads

from .harness import CLOCK, Contest, close, compiled, has_compiler, hold, replay, short, skip_unless_raced
from .layers import CASES, LAYERS, ConvLayer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
TOLERANCE = {torch.float32: 2**-9 if DEVICE == "cuda" else 1e-4, torch.bfloat16: 2**-7, torch.float16: 2**-9}
"""Of the largest value. A float32 sum of the millions of terms of a weight gradient loses about their root times 6e-8; on a GPU
float32 is multiplied as TF32, with the mantissa of float16. 2**-7 is four roundings to bfloat16, 2**-9 four to float16, and a
formula of several ops makes up to three."""
PASSES = {"forward": 1, "input_grad": 1, "weight_grad": 1, "train": 3}
"""How often each does the arithmetic of the forward pass; "train" is that and all gradients."""


@dataclass(frozen=True)
class Case:
    layer: ConvLayer
    what: str
    channels_last: bool
    block: bool = False
    dtype: torch.dtype = DTYPE
    """With a residual and a ReLU, as at the end of ResNet's blocks."""

    @property
    def name(self) -> str:
        block = ".relu.residual" if self.block else ""
        return f"{self.layer.name}{block}.{self.what}.{self.layout}.{short(self.dtype)}"

    @property
    def layout(self) -> str:
        return "channels_last" if self.channels_last else "nchw"

    @property
    def providers(self) -> tuple[str, ...]:
        """Inductor calls the same library for a convolution: it has something to win where there is something to fuse."""
        fuses = (self.block or self.layer.padding_mode != "zeros") and self.what in ("forward", "train")
        return ("torchops", "aten", "inductor") if fuses else ("torchops", "aten")


def _every_case() -> list[Case]:
    cases = [Case(layer, what, form) for layer in CASES + LAYERS for what in PASSES for form in (True, False)]
    blocks = [layer for layer in CASES if layer.name in ("body", "mid", "deep")]
    cases += [
        Case(layer, what, form, True) for layer in blocks for what in ("forward", "train") for form in (True, False)
    ]
    # the cases of the goals in the other dtypes
    return cases + [
        Case(layer, what, True, dtype=dtype)
        for dtype in DTYPES
        for layer in CASES
        for what in ("forward", "train")
        if dtype != DTYPE
    ]


def _default_on_cpu(case: Case) -> bool:
    """Few enough for ten minutes on two cores, every pass among them."""
    name = case.layer.name
    if case.dtype != DTYPE:
        return False
    if case.block or not case.channels_last or case.what in ("input_grad", "weight_grad"):
        return name in ("body", "depthwise") and (case.channels_last or case.what in ("forward", "train"))
    return name not in ("expand", "grouped", "reflect-stem", "unet-stem", "unet-deep")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_conv2d:
        everything = DEVICE == "cuda" or metafunc.config.getoption("--all-cases")
        cases = [case for case in _every_case() if everything or _default_on_cpu(case)]
        pairs = [(case, provider) for case in cases for provider in case.providers]
        metafunc.parametrize(("case", "provider"), pairs, ids=[f"{case.name}-{provider}" for case, provider in pairs])


def _on_this_device(layer: ConvLayer) -> ConvLayer:
    """The batch that networks are trained with on a GPU; on a CPU one image, or as many as make 10 MFLOP."""
    return layer if DEVICE == "cuda" else layer.with_batch(max(1, math.ceil(1e7 * layer.N / layer.flops)))


def _random(shape: Sequence[int], case: Case, generator: torch.Generator) -> Tensor:
    t = torch.randn(shape, generator=generator).to(DEVICE, case.dtype)
    return t.contiguous(memory_format=torch.channels_last) if case.channels_last and t.dim() == 4 else t


def _formula(layer: ConvLayer, x: Tensor, w: Tensor, b: Tensor, residual: Tensor | None = None) -> Tensor:
    """As most people write it, but for the ReLU."""
    if layer.transposed:
        return F.conv_transpose2d(x, w, b, layer.stride, layer.padding)
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, (padding,) * 4, mode=layer.padding_mode), 0
    y = F.conv2d(x, w, b, layer.stride, padding, layer.dilation, layer.groups)
    return y if residual is None else y + residual


def _functions(case: Case, layer: ConvLayer) -> dict[str, Callable[..., Tensor]]:
    """What each provider computes from x, w, b and, in a block, the residual."""

    def ours(*tensors: Tensor) -> Tensor:
        return layer(*tensors[:3], residual=tensors[3], activation="relu") if case.block else layer(*tensors)

    def aten(*tensors: Tensor) -> Tensor:
        y = _formula(layer, *tensors)
        return F.relu(y) if case.block else y

    functions: dict[str, Callable[..., Tensor]] = {"torchops": ours, "aten": aten}
    if "inductor" in case.providers and has_compiler():
        functions["inductor"] = compiled(aten)
    return functions


def _pass(
    what: str, function: Callable[..., Tensor], tensors: Sequence[Tensor], dy: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
    """The pass to time, by what it returns."""
    needed = {"forward": (), "input_grad": (0,), "weight_grad": (1, 2), "train": range(len(tensors))}[what]
    leaves = [t.detach().requires_grad_(i in needed) for i, t in enumerate(tensors)]
    wanted = [leaves[i] for i in needed]
    if what == "forward":
        return lambda: (function(*leaves),)
    if what == "train":
        return lambda: torch.autograd.grad(function(*leaves), wanted, dy)
    y = function(*leaves)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def _contest(case: Case, rounds: int) -> Contest:
    torch.compiler.reset()
    layer, generator = _on_this_device(case.layer), torch.Generator().manual_seed(0)
    shapes = [layer.input_shape, layer.weight_shape, (layer.K,)] + [layer.output_shape] * case.block
    tensors = [_random(shape, case, generator) for shape in shapes]
    # so that results are about 1, as networks are initialised
    tensors[1] *= (layer.flops / 2 / math.prod(layer.output_shape)) ** -0.5
    dy = _random(layer.output_shape, case, generator)
    exact = [t.double() for t in tensors]
    if case.block:
        # where rounding can decide about the sign, it decides about the gradient
        dy *= _formula(layer, *exact).abs() > 0.05
    functions = _functions(case, layer)
    expected = _pass(case.what, functions["aten"], exact, dy.double())()

    def check(name: str, results: tuple[Tensor, ...]) -> float:
        return max(
            close(actual, exactly, TOLERANCE[case.dtype] * float(exactly.abs().max()), f"{case.name}, {name}")
            for actual, exactly in zip(results, expected, strict=True)
        )

    residual = case.block * math.prod(layer.output_shape)
    elements = PASSES[case.what] * layer.elements + residual
    # three passes read what one can leave in the L2 cache
    floor = min(PASSES[case.what], 2) * layer.elements + residual
    with threads(1), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        contest = hold(
            {name: _pass(case.what, function, tensors, dy) for name, function in functions.items()},
            check=check, bytes_least=elements * case.dtype.itemsize, flops=PASSES[case.what] * layer.flops, rounds=rounds,
            device=DEVICE, floor_bytes=floor * case.dtype.itemsize, itemsize=case.dtype.itemsize, name=case.name,
        )  # fmt: skip
    contest.info = {
        "case": case.name,
        "threads": 1 if DEVICE == "cpu" else "gpu",
        "layer": layer.layer,
        "batch": layer.N,
        "dtype": short(case.dtype),
        "layout": case.layout,
    }
    return contest


@pytest.mark.benchmark(timer=CLOCK)
def test_conv2d(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    contest = held(case, lambda: _contest(case, request.config.getoption("--rounds")))
    skip_unless_raced(contest, provider)
    benchmark.group = case.name
    replay(benchmark, contest, provider)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d"])
def test_call(op: str, grad: bool, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """So small an image that the call is what takes the time; on a CPU, where nothing is launched."""
    what = "train" if grad else "forward"

    def contest() -> Contest:
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

    contest_held = held(("call", op, grad), contest)
    benchmark.group = f"call, {op}, {'with' if grad else 'without'} gradient"
    replay(benchmark, contest_held, provider)
