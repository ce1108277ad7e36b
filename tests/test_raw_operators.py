"""`torch.ops.torchops.*` called by themselves: what would read or write beyond a tensor is refused, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import torchops

from .conformance import EVERY_TIER

_GEOMETRY: dict[str, Any] = {"stride": [2, 1], "padding": [1, 1, 1, 0], "dilation": [1, 1], "groups": 2}
_IMAGE, _WEIGHT, _RESULT = (2, 4, 6, 7), (6, 2, 3, 2), (2, 6, 3, 8)

_WINDOW: dict[str, Any] = {"kernel_size": [3, 2], "stride": [2, 2], "padding": [1, 0]}
_DILATED = _WINDOW | {"dilation": [1, 1]}
_PIXELS, _WINDOWS = (2, 3, 6, 7), (2, 3, 3, 3)


def _positions() -> Tensor:
    """Of the windows above, the first tap in the image."""
    rows, cols = torch.tensor([0, 1, 3]), torch.tensor([0, 2, 4])
    return (rows[:, None] * 7 + cols).expand(_WINDOWS).contiguous()


GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "conv2d": lambda: {
        "x": torch.randn(_IMAGE), "weight": torch.randn(_WEIGHT), "bias": torch.randn(6), "residual": torch.randn(_RESULT),
        **_GEOMETRY, "padding_mode": "reflect", "padding_value": 0.0, "activation": "silu",
    },
    "conv2d_input_grad": lambda: {
        "dy": torch.randn(_RESULT), "weight": torch.randn(_WEIGHT), "bias": torch.randn(4), "size": [6, 7],
        **_GEOMETRY, "padding_mode": "zeros", "channels_last": False,
    },
    "conv2d_weight_grad": lambda: {
        "dy": torch.randn(_RESULT), "x": torch.randn(_IMAGE), "kernel_size": [3, 2],
        **_GEOMETRY, "padding_mode": "circular", "padding_value": 0.0, "with_bias": True, "channels_last": False,
    },
    "avg_pool2d": lambda: {
        "x": torch.randn(_PIXELS), **_WINDOW, "size": [3, 3], "mean": "inside", "divisor": 1, "channels_last": False,
    },
    "avg_unpool2d": lambda: {
        "x": torch.randn(_WINDOWS), **_WINDOW, "size": [6, 7], "mean": "cover", "divisor": 1, "channels_last": False,
    },
    "max_pool2d": lambda: {"x": torch.randn(_PIXELS), **_DILATED, "output_size": [3, 3], "smallest": False},
    "max_pool2d_with_indices": lambda: {
        "x": torch.randn(_PIXELS), **_DILATED, "output_size": [3, 3], "smallest": True, "indices": "offset",
    },
    "max_unpool2d": lambda: {
        "x": torch.randn(_WINDOWS), "indices": _positions(), "size": [6, 7], **_DILATED,
        "duplicates": "last", "channels_last": False,
    },
    "max_unpool2d_backward": lambda: {
        "dy": torch.randn(_PIXELS), "indices": _positions(), **_DILATED, "duplicates": "last", "channels_last": False,
    },
    "adaptive_avg_pool2d": lambda: {
        "x": torch.randn(_PIXELS), "size": [4, 9], "transposed": False, "channels_last": False,
    },
    "adaptive_max_pool2d": lambda: {"x": torch.randn(_PIXELS), "size": [4, 9]},
    "adaptive_max_unpool2d": lambda: {
        "x": torch.randn(_WINDOWS), "indices": _positions(), "size": [6, 7], "channels_last": False,
    },
    "adaptive_max_unpool2d_backward": lambda: {
        "dy": torch.randn(_PIXELS), "indices": _positions(), "channels_last": False,
    },
    "sobel": lambda: {
        "x": torch.randn(2, 3, 4, 5), "normalized": True, "eps": 1e-6, "padding_mode": "reflect", "padding_value": 0.0,
    },
    "spatial_gradient": lambda: {
        "x": torch.randn(2, 3, 4, 5), "normalized": True, "padding_mode": "reflect", "padding_value": 0.0,
    },
    "sobel_backward": lambda: {
        "dy": torch.randn(2, 3, 4, 5), "x": torch.randn(2, 3, 4, 5), "normalized": True, "eps": 1e-6,
        "padding_mode": "reflect", "padding_value": 0.0,
    },
    "spatial_gradient_backward": lambda: {
        "dg": torch.randn(2, 3, 2, 4, 5), "normalized": True, "padding_mode": "reflect",
    },
}  # fmt: skip
"""A call of every operator, by name; every argument counts for something."""

_FREE = {"conv2d_input_grad": 1} | dict.fromkeys(
    ("avg_pool2d", "avg_unpool2d", "max_pool2d", "max_pool2d_with_indices", "sobel", "spatial_gradient",
     "spatial_gradient_backward"), 2,
) | dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), 4)  # fmt: skip
"""How many leading dimensions of the first tensor no other argument has to agree with; where it is the only tensor and is not
here, all."""
_BOUND = {"adaptive_max_unpool2d_backward": 2}
"""How many leading dimensions there are that another argument has to agree with, where it is not all."""


def call(name: str, arguments: dict[str, Any]) -> Any:
    return getattr(torch.ops.torchops, name)(*arguments.values())


def refusal(name: str, arguments: dict[str, Any]) -> str:
    try:
        call(name, arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        return str(error)
    return "accepted"


def bad_tensors(t: Tensor, dims: Iterable[int]) -> Iterator[tuple[str, Tensor]]:
    yield "a dimension less", t[0]
    for dim in dims:
        yield f"one element in dimension {dim}", t.narrow(dim, 0, 1)
    yield "another dtype", t.to(torch.complex64 if t.dtype == torch.int64 else torch.int64)
    yield "sparse", t.to_sparse()
    yield "elsewhere", t.to("meta")


def bad_calls(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every argument spoilt, one at a time: what was spoilt, and the arguments."""
    good = GOOD[name]()
    tensors = [value for value in good.values() if isinstance(value, Tensor)]
    floats = [t for t in tensors if t.is_floating_point()]
    free = tensors[0].dim() if len(tensors) == 1 else 0
    for position, (argument, value) in enumerate(good.items()):
        spoilt: list[tuple[str, Any]] = []
        if isinstance(value, Tensor):
            spoilt += [
                (how, t)
                for how, t in bad_tensors(
                    value, range(0 if position else _FREE.get(name, free), _BOUND.get(name, value.dim()))
                )
                # one tensor alone may be anywhere
                if len(tensors) > 1 or how != "elsewhere"
            ]
            if len(floats) > 1 and value.is_floating_point():
                spoilt.append(("float64", value.double()))
        elif isinstance(value, list):
            wrong = (0, -1, 1000) if argument in ("kernel_size", "stride", "dilation") else (-2, 1000)
            if name.startswith("adaptive"):
                # there are windows of any size
                wrong = (0, -1)
            spoilt += [(str(n), [*value[:i], n, *value[i + 1 :]]) for i in range(len(value)) for n in wrong]
        elif isinstance(value, str):
            spoilt.append(("no word", "mirror"))
        elif argument in ("groups", "divisor"):
            spoilt += [(str(n), n) for n in ((0,) if argument == "divisor" else (0, -1, 3, 4, 1000))]
        for how, bad in spoilt:
            yield f"{argument}: {how}", good | {argument: bad}


