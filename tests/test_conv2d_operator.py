"""conv2d as an operator and as a module: what it saves, who may call it, with what around it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import torchops

from .conformance import OPERATOR, close
from .test_conv2d import operands


class Calls(TorchDispatchMode):
    """Counts the operators of torchops that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func._schema.name.partition("::")
        self.names[name] += space == "torchops"
        return func(*args, **(kwargs or {}))

    def called(self) -> set[str]:
        return {name for name, times in self.names.items() if times}


@OPERATOR
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("needs", [n for n in itertools.product([False, True], repeat=4) if any(n)], ids=str)
def test_only_needed_gradients_are_computed(
    needs: tuple[bool, ...], activation: str | None, device: torch.device
) -> None:
    """A frozen weight costs nothing, nor does a frozen input."""
    leaves = [t.requires_grad_(n) for t, n in zip(operands(device=device), needs, strict=True)]
    x, w, b, residual = leaves
    y = torchops.conv2d(x, w, b, padding=1, activation=activation, residual=residual)
    with Calls() as calls:
        y.sum().backward()
    expected = {"conv2d_input_grad"} if needs[0] else set()
    expected |= {"conv2d_weight_grad"} if needs[1] else set()
    expected |= {"conv2d"} if activation == "silu" else set()
    assert calls.called() == expected
    assert [t.grad is not None for t in leaves] == list(needs)


@pytest.mark.parametrize(
    ("activation", "needs", "kept"),
    [
        (None, "xw", "xw"),
        (None, "x", "w"),
        (None, "w", "x"),
        (None, "b", ""),
        ("relu", "xwbr", "xwy"),
        ("tanh", "w", "xy"),
        ("gelu", "xwbr", "xwbr"),
    ],
)
def test_saves_no_more_than_it_needs(activation: str | None, needs: str, kept: str) -> None:
    """The fused epilogue keeps at most what an in-place activation keeps."""
    tensors = dict(zip("xwbr", operands(), strict=True))
    for name in needs:
        tensors[name].requires_grad_()
    packed: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.data_ptr()) or t, lambda t: t):
        x, w, b, r = tensors.values()
        tensors["y"] = torchops.conv2d(x, w, b, padding=1, activation=activation, residual=r)
    assert sorted(packed) == sorted(tensors[name].data_ptr() for name in kept)


@OPERATOR
@pytest.mark.parametrize(
    "mapped", [m for m in itertools.product([None, 0], repeat=4) if any(d == 0 for d in m)], ids=str
)
def test_vmap_of_every_tensor(mapped: tuple[int | None, ...], device: torch.device) -> None:
    """Values, and gradients sample by sample."""
    x, w, b, residual = operands(device=device)
    w, x = w[:4], torch.cat((x, x[:, :1]), 1)
    tensors = [x, torch.randn(4, 2, 3, 3, device=device), b[:4], residual[:, :4]]
    tensors = [t if d is None else torch.stack((t, -0.5 * t, t + 1)) for t, d in zip(tensors, mapped, strict=True)]

    def call(x: Tensor, w: Tensor, b: Tensor, residual: Tensor) -> Tensor:
        return torchops.conv2d(x, w, b, 2, 1, groups=2, activation="tanh", residual=residual[..., ::2, ::2])

    tensors[3] = tensors[3][..., :4, :6]
    grads = torch.func.grad(lambda *args: call(*args).square().sum(), argnums=(0, 1, 2, 3))
    for function in (lambda *args: (call(*args),), grads):
        for i, parts in enumerate(zip(*torch.vmap(function, in_dims=mapped)(*tensors), strict=True)):
            one = [t if d is None else t[i] for t, d in zip(tensors, mapped, strict=True)]
            for a, e in zip(parts, function(*one), strict=True):
                close(a, e, torch.float32, factor=4)


def test_state_dict_is_torchs() -> None:
    kwargs = {"stride": 2, "padding": 1, "groups": 2, "padding_mode": "reflect"}
    ours, theirs = torchops.nn.Conv2d(4, 6, 3, **kwargs), nn.Conv2d(4, 6, 3, **kwargs)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 7, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x[0]), theirs(x[0]))
    theirs.load_state_dict(torchops.nn.Conv2d(4, 6, 3, **kwargs, activation="relu").state_dict())
    with pytest.raises(ValueError, match=r"`padding_mode` must be one of .* got 'mirror'"):
        torchops.nn.Conv2d(4, 6, 3, padding_mode="mirror")
    with pytest.raises(ValueError, match=r"`activation` must be .* got 'swish'"):
        torchops.nn.Conv2d(4, 6, 3, activation="swish")
    with pytest.raises(ValueError, match=r"`padding_value` \(=2\.0\) needs `padding_mode` 'constant'"):
        torchops.nn.Conv2d(4, 6, 3, padding_value=2.0)


def test_in_place_ops_may_follow() -> None:
    x, w, b, _ = (t.requires_grad_() for t in operands())
    F.relu_(torchops.conv2d(x[:, :1], w[:1, :1], b[:1], padding=1)).sum().backward()
    F.relu_(torchops.conv_transpose2d(x, w.detach().mT[:3].contiguous().requires_grad_())).sum().backward()


