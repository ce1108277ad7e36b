"""Is anything wrong? Every op and every kernel on small problems against float64, in a minute and a half.

A check is one call, with its gradients unless it is captured as a graph, in one dtype and one memory format. They are run by
several processes, so that one that is lost takes a single check with it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import catalog
from torchops.kernels.planning.hardware import Device

Shape = tuple[int, ...]
FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
GRADIENT = 4
"""How many times the error of a result a gradient may have: it is a sum of more terms."""
TF32 = 2e-3
"""Four roundings to a mantissa of ten bits, of the largest value."""


@dataclass(frozen=True)
class Check:
    """A call of an op, and what is asked of it."""

    family: str
    label: str
    op: str
    """Of the catalog."""
    shape: Shape
    """(N, C, H, W) of the input."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """`residual=True` stands for a tensor of the result's size."""
    parameters: tuple[Shape, ...] | None = None
    """Sizes of weight and bias."""
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    tf32: bool = False
    warps: int = 0
    """That a program gets, in place of those that were picked."""
    taps: int = 1
    """That share a load, where the model would not have them share it on so small a problem."""
    slides: bool = False
    """Whether programs slide, or rows share loads, wherever they may: the model would not have it on so small a problem."""
    indices: str = ""
    """That unpooling is given: position or offset; positions of windows that overlap lie in several."""
    how: str = "eager"
    """Or graph: captured and replayed; or autocast: to bfloat16."""

    @property
    def name(self) -> str:
        words = [self.label, str(self.dtype).removeprefix("torch."), "channels_last" if self.channels_last else "nchw"]
        words += ["tf32"] * self.tf32 + [f"{self.warps} warps"] * (self.warps > 0) + [self.how] * (self.how != "eager")
        return f"{self.op}: {', '.join(words)}"

    @property
    def allowed(self) -> float:
        """Error of a result, relative to the largest value."""
        return TF32 if self.tf32 and self.dtype == torch.float32 else catalog.TOLERANCE[self.dtype]


def _conv(family: str, label: str, shape: Shape, weight: Shape, op: str = "conv2d", **kwargs: Any) -> Check:
    channels = weight[0] if op == "conv2d" else weight[1] * kwargs.get("groups", 1)
    return Check(family, label, op, shape, kwargs, (weight, (channels,)))


