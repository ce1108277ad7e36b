"""Quiet calls on a CPU that ATen might not answer as torchops does, or refuses: they take the long way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import torchops

from .ways import Special, outcome, positions, same, the_long_way


def _conv2d(x: Any = (2, 4, 6, 6), weight: Any = (4, 2, 3, 3), *args: Any, **kwargs: Any) -> Callable[[], Tensor]:
    x, weight = (torch.ones(t) if isinstance(t, tuple) else t for t in (x, weight))
    return lambda: torchops.conv2d(x, weight, *args, **{"groups": 2, **kwargs})


def _odd(*size: int) -> Tensor:
    """Contiguous, but of other strides where there is one element."""
    t = torch.ones(size)
    return t.as_strided(size, tuple(5 if n == 1 else s for n, s in zip(size, t.stride(), strict=True)))


def _unpool(x: Tensor, indices: Tensor, *args: Any, **kwargs: Any) -> Callable[[], Tensor]:
    return lambda: torchops.max_unpool2d(x, indices, *args, **kwargs)


_X = torch.ones(1, 2, 4, 4)
_KERNEL = torch.ones(2, 3, 2, 2)
NOT_TAKEN: dict[str, Callable[[], Any]] = {
    "conv_transpose2d with more rows": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, stride=2, output_padding=1
    ),
    "conv_transpose2d that cuts off a kernel": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, stride=2, padding=2
    ),
    "conv_transpose2d of dilated kernels": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, dilation=2
    ),
    "conv_transpose2d with a bias of another dtype": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, torch.ones(3, dtype=torch.float64)
    ),
    "conv_transpose2d with a bias of integers": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, torch.ones(3, dtype=torch.int64)
    ),
    "conv_transpose2d of a weight in float64": lambda: torchops.conv_transpose2d(_X, _KERNEL.double()),
    "conv_transpose2d of channels_last": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4).to(memory_format=torch.channels_last), _KERNEL
    ),
    "conv_transpose2d with the gradient of a number for a bias": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, torch.ones(1, requires_grad=True)
    ),
    "conv_transpose2d with the gradient of a column for a bias": lambda: torchops.conv_transpose2d(
        torch.ones(1, 2, 4, 4), _KERNEL, torch.ones(3, 1, requires_grad=True)
    ),
    "conv2d in autocast": lambda: torch.autocast("cpu", torch.bfloat16)(_conv2d())(),
    "conv2d of an unbatched image": _conv2d((4, 6, 6)),
    "conv2d of an empty batch": _conv2d((0, 4, 6, 6)),
    "conv2d of no outputs": _conv2d(weight=(0, 2, 3, 3)),
    "conv2d of a weight in float64": _conv2d(weight=torch.ones(4, 2, 3, 3).double()),
    "conv2d of a bias in float64": _conv2d(bias=torch.ones(4).double()),
    "conv2d of a weight on meta": _conv2d(weight=torch.ones(4, 2, 3, 3, device="meta")),
    "conv2d of a bias on meta": _conv2d(bias=torch.ones(4, device="meta")),
    "conv2d of a weight of oneDNN": _conv2d(weight=torch.ones(4, 2, 3, 3).to_mkldnn()),
    "conv2d of a bias of oneDNN": _conv2d(bias=torch.ones(4).to_mkldnn()),
    "conv2d of a weight of a subclass": _conv2d(weight=torch.ones(4, 2, 3, 3).as_subclass(Special)),
    "conv2d of a bias of a subclass": _conv2d(bias=torch.ones(4).as_subclass(Special)),
    "conv2d of odd strides": _conv2d(_odd(1, 4, 6, 6)),
    "conv2d of a weight of odd strides": _conv2d(weight=_odd(4, 2, 1, 3)),
    "conv2d of windows that stay, of a weight in channels_last": _conv2d(
        weight=torch.ones(4, 4, 1, 2).to(memory_format=torch.channels_last), stride=0
    ),
    "conv2d of windows in the padding": _conv2d(padding=3, stride=2),
    "conv2d around the image": _conv2d((2, 4, 1, 6), (4, 2, 4, 3), padding=(5, 0), dilation=(4, 1)),
    "conv2d of four sides": _conv2d(padding=(1, 1, 1, 1)),
    "conv2d of the same size": _conv2d(padding="same"),
    "conv2d by a bool": _conv2d(stride=True),
    "conv2d by a pair with a bool": _conv2d(stride=(1, True)),
    "conv2d by NumPy's numbers": _conv2d(stride=(1, np.int64(1))),
    "conv2d by a list": _conv2d(stride=[1, 1]),
    "conv2d by as much as that": _conv2d(weight=(4, 2, 1, 1), dilation=2**31),
    "conv2d in True groups": _conv2d(weight=(4, 4, 3, 3), groups=True),
    "conv2d with another border": _conv2d(padding=1, padding_mode="reflect"),
    "conv2d with a border of a number": _conv2d(padding=1, padding_mode="constant", padding_value=1.0),
    "conv2d with a value of zeros": _conv2d(padding=1, padding_value=1.0),
    "conv2d with an int for the value": _conv2d(padding=1, padding_value=0),
    "conv2d with an unknown activation": _conv2d(activation="elu"),
    "conv2d with a list of activations": _conv2d(activation=["relu"]),
    "conv2d with a row to be added": _conv2d(residual=torch.ones(2, 4, 1, 4)),
    "conv2d with float64 to be added": _conv2d(residual=torch.ones(2, 4, 4, 4).double()),
    "conv2d with a subclass to be added": _conv2d(residual=torch.ones(2, 4, 4, 4).as_subclass(Special)),
    "max_pool2d of an unbatched image": lambda: torchops.max_pool2d(_X[0], 2),
    "max_pool2d of an empty batch": lambda: torchops.max_pool2d(_X[:0], 2),
    "max_pool2d with offsets": lambda: torchops.max_pool2d(_X, 2, return_indices="offset")[1],
    "max_pool2d with 0 for False": lambda: torchops.max_pool2d(_X, 2, return_indices=0),  # type: ignore[call-overload]
    "max_pool2d with 1 for ceil_mode": lambda: torchops.max_pool2d(_X, 2, ceil_mode=1),  # type: ignore[call-overload]
    "max_pool2d dilated": lambda: torchops.max_pool2d(_X, 2, dilation=2),
    "max_pool2d dilated by a bool": lambda: torchops.max_pool2d(_X, 2, dilation=(1, True)),
    "max_pool2d by a bool": lambda: torchops.max_pool2d(_X, (2, True)),
    "adaptive_avg_pool2d of as many as there are": lambda: torchops.adaptive_avg_pool2d(
        torch.ones(1, 1, 4, 4), (None, 1)
    ),
    "adaptive_avg_pool2d with the gradient of channels_last": lambda: torchops.adaptive_avg_pool2d(
        torch.ones(1, 2, 4, 4).to(memory_format=torch.channels_last).requires_grad_(), 1
    ),
    "max_pool2d of a large image": lambda: torchops.max_pool2d(torch.ones(1, 1, 201, 200), 2),
    "max_pool2d of many pixels": lambda: torchops.max_pool2d(torch.ones(1, 1, 70, 70), 3, 1),
    "min_pool2d": lambda: torchops.min_pool2d(_X, 2),
    "avg_pool2d of an unbatched image": lambda: torchops.avg_pool2d(_X[0], 2),
    "avg_pool2d of an empty batch": lambda: torchops.avg_pool2d(_X[:0], 2),
    "avg_pool2d with a divisor": lambda: torchops.avg_pool2d(_X, 2, divisor_override=3),
    "avg_pool2d with 1 for a flag": lambda: torchops.avg_pool2d(_X, 2, count_include_pad=1),  # type: ignore[arg-type]
    "avg_pool2d by a bool": lambda: torchops.avg_pool2d(_X, 2, (1, True)),
    "avg_pool2d of a large image": lambda: torchops.avg_pool2d(torch.ones(1, 1, 201, 200), 2),
    "avg_pool2d of many pixels": lambda: torchops.avg_pool2d(torch.ones(1, 1, 70, 70), 3, (1, 2)),
    "interpolate of an unbatched image": lambda: torchops.interpolate(_X[0], scale_factor=2),
    "interpolate of an empty batch": lambda: torchops.interpolate(_X[:0], scale_factor=2),
    "interpolate by three": lambda: torchops.interpolate(_X, scale_factor=3),
    "interpolate by a half": lambda: torchops.interpolate(_X, scale_factor=0.5),
    "interpolate by a bool": lambda: torchops.interpolate(_X, scale_factor=(2, True)),
    "interpolate by a list": lambda: torchops.interpolate(_X, scale_factor=[2, 2]),
    "interpolate by three factors": lambda: torchops.interpolate(_X, scale_factor=(2, 2, 2)),
    "interpolate by NumPy's number": lambda: torchops.interpolate(_X, scale_factor=np.float64(2)),
    "interpolate by nothing": lambda: torchops.interpolate(_X),
    "interpolate by a factor and to a size": lambda: torchops.interpolate(_X, 8, 2),
    "interpolate to no multiple": lambda: torchops.interpolate(_X, (8, 9)),
    "interpolate to less": lambda: torchops.interpolate(_X, (8, 2)),
    "interpolate to a bool": lambda: torchops.interpolate(torch.ones(1, 1, 1, 1), (1, True)),
    "interpolate between pixels": lambda: torchops.interpolate(_X, 8, mode="bilinear"),
    "interpolate with corners": lambda: torchops.interpolate(_X, 8, align_corners=False),
    "interpolate with 0 for a flag": lambda: torchops.interpolate(_X, 8, antialias=0),  # type: ignore[arg-type]
    "interpolate to a large image": lambda: torchops.interpolate(torch.ones(1, 1, 1449, 1449), scale_factor=2),
    "interpolate with the gradient of channels_last": lambda: torchops.interpolate(
        torch.ones(1, 2, 4, 4).to(memory_format=torch.channels_last).requires_grad_(), scale_factor=2
    ),
    "max_unpool2d from offsets": _unpool(_X, torch.zeros(1, 2, 4, 4, dtype=torch.uint8), 2),
    "max_unpool2d from a subclass": _unpool(_X, positions(_X).as_subclass(Special), 2),
    "max_unpool2d from other positions": _unpool(_X, positions(_X)[:, :1], 2),
    "max_unpool2d from positions beyond": _unpool(_X, positions(_X) + 60, 2),
    "max_unpool2d of windows that overlap": _unpool(_X, positions(_X), 3, 2),
    "max_unpool2d of padded windows": _unpool(_X, positions(_X) * 0, 2, padding=1),
    "max_unpool2d to a size": _unpool(_X, positions(_X), 2, output_size=(9, 9)),
    "max_unpool2d of channels_last": _unpool(_X.to(memory_format=torch.channels_last), positions(_X), 2),
    "max_unpool2d by a bool": _unpool(_X, positions(_X), (True, 1)),
    "max_unpool2d padded by a bool": _unpool(_X, positions(_X), 2, padding=(False, 0)),
    "max_unpool2d dilated by a bool": _unpool(_X, positions(_X), 2, dilation=(True, 1)),
    "max_unpool2d by zero": _unpool(_X, positions(_X), 0),
}


@pytest.mark.parametrize("call", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_takes_the_long_way(call: Callable[[], Any], taken: list[str]) -> None:
    found = outcome(call)
    assert not taken
    with the_long_way():
        expected = outcome(call)
    if isinstance(found, tuple):
        assert found == expected
    else:
        assert type(found) is type(expected)
        assert same(found, expected)


def test_nested_tensors_are_refused_as_before() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.nested.nested_tensor([torch.ones(1, 4, 4)] * 2)
    for call in (lambda: torchops.max_pool2d(x, 2), lambda: torchops.conv2d(x, torch.ones(1, 1, 2, 2))):
        found = outcome(call)
        with the_long_way():
            assert found == outcome(call)
