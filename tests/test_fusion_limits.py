"""fuse: what must stay as it is, for the numbers to stay: writes, aliases, and what a trace cannot see."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchops
from bench.networks import with_statistics

from .conformance import close
from .networks import Block, image
from .test_fusion import conv, fused_as_before, net


def _reused(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.relu(m.bn(y)) + y


def _mutated_input(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    x.mul_(2)
    return m.bn(y) + x


def _mutated_residual(m: Any, x: Tensor) -> Tensor:
    y = m.bn(m.a(x))
    z = m.b(x)
    z.add_(1)
    return y + z


def _sum_read_where_the_other_was(m: Any, x: Tensor) -> Tensor:
    z = m.b(x)
    z += m.a(x)
    return z * 2


def _other_read_after(m: Any, x: Tensor) -> Tensor:
    z = m.relu(x)
    y = m.a(x)
    w = z.add_(y)
    return w + z


def _view_mutated(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, 0].fill_(7.0)
    return m.bn(y)


def _read_before_it_was_changed(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    first = y[:, :1]
    y *= 2
    return m.bn(y) * first


def _features(m: Any, x: Tensor) -> Any:
    x = m.a(x)
    found = [x]
    x += m.b(x)
    found.append(x)
    return found


def _view_then_write(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    view = y.view(x.shape[0], -1)
    y.mul_(2)
    return view


def _write_to_a_view_of_a_view(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y.flatten(1)[:, :5].add_(1)
    return y


def _statistics_written(m: Any, x: Tensor) -> Tensor:
    z = F.batch_norm(x, m.bn.running_mean, m.bn.running_var, training=True)
    return F.batch_norm(m.a(x), m.bn.running_mean, m.bn.running_var) + z


def _asked_of_the_sum(m: Any, x: Tensor) -> Tensor:
    total = m.a(x) + x[None]
    return m.relu(total) * total.ndim


def _written_out(m: Any, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    torch.sigmoid(m.a(x), out=y)
    return y


def _set_item(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, 0] = 7.0
    return m.bn(y)


def _returned_too(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return m.bn(y), y


def _random_dropout(m: Any, x: Tensor) -> Tensor:
    return m.bn(F.dropout(m.a(x), p=0.0, training=True))


def _weights_at_run_time(m: Any, x: Tensor) -> Tensor:
    return m.bn(F.conv2d(x, m.a.weight * x.mean(), padding=1))


HAZARDS: dict[str, tuple[Callable[[Any, Tensor], Any], list[str]]] = {
    "read_twice": (_reused, ["conv2d"]),
    "returned_too": (_returned_too, ["conv2d"]),
    "mutated_input": (_mutated_input, ["conv2d"]),
    "mutated_residual": (_mutated_residual, ["conv2d + batch_norm", "conv2d"]),
    "sum_in_place": (_sum_read_where_the_other_was, ["conv2d", "conv2d + add"]),
    "other_read_after": (_other_read_after, ["conv2d"]),
    "view_mutated": (_view_mutated, ["conv2d"]),
    "read_before_it_was_changed": (_read_before_it_was_changed, ["conv2d"]),
    "features": (_features, ["conv2d", "conv2d"]),
    "view_then_write": (_view_then_write, ["conv2d"]),
    "write_to_a_view_of_a_view": (_write_to_a_view_of_a_view, ["conv2d"]),
    "strides": (lambda m, x: m.a(x).as_strided((2, 8), (288, 1)), ["conv2d"]),
    "asked_of_the_sum": (_asked_of_the_sum, ["conv2d + add"]),
    "written_out": (_written_out, ["conv2d"]),
    "set_item": (_set_item, ["conv2d"]),
    "method_in_place": (lambda m, x: m.a(x) + x.clone().__iadd__(1), ["conv2d"]),
    "slope_in_place": (lambda m, x: F.leaky_relu_(m.a(x), 0.2), ["conv2d"]),
    "operator": (lambda m, x: torch.ops.aten.leaky_relu(m.a(x), 0.3), ["conv2d"]),
    "random_dropout": (_random_dropout, ["conv2d"]),
    "weights_at_run_time": (_weights_at_run_time, []),
    "ours": (lambda m, x: torchops.conv2d(x, m.a.weight, padding=1, activation="tanh").relu(), ["conv2d + tanh"]),
    "itself": (lambda m, x: (lambda y: y + y)(m.a(x)), ["conv2d"]),
    "number": (lambda m, x: m.a(x) + 1.5, ["conv2d"]),
    "size": (lambda m, x: m.a(x) + x.shape[2], ["conv2d"]),
    "alpha": (lambda m, x: torch.add(m.a(x), x, alpha=2), ["conv2d"]),
    "wider_sum": (lambda m, x: m.a(F.adaptive_avg_pool2d(x, 1)) + x, ["conv2d + add"]),
    "narrower_sum": (lambda m, x: F.relu(m.a(x) + x.mean((2, 3), keepdim=True)), ["conv2d + add + relu"]),
    "other_dtype": (lambda m, x: m.a(x) + x.float(), ["conv2d + add"]),
    "slope": (lambda m, x: F.leaky_relu(m.a(x), 0.2), ["conv2d"]),
    "tanh_gelu": (lambda m, x: F.gelu(m.a(x), approximate="tanh"), ["conv2d"]),
    "hardtanh": (lambda m, x: F.hardtanh(m.a(x)), ["conv2d"]),
    "same_layer_twice": (lambda m, x: m.bn(m.a(m.bn2(m.a(x)))), ["conv2d + batch_norm", "conv2d + batch_norm"]),
    "same_norm_twice": (lambda m, x: m.bn(m.b(m.bn(m.a(x)))), ["conv2d + batch_norm", "conv2d + batch_norm"]),
    "norm_of_the_batch": (
        lambda m, x: F.batch_norm(m.a(x), m.bn.running_mean.clone(), m.bn.running_var.clone(), training=True), ["conv2d"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", HAZARDS)
def test_only_what_stays_right(which: str) -> None:
    forward, parts = HAZARDS[which]
    _, report = fused_as_before(net(forward))
    assert list(report.fused.values()) == parts


def test_mutated_inputs_are_left_as_the_model_leaves_them() -> None:
    model = net(_mutated_input)
    fused, _ = torchops.fuse(model)
    one, other = image(1, 4, 5, 5), image(1, 4, 5, 5)
    model(one)
    fused(other)
    assert torch.equal(one, other)


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
    assert report.kept["2"].startswith(
        "TraceError: symbolically traced variables cannot be used as inputs to control flow"
    )
    assert type(fused.get_submodule("2.body.0")) is torchops.nn.Conv2d
    assert report.after["Gate"] == 1
    x = -image(1, 4, 9, 8).double()
    close(fused(x), model(x), torch.float64, 10)
    assert fused(x).is_contiguous(), "what is kept may rely on strides"
    whole, report = torchops.fuse(model[2])
    assert type(whole) is Gate
    assert list(report.kept) == [""]
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
    model = net(_statistics_written).double()
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
