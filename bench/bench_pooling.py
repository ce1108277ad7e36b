"""Pooling and unpooling in layers of real networks, against ATen and what people write, in both memory formats."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import reference
from torchops.providers import threads

from .harness import CLOCK, Contest, close, compiled, has_compiler, hold, replay, short, skip_unless_raced
from .layers import POOLS, PoolLayer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
OTHER_DTYPES = tuple(d for d in (torch.bfloat16, torch.float32) if d != DTYPE)
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-6}
"""Of the largest value: sums have nine terms at most, and in bfloat16 ATen rounds some of them after every one."""
RETURN_INDICES: dict[str, Any] = {"none": False, "position": True, "offset": "offset"}
FUSED = ("resnet.stem", "erosion", "decoder.avg_unpool")
"""The layers that Inductor is timed on on a CPU, where it takes ten seconds to compile one."""
CHECKED = 1 << (22 if DEVICE == "cuda" else 25)
"""Of more pixels, those of all windows counted, the first and the last image are checked."""


@dataclass(frozen=True)
class Case:
    layer: PoolLayer
    what: str
    """forward, or train: that and the gradient."""
    channels_last: bool
    dtype: torch.dtype = DTYPE

    @property
    def name(self) -> str:
        return f"{self.layer.name}.{self.what}.{self.layout}.{short(self.dtype)}"

    @property
    def layout(self) -> str:
        return "channels_last" if self.channels_last else "nchw"

    @property
    def providers(self) -> tuple[str, ...]:
        """ATen has no average unpooling. Without overlap it is interpolation, which some scale by hand.

        Inductor compiles what has no indices; it has something to fuse where the formula is more than a call.
        """
        layer = self.layer
        others: tuple[str, ...] = ("aten",)
        if layer.op == "avg_unpool2d":
            others = ("conv_transpose",) if layer.overlaps else ("interpolate", "interpolate+scale")
        elif layer.op == "min_pool2d":
            # of images: an erosion by a square
            others = ("aten", "kornia", "opencv") if self.what == "forward" else ("aten", "kornia")
        fuses = layer.indices == "none" and (DEVICE == "cuda" or layer.name in FUSED)
        return ("torchops", *others, "inductor") if fuses else ("torchops", *others)


def _every_case() -> list[Case]:
    cases = [Case(layer, what, form) for layer in POOLS for what in ("forward", "train") for form in (True, False)]
    cases += [Case(layer, "forward", True, dtype) for layer in POOLS for dtype in OTHER_DTYPES if layer.C > 1]
    # of one channel, the formats are the same
    return [case for case in cases if case.layer.C > 1 or not case.channels_last]


def _default_on_cpu(case: Case) -> bool:
    """Few enough for four minutes on two cores: of large images, and of ATen's slow pools in NCHW, the forward pass."""
    layer = case.layer
    if case.dtype != DTYPE:
        return False
    if layer.indices == "offset" and not layer.unpools:
        # slow, and of no use there: ATen finds positions
        return case.what == "forward" and layer.H < 512
    if layer.H == 512 and layer.C > 1:
        return case.what == "forward" and (case.channels_last or layer.unpools)
    return case.what == "forward" or case.channels_last or layer.unpools or layer.C == 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_pooling:
        everything = DEVICE == "cuda" or metafunc.config.getoption("--all-cases")
        cases = [case for case in _every_case() if everything or _default_on_cpu(case)]
        pairs = [(case, provider) for case in cases for provider in case.providers]
        metafunc.parametrize(("case", "provider"), pairs, ids=[f"{case.name}-{provider}" for case, provider in pairs])


def _random(shape: tuple[int, ...], case: Case, generator: torch.Generator) -> Tensor:
    t = torch.randn(shape, generator=generator).to(DEVICE, case.dtype)
    return t.contiguous(memory_format=torch.channels_last) if case.channels_last else t


def _function(module: ModuleType, layer: PoolLayer, indices: Tensor | None) -> Callable[[Tensor], Any]:
    """The layer of torchops, or of its reference."""
    op, window, size = getattr(module, layer.op), (layer.kernel, layer.stride, layer.padding), (layer.H, layer.W)
    if layer.op == "max_unpool2d":
        return lambda x: op(x, indices, *window, size)
    if layer.op == "avg_unpool2d":
        return lambda x: op(x, *window, size)
    if layer.op == "avg_pool2d":
        return lambda x: op(x, *window)
    return lambda x: op(x, *window, return_indices=RETURN_INDICES[layer.indices])


def _others(case: Case, positions: Tensor | None) -> dict[str, Callable[[Tensor], Any]]:
    """The same as most people write it, and compiled."""
    others = _eager(case.layer, positions, case.dtype)
    if "inductor" in case.providers and has_compiler():
        others["inductor"] = compiled(next(iter(others.values())))
    if "kornia" in case.providers and find_spec("kornia"):
        others["kornia"] = _kornia_erosion(case.layer)
    if "opencv" in case.providers and find_spec("cv2") and DEVICE == "cpu" and case.dtype == torch.float32:
        others["opencv"] = _opencv_erosion(case.layer)
    return others


def _kornia_erosion(layer: PoolLayer) -> Callable[[Tensor], Tensor]:
    import kornia

    window = torch.ones(layer.kernel, layer.kernel, device=DEVICE)
    return lambda x: kornia.morphology.erosion(x, window.to(x.dtype))


def _opencv_erosion(layer: PoolLayer) -> Callable[[Tensor], Tensor]:
    """Plane by plane."""
    import cv2

    window = torch.ones(layer.kernel, layer.kernel, dtype=torch.uint8).numpy()
    return lambda x: torch.stack([torch.from_numpy(cv2.erode(p, window)) for p in x.flatten(0, 1).numpy()]).view(
        x.shape
    )


