"""Calls with good and bad arguments, over what hypothesis draws: the quick way does what the long way does, to the bit.

What is drawn is right in most of its parts and wrong in one now and then, so that each of them is refused by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import torchops
from torchops.activations import ACTIVATIONS

from .drawn import drawn
from .opinfo import VIEWS
from .ways import the_long_way

_VIEWS = (*VIEWS, "expanded")
_STORES: dict[str, Callable[[Tensor], Any]] = {
    "mkldnn": lambda t: t.to_mkldnn() if t.dtype == torch.float32 and t.numel() else t,
    "sparse": Tensor.to_sparse,
    "meta": lambda t: t.to("meta"),
    "float16": Tensor.half,
    "float64": Tensor.double,
    "int32": Tensor.int,
    "parameter": lambda t: torch.nn.Parameter(t) if t.is_floating_point() else t,
    "unbatched": lambda t: t[0] if t.dim() and len(t) else t,
    "None": lambda t: None,
    "list": Tensor.tolist,
}
"""What a tensor may be instead of a dense one of the dtype of the others."""


@dataclass(frozen=True)
class Made:
    """A tensor, but for its values."""

    shape: tuple[int, ...]
    view: str = "contiguous"
    store: str | None = None
    requires_grad: bool = False

    def tensor(self, dtype: torch.dtype) -> Any:
        t = torch.randn(self.shape, dtype=dtype)
        if self.view == "expanded":
            t = t[:1].expand(self.shape)
        elif self.view != "contiguous" and t.dim() == 4 and t.numel():
            t = VIEWS[self.view](t)
        t = t if self.store is None else _STORES[self.store](t)
        if self.requires_grad and isinstance(t, Tensor) and t.is_floating_point() and t.is_leaf:
            t.requires_grad_()
        return t


@dataclass(frozen=True)
class Call:
    name: str
    tensors: dict[str, Made | None]
    others: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    grad_mode: bool = True
    indices: str = "windows"
    """Of an unpool: in the windows, anywhere, or beyond the output."""


_BAD_NUMBERS = (
    0, -1, True, 1.0, None, "same", "valid", (), (1,), (2,), [1, 2], [], (1, 1, 1), (0, 1, 1, 2), (True, 1), (1, True),
    (1, 2.0), (1, -1), (0, 1), (1, None), ((1, 1), 1), 2**31, (1, 2**31), 2**70, (1, 2**70), {1: 1}, object,
    np.int64(2), (np.int64(1), 1), (1, np.int64(2)), np.float32(1.0), np.array([1, 2]), torch.tensor(2),
)  # fmt: skip
_BAD_FLAGS = (0, 1, None, "yes", np.bool_(True))


def _rarely(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 39).flatmap(lambda n: bad if n == 7 else good)


def _numbers(least: int, most: int) -> st.SearchStrategy[Any]:
    one = st.integers(least, most)
    return _rarely(one | st.tuples(one, one), st.sampled_from(_BAD_NUMBERS))


_FLAGS = _rarely(st.booleans(), st.sampled_from(_BAD_FLAGS))


@st.composite
def _made(draw: st.DrawFn, shape: tuple[int, ...]) -> Made:
    dims = range(len(shape))
    wrong = st.one_of(
        st.sampled_from(dims).map(lambda d: (*shape[:d], *shape[d + 1 :])),
        st.sampled_from(dims).map(lambda d: (*shape[:d], shape[d] + 1, *shape[d + 1 :])),
        st.sampled_from(dims).map(lambda d: (*shape[:d], 0, *shape[d + 1 :])),
    )
    return Made(
        draw(_rarely(st.just(shape), wrong)),
        draw(st.sampled_from(("contiguous", "contiguous", "channels_last")) | st.sampled_from(_VIEWS)),
        draw(_rarely(st.none(), st.sampled_from(tuple(_STORES)))),
        draw(st.sampled_from((False, False, True))),
    )


_PIXELS = st.integers(3, 9) | st.integers(1, 9)
_SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), _PIXELS, _PIXELS)
_DTYPES = st.sampled_from((torch.float32, torch.float32, torch.float64))


@st.composite
def convolutions(draw: st.DrawFn) -> Call:
    n, c, h, w = draw(_SIZES)
    groups = draw(st.sampled_from((1, 1, 2, 3, c)))
    outputs = groups * draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    c = c if groups == c else c * groups
    others = {
        "stride": draw(_numbers(1, 3)),
        "padding": draw(st.just(0) | _numbers(0, 3)),
        "dilation": draw(st.just(1) | _numbers(1, 3)),
        "groups": draw(_rarely(st.just(groups), st.sampled_from((*_BAD_NUMBERS, groups + 1)))),
    }
    tensors: dict[str, Made | None] = {
        "input": draw(_made((n, c, h, w))),
        "weight": draw(_made((outputs, c // groups, *kernel))),
        "bias": draw(st.none() | _made((outputs,))),
    }
    if draw(st.booleans()):
        others["activation"] = draw(_rarely(st.sampled_from(tuple(ACTIVATIONS)), st.sampled_from(("elu", 1, ["relu"]))))
    if draw(st.integers(0, 3)) == 0:
        numbers = [others[name] for name in ("stride", "padding", "dilation")]
        size = (h, w)
        if all(type(v) is int for v in numbers):
            by, around, apart = numbers
            size = tuple(
                (m + 2 * around - apart * (k - 1) - 1) // max(by, 1) + 1 for m, k in zip((h, w), kernel, strict=True)
            )
        tensors["residual"] = draw(_made((n, outputs, *(min(max(m, 1), 32) for m in size))))
    if draw(st.integers(0, 9)) == 0:
        others["padding_mode"] = draw(st.sampled_from(("zeros", "reflect", "constant", "ones", 0)))
        others["padding_value"] = draw(st.sampled_from((0.0, 0, 1.5, False, -0.0)))
    return Call("conv2d", tensors, others, draw(_DTYPES), draw(st.booleans()))


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> Call:
    n, c, h, w = draw(_SIZES)
    groups = draw(st.sampled_from((1, 1, 2, c)))
    c = c if groups == c else c * groups
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    outputs = draw(st.integers(1, 3))
    others = {
        "stride": draw(_numbers(1, 3)),
        "padding": draw(st.just(0) | _numbers(0, 3)),
        "output_padding": draw(st.just(0) | _numbers(0, 2)),
        "groups": draw(_rarely(st.just(groups), st.sampled_from((*_BAD_NUMBERS, groups + 1)))),
        "dilation": draw(st.just(1) | _numbers(1, 2)),
    }
    tensors = {
        "input": draw(_made((n, c, h, w))),
        "weight": draw(_made((c, outputs, *kernel))),
        "bias": draw(st.none() | _made((outputs * groups,))),
    }
    return Call("conv_transpose2d", tensors, others, draw(_DTYPES), draw(st.booleans()))


def _window(draw: st.DrawFn) -> dict[str, Any]:
    least, most = draw(st.sampled_from(((1, 4), (2, 3))))
    window = {"kernel_size": draw(_numbers(least, most)), "padding": draw(st.just(0) | _numbers(0, 2))}
    if draw(st.booleans()):
        window["stride"] = draw(_numbers(1, 3))
    return window


@st.composite
def max_pools(draw: st.DrawFn) -> Call:
    others = {
        **_window(draw),
        "ceil_mode": draw(_FLAGS),
        "dilation": draw(st.just(1) | _numbers(1, 1) | _numbers(1, 2)),
    }
    others["return_indices"] = draw(_rarely(st.booleans(), st.sampled_from(("offset", 0, None))))
    return Call("max_pool2d", {"input": draw(_made(draw(_SIZES)))}, others, draw(_DTYPES), draw(st.booleans()))


@st.composite
def avg_pools(draw: st.DrawFn) -> Call:
    others = {**_window(draw), "ceil_mode": draw(_FLAGS), "count_include_pad": draw(_FLAGS)}
    if draw(st.integers(0, 4)) == 0:
        others["divisor_override"] = draw(st.sampled_from((None, 3, -2, *_BAD_NUMBERS)))
    return Call("avg_pool2d", {"input": draw(_made(draw(_SIZES)))}, others, draw(_DTYPES), draw(st.booleans()))


@st.composite
def adaptive_avg_pools(draw: st.DrawFn) -> Call:
    tensors: dict[str, Made | None] = {"input": draw(_made(draw(_SIZES)))}
    return Call(
        "adaptive_avg_pool2d", tensors, {"output_size": draw(_numbers(1, 5))}, draw(_DTYPES), draw(st.booleans())
    )


_FACTORS = st.sampled_from((1, 2, 4, 2.0, 3))


@st.composite
def interpolations(draw: st.DrawFn) -> Call:
    shape = draw(_SIZES)
    others = {"mode": draw(_rarely(st.sampled_from(("nearest", "nearest-exact")), st.sampled_from(("area", None, 2))))}
    factors = draw(_FACTORS | st.tuples(_FACTORS, _FACTORS))
    if draw(st.booleans()):
        bad = st.sampled_from((0.5, 2.5, float("nan"), float("inf"), *_BAD_NUMBERS))
        others["scale_factor"] = draw(_rarely(st.just(factors), bad))
    else:
        rows, cols = factors if isinstance(factors, tuple) else (factors, factors)
        size = int(shape[2] * rows), int(shape[3] * cols)
        others["size"] = draw(_rarely(st.sampled_from((size, size[0])), st.sampled_from(_BAD_NUMBERS)))
    if draw(st.integers(0, 9)) == 0:
        others["antialias"] = draw(_FLAGS)
        others["align_corners"] = draw(st.none() | _FLAGS)
    return Call("interpolate", {"input": draw(_made(shape))}, others, draw(_DTYPES), draw(st.booleans()))


@st.composite
def max_unpools(draw: st.DrawFn) -> Call:
    kernel = draw(_numbers(1, 3))
    others = {"kernel_size": kernel, "stride": draw(st.none() | st.just(kernel) | _numbers(1, 3))}
    others["padding"] = draw(st.just(0) | _numbers(0, 1))
    others["dilation"] = draw(st.just(1) | _numbers(1, 2))
    if draw(st.integers(0, 3)) == 0:
        others["output_size"] = draw(st.sampled_from((None, (6, 6), [4, 4], (2, 2), 6, (1, 1, 9, 9))))
    shape = draw(_SIZES)
    tensors: dict[str, Made | None] = {"input": draw(_made(shape)), "indices": draw(_made(shape))}
    indices = draw(st.sampled_from(("windows", "windows", "anywhere", "offsets", "beyond")))
    return Call("max_unpool2d", tensors, others, draw(_DTYPES), draw(st.booleans()), indices)


def _indices(t: Any, call: Call) -> Any:
    """Those of an unpool, in place of normal values."""
    if not isinstance(t, Tensor) or t.layout != torch.strided or t.device.type != "cpu":
        return t
    if call.indices == "offsets":
        return t.detach().abs().mul(2).to(torch.uint8)
    kernel = call.others["kernel_size"]
    kernel = kernel if type(kernel) is int and 0 < kernel < 2**31 else 1
    p, q = t.shape[-2:] if t.dim() > 1 else (1, 1)
    pixels = max(p * kernel * q * kernel, 1)
    if call.indices == "windows":
        rows, cols = torch.arange(p) * kernel, torch.arange(q) * kernel
        return torch.empty_like(t, dtype=torch.int64).copy_(rows[:, None] * q * kernel + cols)
    found = (t.detach() * 1e6).long() % pixels
    return torch.empty_like(t, dtype=torch.int64).copy_(found + (call.indices == "beyond") * 2)


def _outcome(call: Call) -> Any:
    """The results of a call and their gradients, or the error that it raises."""
    torch.default_generator.manual_seed(0)
    tensors = {name: None if made is None else made.tensor(call.dtype) for name, made in call.tensors.items()}
    if call.name == "max_unpool2d":
        tensors["indices"] = _indices(tensors["indices"], call)
    leaves = [t for t in tensors.values() if isinstance(t, Tensor) and t.requires_grad]
    try:
        with torch.set_grad_enabled(call.grad_mode):
            y = getattr(torchops, call.name)(**tensors, **call.others)
            results = y if isinstance(y, tuple) else (y,)
            if not results[0].requires_grad:
                return [*results, None]
            first = torch.autograd.grad(y if y is results[0] else results[0], leaves, torch.randn_like(results[0]))
    except Exception as error:
        return type(error), str(error)
    return [*results, *first]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    if (a.shape, a.dtype, a.layout, a.device) != (b.shape, b.dtype, b.layout, b.device):
        return False
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    return a.stride() == b.stride() and (
        a.is_meta or (torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()))
    )


def _check(call: Call) -> None:
    with drawn(f"quick {call.name}", call):
        found = _outcome(call)
        with the_long_way():
            wanted = _outcome(call)
        if isinstance(found, tuple) or isinstance(wanted, tuple):
            assert found == wanted
            return
        assert len(found) == len(wanted)
        assert all(_same(a, b) for a, b in zip(found, wanted, strict=True))


@given(convolutions())
def test_conv2d_does_the_same(call: Call) -> None:
    _check(call)


@example(
    Call(
        "conv_transpose2d",
        {"input": Made((2, 1, 3, 1)), "weight": Made((1, 1, 2, 2)), "bias": None},
        {"stride": 1, "padding": 1},
    )
)
@given(transposed_convolutions())
def test_conv_transpose2d_does_the_same(call: Call) -> None:
    _check(call)


@given(max_pools())
def test_max_pool2d_does_the_same(call: Call) -> None:
    _check(call)


@given(avg_pools())
def test_avg_pool2d_does_the_same(call: Call) -> None:
    _check(call)


@given(max_unpools())
def test_max_unpool2d_does_the_same(call: Call) -> None:
    _check(call)


@given(adaptive_avg_pools())
def test_adaptive_avg_pool2d_does_the_same(call: Call) -> None:
    _check(call)


@given(interpolations())
def test_interpolate_does_the_same(call: Call) -> None:
    _check(call)
