"""Weights in oneDNN's own layout: the bits are those of the weight as it is, and no write leaves a copy that is used."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref
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

from .drawn import drawn
from .test_fusion import sequential

pytestmark = [pytest.mark.tiers("aten"), pytest.mark.usefixtures("one_thread")]
if not torch.backends.mkldnn.is_available():
    pytestmark.append(pytest.mark.skip("torch was built without oneDNN"))

_FORMATS = torch.contiguous_format, torch.channels_last


@pytest.fixture
def one_thread() -> Iterator[None]:
    """ATen asks oneDNN more often where it has several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _layer(channels: int = 64, form: torch.memory_format = torch.channels_last, **more: Any) -> torchops.nn.Conv2d:
    return torchops.nn.Conv2d(channels, channels, 3, padding=1, **more).eval().to(memory_format=form)


def _image(channels: int = 64, pixels: int = 24, form: torch.memory_format = torch.channels_last) -> Tensor:
    return torch.randn(1, channels, pixels, pixels).contiguous(memory_format=form)


def _is_right(layer: torchops.nn.Conv2d, x: Tensor) -> bool:
    """Whether a layer computes the very bits of torch's from its weight as it is now."""
    with torch.no_grad():
        y, z = layer(x), F.conv2d(x, layer.weight, layer.bias, 1, 1)
    return y.stride() == z.stride() and torch.equal(y, z)


def _packed(layer: torchops.nn.Conv2d, x: Tensor) -> None:
    """Have a copy made of a layer's weight, and used."""
    assert all(_is_right(layer, x) for _ in range(3))
    assert packed.held(layer.weight) == 1


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
    formats = draw(st.tuples(*[st.sampled_from(_FORMATS)] * 2))
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


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_layers_compute_the_same(activation: str | None, form: torch.memory_format) -> None:
    layer, x = _layer(channels=192, form=form, activation=activation), _image(channels=192, form=form)
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
    layer, x = _layer(padding_mode=padding_mode), _image()
    with torch.no_grad():
        results = [layer(x) for _ in range(4)]
    assert packed.held(layer.weight) == 1
    assert all(torch.equal(y, results[0]) for y in results)


def _load(layer: Any) -> None:
    layer.load_state_dict({name: t + 0.5 for name, t in layer.state_dict().items()})


def _assign(layer: Any) -> None:
    layer.load_state_dict({name: t + 0.5 for name, t in layer.state_dict().items()}, assign=True)


def _write(layer: Any) -> None:
    """To an element that is not among those that are compared."""
    with torch.no_grad():
        layer.weight[1, 1, 1, 1] += 1


def _swap(layer: Any) -> None:
    torch.utils.swap_tensors(layer.weight, nn.Parameter(torch.randn_like(layer.weight)))


def _train(layer: Any) -> None:
    layer.train()
    steps = torch.optim.Adam(layer.parameters(), fused=True)
    layer(_image(layer.in_channels)).sum().backward()
    steps.step()
    layer.eval()


def _step(layer: Any) -> None:
    """Without a change of mode, and of a gradient that reaches one element."""
    steps = torch.optim.Adam(layer.parameters(), fused=True)
    layer.weight.grad = torch.zeros_like(layer.weight)
    layer.weight.grad[1, 1, 1, 1] = 1
    steps.step()


def _share(layer: Any) -> None:
    layer.weight.share_memory_()
    layer.weight.data.mul_(2)


def _move(layer: Any) -> None:
    layer.to(torch.float64)
    layer.weight.data[0, 0, 0, 0] += 1
    layer.to(torch.float32)


def _replace(layer: Any) -> None:
    layer.weight.data = torch.randn_like(layer.weight)


def _transpose(layer: Any) -> None:
    """The same memory, read otherwise."""
    layer.weight.data = layer.weight.data.transpose(2, 3)


def _forgotten(layer: Any) -> None:
    layer.weight.detach().numpy()[1, 1, 1, 1] += 1
    torchops.forget()


def _mode_changed(layer: Any) -> None:
    layer.weight.data[1, 1, 1, 1] += 1
    layer.train().eval()


_CHANGES: dict[str, Callable[[Any], None]] = {
    "load_state_dict": _load, "assigned": _assign, "part_written": _write, "swapped": _swap, "trained": _train,
    "fused_step": _step, "shared": _share, "another_dtype": _move, "data_replaced": _replace, "transposed": _transpose,
    "data_scaled": lambda layer: layer.weight.data.mul_(2), "forgotten": _forgotten, "train_and_eval": _mode_changed,
    "numpy": lambda layer: layer.weight.detach().numpy().fill(0.5),
    "parameter_replaced": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn_like(layer.weight))),
    "bias_written": lambda layer: layer.bias.data.add_(1),
    "bias_replaced": lambda layer: setattr(layer.bias, "data", torch.randn_like(layer.bias)),
    "formats": lambda layer: layer.to(memory_format=torch.channels_last),
}  # fmt: skip


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize("which", _CHANGES)
def test_changes_are_seen(which: str, form: torch.memory_format) -> None:
    layer, x = _layer(channels=192, form=form), _image(channels=192, form=form)
    _packed(layer, x)
    for _ in range(2):
        _CHANGES[which](layer)
        assert all(_is_right(layer, x) for _ in range(4))


def test_a_part_of_data_may_be_written_to_unseen() -> None:
    """Which is said in the documentation, with the remedy."""
    layer, x = _layer(), _image()
    _packed(layer, x)
    layer.weight.data[1, 1, 1, 1] += 1
    assert not _is_right(layer, x)
    torchops.forget()
    assert _is_right(layer, x)


