"""torchops's operators in ATen's: what they trace computes the same numbers, in the same memory format."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from torchops.catalog import OPS
from torchops.graphs.aten import ATEN
from torchops.ops.registration import IMPLEMENTATIONS

from .conformance import Conformance, close
from .conformance.dispatch import Logged
from .opinfo import Sample
from .test_raw_operators import GOOD

_FILES = [name for name in OPS if Path(__file__).with_name(f"test_{name}.py").exists()]
ASKED: dict[str, Conformance] = {
    f"{kind.info.op.name}-{name}": kind()
    for file in _FILES
    for name, kind in vars(import_module(f"tests.test_{file}")).items()
    if isinstance(kind, type) and issubclass(kind, Conformance) and hasattr(kind, "info")
}
"""The classes that declare problems of ops, by the names of op and class."""
SAMPLES = [
    pytest.param(asked, sample, id=f"{name}-{sample.id}")
    for name, asked in ASKED.items()
    for sample in asked.info.samples
]
TYPICAL = [pytest.param(asked, id=name) for name, asked in ASKED.items()]
_CPU = torch.device("cpu")
Results = tuple[Tensor, ...]


def traced(function: Callable[..., Any], inputs: Any, mode: str = "fake") -> fx.GraphModule:
    """The function's graph, in ATen's operators alone."""
    graph = make_fx(function, decomposition_table=dict(ATEN), tracing_mode=mode)(*inputs)
    assert not [node for node in graph.graph.nodes if "torchops" in str(node.target)]
    return graph


def alike(actual: Results, expected: Results, factor: float = 1.0) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert (a.shape, a.stride(), a.dtype) == (e.shape, e.stride(), e.dtype)
        if not e.is_floating_point():
            assert torch.equal(a, e)
            continue
        close(a, e, e.dtype, factor)
        if e.dtype in (torch.float16, torch.bfloat16) and e.numel():
            assert (a == e).double().mean() > 0.98


def both_ways(asked: Conformance, sample: Sample) -> Callable[..., Results]:
    """The op, and its gradients where it has some: a gradient that is all ones would hide a transposition."""

    def call(*inputs: Tensor) -> Results:
        if not inputs[0].is_floating_point():
            return (asked.call(inputs, sample),)
        leaves = asked.with_grad(inputs)
        out = asked.call(leaves, sample)
        ramp = torch.arange(out.numel(), device=out.device).remainder(7).to(out.dtype).view(out.shape) - 3
        return (out.detach(), *asked.grads(out, leaves, ramp))

    return call


def test_every_operator_has_one() -> None:
    assert {op._schema.name for op in ATEN} == {f"torchops::{name}" for name in IMPLEMENTATIONS}


def ask(function: Callable[..., Results], inputs: Any, mode: str = "fake", others: Sequence[Any] = ()) -> None:
    """Trace the function on inputs, and compare what the graph makes of them, or of others, with what the operators do."""
    graph = traced(function, inputs, mode)
    for given in others or (inputs,):
        # where a mode looks on, no call goes past the operators: a gradient of ATen's has a memory format of ATen's
        with Logged():
            expected = function(*given)
        alike(graph(*given), expected, factor=4)


@pytest.mark.parametrize(("asked", "sample"), SAMPLES)
def test_samples(asked: Conformance, sample: Sample) -> None:
    ask(both_ways(asked, sample), asked.inputs(sample, torch.float32, _CPU))


WAYS: dict[str, tuple[torch.dtype, tuple[str, ...], str]] = {
    "symbolic": (torch.float32, ("contiguous",), "symbolic"),
    "contiguous-channels_last": (torch.float32, ("contiguous", "channels_last"), "fake"),
    "channels_last-contiguous": (torch.float32, ("channels_last", "contiguous"), "fake"),
    "sliced-sliced_channels_last": (torch.float32, ("sliced", "sliced_channels_last"), "fake"),
    "float64": (torch.float64, ("channels_last",), "fake"),
    "float16": (torch.float16, ("channels_last",), "fake"),
    "bfloat16": (torch.bfloat16, ("channels_last",), "fake"),
}
"""Dtype, layouts of the input and of the further tensors, and how sizes are traced."""


def _otherwise() -> Iterator[Any]:
    """An op's first sample in every way, the others in one each, in turn: all of all takes minutes."""
    for name, asked in ASKED.items():
        first, *others = asked.info.samples
        turns = [*((first, way) for way in WAYS), *zip(others, itertools.cycle(WAYS), strict=False)]
        yield from (pytest.param(asked, sample, way, id=f"{name}-{way}-{sample.id}") for sample, way in turns)


@pytest.mark.parametrize(("asked", "sample", "way"), [*_otherwise()])
def test_samples_otherwise(asked: Conformance, sample: Sample, way: str) -> None:
    dtype, layouts, mode = WAYS[way]
    ask(both_ways(asked, sample), asked.inputs(sample, dtype, _CPU, *layouts), mode)


@pytest.mark.parametrize("name", [name for name, asked in ASKED.items() if torch.uint8 in asked.info.op.dtypes])
def test_bytes(name: str) -> None:
    asked = ASKED[name]
    for layout in ("contiguous", "channels_last"):
        for sample in asked.info.samples:
            ask(both_ways(asked, sample), asked.inputs(sample, torch.uint8, _CPU, layout))


@pytest.mark.parametrize("asked", TYPICAL)
def test_empty_batch(asked: Conformance) -> None:
    sample = asked.info.samples[0]
    sample = sample.resized((0, *sample.shape[1:]))
    for layout in ("contiguous", "channels_last"):
        ask(both_ways(asked, sample), asked.inputs(sample, torch.float32, _CPU, layout))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("asked", TYPICAL)
def test_symbolic_sizes_are_not_bound(asked: Conformance, dtype: torch.dtype) -> None:
    """A graph of one size computes others."""
    sample = asked.info.samples[0]
    channels = sample.shape[1]
    first, *others = (sample.resized((n, channels, h, w)) for n, h, w in ((2, 9, 7), (3, 8, 11), (4, 15, 6), (1, 9, 9)))

    def inputs(sample: Sample) -> Any:
        return asked.inputs(sample, dtype, _CPU, "channels_last")

    ask(both_ways(asked, sample), inputs(first), "symbolic", [inputs(other) for other in others])


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_operators_by_themselves(name: str) -> None:
    """With arguments that no public function gives them."""
    arguments = GOOD[name]()
    tensors = {key: value for key, value in arguments.items() if isinstance(value, Tensor)}
    operator = getattr(torch.ops.torchops, name)

    def call(*inputs: Tensor) -> Results:
        out = operator(**arguments | dict(zip(tensors, inputs, strict=True)))
        return out if isinstance(out, tuple) else (out,)

    ask(call, tuple(tensors.values()))