def _eager(layer: PoolLayer, positions: Tensor | None, dtype: torch.dtype) -> dict[str, Callable[[Tensor], Any]]:
    window, size = (layer.kernel, layer.stride, layer.padding), (layer.H, layer.W)
    returns = layer.indices != "none"
    if layer.op == "max_pool2d":
        return {"aten": lambda x: F.max_pool2d(x, *window, return_indices=returns)}
    if layer.op == "min_pool2d":
        return {"aten": lambda x: -F.max_pool2d(-x, *window)}
    if layer.op == "avg_pool2d":
        return {"aten": lambda x: F.avg_pool2d(x, *window)}
    if layer.op == "max_unpool2d":
        return {"aten": lambda x: F.max_unpool2d(x, positions, *window, size)}
    if layer.overlaps:
        ones = torch.ones(layer.C, 1, layer.kernel, layer.kernel, device=DEVICE, dtype=dtype)
        spread = functools.partial(
            F.conv_transpose2d, weight=ones, stride=layer.stride, padding=layer.padding, groups=layer.C
        )
        count = spread(ones.new_ones(1, *layer.window_shape[1:]))
        return {"conv_transpose": lambda x: spread(x) / count}
    return {
        "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
        "interpolate+scale": lambda x: F.interpolate(x, scale_factor=2, mode="nearest") * 1.0,
    }


def _pass(what: str, function: Callable[[Tensor], Any], x: Tensor, dy: Tensor) -> Callable[[], Any]:
    """The pass to time: the result, with the indices that belong to it; or the gradient."""
    leaf = x.detach().requires_grad_(what == "train")
    if what == "forward":
        return lambda: function(leaf)

    def train() -> Tensor:
        y = function(leaf)
        return torch.autograd.grad(y[0] if isinstance(y, tuple) else y, leaf, dy)[0]

    return train


def _bytes_least(layer: PoolLayer, what: str, dtype: torch.dtype) -> int:
    """The backward pass moves as much as the forward pass; of the maxima, it has to be told where they were."""
    image, windows = math.prod(layer.image_shape), math.prod(layer.window_shape)
    index = {"none": int(what == "train" and not layer.op.startswith("avg")), "position": 8, "offset": 1}[layer.indices]
    return (2 if what == "train" else 1) * ((image + windows) * dtype.itemsize + windows * index)


def _contest(case: Case, rounds: int) -> Contest:
    torch.compiler.reset()
    layer = case.layer if DEVICE == "cuda" else case.layer.with_batch(case.layer.on_cpu)
    generator = torch.Generator().manual_seed(0)
    image = _random(layer.image_shape, case, generator)
    windows = _random(layer.window_shape, case, generator)
    x, dy = (windows, image) if layer.unpools else (image, windows)
    positions = indices = None
    if layer.op == "max_unpool2d":
        window = layer.kernel, layer.stride, layer.padding
        _, positions = F.max_pool2d(image, *window, return_indices=True)
        _, indices = torchops.max_pool2d(image, *window, return_indices=RETURN_INDICES[layer.indices])
    functions = {
        "torchops": _function(torchops, layer, indices),
        **_others(dataclasses.replace(case, layer=layer), positions),
    }
    pixels = math.prod(layer.window_shape) * layer.kernel**2
    some = slice(None, None, 1 if pixels <= CHECKED else max(1, layer.N - 1))

    @functools.cache
    def expected(indices: str) -> tuple[Tensor, ...]:
        where = None if positions is None else positions[some].cpu()
        exact = _function(reference, dataclasses.replace(layer, indices=indices), where)
        return _tensors(_pass(case.what, exact, x[some].cpu().double(), dy[some].cpu().double())())

    def check(name: str, results: Any) -> float:
        returned = layer.indices if name == "torchops" and not layer.unpools else "position"
        exact = expected("none" if layer.indices == "none" else returned)
        errors = []
        for actual, exactly in zip(_tensors(results), exact, strict=True):
            tolerance = TOLERANCE[case.dtype] * float(exactly.abs().max()) if actual.is_floating_point() else 0
            errors.append(close(actual[some].cpu(), exactly, tolerance, f"{case.name}, {name}"))
        return max(errors)

    with threads(1), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        contest = hold(
            {name: _pass(case.what, function, x, dy) for name, function in functions.items()},
            check=check, bytes_least=_bytes_least(layer, case.what, case.dtype), rounds=rounds, device=DEVICE,
            floor_bytes=2 ** (case.what == "train") * (image.nbytes + windows.nbytes), name=case.name,
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


def _tensors(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.benchmark(timer=CLOCK)
def test_pooling(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    contest = held(case, lambda: _contest(case, request.config.getoption("--rounds")))
    skip_unless_raced(contest, provider)
    benchmark.group = case.name
    replay(benchmark, contest, provider)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d", "max_unpool2d"])
def test_call(op: str, grad: bool, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """So small an image that the call is what takes the time; on a CPU, where nothing is launched."""
    what = "train" if grad else "forward"

    def contest() -> Contest:
        x, arguments = torch.rand(1, 3, 8, 8), (2,)
        if op == "max_unpool2d":
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            arguments = (indices, 2)
        functions = {"torchops": getattr(torchops, op), "aten": getattr(F, op)}
        dy = torch.rand_like(functions["aten"](x, *arguments))
        contenders = {
            name: _pass(what, lambda x, function=function: function(x, *arguments), x, dy)
            for name, function in functions.items()
        }
        expected = contenders["aten"]()
        with threads(1):
            found = hold(
                contenders,
                check=lambda name, result: close(result, expected, 1e-6, f"call of {op}, {name}"),
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
