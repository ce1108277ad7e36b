"""Weights in oneDNN's own layout: the bits are those of the weight as it is, and no write leaves a copy that is used."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

import torchops
from torchops.activations import ACTIVATIONS
from torchops.compile import Backend
from torchops.ops.conv2d import packed
from torchops.torch_internals import asks_onednn

from . import packing
from .drawn import drawn
from .test_fusion import sequential

pytestmark = packing.MARKS


@dataclass(frozen=True)
class Problem:
    """A weight, and images that it is used for, by turns."""

    sizes: tuple[tuple[int, int, int], ...]
    """N, H, W."""
    channels: tuple[int, int, int]
    """Groups, channels in and out of a group."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    bias: bool
    formats: tuple[torch.memory_format, torch.memory_format]
    threads: int


_PAIRS = st.tuples(st.sampled_from((1, 1, 2, 3)), st.sampled_from((1, 1, 2, 3)))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    groups = draw(st.sampled_from((1, 1, 1, 2, 4, 8, 32)))
    most = 128 // groups
    channels = groups, *draw(st.tuples(*[st.sampled_from([c for c in (1, 2, 3, 8, 16, 32, 64) if c <= most])] * 2))
    kernel = draw(st.tuples(*[st.sampled_from((1, 1, 2, 3, 3, 5, 7))] * 2))
    dilation = draw(_PAIRS)
    padding = tuple(draw(st.integers(0, k * d // 2)) for k, d in zip(kernel, dilation, strict=True))
    least = [max(1, (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = st.tuples(st.sampled_from((1, 1, 2, 3, 16)), *(st.integers(n, n + 30) for n in least))
    sizes = tuple(draw(st.lists(size, min_size=1, max_size=3)))
    formats = draw(st.tuples(*[st.sampled_from(packing.FORMATS)] * 2))
    return Problem(
        sizes, channels, kernel, draw(_PAIRS), dilation, padding, draw(st.booleans()), formats, draw(st.integers(1, 2))
    )


@given(problems())
def test_bits_are_those_of_the_weight_as_it_is(p: Problem) -> None:
    groups, c, k = p.channels
    with drawn("packed", p), pytest.MonkeyPatch.context() as patch, torch.no_grad():
        # small weights, which take the same way as large ones
        patch.setattr(packed, "_LARGE", 1)
        patch.setattr(packed, "_LARGE_CONTIGUOUS", 1)
        torch.set_num_threads(p.threads)
        weight = torch.randn(k * groups, c, *p.kernel).contiguous(memory_format=p.formats[1])
        bias = torch.randn(k * groups) if p.bias else None
        packed.declare(weight)
        numbers = p.stride, p.padding, p.dilation, groups
        for turn in range(3):
            for n, h, w in p.sizes:
                x = torch.randn(n, c * groups, h, w).contiguous(memory_format=p.formats[0])
                y, z = packed.conv2d(x, weight, bias, *numbers), torch.conv2d(x, weight, bias, *numbers)
                if y is not None:
                    assert y.stride() == z.stride()
                    assert torch.equal(y, z)
                if turn == 2:
                    is_packed = weight[0].numel() > 1 and asks_onednn(x, weight, bias, *numbers)
                    assert (y is not None) == is_packed


@pytest.mark.parametrize("form", packing.FORMATS)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_layers_compute_the_same(activation: str | None, form: torch.memory_format) -> None:
    layer, x = packing.layer(channels=192, form=form, activation=activation), packing.image(channels=192, form=form)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = float("nan"), float("inf")
    residual = torch.randn_like(x)
    with torch.no_grad():
        results = [(layer(x), layer(x, residual=residual)) for _ in range(4)]
        assert packed.held(layer.weight) == 1
        for again in results[1:]:
            for y, first in zip(again, results[0], strict=True):
                assert y.stride() == first.stride()
                assert torch.equal(y.view(torch.int32), first.view(torch.int32))
        assert bool(results[-1][0].isnan().any())


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_other_borders_are_padded_before(padding_mode: str) -> None:
    layer, x = packing.layer(padding_mode=padding_mode), packing.image()
    with torch.no_grad():
        results = [layer(x) for _ in range(4)]
    assert packed.held(layer.weight) == 1
    assert all(torch.equal(y, results[0]) for y in results)


def _in_training(layer: Any) -> Any:
    layer.train()
    return torch.no_grad()


@contextmanager
def _without_onednn(layer: Any) -> Iterator[None]:
    torch.backends.mkldnn.enabled = False
    yield
    torch.backends.mkldnn.enabled = True


def _profiled(layer: Any) -> Any:
    return torch.profiler.profile(acc_events=True)


@pytest.mark.parametrize("when", [_in_training, _without_onednn, _profiled, lambda layer: nullcontext()])
def test_weights_are_left_as_they_are(when: Callable[[Any], Any]) -> None:
    layer, x = packing.layer(), packing.image()
    grad = torch.enable_grad() if when.__name__ == "<lambda>" else torch.no_grad()
    with when(layer), grad:
        for _ in range(4):
            layer(x)
    assert packed.held(layer.weight) == 0


def test_copies_are_left_alone_where_a_gradient_is_asked_for() -> None:
    layer, x = packing.layer(), packing.image()
    packing.have_copied(layer, x)
    y = layer(x)
    y.sum().backward()
    assert y.requires_grad
    assert layer.weight.grad is not None


def test_modes_and_transforms_see_torch_s_convolution() -> None:
    layer, x = packing.layer(), packing.image()
    packing.have_copied(layer, x)
    with torch.no_grad():
        y = layer(x)
        mapped = torch.func.vmap(layer)(x.unsqueeze(0))
        torch.testing.assert_close(mapped[0], y)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        traced = torch.fx.symbolic_trace(layer)
        assert torch.equal(traced(x), y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_torch_s(dtype: torch.dtype) -> None:
    layer, x = packing.layer().to(dtype), packing.image().to(dtype)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x))
    assert id(layer.weight) not in packed.declared


def test_small_convolutions_are_left_to_aten() -> None:
    """It has kernels of its own for them, which take less time and have other bits; and a small weight is soon reordered."""
    for channels, pixels in ((256, 1), (16, 32)):
        layer, x = (
            torchops.nn.Conv2d(channels, channels, 1, stride=2 - pixels % 2).eval(),
            packing.image(channels, pixels),
        )
        with torch.no_grad():
            for _ in range(4):
                layer(x)
        assert packed.held(layer.weight) == 0


def test_weights_of_inference_mode_are_left_as_they_are() -> None:
    with torch.inference_mode():
        layer, x = packing.layer(), packing.image()
        for _ in range(4):
            layer(x)
    assert id(layer.weight) not in packed.declared
    layer = packing.layer()
    with torch.inference_mode():
        for _ in range(4):
            assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, 1, 1))
    assert packed.held(layer.weight) == 1


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_parametrized_weights_are_left_as_they_are() -> None:
    layer, x = packing.layer(), packing.image()
    parametrize.register_parametrization(layer, "weight", _Doubled())
    before = len(packed.declared)
    for _ in range(3):
        assert packing.is_right(layer, x)
    assert len(packed.declared) == before
    assert layer.train().training


def test_one_weight_of_two_layers() -> None:
    first, second, x = (
        packing.layer(channels=192, form=packing.FORMATS[0]),
        packing.layer(channels=192, form=packing.FORMATS[0]),
        packing.image(channels=192),
    )
    x = x.contiguous()
    second.weight = first.weight
    for _ in range(4):
        assert packing.is_right(first, x)
        assert packing.is_right(second, x)
    # this format keeps a bias with the weight, and so there is a copy for one of them
    assert packed.held(first.weight) == 1


def test_kinds_of_calls_are_forgotten() -> None:
    layer = packing.layer()
    with torch.no_grad():
        for pixels in range(20, 20 + 2 * packed._SIZES):
            layer(packing.image(pixels=pixels))
    assert packed.held(layer.weight) == 1
    assert len(packed.declared[id(layer.weight)].kinds) <= packed._SIZES


def test_wrong_arguments_are_refused_as_ever() -> None:
    layer, x = packing.layer(), packing.image()
    with torch.no_grad():
        for wrong in (x[:, :32], x[:, :, :0], x.double()):
            errors = []
            for _ in range(2):
                with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
                    layer(wrong)
                errors.append(str(error.value))
                packing.have_copied(layer, x)
            assert errors[0] == errors[1]


@pytest.mark.parametrize("form", packing.FORMATS)
def test_other_biases_are_told_apart(form: torch.memory_format) -> None:
    layer, x = packing.layer(channels=192, form=form), packing.image(192, form=form)
    packing.have_copied(layer, x)
    known, others = (
        layer.bias,
        (None, torch.randn(384)[::2], torch.randn(1).expand(192), torch._efficientzerotensor((192,))),
    )
    with torch.no_grad():
        for bias in (*others, torch.randn(192), known):
            y = torchops.conv2d(x, layer.weight, bias, padding=1)
            assert torch.equal(y, F.conv2d(x, layer.weight, bias, padding=1))
        for wrong in (
            torch.randn(191),
            torch.randn(192, 1),
            torch.randn(192).double(),
            torch.randn(192, device="meta"),
        ):
            with pytest.raises((TypeError, ValueError, RuntimeError)):
                torchops.conv2d(x, layer.weight, wrong, padding=1)


def test_threads_at_once() -> None:
    layer, x = packing.layer(), packing.image()
    wanted = [F.conv2d(x, layer.weight, layer.bias, 1, 1).detach()]
    wrong: list[Any] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        with torch.no_grad():
            for _ in range(30):
                barrier.wait()
                if not torch.equal(layer(x), wanted[0]):
                    wrong.append("stale")
                if barrier.wait() == 0:
                    layer.weight.mul_(1.01)
                    wanted[0] = F.conv2d(x, layer.weight, layer.bias, 1, 1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _network() -> nn.Sequential:
    return sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))


def _held() -> int:
    gc.collect()
    return sum(run is not None for known in packed.declared.values() for run in known.copies.values())


def test_fused_layers_are_packed() -> None:
    fused, _ = torchops.fuse(_network().eval().to(memory_format=torch.channels_last))
    x, before = packing.image(), _held()
    with torch.no_grad():
        results = [fused(x) for _ in range(4)]
        assert _held() == before + 2
        assert all(torch.equal(y, results[0]) for y in results)
        for parameter in fused.parameters():
            parameter.mul_(2)
        assert not torch.equal(fused(x), results[0])


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("weights", ["guarded", "in_graph"])
def test_compiled_models_are_packed(weights: str) -> None:
    model, x, before = _network().eval().to(memory_format=torch.channels_last), packing.image(), _held()
    run = torch.compile(model, backend=Backend(rest="eager", weights=weights))
    with torch.no_grad():
        results = [run(x) for _ in range(4)]
        # one weight is folded, the other is the model's own
        assert _held() == before + 2 * (weights == "guarded")
        assert all(torch.equal(y, results[0]) for y in results)
        for i in (0, 3):
            model[i].weight.mul_(2)
            torch.testing.assert_close(run(x), model(x), atol=1e-3, rtol=1e-3)
    torch.compiler.reset()
    del run, model
    gc.collect()
    assert _held() == before


def test_layers_are_compiled_and_exported_as_ever() -> None:
    layer, x = packing.layer(), packing.image()
    with torch.no_grad():
        y = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
        program = torch.export.export(layer, (x,))
        assert torch.equal(program.module()(x), y)
    torch.compiler.reset()
    assert packed.held(layer.weight) == 0


@pytest.mark.parametrize(
    "weight",
    [torch._efficientzerotensor((64, 64, 3, 3)), torch.empty(0, 8, 3, 3), torch.empty(64, 64, 3, 3, device="meta"),
     torch.randn(64, 64, 3, 6)[..., ::2], torch.randn(64, 64, 3, 3).half()],
    ids=["zeros", "empty", "meta", "strided", "half"],
)  # fmt: skip
def test_what_has_no_dense_memory_is_not_declared(weight: Tensor) -> None:
    packed.declare(weight)
    assert id(weight) not in packed.declared
    packed.drop(weight)
