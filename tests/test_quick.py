"""Quiet calls on a CPU: which ones go straight to ATen, which may not, and that nobody can tell them apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import torchops
from torchops.ops import max_unpool2d
from torchops.ops.shortcut import is_bare, is_quiet
from torchops.torch_internals import TorchDispatchMode

from .ways import Special, outcome, positions, same, the_long_way


class _FunctionMode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _DispatchMode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "conv2d": lambda x: torchops.conv2d(x, torch.ones(2, x.shape[-3], 2, 2, dtype=x.dtype)),
    "fused": lambda x: torchops.conv2d(x, torch.ones(2, x.shape[-3], 2, 2, dtype=x.dtype), activation="relu"),
    "conv_transpose2d": lambda x: torchops.conv_transpose2d(
        x, torch.ones(x.shape[-3], 2, 2, 2, dtype=x.dtype), stride=2
    ),
    "max_pool2d": lambda x: torchops.max_pool2d(x, 2),
    "avg_pool2d": lambda x: torchops.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda x: torchops.adaptive_avg_pool2d(x, (1, 2)),
    "interpolate": lambda x: torchops.interpolate(x, scale_factor=2),
    "max_unpool2d": lambda x: torchops.max_unpool2d(x, positions(x), 2),
}
_every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@_every_call
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_quiet_call_takes_it(call: Callable[[Tensor], Tensor], dtype: torch.dtype, taken: list[str]) -> None:
    x = torch.randn(2, 3, 6, 6, dtype=dtype)
    for image in (x, nn.Parameter(x, requires_grad=False)):
        found = call(image)
        assert len(taken) == 1
        taken.clear()
        with the_long_way():
            assert same(found, call(image))
        assert not taken
    with torch.inference_mode():
        assert call(x.clone()).is_inference()
    assert len(taken) == 1


@pytest.mark.parametrize("name", [name for name in CALLS if name != "fused"])
def test_gradients_of_every_order(name: str, taken: list[str]) -> None:
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    y = CALLS[name](x)
    assert len(taken) == 1
    assert y.requires_grad
    assert not y._is_view()
    dy = torch.randn_like(y, requires_grad=True)
    (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
    with the_long_way():
        (expected,) = torch.autograd.grad(CALLS[name](x), x, dy)
    assert torch.equal(dx, expected)
    assert torch.autograd.gradcheck(CALLS[name], x)
    assert torch.autograd.gradgradcheck(CALLS[name], x)


def test_the_gradient_of_a_bias_is_a_sum(taken: list[str]) -> None:
    """oneDNN's, which a transposed convolution with its bias would get, is another."""
    x, weight, bias = (torch.randn(size, requires_grad=True) for size in ((2, 3, 16, 16), (3, 4, 3, 3), (4,)))

    def call() -> tuple[Tensor, ...]:
        y = torchops.conv_transpose2d(x, weight, bias, 2, 1)
        return y, *torch.autograd.grad(y, (x, weight, bias), dy)

    dy = torch.randn(2, 4, 31, 31)
    found = call()
    assert taken == ["quick_conv_transpose2d"]
    assert torch.equal(found[-1], dy.sum((0, 2, 3)))
    with the_long_way():
        assert all(same(a, b) for a, b in zip(found, call(), strict=True))
    with torch.no_grad():
        assert same(found[0], torchops.conv_transpose2d(x, weight, bias, 2, 1))


@pytest.mark.parametrize(
    "how",
    [
        {"scale_factor": 2}, {"scale_factor": 2.0, "mode": "nearest-exact"}, {"scale_factor": (4, 1.0)},
        {"size": 12, "recompute_scale_factor": True}, {"size": (24, 12)}, {"size": (6,)},
    ],
    ids=str,
)  # fmt: skip
def test_images_are_enlarged_by_it(how: dict[str, Any], taken: list[str]) -> None:
    x = torch.randn(2, 3, 6, 6)
    for image in (x, x.to(memory_format=torch.channels_last), x[:, 1:, ::2, 3:].repeat(1, 1, 2, 2)):
        found = torchops.interpolate(image, **how)
        with the_long_way():
            assert same(found, torchops.interpolate(image, **how))
    assert taken == 3 * ["quick_interpolate"]