_SLIDING = tuple(
    # in channels_last, of 16 and 32 bits
    replace(
        _conv("slide", label, (2, 40, 15, 17), (40, 1, size, size), groups=40, padding=size // 2, **kwargs), slides=True
    )
    for label, size, kwargs in (
        ("depthwise", 3, {}),
        ("depthwise, stride 2, relu", 3, {"stride": 2, "activation": "relu"}),
        ("depthwise 5x5, reflect", 5, {"padding_mode": "reflect"}),
        ("depthwise 7x7, stride 2", 7, {"stride": 2, "padding_mode": "constant", "padding_value": 0.5}),
    )
)
_CONVOLUTIONS = (
    _conv("gemm", "1x1", (2, 64, 15, 17), (72, 64, 1, 1)),
    _conv("gemm", "3x3, stride 2, dilation 2", (2, 64, 15, 17), (64, 64, 3, 3), stride=2, padding=2, dilation=2),
    _conv(
        "gemm", "odd channels", (2, 33, 14, 13), (35, 33, 3, 3), padding=1, padding_mode="constant", padding_value=0.5
    ),
    replace(_conv("shift", "3x3", (2, 64, 14, 18), (64, 64, 3, 3), padding=1), taps=3),
    replace(
        _conv(
            "shift", "3x3, residual, relu", (2, 48, 13, 15), (64, 48, 3, 3), padding=1, activation="relu", residual=True
        ),
        taps=3,
    ),
    _conv("ring", "reflect", (2, 64, 14, 18), (64, 64, 3, 3), padding=1, padding_mode="reflect"),
    _conv(
        "ring",
        "replicate, gelu",
        (2, 48, 13, 15),
        (40, 48, 3, 3),
        padding=2,
        padding_mode="replicate",
        activation="gelu",
    ),
    _conv("ring", "circular, stride 2", (2, 32, 14, 18), (32, 32, 3, 3), padding=1, padding_mode="circular", stride=2),
    replace(_conv("rows", "3x3, wide", (2, 64, 9, 70), (64, 64, 3, 3), padding=1), slides=True),
    replace(
        _conv("flat", "7x7, stride 2", (2, 3, 33, 35), (64, 3, 7, 7), stride=2, padding=3, activation="relu"),
        slides=True,
    ),
    *_SLIDING,
    _conv("direct", "depthwise, dilation 2", (2, 32, 15, 17), (32, 1, 3, 3), padding=2, dilation=2, groups=32),
    replace(_conv("direct", "narrow groups", (2, 32, 15, 17), (64, 4, 3, 3), padding=1, groups=8), slides=True),
    _conv("gemm", "2x2, stride 2", (2, 64, 9, 11), (64, 32, 2, 2), "conv_transpose2d", stride=2),
    _conv("gemm", "3x3, stride 2", (2, 40, 9, 11), (40, 24, 3, 3), "conv_transpose2d", stride=2, padding=1),
)
_REPORTED = _conv("gemm", "of pytorch#173068", (2, 33, 34, 41), (34, 33, 3, 3), stride=(2, 3), padding=(4, 5))
"""Where Triton's convolution of PyTorch was seen to be wrong at 8 warps."""


def _flat() -> Iterator[Check]:
    """Few channels: the taps and they make one axis, whose addresses are small constants, as ptxas gets them wrong."""
    filters = itertools.cycle(((3, 3), (7, 7), (5, 7), (11, 11)))
    steps = itertools.cycle(((1, 1), (2, 3), (4, 2), (1, 0), (2, 1)))
    for channels in (1, 3, 4, 7, 15):
        for _ in range(3):
            size, (stride, padding) = next(filters), next(steps)
            label = f"{channels} channels, {size[0]}x{size[1]}, stride {stride}, padding {padding}"
            yield _conv("flat", label, (2, channels, 32, 41), (32, channels, *size), stride=stride, padding=padding)


def _pools() -> Iterator[Check]:
    windows = (((2, 3), 1), ((3, 3), 2), ((4, 5), 3), ((7, 3), 2), ((7, 7), 1))
    for kernel, stride in windows:
        padding = tuple(size // 2 for size in kernel)
        window: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding}
        label = f"{kernel[0]}x{kernel[1]}, stride {stride}"
        image = (2, 8, 21, 26)
        for indices in (True, "offset"):
            yield Check("pools", f"{label}, {indices}", "max_pool2d", image, {**window, "return_indices": indices})
        yield Check("pools", label, "min_pool2d", image, window)
        yield Check("pools", label, "avg_pool2d", image, window)
        yield Check("unpools", label, "avg_unpool2d", (2, 8, 9, 12), window)
        for kind in ("position", "offset"):
            yield Check("unpools", f"{label}, {kind}", "max_unpool2d", image, window, indices=kind)
    # enough rows for tiles that slide
    for op, indices in (("max_pool2d", {"return_indices": "offset"}), ("min_pool2d", {}), ("avg_pool2d", {})):
        window = {"kernel_size": 3, "stride": 1, "padding": 1, **indices}
        yield Check("pools", "3x3, stride 1, 56 rows", op, (8, 64, 56, 56), window)
    yield Check("unpools", "positions anywhere", "max_unpool2d", (2, 8, 20, 26), {"kernel_size": 2}, indices="anywhere")
    for op, size in itertools.product(("adaptive_avg_pool2d", "adaptive_max_pool2d"), ((4, 5), 1, (25, 30))):
        yield Check("pools", f"adaptive, to {size}", op, (2, 8, 21, 26), {"output_size": size})
    yield Check("unpools", "nearest, by 2x3", "interpolate", (2, 8, 9, 12), {"scale_factor": (2, 3)})


def _sobels() -> Iterator[Check]:
    borders = ("replicate", "reflect", "circular", "zeros", "constant")
    dtypes = (*FLOATS, torch.uint8)
    for op, (border, dtype) in itertools.product(("sobel", "spatial_gradient"), zip(borders, dtypes, strict=True)):
        for channels_last in (False, True):
            yield Check("sobel", border, op, (2, 3, 37, 70), {"padding_mode": border}, None, dtype, channels_last)


def _shown(known: set[str]) -> Iterator[Check]:
    """Ops that have no checks of their own, as the catalog shows them."""
    for op in catalog.OPS.values():
        if op.name not in known:
            for dtype, last in itertools.product(op.dtypes, (False, True)):
                yield Check(op.name, "as in the catalog", op.name, (2, 8, 21, 26), op.kwargs, None, dtype, last)


def checks() -> list[Check]:
    """All of them, those that say most first."""
    layouts = (False, True)
    found = [
        replace(_REPORTED, dtype=dtype, tf32=tf32, channels_last=last, warps=warps)
        for dtype, tf32 in (
            (torch.float32, True),
            (torch.float32, False),
            (torch.float16, False),
            (torch.bfloat16, False),
        )
        for last in layouts
        for warps in (4, 8)
    ]
    one = itertools.cycle(itertools.product(FLOATS[:3], layouts))
    found += [
        replace(check, dtype=dtype, channels_last=last) for check in _flat() for dtype, last in (next(one), next(one))
    ]
    every = itertools.cycle(itertools.product(FLOATS, layouts))
    found += [
        replace(check, dtype=dtype, channels_last=last)
        for check in _pools()
        for dtype, last in (next(every), next(every), next(every))
    ]
    found += _sobels()
    for check in _CONVOLUTIONS:
        if check.taps == 1:
            found += [replace(check, dtype=dtype, channels_last=last) for dtype in FLOATS for last in layouts]
        else:
            # taps share loads of channels that lie together, of 16 bits or as TF32
            found += [replace(check, dtype=dtype, channels_last=True) for dtype in FLOATS[:2]]
        found.append(replace(check, tf32=True, channels_last=True))
    found += _shown({check.op for check in found})
    # one check of each family is captured in a graph
    first = {check.family: check for check in reversed(found) if check.channels_last and not check.warps}
    graphs = [replace(check, how="graph") for check in first.values()]
    return (
        found + graphs + [replace(check, how="autocast", dtype=torch.float32, tf32=False) for check in first.values()]
    )


@dataclass(frozen=True)
class Result:
    verdict: str
    """"ok", "WRONG", or "not run: " and why."""
    error: float = math.nan
    """The largest of the result, relative to the largest value in float64."""
    gradient: float = math.nan
    allowed: float = math.nan


def run(check: Check, device: str, gpu: Device | None) -> Result:
    """Do a check.

    Args:
        device: of the tensors: "cuda", or "cpu" where it is rehearsed.
        gpu: what launches are planned for; None where there are none.

    Raises:
        Exception: whatever the op does.
    """
    if check.how == "graph" and device != "cuda":
        return Result("not run: a CPU has no graphs")
    op, (inputs, kwargs) = catalog.OPS[check.op], _inputs(check, device)
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, conv.fp32_precision = conv.fp32_precision, "tf32" if check.tf32 else "ieee"
    try:
        lowered = inputs
        if check.how == "autocast" and op.name.startswith("conv"):
            lowered = tuple(t.to(torch.bfloat16) for t in inputs)
        with _as_asked(check, lowered, kwargs, gpu):
            return _compare(check, op, inputs, lowered, kwargs)
    finally:
        conv.fp32_precision = before


def _inputs(check: Check, device: str) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    op = catalog.OPS[check.op]
    kwargs = dict(check.kwargs)
    parameters = check.parameters if check.parameters is not None else op.parameters(check.shape)
    inputs = op.random_inputs(check.shape, check.dtype, parameters=parameters)
    if check.indices:
        image = inputs[0]
        window = (kwargs["kernel_size"], kwargs.get("stride"), kwargs.get("padding", 0))
        values, where = F.max_pool2d(image.float(), *window, return_indices=True)
        if check.indices == "anywhere":
            where = where.flatten(2).roll(1, 2).view_as(where)
        elif check.indices == "offset":
            _, where = torchops.reference.max_pool2d(image.double(), *window, return_indices="offset")
        kwargs["output_size"] = check.shape[2:]
        inputs = values.to(check.dtype), where
    if kwargs.pop("residual", False):
        size = op.reference(*(t.double() for t in inputs), **kwargs).shape
        (kwargs["residual"],) = op.random_inputs(size, check.dtype, seed=1, parameters=())
        kwargs["residual"] = _laid_out(kwargs["residual"], check, device)
    return tuple(_laid_out(t, check, device) for t in inputs), kwargs


def _laid_out(t: Tensor, check: Check, device: str) -> Tensor:
    last = check.channels_last and t.dim() == 4
    return t.to(device, memory_format=torch.channels_last) if last else t.to(device)


@contextlib.contextmanager
def _as_asked(check: Check, inputs: tuple[Tensor, ...], kwargs: dict[str, Any], gpu: Device | None) -> Iterator[None]:
    """Every problem of the call gets the warps and the taps that the check asks for."""
    from torchops.inspect import record_launches
    from torchops.kernels.planning.conv2d import choices, prefer

    with contextlib.ExitStack() as stack:
        if gpu is not None and (check.warps or check.taps > 1 or check.slides):
            function = catalog.OPS[check.op].function
            on_cpu = {name: v.cpu() if isinstance(v, Tensor) else v for name, v in kwargs.items()}
            for launch in record_launches(function, tuple(t.detach().cpu() for t in inputs), gpu, **on_cpu):
                if launch.problem is None:
                    continue
                config = launch.config
                if check.taps > 1:
                    config = next(c for c in choices(launch.problem, gpu) if c.taps == check.taps)
                if check.slides:
                    config = next((c for c in choices(launch.problem, gpu) if c.rows or c.tile_rows > 1), config)
                stack.enter_context(prefer(launch.problem, replace(config, num_warps=check.warps or config.num_warps)))
        yield


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def expected_of(op: catalog.Op, inputs: Sequence[Tensor], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
    """What is right, computed where the inputs lie: the specification makes tensors of its own."""
    with torch.device(inputs[0].device):
        return _tensors(op.reference(*inputs, **kwargs))


def _compare(
    check: Check, op: catalog.Op, inputs: tuple[Tensor, ...], lowered: tuple[Tensor, ...], kwargs: dict[str, Any]
) -> Result:
    allowed = catalog.TOLERANCE[torch.bfloat16] if lowered is not inputs else check.allowed
    exact = tuple(t.double() if t.is_floating_point() or t is lowered[0] else t for t in lowered)
    exact_kwargs = {k: v.double() if isinstance(v, Tensor) else v for k, v in kwargs.items()}
    leaves, exact_leaves = (
        [t.detach().requires_grad_(t.is_floating_point() and check.dtype != torch.uint8) for t in some]
        for some in (inputs, exact)
    )
    with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16, enabled=check.how == "autocast"):
        result = _tensors(op.function(*leaves, **kwargs))
    expected = expected_of(op, exact_leaves, exact_kwargs)
    if check.how == "graph":
        result = (_captured(op, inputs, kwargs), *result[1:])
    for one, other in zip(result[1:], expected[1:], strict=True):
        if not torch.equal(one, other.to(one.dtype)):
            return Result("WRONG: indices differ", allowed=allowed)
    error, gradient = _error(result[0], expected[0]), 0.0
    if result[0].requires_grad:
        generator = torch.Generator().manual_seed(2)
        dy = torch.randn(expected[0].shape, generator=generator).to(result[0].device, result[0].dtype)
        if kwargs.get("activation") == "relu":
            # where rounding can decide about the sign, it decides about the gradient
            dy *= expected[0].detach().abs() > 0.05
        wanted, exactly = ([t for t in some if t.requires_grad] for some in (leaves, exact_leaves))
        found = [torch.autograd.grad(result[0], wanted, dy, retain_graph=True) for _ in range(2)]
        if not all(torch.equal(a, b) for a, b in zip(*found, strict=True)):
            return Result("WRONG: two runs differ", error, allowed=allowed)
        gradient = catalog.largest(map(_error, found[0], torch.autograd.grad(expected[0], exactly, dy.double())))
    # a NaN compares false
    good = error <= allowed and gradient <= GRADIENT * allowed
    return Result("ok" if good else "WRONG", error, gradient, allowed)


def _captured(op: catalog.Op, inputs: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Tensor:
    """The result of a CUDA graph's second replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        op.function(*inputs, **kwargs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = _tensors(op.function(*inputs, **kwargs))[0]
    for _ in range(2):
        result.zero_()
        graph.replay()
    torch.cuda.synchronize()
    return result


def _error(actual: Tensor, expected: Tensor) -> float:
    scale = max(1.0, float(expected.detach().abs().max()))
    return float((actual.detach().double() - expected.detach()).abs().max()) / scale
