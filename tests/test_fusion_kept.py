"""What fuse keeps as it is: what a trace cannot follow, or would decide once and for all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchops
from bench.networks import with_statistics

from .conformance import close
from .networks import Block, image
from .test_fusion import conv, fused_as_before, net
from .test_fusion_limits import statistics_written


class Gate(nn.Module):
    """A forward that looks at values, around layers that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU())
        self.other = nn.Sequential(conv(), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.mean() > 0 else self.other(x)


class Optional(Gate):
    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        y = self.body(x) * scale
        return y if mask is None else y * mask


def test_what_cannot_be_traced_is_kept_whole() -> None:
    """Its forward may do anything with what it has: nobody knows what it reads."""
    model = with_statistics(nn.Sequential(conv(), nn.BatchNorm2d(4), Gate(), conv(), nn.ReLU())).eval()
    fused, report = fused_as_before(model)
    assert report.fused == {"0": "conv2d + batch_norm", "3": "conv2d + relu"}
    assert list(report.kept) == ["2"]
    line = Gate.forward.__code__.co_firstlineno + 1
    assert report.kept["2"] == (
        f"TraceError: symbolically traced variables cannot be used as inputs to control flow ({__file__}:{line})"
    )
    assert type(fused.get_submodule("2.body.0")) is torchops.nn.Conv2d
    assert report.after["Gate"] == 1
    x = -image(1, 4, 9, 8).double()
    close(fused(x), model(x), torch.float64, 10)
    assert fused(x).is_contiguous(), "what is kept may rely on strides"
    whole, report = torchops.fuse(model[2])
    assert type(whole) is Gate
    assert list(report.kept) == [""]
    assert report.kept[""].endswith(f"({__file__}:{line})")
    assert report.before == report.after == {"Gate": 1}
    # as the docstring says
    whole.body, report = torchops.fuse(whole.body)
    assert report.fused == {"0": "conv2d + batch_norm + relu"}
    close(whole(x), model[2](x), torch.float64, 10)


def test_optional_arguments_are_decided_for_good() -> None:
    fused, report = fused_as_before(with_statistics(Optional()).eval())
    assert report.fused == {"body.0": "conv2d + batch_norm + relu"}
    with pytest.raises(TypeError, match="mask"):
        fused(image(1, 4, 9, 8).double(), mask=image(1, 4, 9, 8).double())


def test_hooks_are_called_with_what_they_were() -> None:
    """A layer that somebody watches has to show them what it did before, and so has the model."""
    model, seen = with_statistics(nn.Sequential(Block(4, 4, 1), Block(4, 4, 1), conv())).eval(), []

    def see(module: nn.Module, args: Any, y: Tensor) -> None:
        seen.append(y.detach().clone())

    for module in (model[0].conv1, model[1], model):
        module.register_forward_hook(see)
    _, report = fused_as_before(model)
    first, second = seen[:3], seen[3:6]
    for one, other in zip(first, second, strict=True):
        close(one, other, torch.float64, 10)
    assert report.kept == {"0.conv1": "it has hooks", "1": "it has hooks"}
    assert report.fused == {"0.conv2": "conv2d + batch_norm + add + relu", "2": "conv2d"}


class Once(nn.Module):
    """What a trace would do only once: count, draw, write, and what it cannot see."""

    def __init__(self, step: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.bn, self.calls = conv(), nn.BatchNorm2d(4), nn.Buffer(torch.zeros(()))
        self._step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self._step(self, x))


def _counted(m: Any, x: Tensor) -> Tensor:
    m.calls += 1
    return m.conv(x) * m.calls


def _clamped(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.conv.weight.clamp_(-0.05, 0.05)
    return m.conv(x)


def _renormed(m: Any, x: Tensor) -> Tensor:
    m.conv.weight.data = torch.renorm(m.conv.weight.data, 2, 0, 0.1)
    return m.conv(x)


def _caught(m: Any, x: Tensor) -> Tensor:
    try:
        return m.conv(x) if x.sum() > 0 else -x
    except Exception:
        return x


def _edited(m: Any, x: Tensor) -> Tensor:
    m.conv.padding = (2, 2)
    return m.conv(x)


def _remembered(m: Any, x: Tensor) -> Tensor:
    m.last = m.conv(x)
    return m.last


def _out_of_autocast(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return m.conv(x)


def _in_autocast(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.conv(x).float()


ONCE: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "counted": (_counted, "it writes to a tensor"),
    "drawn": (lambda m, x: m.conv(x) + 0 * torch.rand(1), "it draws random numbers"),
    "renormed": (_renormed, "it sets the attribute `data`"),
    "caught": (_caught, "it catches the error"),
    "edited": (_edited, "it sets the attribute `padding` of a module"),
    "remembered": (_remembered, "it sets the attribute `last` of a module"),
    "out_of_autocast": (_out_of_autocast, "it sets autocast or no_grad"),
    "autocast": (_in_autocast, "it sets autocast or no_grad"),
    "clamped": (_clamped, "it sets autocast or no_grad"),
}


@pytest.mark.parametrize("which", ONCE)
def test_what_a_trace_would_do_once_and_for_all(which: str) -> None:
    step, why = ONCE[which]
    inner = with_statistics(Once(step)).eval()
    model = nn.Sequential(conv(), nn.ReLU(), inner).eval()
    before = copy.deepcopy(model.state_dict())
    other = copy.deepcopy(model)
    fused, report = torchops.fuse(model)
    assert report.fused == {"0": "conv2d + relu"}
    assert why in report.kept["2"]
    code = step.__code__
    place = "{}:{}".format(*report.kept["2"][:-1].rpartition(" (")[2].rsplit(":", 1))
    assert place in {f"{code.co_filename}:{code.co_firstlineno + below}" for below in range(4)}
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    for size in (5, 6):
        close(fused(image(1, 4, size, 5)), other(image(1, 4, size, 5)), torch.float32, 10)


def test_weights_that_a_forward_changes_are_not_folded() -> None:
    model = (
        with_statistics(Once(lambda m, x: m.conv(x) + 0 * m.conv.weight.data.clamp_(-0.05, 0.05).sum())).eval().double()
    )
    fused, report = torchops.fuse(copy.deepcopy(model))
    assert report.after["batch_norm"] == 1
    close(fused(image(1, 4, 5, 5).double()), model(image(1, 4, 5, 5).double()), torch.float64, 10)


class Twice(nn.Module):
    """Layers that are called by two ways, one of which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(conv(), nn.BatchNorm2d(4))
        self.gate = Gate()
        self.gate.body = self.inner

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x) + self.inner(x)


def test_layers_that_are_called_by_two_ways() -> None:
    _, report = fused_as_before(with_statistics(Twice()).eval())
    # what is kept may change its layers, so they stay what they are
    assert list(report.kept) == ["gate"]
    assert report.fused == {}


def test_statistics_that_a_forward_writes_are_not_folded() -> None:
    model = net(statistics_written).double()
    fused, report = torchops.fuse(copy.deepcopy(model))
    assert list(report.fused.values()) == ["conv2d"]
    for size in (5, 6):
        x = image(2, 4, size, 5).double()
        close(fused(x), model(x), torch.float64, 10)


class Within(nn.Module):
    """A layer of a module that is kept, called from outside too."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x) + self.gate.body(x)


def test_a_layer_inside_what_is_kept() -> None:
    """The gate may change it, so nothing is folded into it."""
    _, report = fused_as_before(with_statistics(Within()).eval())
    assert list(report.kept) == ["gate"]
    assert report.fused == {}


class Doubling(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


class Sized(Gate):
    def forward(self, x: Tensor, size: tuple[int, int] = (2, 3)) -> Tensor:
        return self.body(x) * size[0]


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"class": conv()})

    def forward(self, x: Tensor) -> Tensor:
        return self.layers["class"](x)


ROOTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "call": (lambda: Doubling(conv(), nn.ReLU()), "it overrides __call__"),
    "default": (Sized, "its forward has the optional argument `size"),
    "keyword": (Named, "names of its modules cannot be written in Python"),
}


@pytest.mark.parametrize("which", ROOTS)
def test_models_that_are_kept_altogether(which: str) -> None:
    make, why = ROOTS[which]
    _, report = fused_as_before(with_statistics(make()).eval())
    assert report.kept[""].startswith(why)
    assert report.fused == {}
    assert report.before == report.after == {make().__class__.__name__: 1}


def test_replaced_forwards_are_kept() -> None:
    model = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU()).eval()
    model[1].forward = lambda x: x * 2  # type: ignore[method-assign]
    _, report = fused_as_before(model)
    assert report.fused == {"0": "conv2d", "2": "conv2d + relu"}
    assert report.kept == {"1": "its forward is replaced"}
    model.forward = lambda x: x + 1  # type: ignore[method-assign]
    fused, report = torchops.fuse(model)
    assert report.kept == {"": "its forward is replaced"}
    assert torch.equal(fused(torch.zeros(1, 4, 5, 5)), torch.ones(1, 4, 5, 5))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_parts_are_kept() -> None:
    inner = torch.jit.script(nn.Sequential(conv(), nn.ReLU()).eval())
    fused, report = torchops.fuse(nn.Sequential(conv(), nn.ReLU(), inner).eval())
    assert fused(image(1, 4, 5, 5)).shape == (1, 4, 5, 5)
    assert report.kept == {"2": "scripted: its code is compiled"}
    whole, report = torchops.fuse(inner)
    assert whole is inner
    assert report.kept == {"": "scripted: its code is compiled"}
