"""torchops's operators in ATen's: what they trace computes the same numbers, in the same memory format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

import tests.test_adaptive_avg_pool2d
import tests.test_adaptive_max_pool2d
import tests.test_avg_pool2d
import tests.test_conv2d
import tests.test_conv_transpose2d
import tests.test_interpolate
import tests.test_max_pool2d
import tests.test_max_unpool2d
import tests.test_sobel
from torchops.graphs.aten import ATEN
from torchops.ops.registration import IMPLEMENTATIONS

from .conformance import Conformance, close
from .opinfo import Sample

_MODULES = (
    tests.test_adaptive_avg_pool2d, tests.test_adaptive_max_pool2d, tests.test_avg_pool2d, tests.test_conv2d,
    tests.test_conv_transpose2d, tests.test_interpolate, tests.test_max_pool2d, tests.test_max_unpool2d, tests.test_sobel,
)  # fmt: skip
ASKED: dict[str, Conformance] = {
    name: kind()
    for module in _MODULES
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Conformance) and hasattr(kind, "info")
}
"""The classes that declare ops and problems of them, by name."""
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


@pytest.mark.parametrize("mode", ["fake", "symbolic"])
@pytest.mark.parametrize(("asked", "sample"), SAMPLES)
def test_samples(asked: Conformance, sample: Sample, mode: str) -> None:
    inputs = asked.inputs(sample, torch.float32, _CPU)
    function = both_ways(asked, sample)
    alike(traced(function, inputs, mode)(*inputs), function(*inputs), factor=4)