def test_writes_in_every_call_have_nothing_copied() -> None:
    layer, x = _layer(), _image()
    for _ in range(5):
        _write(layer)
        assert _is_right(layer, x)
        assert packed.held(layer.weight) == 0


def _saved(layer: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(layer, file)
    return file.getvalue()


def test_nothing_of_it_is_in_the_layer() -> None:
    layer, x = _layer(), _image()
    attributes, state, size = set(vars(layer)), list(layer.state_dict()), len(_saved(layer))
    _packed(layer, x)
    assert (set(vars(layer)), list(layer.state_dict())) == (attributes, state)
    assert len(_saved(layer)) == size
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert packed.held(twin.weight) == 0
        with torch.no_grad():
            twin.weight.zero_()
        assert _is_right(twin, x)
    _packed(layer, x)


@pytest.mark.parametrize("form", _FORMATS)
def test_copies_go_with_the_weight(form: torch.memory_format) -> None:
    layer, x = _layer(channels=192, form=form), _image(channels=192, form=form)
    _packed(layer, x)
    key = id(layer.weight)
    known = weakref.ref(packed._declared[key])
    references = weakref.ref(layer.weight), weakref.ref(layer.weight.untyped_storage())
    del layer
    gc.collect()
    assert [r() for r in (*references, known)] == [None] * 3
    assert key not in packed._declared


def test_a_replaced_memory_goes() -> None:
    layer, x = _layer(), _image()
    _packed(layer, x)
    known = weakref.ref(packed._declared[id(layer.weight)])
    layer.weight.data = layer.weight.data * 2
    gc.collect()
    assert known() is None


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
    layer, x = _layer(), _image()
    grad = torch.enable_grad() if when.__name__ == "<lambda>" else torch.no_grad()
    with when(layer), grad:
        for _ in range(4):
            layer(x)
    assert packed.held(layer.weight) == 0


def test_copies_are_left_alone_where_a_gradient_is_asked_for() -> None:
    layer, x = _layer(), _image()
    _packed(layer, x)
    y = layer(x)
    y.sum().backward()
    assert y.requires_grad
    assert layer.weight.grad is not None


def test_modes_and_transforms_see_torch_s_convolution() -> None:
    layer, x = _layer(), _image()
    _packed(layer, x)
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
    layer, x = _layer().to(dtype), _image().to(dtype)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x))
    assert id(layer.weight) not in packed._declared


def test_small_convolutions_are_left_to_aten() -> None:
    """It has kernels of its own for them, which take less time and have other bits; and a small weight is soon reordered."""
    for channels, pixels in ((256, 1), (16, 32)):
        layer, x = torchops.nn.Conv2d(channels, channels, 1, stride=2 - pixels % 2).eval(), _image(channels, pixels)
        with torch.no_grad():
            for _ in range(4):
                layer(x)
        assert packed.held(layer.weight) == 0


def test_weights_of_inference_mode_are_left_as_they_are() -> None:
    with torch.inference_mode():
        layer, x = _layer(), _image()
        for _ in range(4):
            layer(x)
    assert id(layer.weight) not in packed._declared
    layer = _layer()
    with torch.inference_mode():
        for _ in range(4):
            assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, 1, 1))
    assert packed.held(layer.weight) == 1


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_parametrized_weights_are_left_as_they_are() -> None:
    layer, x = _layer(), _image()
    parametrize.register_parametrization(layer, "weight", _Doubled())
    before = len(packed._declared)
    for _ in range(3):
        assert _is_right(layer, x)
    assert len(packed._declared) == before
    assert layer.train().training


def test_one_weight_of_two_layers() -> None:
    first, second, x = (
        _layer(channels=192, form=_FORMATS[0]),
        _layer(channels=192, form=_FORMATS[0]),
        _image(channels=192),
    )
    x = x.contiguous()
    second.weight = first.weight
    for _ in range(4):
        assert _is_right(first, x)
        assert _is_right(second, x)
    # this format keeps a bias with the weight, and so there is a copy for one of them
    assert packed.held(first.weight) == 1


def test_kinds_of_calls_are_forgotten() -> None:
    layer = _layer()
    with torch.no_grad():
        for pixels in range(20, 20 + 2 * packed._SIZES):
            layer(_image(pixels=pixels))
    assert packed.held(layer.weight) == 1
    assert len(packed._declared[id(layer.weight)].kinds) <= packed._SIZES


def test_wrong_arguments_are_refused_as_ever() -> None:
    layer, x = _layer(), _image()
    with torch.no_grad():
        for wrong in (x[:, :32], x[:, :, :0], x.double()):
            errors = []
            for _ in range(2):
                with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
                    layer(wrong)
                errors.append(str(error.value))
                _packed(layer, x)
            assert errors[0] == errors[1]


@pytest.mark.parametrize("form", _FORMATS)
def test_other_biases_are_told_apart(form: torch.memory_format) -> None:
    layer, x = _layer(channels=192, form=form), _image(192, form=form)
    _packed(layer, x)
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
    layer, x = _layer(), _image()
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
    return sum(run is not None for known in packed._declared.values() for run in known.copies.values())


def test_fused_layers_are_packed() -> None:
    fused, _ = torchops.fuse(_network().eval().to(memory_format=torch.channels_last))
    x, before = _image(), _held()
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
    model, x, before = _network().eval().to(memory_format=torch.channels_last), _image(), _held()
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
    layer, x = _layer(), _image()
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
    assert id(weight) not in packed._declared
    packed.drop(weight)
