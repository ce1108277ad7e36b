"""fuse: what must stay as it is, for the numbers to stay: writes, aliases, and what a trace cannot see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops

from .networks import image
from .test_fusion import fused_as_before, net


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


def statistics_written(m: Any, x: Tensor) -> Tensor:
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
