"""Pooling and unpooling in layers of real networks, against ATen and what people write, in both memory formats."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
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
from torchops.measure.rivals import threads

from .harness import (
    CLOCK,
    Contest,
    blank,
    close,
    company,
    compete,
    compiled,
    hold,
    leave_default_stream,
    normal,
    replay,
    short,
)
from .pools import ON_CPU, POOLS, PoolLayer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-6, torch.float16: 2**-9}
"""Of the largest value: sums have nine terms, or 49 on a CPU, and in halves ATen rounds some of them after every one."""
RETURN_INDICES: dict[str, Any] = {"none": False, "position": True, "offset": "offset"}
FUSED = ("resnet.stem", "erosion", "decoder.avg_unpool")
"""The layers that Inductor is timed on on a CPU, where it takes ten seconds to compile one."""
FOR_ALL = 5
"""The largest window of an erosion that all are timed with: kornia makes a copy of the image for each of its pixels, and ATen
takes seconds."""
TWO_WAYS = (
    "resnet.stem",
    "googlenet.pool3",
    "erosion",
    "densenet.transition",
    "segnet.unpool128",
    "decoder.avg_unpool.overlap",
)
"""The layers that are timed on all cores of a CPU too, forward."""
HALVES = ("resnet.stem", "erosion", "densenet.transition")
"""Those that are timed in halves there, in NCHW."""
BESIDE = ("erosion", "segnet.unpool128")
"""Those that are timed beside a busy process there, in NCHW."""
TELLING = ("resnet.stem", "segnet.unpool512")
"""Windows that overlap, and values that are put back, in more than an L2 cache holds."""
CHECKED = 1 << (28 if DEVICE == "cuda" else 25)
"""Of more pixels, those of all windows counted, the first and the last image are checked."""


@dataclass(frozen=True)
class Case:
    layer: PoolLayer
    """With the batch that is timed."""
    what: str
    """forward, or train: that and the gradient."""
    channels_last: bool
    dtype: torch.dtype
    threads: int = 1
    busy: bool = False
    """Whether another process keeps a core busy meanwhile."""

    @property
    def name(self) -> str:
        return f"{self.layer.name}.{self.what}.{self.layout}.{short(self.dtype)}{'.busy' if self.busy else ''}"

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
            # the minimum pool of an image is an erosion by a square
            others = ("aten", "kornia", "opencv") if self.what == "forward" else ("aten", "kornia")
            if layer.kernel > FOR_ALL:
                others = ("opencv",)
        elif layer.layer == "box7":
            others = ("aten", "opencv")
        alone = self.threads == 1 and not self.busy and self.dtype == torch.float32
        fuses = layer.indices == "none" and (DEVICE == "cuda" or (layer.name in FUSED and alone))
        return ("torchops", *others, "inductor") if fuses else ("torchops", *others)


def _sized(layer: PoolLayer, gpu: bool) -> PoolLayer:
    return layer if gpu else layer.with_batch(layer.on_cpu)


def _dtype(gpu: bool) -> torch.dtype:
    return torch.bfloat16 if gpu else torch.float32


def every_case(gpu: bool) -> list[Case]:
    """What there is to time on a GPU, or on a CPU, wherever this runs."""
    layers, dtype = [_sized(layer, gpu) for layer in POOLS], _dtype(gpu)
    cases = [
        Case(layer, what, form, dtype) for layer in layers for what in ("forward", "train") for form in (True, False)
    ]
    others = [d for d in (torch.bfloat16, torch.float32) if d != dtype]
    cases += [Case(layer, "forward", True, other) for layer in layers for other in others if layer.C > 1]
    if not gpu:
        counts = sorted({1, os.cpu_count() or 1})
        large = [_sized(layer, gpu) for layer in ON_CPU]
        cases += [Case(layer, "forward", form, dtype) for layer in large for form in (True, False)]
        here = [layer for layer in layers if layer.indices != "offset"]
        cases += [
            Case(layer, "forward", form, dtype, count)
            for layer in here
            for form in (True, False)
            for count in counts[1:]
            if layer.layer in TWO_WAYS
        ]
        cases += [
            Case(layer, "forward", False, half)
            for layer in here
            for half in (torch.bfloat16, torch.float16)
            if layer.layer in HALVES
        ]
        cases += [
            Case(layer, "forward", False, dtype, count, busy=True)
            for layer in here
            for count in counts
            if layer.layer in BESIDE
        ]
    # an image of one channel is the same in both formats
    return [case for case in cases if case.layer.C > 1 or not case.channels_last]


def telling(gpu: bool) -> list[Case]:
    """The cases that say most, those in channels_last first. They are cases of `every_case` too."""
    layers = [layer for layer in POOLS if layer.layer in TELLING]
    return [Case(_sized(layer, gpu), "forward", form, _dtype(gpu)) for form in (True, False) for layer in layers]


def _default_on_cpu(case: Case) -> bool:
    """Few enough for four minutes on two cores: of large images, and of ATen's slow pools in NCHW, the forward pass."""
    layer = case.layer
    if case.dtype != torch.float32:
        return not case.channels_last and layer.layer in HALVES
    if layer.indices == "offset" and not layer.unpools:
        # ATen finds positions: offsets are slow on a CPU, and of no use there
        return case.what == "forward" and layer.H < 512
    if layer.H == 512 and layer.C > 1:
        return case.what == "forward" and (case.channels_last or layer.unpools)
    return case.what == "forward" or case.channels_last or layer.unpools or layer.C == 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_pooling:
        gpu = DEVICE == "cuda"
        everything = gpu or metafunc.config.getoption("--all-cases")
        cases = [case for case in every_case(gpu) if everything or _default_on_cpu(case)]
        pairs = [(case, provider) for case in cases for provider in case.providers]
        metafunc.parametrize(
            ("case", "provider"),
            pairs,
            ids=[f"{case.name}-{case.threads}threads-{provider}" for case, provider in pairs],
        )