def test_an_epilogue_takes_it_only_without_a_gradient(taken: list[str]) -> None:
    x, weight, z = torch.randn(1, 3, 6, 6), torch.randn(4, 3, 3, 3), torch.randn(1, 4, 4, 4)

    def call() -> Tensor:
        return torchops.conv2d(x, weight, activation="silu", residual=z)

    found = call()
    assert taken == ["quick_conv2d"]
    assert same(found, F.silu(F.conv2d(x, weight) + z))
    with the_long_way():
        assert same(found, call())
    for t in (x, weight, z):
        t.requires_grad_()
        assert call().requires_grad
        with torch.no_grad():
            assert same(found, call())
        t.requires_grad_(False)
    assert len(taken) == 4


@contextmanager
def _profiler() -> Iterator[None]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True):
        yield


WATCHED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "function mode": _FunctionMode,
    "dispatch mode": _DispatchMode,
    "profiler": _profiler,
    "tangents": forward_ad.dual_level,
    "backend": lambda: torchops.use_backend("triton"),
    "default device": lambda: torch.device("cpu"),
}


@pytest.mark.parametrize("context", WATCHED.values(), ids=WATCHED.keys())
def test_is_not_quiet_in(context: Callable[[], AbstractContextManager[Any]]) -> None:
    x = torch.randn(1, 1, 4, 4)
    assert is_quiet(x)
    with context():
        assert not is_quiet(x)
    assert is_quiet(x)


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Any]] = {
    "vmap": lambda f, x: torch.func.vmap(f)(x),
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,)),
    "functionalize": lambda f, x: torch.func.functionalize(f)(x),
    "make_fx": lambda f, x: fx.experimental.proxy_tensor.make_fx(f)(x),
    "make_fx before dispatch": lambda f, x: fx.experimental.proxy_tensor.make_fx(f, pre_dispatch=True)(x),
    "fake": lambda f, x: fx.experimental.proxy_tensor.make_fx(f, tracing_mode="symbolic")(x),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_is_not_quiet_in_a_transform(transform: Callable[..., Any]) -> None:
    """Neither for what is transformed nor for what is not."""
    other, seen = torch.randn(2), []

    def function(x: Tensor) -> Tensor:
        seen.extend([is_quiet(x), is_quiet(other)])
        return x.exp()

    transform(function, torch.randn(2))
    assert seen
    assert not any(seen)


def test_is_not_quiet_in_a_trace() -> None:
    seen: list[bool] = []

    def function(x: Tensor) -> Tensor:
        seen.append(is_quiet(x))
        return torchops.max_pool2d(torchops.conv2d(x, torch.ones(1, 1, 2, 2)), 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(function, torch.randn(1, 1, 8, 8), check_trace=False)
    assert seen == [False]
    assert "torchops::conv2d" in str(traced.inlined_graph)
    assert "torchops::max_pool2d" in str(traced.inlined_graph)


def test_is_not_quiet_of_a_proxy() -> None:
    seen: list[bool] = []

    def function(x: Any) -> Any:
        seen.append(is_quiet(x))
        return x

    fx.symbolic_trace(function)
    assert seen == [False]


def test_a_graph_has_the_operators() -> None:
    """Dynamo takes the long way, without a break."""
    x = torch.randn(1, 1, 8, 8)
    graphs: list[fx.GraphModule] = []

    def backend(gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        graphs.append(gm)
        return gm.forward

    def function(x: Tensor) -> Tensor:
        y = torchops.avg_pool2d(torchops.max_pool2d(torchops.conv2d(x, torch.ones(1, 1, 1, 1)), 2), 2)
        return torchops.max_unpool2d(y, torch.zeros(1, 1, 2, 2, dtype=torch.int64), 2)

    torch.compiler.reset()
    assert torch.equal(torch.compile(function, backend=backend, fullgraph=True)(x), function(x))
    called = " ".join(str(n.target) for n in graphs[0].graph.nodes if n.op == "call_function")
    names = "conv2d", "max_pool2d", "avg_pool2d", "max_unpool2d"
    assert all(f"torchops.{name}" in called for name in names)


BARE: dict[str, Callable[[Tensor], Any]] = {
    "subclass": lambda t: t.as_subclass(Special),
    "mkldnn": Tensor.to_mkldnn,
    "sparse": Tensor.to_sparse,
    "meta": lambda t: t.to("meta"),
    "a number": lambda t: 1.0,
    "None": lambda t: None,
}


@pytest.mark.parametrize("made", BARE.values(), ids=BARE.keys())
def test_is_not_bare(made: Callable[[Tensor], Any]) -> None:
    t = made(torch.randn(1, 1, 4, 4))
    assert not is_bare(t)
    assert not is_quiet(t)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.complex64])