@EVERY_TIER
@pytest.mark.parametrize("name", GOOD)
def test_good_calls_run(name: str, device: torch.device) -> None:
    arguments = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in GOOD[name]().items()}
    results = call(name, arguments)
    for result in results if isinstance(results, tuple) else (results,):
        assert result.isfinite().all()


def test_every_operator_is_here() -> None:
    registered = {
        n.removeprefix("torchops::") for n in torch._C._dispatch_get_all_op_names() if n.startswith("torchops::")
    }
    assert set(GOOD) == {n.partition(".")[0] for n in registered}


@pytest.mark.tiers("aten", "interpreter", "ir")
@pytest.mark.parametrize("name", GOOD)
def test_bad_calls_are_refused(name: str) -> None:
    """By a check, which names an argument, and before anything is computed."""
    for what, arguments in bad_calls(name):
        refused = refusal(name, arguments)
        assert any(f"`{argument}`" in refused for argument in arguments), f"{what}: {refused}"


@pytest.mark.parametrize("name", GOOD)
def test_fake_tensors_refuse_the_same(name: str) -> None:
    for what, arguments in bad_calls(name):
        if "sparse" in what or "elsewhere" in what:
            continue
        with FakeTensorMode() as mode:
            fakes = {k: mode.from_tensor(v) if isinstance(v, Tensor) else v for k, v in arguments.items()}
            assert refusal(name, fakes) != "accepted", what


@pytest.mark.tiers("interpreter", "ir")
@pytest.mark.parametrize("name", GOOD)
def test_bfloat16_is_refused_by_the_interpreter_alone(name: str, tier: str) -> None:
    """It computes that wrongly: products of matrices are garbage, and other results truncated."""
    arguments = {
        k: v.bfloat16() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in GOOD[name]().items()
    }
    if tier == "ir":
        call(name, arguments)
        return
    wrong = r"interpreter computes torch.bfloat16 wrongly, and \w+_kernel was given it: .* set TORCHOPS_BACKEND=aten"
    with pytest.raises(RuntimeError, match=wrong):
        call(name, arguments)
    with torchops.use_backend("aten"):
        call(name, arguments)