def _function(module: ModuleType, layer: PoolLayer, indices: Tensor | None) -> Callable[[Tensor], Any]:
    """The layer of torchops, or of its reference."""
    op, window, size = getattr(module, layer.op), layer.arguments, (layer.H, layer.W)
    if layer.op == "max_unpool2d":
        return lambda x: op(x, indices, *window, size)
    if layer.op == "avg_unpool2d":
        return lambda x: op(x, *window, size)
    if layer.op in ("max_pool2d", "min_pool2d"):
        return lambda x: op(x, *window, return_indices=RETURN_INDICES[layer.indices])
    return lambda x: op(x, *window)


def _others(case: Case, positions: Tensor | None) -> dict[str, Callable[[Tensor], Any]]:
    """The same as most people write it, which comes first, and as other libraries have it."""
    others = _eager(case.layer, positions, case.dtype)
    if "kornia" in case.providers and find_spec("kornia"):
        others["kornia"] = _kornia_erosion(case.layer)
    if "opencv" in case.providers and find_spec("cv2") and DEVICE == "cpu" and case.dtype == torch.float32:
        others["opencv"] = _opencv(case.layer)
    return others


def _kornia_erosion(layer: PoolLayer) -> Callable[[Tensor], Tensor]:
    import kornia

    window = torch.ones(layer.kernel, layer.kernel, device=DEVICE)
    return lambda x: kornia.morphology.erosion(x, window.to(x.dtype))


def _opencv(layer: PoolLayer) -> Callable[[Tensor], Tensor]:
    """Plane by plane: the erosion by a square, or the mean of one."""
    import cv2

    window = torch.ones(layer.kernel, layer.kernel, dtype=torch.uint8).numpy()
    if layer.op == "min_pool2d":
        filtered = functools.partial(cv2.erode, kernel=window)
    else:
        filtered = functools.partial(cv2.blur, ksize=window.shape, borderType=cv2.BORDER_CONSTANT)
    return lambda x: torch.stack([torch.from_numpy(filtered(p)) for p in x.flatten(0, 1).numpy()]).view(x.shape)


def _eager(layer: PoolLayer, positions: Tensor | None, dtype: torch.dtype) -> dict[str, Callable[[Tensor], Any]]:
    window, size = (layer.kernel, layer.stride, layer.padding), (layer.H, layer.W)
    returns = layer.indices != "none"
    if layer.op == "max_pool2d":
        return {"aten": lambda x: F.max_pool2d(x, *window, return_indices=returns)}
    if layer.op == "min_pool2d":
        return {"aten": lambda x: -F.max_pool2d(-x, *window)}
    if layer.op in ("avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate"):
        return {"aten": lambda x: getattr(F, layer.op)(x, *layer.arguments)}
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
    told = what == "train" and any(kind in layer.op for kind in ("max", "min"))
    index = {"none": int(told), "position": 8, "offset": 1}[layer.indices]
    return (2 if what == "train" else 1) * ((image + windows) * dtype.itemsize + windows * index)