def test_backward_ignores_autocast() -> None:
    """A backward computes in the dtypes of its forward, as ATen's does, with autocast still on or only then."""
    x, w, b, _ = operands()
    for padding_mode, activation in (("reflect", None), ("zeros", "silu")):
        leaves = [t.detach().requires_grad_() for t in (x, w, b)]

        def loss(leaves: list[Tensor] = leaves, mode: str = padding_mode, name: str | None = activation) -> Tensor:
            return torchops.conv2d(*leaves, padding=1, padding_mode=mode, activation=name).square().sum()

        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.autograd.grad(loss(), leaves, create_graph=True)
        plain, late = loss(), loss()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = torch.autograd.grad(late, leaves)
        for a, e in zip(found, torch.autograd.grad(plain, leaves), strict=True):
            assert torch.equal(a, e)


class _UpTo(nn.Module):
    """To the size of another, as the decoder of a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torchops.nn.ConvTranspose2d(3, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, [2 * n + 2 for n in x.shape[-2:]])
        return out


def _traced() -> dict[str, nn.Module]:
    def conv(kernel_size: Any = (3, 2), padding_mode: str = "zeros") -> nn.Conv2d:
        return nn.Conv2d(3, 4, kernel_size, padding="same", padding_mode=padding_mode)

    return {
        "module": torchops.nn.Conv2d(3, 4, (3, 2), padding="same"),
        "four sides": torchops.nn.Conv2d(3, 4, 3, padding=(1, 0, 2, 1)),
        "reflect": torchops.nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect"),
        "transposed": torchops.nn.ConvTranspose2d(3, 4, 3, 2, output_padding=1),
        "output size": _UpTo(),
        "converted": torchops.convert(conv())[0],
        "fused": torchops.fuse(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU()).eval())[0],
    }


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of checks, whose answer the trace keeps
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize("name", _traced())
def test_jit_trace(name: str) -> None:
    model, x = _traced()[name], torch.rand(2, 3, 6, 7)
    # a batch norm takes batches alone, and so does the fused model that has one
    single = [] if name == "fused" else [x[0]]
    for example in (x, x.clone().requires_grad_(), *single):
        assert torch.equal(torch.jit.trace(model, example)(example), model(example))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize("padding", ["same", "valid", 1, (0, 1), (1, 2, 0, 1)], ids=str)
def test_jit_trace_of_the_function(padding: Any) -> None:
    """Of a weight that is an input too, with arguments that are made of sizes."""

    def call(x: Tensor, w: Tensor) -> Tensor:
        return torchops.conv2d(x, w, None, x.shape[1] // 3, padding, w.shape[2] // 2, activation="relu")

    x, w, _, _ = operands()
    assert torch.equal(torch.jit.trace(call, (x, w))(x, w), call(x, w))


def test_symbolic_trace() -> None:
    """torch.fx records the functions as they are called, as it does torch.nn.functional's."""
    layers = torchops.nn.Conv2d(3, 4, 3, padding_mode="reflect", padding=1), torchops.nn.ConvTranspose2d(4, 3, 2, 2)
    model = nn.Sequential(*layers, torchops.nn.Sobel())
    traced, x = torch.fx.symbolic_trace(model), torch.rand(1, 3, 5, 6)
    assert torch.equal(traced(x), model(x))
    assert sum(node.op == "call_function" for node in traced.graph.nodes) == 3


def test_integers_of_numpy() -> None:
    x, w, _, _ = operands()
    two, one = np.int64(2), np.int32(1)
    y = torchops.conv2d(x, w, None, (two, one), one, one, one)
    assert torch.equal(y, torchops.conv2d(x, w, None, (2, 1), 1))
    y = torchops.conv2d(x, w, padding=one, padding_mode="constant", padding_value=np.float32(0.5))
    assert torch.equal(y, torchops.conv2d(x, w, padding=1, padding_mode="constant", padding_value=0.5))


def test_meta_tensors_in_autocast() -> None:
    x, w, b, _ = operands()
    with torch.autocast("cpu"):
        assert torchops.conv2d(x.to("meta"), w.to("meta"), b.to("meta")).shape == (2, 5, 2, 3)


def test_class_of_a_module_may_be_changed() -> None:
    module = nn.Conv2d(3, 4, 3)
    expected = module(torch.ones(1, 3, 4, 4))
    module.__class__ = torchops.nn.Conv2d
    torch.testing.assert_close(module(torch.ones(1, 3, 4, 4)), expected)


def test_at_rest_nothing_is_watched() -> None:
    """A thread and tensors with nothing about them take the short way, also where torchops was imported inside a mode."""
    from torchops.ops.shortcut import is_watched

    x = torch.rand(1, 3, 4, 4)
    assert not is_watched((x, torch.nn.Parameter(x), None))
    with torch.inference_mode():
        assert not is_watched((x, x.clone()))
    code = (
        "import torch\n"
        "from torch._subclasses.fake_tensor import FakeTensorMode\n"
        "with FakeTensorMode() as mode:\n"
        "    import torchops\n"
        "    from torchops.ops.shortcut import is_watched\n"
        "    assert is_watched((torch.rand(1, 3, 4, 4),))\n"
        "assert not is_watched((torch.rand(1, 3, 4, 4),))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