def test_is_not_quiet_of(dtype: torch.dtype) -> None:
    assert not is_quiet(torch.ones(1, 1, 4, 4, dtype=dtype))


def test_large_images_take_it_where_nothing_is_faster(taken: list[str]) -> None:
    x = torch.randn(2, 8, 64, 64)
    torchops.avg_pool2d(x, 3, 1)
    torchops.max_pool2d(x, 3, 2)
    x = x.to(memory_format=torch.channels_last)
    torchops.avg_pool2d(x, 9, 1)
    torchops.max_pool2d(x, 5, 1)
    torchops.max_pool2d(x[:, :7], 3, 1)
    assert not taken
    for function in (torchops.avg_pool2d, torchops.max_pool2d):
        for window in ((2,), (5, 2), (3, 1), (3, (2, 1))):
            function(x, *window)
    torchops.max_pool2d(x, 3, 2, return_indices=True)
    assert taken == 4 * ["quick_avg_pool2d"] + 5 * ["quick_max_pool2d"]


@_every_call
def test_a_batch_of_gradients(call: Callable[[Tensor], Tensor]) -> None:
    """Each of the calls, in a backward that runs once for several gradients."""

    class Called(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Tensor:
            return call(dy).sum() * dy

    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    several = torch.randn(3, 1, 2, 4, 4)
    (found,) = torch.autograd.grad(Called.apply(x), x, several, is_grads_batched=True)
    expected = [torch.autograd.grad(Called.apply(x), x, dy)[0] for dy in several]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("batched", [False, True])
def test_the_last_of_several_values_has_the_gradient(batched: bool, taken: list[str]) -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], requires_grad=True)
    indices = torch.tensor([[[[5, 5], [0, 5]]]])
    y = torchops.max_unpool2d(x, indices, 2)
    assert taken == ["quick_max_unpool2d"]
    assert y.flatten().tolist() == [3, 0, 0, 0, 0, 4, *[0] * 10]
    dy = torch.arange(16.0).view(1, 1, 4, 4) + 1
    if batched:
        (dx,) = torch.autograd.grad(y, x, dy.expand(2, 1, 1, 4, 4), is_grads_batched=True)
        dx = dx[1]
    else:
        (dx,) = torch.autograd.grad(y, x, dy)
    assert dx.flatten().tolist() == [0, 0, 1, 6]


def test_unpooling_s_gradient_keeps_to_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block that it is computed in has no say, as elsewhere."""
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    y = torchops.max_unpool2d(x, positions(x), 2)
    kernels: list[Any] = []
    monkeypatch.setattr(max_unpool2d, "_kernels", lambda: kernels.append(1))
    with torchops.use_backend("triton"):
        (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.ones_like(dx))
    assert not kernels


def test_indices_that_are_written_to_are_noticed() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    indices = positions(x)
    y = torchops.max_unpool2d(x, indices, 2)
    indices.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("early", [False, True])
def test_checkpoints_compute_again(early: bool) -> None:
    """What ends a recomputation early is no refusal of ATen's."""
    x, weight = torch.randn(1, 2, 8, 8, requires_grad=True), torch.randn(2, 2, 3, 3)

    def function(x: Tensor) -> Tensor:
        y = torchops.max_pool2d(torchops.conv2d(x, weight).exp(), 2)
        return torchops.max_unpool2d(torchops.avg_pool2d(y, 2, 1), torch.zeros(1, 2, 2, 2, dtype=torch.int64), 2)

    with torch.utils.checkpoint.set_checkpoint_early_stop(early):
        (found,) = torch.autograd.grad(checkpoint(function, x, use_reentrant=False).sum(), x)
    assert torch.equal(found, torch.autograd.grad(function(x).sum(), x)[0])


@_every_call
def test_hooks_for_what_is_saved_are_called_once(call: Callable[[Tensor], Tensor]) -> None:
    packed: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        packed.append(t)
        raise LookupError("no room")

    x = torch.randn(1, 2, 4, 4, requires_grad=True) if call is not CALLS["fused"] else torch.randn(1, 2, 4, 4)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        found = outcome(lambda: call(x))
    if found == (LookupError, "no room"):
        assert len(packed) == 1