def _tensors(case: Case, make: Callable[[Sequence[int]], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The image that is pooled, here or before an unpool; what the layer is given; the gradient of its result."""
    image, windows = make(case.layer.image_shape), make(case.layer.window_shape)
    return (image, windows, image) if case.layer.unpools else (image, image, windows)


def _indices(layer: PoolLayer, image: Tensor) -> Tensor | None:
    """What torchops's pool returns of the image, for a layer that unpools by it."""
    if layer.op != "max_unpool2d":
        return None
    window = layer.kernel, layer.stride, layer.padding
    return torchops.max_pool2d(image, *window, return_indices=RETURN_INDICES[layer.indices])[1]


def rehearse(case: Case, device: torch.device) -> None:
    """torchops's part of a contest, once, on blank tensors of its sizes: where launches are recorded, those of `contest`."""
    image, x, dy = _tensors(case, lambda shape: blank(shape, case.dtype, device, case.channels_last))
    _pass(case.what, _function(torchops, case.layer, _indices(case.layer, image)), x, dy)()


def contest(case: Case, rounds: int, *, inductor: bool = False) -> Contest:
    """Race a case on this machine, on its GPU where it has one: all providers but Inductor, or torchops and Inductor alone."""
    leave_default_stream()
    if inductor:
        torch.compiler.reset()
    layer, generator = case.layer, torch.Generator(DEVICE).manual_seed(0)
    image, x, dy = _tensors(case, lambda shape: normal(shape, case.dtype, generator, case.channels_last))
    positions, indices = None, _indices(layer, image)
    if indices is not None:
        _, positions = F.max_pool2d(image, layer.kernel, layer.stride, layer.padding, return_indices=True)
    others = {name: f for name, f in _others(case, positions).items() if name in case.providers}
    if inductor:
        others = {"inductor": compiled(next(iter(_others(case, positions).values())))}
    functions = {"torchops": _function(torchops, layer, indices), **others}
    pixels = math.prod(layer.window_shape) * layer.kernel**2
    some = slice(None, None, 1 if pixels <= CHECKED else max(1, layer.N - 1))

    @functools.cache
    def expected(indices: str) -> tuple[Tensor, ...]:
        where = None if positions is None else positions[some]
        exact = _function(reference, dataclasses.replace(layer, indices=indices), where)
        # the reference makes tensors of its own
        with torch.device(DEVICE):
            return _results(_pass(case.what, exact, x[some].double(), dy[some].double())())

    def check(name: str, results: Any) -> float:
        returned = layer.indices if name == "torchops" and not layer.unpools else "position"
        exact = expected("none" if layer.indices == "none" else returned)
        errors = []
        for actual, exactly in zip(_results(results), exact, strict=True):
            tolerance = TOLERANCE[case.dtype] * float(exactly.abs().max()) if actual.is_floating_point() else 0
            errors.append(close(actual[some], exactly, tolerance, f"{case.name}, {name}"))
        return max(errors)

    with company(case.busy), threads(case.threads), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        found = hold(
            {name: _pass(case.what, function, x, dy) for name, function in functions.items()},
            check=check, bytes_least=_bytes_least(layer, case.what, case.dtype), rounds=rounds, device=DEVICE,
            floor_bytes=2 ** (case.what == "train") * (x.nbytes + dy.nbytes), apart=inductor,
        )  # fmt: skip
    found.info = {
        "case": case.name,
        "threads": case.threads if DEVICE == "cpu" else "gpu",
        "layer": layer.layer,
        "batch": layer.N,
        "dtype": short(case.dtype),
        "layout": case.layout,
    }
    return found


def _results(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.benchmark(timer=CLOCK)
def test_pooling(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    benchmark.group = case.name
    compete(contest, case, provider, held, benchmark, request)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("provider", ["torchops", "aten"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d", "max_unpool2d"])
def test_call(op: str, grad: bool, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """So small an image that the call is what takes the time; on a CPU, where nothing is launched."""
    what = "train" if grad else "forward"

    def race_calls() -> Contest:
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

    benchmark.group = f"call, {op}, {'with' if grad else 'without'} gradient"
    replay(benchmark, held(("call", op, grad), race_calls), provider)
