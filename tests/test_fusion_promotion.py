"""fuse: what depends on the dtypes, the dimensions and the strides of a call, which a trace does not know."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import torchops
from bench.networks import with_statistics

from .conformance import close
from .networks import image
from .test_fusion import Net, conv, net, sequential


class Frozen(Net):
    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__(forward)
        self.frozen, self.up = FrozenBatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2, 2)


def frozen(forward: Callable[[Any, Tensor], Any]) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(Frozen(forward)).eval()


def _reloaded(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    # the forward of a test cannot be pickled
    del module._forward
    return pickle.loads(pickle.dumps(module))


def _into_another(m: Any, x: Tensor) -> Tensor:
    z = F.max_pool2d(x.half(), 1)
    z += m.a(x)
    return z


def _into_another_by_method(m: Any, x: Tensor) -> Tensor:
    return torch.cat([x.double()]).add_(m.a(x)).relu()


def _into_the_convolution(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y += x.double()
    return F.relu(y)


SUMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "into_another": (_into_another, "conv2d + add"),
    "into_another_by_method": (_into_another_by_method, "conv2d + add + relu"),
    "into_the_convolution": (_into_the_convolution, "conv2d + add + relu"),
    "into_none": (lambda m, x: m.a(x) + x.double(), "conv2d + add"),
    "into_a_like_one": (lambda m, x: torch.cat([x]).add_(m.a(x)), "conv2d + add"),
}


@pytest.mark.parametrize("which", SUMS)
@pytest.mark.parametrize("low", [None, torch.bfloat16], ids=["float32", "autocast"])
def test_sums_have_the_dtype_that_torch_gives_them(which: str, low: torch.dtype | None) -> None:
    forward, parts = SUMS[which]
    model, x = net(forward), image(2, 4, 9, 8)
    fused, report = torchops.fuse(model)
    assert list(report.fused.values()) == [parts]
    with torch.no_grad(), torch.autocast("cpu", low, enabled=low is not None):
        expected, actual = model(x), fused(x)
    assert actual.dtype == expected.dtype
    close(actual, expected, torch.bfloat16 if low else expected.dtype, 1e5 if expected.dtype == torch.float64 else 4)


def test_a_sum_does_not_widen_what_it_is_written_to() -> None:
    def into_one(m: Any, x: Tensor) -> Tensor:
        return torch.cat([x[:1]]).add_(m.a(x))

    model, x = net(into_one), image(2, 4, 9, 8)
    fused, report = torchops.fuse(model)
    assert list(report.fused.values()) == ["conv2d + add"]
    for run in (model, fused):
        with torch.no_grad(), pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
            run(x)


def _half(model: Any) -> nn.Module:
    model.a.half()
    return model


def test_a_frozen_norm_of_another_dtype_stays() -> None:
    model, x = _half(frozen(lambda m, x: m.frozen(m.a(x)))), image(2, 4, 9, 8).half()
    fused, report = torchops.fuse(model)
    assert report.fused == {"a": "conv2d"}
    assert report.kept == {"frozen": "it promotes results of torch.float16, for it is of another dtype"}
    assert fused(x).dtype == model(x).dtype == torch.float32
    close(fused(x), model(x), torch.float16, 4)


FROZEN: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "alone": (lambda m, x: m.frozen(m.a(x)), "conv2d + batch_norm"),
    "relu": (lambda m, x: F.relu(m.frozen(m.a(x))), "conv2d + batch_norm + relu"),
    "then_another": (lambda m, x: m.bn(m.frozen(m.a(x))), "conv2d + batch_norm + batch_norm"),
    "residual": (lambda m, x: F.relu(m.frozen(m.a(x)) + x), "conv2d + batch_norm + add + relu"),
    "sum_in_place": (lambda m, x: m.frozen(m.a(x)).add_(x), "conv2d + batch_norm + add"),
    "transposed": (lambda m, x: m.frozen(m.up(x)), "conv_transpose2d + batch_norm"),
}


@pytest.mark.parametrize("which", FROZEN)
def test_a_frozen_norm_promotes_what_autocast_lowered(which: str) -> None:
    """It is plain arithmetic: its result has the dtype of its own tensors, which autocast does not lower."""
    forward, parts = FROZEN[which]
    model, x = frozen(forward), image(2, 4, 9, 8)
    fused, report = torchops.fuse(model)
    assert list(report.fused.values()) == [parts]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
        for run in (fused, torchops.fuse(fused)[0], _reloaded(fused)):
            assert run(x).dtype == expected.dtype == torch.float32
            close(run(x), expected, torch.bfloat16, 4)
    with torch.no_grad():
        close(fused(x), model(x), torch.float32, 10)
        assert fused.half()(x.half()).dtype == model.half()(x.half()).dtype == torch.float16


NORMS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "layer": lambda m, x: m.bn(m.a(x)),
    "frozen": lambda m, x: m.frozen(m.a(x)),
    "function": lambda m, x: F.batch_norm(m.a(x), m.bn.running_mean, m.bn.running_var),
    "residual": lambda m, x: F.relu(m.bn(m.a(x)) + x),
    "transposed": lambda m, x: m.bn(m.up(x)),
}


@pytest.mark.parametrize("which", NORMS)
def test_norms_take_batches_alone(which: str) -> None:
    """A layer refuses an unbatched image, and the function takes its rows for channels; a convolution would take it."""
    fused, _ = torchops.fuse(frozen(NORMS[which]))
    name = "up" if which == "transposed" else "a"
    for run in (fused, torchops.fuse(fused)[0], _reloaded(fused)):
        with pytest.raises(ValueError, match=rf"got 3D input\): the convolution '{name}' has taken in a batch norm"):
            run(image(4, 4, 5))


def test_convolutions_without_a_norm_take_single_images() -> None:
    model, x = sequential(conv(), nn.ReLU()), image(4, 5, 6)
    close(torchops.fuse(model)[0](x), model(x), torch.float32)


def test_folded_norms_revert_to_torchs_convolutions() -> None:
    model, x = sequential(conv(), nn.BatchNorm2d(4)), image(1, 4, 5, 6)
    reverted, report = torchops.revert(torchops.fuse(model)[0])
    assert type(reverted.get_submodule("0")) is nn.Conv2d
    assert report.kept == ()
    close(reverted(x), model(x), torch.float32, 10)


def _view_then_write(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    view = y.view(x.shape[0], -1)
    y.mul_(2)
    return view


class Within(nn.Module):
    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.inner = net(forward)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize(
    ("forward", "call"),
    [
        (_view_then_write, "mul_"),
        (lambda m, x: m.a(x).as_strided((2, 8), (288, 1)), "as_strided"),
        (lambda m, x: torch.ops.aten.leaky_relu(m.a(x), 0.3), "leaky_relu"),
    ],
)
def test_refuses_channels_last_where_strides_matter(forward: Callable[[Any, Tensor], Any], call: str) -> None:
    model, x = Within(forward).eval(), image(2, 4, 9, 8)
    with pytest.raises(ValueError, match=rf"`channels_last` must not be True .* as by `{call}` in 'inner'"):
        torchops.fuse(model, channels_last=True)
    for channels_last in (None, False):
        with torch.no_grad():
            close(torchops.fuse(model, channels_last=channels_last)[0](x), model(x), torch.float32, 10)


def test_channels_last_where_they_do_not() -> None:
    model, x = net(lambda m, x: F.dropout(m.bn(m.a(x)), training=m.training).flatten(1)), image(2, 4, 9, 8)
    fused, _ = torchops.fuse(model, channels_last=True)
    assert fused.a.weight.is_contiguous(memory_format=torch.channels_last)
    close(fused(x), model(x), torch.float32, 10)
