"""Drawn networks, compiled and exported: whatever stands around convolutions, numbers, writes and strides are the network's."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from bench.networks import with_statistics
from torchops.compile import Backend
from torchops.export import fuse

from .compiled import leaves
from .conformance import close
from .networks import image

pytestmark = pytest.mark.usefixtures("fresh_compiler")

_ACTIVATIONS = ("relu", "relu_", "silu", "gelu", "hardswish", "tanh", "sigmoid", "leaky_relu", "relu6")
_STEPS = (
    "conv", "conv", "conv_bn", "conv_bn_act", "bn", "activation", "activation", "add", "add_", "mul_", "scale", "pad_conv",
    "pool", "cat", "fill", "view", "depthwise", "transposed", "clone", "upsample",
)  # fmt: skip


class Drawn(nn.Module):
    """A network of steps, each applied to some of the tensors before it; all of them have 4 channels and one size."""

    def __init__(self, steps: list[tuple[str, int, int, int]]) -> None:
        super().__init__()
        self.steps = steps
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1, bias=i % 2 == 0) for i in range(3))
        self.bare = nn.Conv2d(4, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(4, 4, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(8, 4, 1)
        self.bns = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 4).view(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Any:
        made = [x]
        for step, *numbers in self.steps:
            a, b = (made[-1 - n % min(len(made), 3)] for n in numbers[:2])
            made.append(self._step(step, a, b, numbers[2]))
        return made[-1], made[-2] if len(made) > 2 else made[-1]

    def _step(self, step: str, a: Tensor, b: Tensor, n: int) -> Tensor:
        if step.startswith("conv"):
            y = self.convs[n % 3](a)
            y = self.bns[n % 3](y) if "bn" in step else y
            return self._activated(y, n) if "act" in step else y
        if step == "fill":
            a[:, n % 4].fill_(0.5)
            return a
        if step == "add_":
            a += b
            return a
        if step == "pad_conv":
            mode = ("reflect", "replicate", "circular", "constant")[n % 4]
            return self.bare(F.pad(a, (1, 1, 1, 1), mode))
        steps: Any = {
            "bn": lambda: self.bns[n % 3](a), "activation": lambda: self._activated(a, n), "add": lambda: a + b,
            "mul_": lambda: a.mul_(0.5), "scale": lambda: a * self.scale, "cat": lambda: self.mix(torch.cat((a, b), 1)),
            "pool": lambda: F.max_pool2d(a, 3, 1, 1) if n % 2 else F.avg_pool2d(a, 3, 1, 1),
            "view": lambda: a.flatten(1).view(a.shape), "depthwise": lambda: self.depthwise(a),
            "transposed": lambda: self.up(a),
            "clone": lambda: F.dropout(a, 0.5, training=False),
            "upsample": lambda: F.avg_pool2d(F.interpolate(a, scale_factor=2, mode=("nearest", "bilinear")[n % 2]), 2),
        }  # fmt: skip
        result: Tensor = steps[step]()
        return result

    def _activated(self, a: Tensor, n: int) -> Tensor:
        name = _ACTIVATIONS[n % len(_ACTIVATIONS)]
        result: Tensor = getattr(F, name, getattr(torch, name, None))(a)  # type: ignore[misc]
        return result


_programs = st.lists(st.tuples(st.sampled_from(_STEPS), *([st.integers(0, 35)] * 3)), min_size=2, max_size=9)


@given(steps=_programs, channels_last=st.sampled_from([None, False, True]), layout=st.booleans())
@settings(max_examples=24)
def test_compiled(steps: list[Any], channels_last: bool | None, layout: bool) -> None:
    torch.compiler.reset()
    model, x = _drawn(steps, layout)
    theirs, given, left = copy.deepcopy(model), x.clone(), x.clone()
    with torch.no_grad():
        expected = theirs(given)
        actual = torch.compile(model, backend=Backend(rest="eager", channels_last=channels_last))(left)
    _agree(actual, expected, left, given)


@given(steps=_programs, channels_last=st.booleans(), layout=st.booleans())
@settings(max_examples=12)
def test_exported(steps: list[Any], channels_last: bool, layout: bool) -> None:
    model, x = _drawn(steps, layout)
    given, left = x.clone(), x.clone()
    with torch.no_grad():
        fused, _ = fuse(torch.export.export(model, (x.clone(),)), channels_last=channels_last)
        expected, actual = model(given), fused(left)
    _agree(actual, expected, left, given)


def _drawn(steps: list[Any], layout: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = with_statistics(Drawn(steps)).eval().double()
    form = torch.channels_last if layout else torch.contiguous_format
    return model, image(2, 4, 7, 6).double().contiguous(memory_format=form)


def _agree(actual: Any, expected: Any, left: Tensor, given: Tensor) -> None:
    for one, other in zip(leaves(actual), leaves(expected), strict=True):
        assert one.stride() == other.stride()
        close(one, other, torch.float64, 100)
    close(left, given, torch.float64, 100)
