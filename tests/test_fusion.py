"""fuse: what becomes one kernel, of layers, functions and pads, and that the numbers stay."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torchvision.ops import FrozenBatchNorm2d

import torchops
from bench.networks import with_statistics
from torchops.conversion.fusion import Report

from .conformance import OPERATOR, close
from .inside import on_a_gpu_that_is_not_there
from .networks import NETWORKS, Block, as_torch_has_it, image, small


def conv(
    c: int = 4, k: int = 4, kernel_size: int = 3, padding: Any = 1, cls: type[nn.Conv2d] = nn.Conv2d, **kwargs: Any
) -> nn.Conv2d:
    return cls(c, k, kernel_size, padding=padding, **kwargs)


class Net(nn.Module):
    """Two convolutions, a batch norm each, and whatever forward a test wants."""

    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()
        self.bn, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def net(forward: Callable[[Any, Tensor], Any]) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(Net(forward)).eval()


def sequential(*layers: nn.Module) -> nn.Module:
    return with_statistics(nn.Sequential(*layers)).eval()


def fused_as_before(model: nn.Module, x: Tensor | None = None) -> tuple[nn.Module, Report]:
    """The fused model, which gives the model's results in float64 to the last bits."""
    x = (image(2, 4, 9, 8) if x is None else x).double()
    model = model.double()
    fused, report = torchops.fuse(model)
    with torch.no_grad(), as_torch_has_it():
        # either may write to its input
        expected, actual = model(x.clone()), fused(x.clone())
        given, left = x.clone(), x.clone()
        model(given)
        fused(left)
    for one, other in zip(_tensors(actual), _tensors(expected), strict=True):
        close(one, other, torch.float64, 10)
    return fused, report


def _tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [t for t in result if isinstance(t, Tensor)]


ONE_KERNEL: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "norm": (lambda m, x: m.bn(m.a(x)), "conv2d + batch_norm"),
    "two_norms": (lambda m, x: m.bn2(m.bn(m.a(x))), "conv2d + batch_norm + batch_norm"),
    "relu": (lambda m, x: m.relu(m.bn(m.a(x))), "conv2d + batch_norm + relu"),
    "method": (lambda m, x: m.a(x).relu_(), "conv2d + relu"),
    "function": (lambda m, x: F.silu(m.a(x)), "conv2d + silu"),
    "torch": (lambda m, x: torch.sigmoid(m.a(x)), "conv2d + sigmoid"),
    "hardtanh": (lambda m, x: F.hardtanh(m.a(x), 0.0, 6.0), "conv2d + relu6"),
    "leaky": (lambda m, x: F.leaky_relu(m.a(x)), "conv2d + leaky_relu"),
    "hardswish": (lambda m, x: F.hardswish(m.a(x)), "conv2d + hardswish"),
    "residual": (lambda m, x: F.relu(m.bn(m.a(x)) + x), "conv2d + batch_norm + add + relu"),
    "residual_first": (lambda m, x: F.gelu(x.add(m.bn(m.a(x)))), "conv2d + batch_norm + add + gelu"),
    "asked": (lambda m, x: m.bn(_asked(m.a(x))), "conv2d + batch_norm"),
    "dropout": (lambda m, x: F.dropout(F.relu(m.a(x)), training=m.training), "conv2d + relu"),
    "dropout_between": (lambda m, x: m.bn(F.dropout(m.a(x), training=m.training)), "conv2d + batch_norm"),
    "functional": (lambda m, x: m.relu(m.bn(F.conv2d(x, m.a.weight, m.a.bias, padding=1))), "conv2d + batch_norm + relu"),
    "functional_norm": (
        lambda m, x: F.batch_norm(m.a(x), m.bn.running_mean, m.bn.running_var, m.bn.weight, m.bn.bias),
        "conv2d + batch_norm",
    ),
}  # fmt: skip


def _asked(x: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "an image")
    return x


@pytest.mark.parametrize("which", ONE_KERNEL)
def test_one_kernel(which: str) -> None:
    forward, parts = ONE_KERNEL[which]
    fused, report = fused_as_before(net(forward))
    assert list(report.fused.values()) == [parts]
    assert report.after.total() == 1
    assert report.before.total() > 1
    # and it is one
    with torch.no_grad(), on_a_gpu_that_is_not_there() as (launches, inside):
        fused.float()(image(2, 4, 9, 8).to(memory_format=torch.channels_last))
    assert len(launches) == 1
    assert set(inside.calls[True]) <= {"empty"}


PADS: dict[str, tuple[nn.Module | Callable[[Tensor], Tensor], dict[str, Any], str | None]] = {
    "reflect": (nn.ReflectionPad2d((1, 2, 0, 3)), {"padding": 0}, "reflect pad + conv2d"),
    "replicate": (nn.ReplicationPad2d(2), {"padding": "valid"}, "replicate pad + conv2d"),
    "circular": (nn.CircularPad2d((0, 1, 2, 3)), {"padding": 0, "stride": 2}, "circular pad + conv2d"),
    "zero": (nn.ZeroPad2d((0, 1, 0, 1)), {"padding": 0, "stride": 2}, "zero pad + conv2d"),
    "zero_and_its_own": (nn.ZeroPad2d((0, 1, 2, 0)), {"padding": (1, 0)}, "zero pad + conv2d"),
    "constant": (nn.ConstantPad2d(1, 0.5), {"padding": 0}, "constant pad + conv2d"),
    "function": (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), {"padding": 0}, "reflect pad + conv2d"),
    "rows_only": (lambda x: F.pad(x, (1, 2)), {"padding": 0}, "zero pad + conv2d"),
    "value": (lambda x: F.pad(x, [1, 1, 0, 0], value=2.0), {"padding": 0}, "constant pad + conv2d"),
    "on_four_sides": (nn.ZeroPad2d(1), {"padding": (1, 2, 0, 1), "cls": torchops.nn.Conv2d}, "zero pad + conv2d"),
    # what a convolution cannot do
    "channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 0)), {"padding": 0, "c": 5}, None),
    "crop": (lambda x: F.pad(x, (-1, 0, 1, 1)), {"padding": 0}, None),
    "reflect_then_zeros": (nn.ReflectionPad2d(1), {"padding": 1}, None),
    "constant_then_zeros": (nn.ConstantPad2d(1, 0.5), {"padding": 1}, None),
    "same": (nn.ZeroPad2d(1), {"padding": "same"}, None),
    "zeros_then_reflect": (nn.ZeroPad2d(1), {"padding": 1, "padding_mode": "reflect"}, None),
}


class Padded(nn.Module):
    def __init__(self, pad: Callable[[Tensor], Tensor], **kwargs: Any) -> None:
        super().__init__()
        self.pad, self.conv, self.bn = pad, conv(**kwargs), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.pad(x)))


@pytest.mark.parametrize("which", PADS)
def test_pads_become_the_border(which: str) -> None:
    pad, kwargs, parts = PADS[which]
    _, report = fused_as_before(with_statistics(Padded(pad, **kwargs)).eval())
    assert list(report.fused.values()) == [f"{parts or 'conv2d'} + batch_norm"]
    assert report.after["pad"] == (parts is None)


class Named(nn.Conv2d):
    """A user's class, with the forward of torch.nn's."""


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.scale = nn.Sequential(conv(), nn.BatchNorm2d(4)), nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.scale


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def _doubled(module: nn.Module, name: str) -> nn.Module:
    return parametrize.register_parametrization(module, name, _Double())


LAYERS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "transposed": (
        lambda: sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU()),
        ["conv_transpose2d + batch_norm"],
    ),
    "transposed_groups": (
        lambda: sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), ["conv_transpose2d"],
    ),
    "depthwise": (lambda: sequential(conv(4, 8, groups=4), nn.BatchNorm2d(8), nn.ReLU6()), ["conv2d + batch_norm + relu6"]),
    "frozen_norm": (lambda: nn.Sequential(conv(), FrozenBatchNorm2d(4), nn.ReLU()).eval(), ["conv2d + batch_norm + relu"]),
    "plain_norm": (lambda: sequential(conv(), nn.BatchNorm2d(4, affine=False)), ["conv2d + batch_norm"]),
    "no_statistics": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False)).eval(), ["conv2d"]),
    "idle": (
        lambda: sequential(conv(), nn.Identity(), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Tanh()),
        ["conv2d + batch_norm + tanh"],
    ),
    "block": (
        lambda: with_statistics(Block(4, 4, 1)).eval(),
        ["conv2d + batch_norm + relu", "conv2d + batch_norm + add + relu"],
    ),
    "block_down": (
        lambda: with_statistics(Block(4, 6, 2)).eval(),
        ["conv2d + batch_norm", "conv2d + batch_norm + relu", "conv2d + batch_norm + add + relu"],
    ),
    "nested": (
        lambda: sequential(nn.Sequential(conv(), nn.BatchNorm2d(4)), nn.ReLU(), nn.MaxPool2d(2)),
        ["conv2d + batch_norm + relu"],
    ),
    "parametrized": (
        lambda: sequential(parametrizations.weight_norm(conv()), nn.BatchNorm2d(4)), ["conv2d + batch_norm"],
    ),
    "parametrized_subclass": (
        lambda: sequential(parametrizations.weight_norm(conv(cls=Named)), nn.BatchNorm2d(4)), ["conv2d + batch_norm"],
    ),
    "parametrized_transposed": (
        lambda: sequential(parametrizations.spectral_norm(nn.ConvTranspose2d(4, 6, 3, 2)), nn.BatchNorm2d(6)),
        ["conv_transpose2d + batch_norm"],
    ),
    "parametrized_norm": (lambda: sequential(conv(), _doubled(nn.BatchNorm2d(4), "weight")), ["conv2d + batch_norm"]),
    "parametrized_module": (lambda: sequential(_doubled(Scaled(), "scale"), nn.ReLU()), ["conv2d + batch_norm"]),
}  # fmt: skip


@pytest.mark.parametrize("which", LAYERS)
def test_layers(which: str) -> None:
    make, parts = LAYERS[which]
    torch.manual_seed(0)
    _, report = fused_as_before(make())
    assert list(report.fused.values()) == parts


def test_views_after_a_convolution() -> None:
    """As LeNet has it: of what is channels_last there is none, but of a copy."""
    model = net(lambda m, x: m.a(x).view(x.size(0), -1))
    fused_as_before(model)


def test_residual_under_autocast() -> None:
    model = net(lambda m, x: F.relu(m.a(x) + x))
    fused, _ = torchops.fuse(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = 1000 * image(1, 4, 5, 5)
        assert fused(x).dtype == model(x).dtype == torch.float32
        close(fused(x), model(x), torch.bfloat16)


def test_fused_twice_is_fused_once() -> None:
    model = with_statistics(nn.Sequential(Block(4, 4, 1), nn.MaxPool2d(2), Functions())).eval()
    fused, first = torchops.fuse(model)
    again, second = torchops.fuse(fused)
    x = image(1, 4, 8, 8)
    assert torch.equal(again(x), fused(x))
    assert second.after == first.after
    assert not any(module.training for module in fused.modules())
    assert torch.equal(pickle.loads(pickle.dumps(fused))(x), fused(x))


@pytest.mark.parametrize("kwargs", [{"include": "0"}, {"exclude": "1"}])
def test_include_and_exclude(kwargs: dict[str, Any]) -> None:
    model = with_statistics(nn.Sequential(Block(4, 4, 1), Block(4, 4, 1))).eval()
    fused, report = fused_as_before(model) if not kwargs else torchops.fuse(model, **kwargs)
    assert list(report.fused) == ["0.conv1", "0.conv2"]
    assert set(report.kept) == {"1.conv1", "1.conv2"}
    assert type(fused.get_submodule("1.conv1")) is nn.Conv2d


def test_exclude_keeps_functions_too() -> None:
    model = nn.Sequential(
        net(lambda m, x: F.conv2d(x, m.a.weight)), net(lambda m, x: F.relu(F.conv2d(x, m.a.weight)))
    ).eval()
    fused, report = torchops.fuse(model, exclude="1")
    assert report.fused == {"0": "conv2d"}
    assert F.conv2d in {node.target for node in fused.graph.nodes}


def test_refuses_a_model_in_training_mode() -> None:
    model = small()
    with pytest.raises(
        ValueError, match=r"`model` must be in eval mode, but 'it' is in training mode: call model.eval"
    ):
        torchops.fuse(model.train())
    model.eval().blocks[0].bn1.train()
    with pytest.raises(ValueError, match=r"eval mode, but 'blocks\.0\.bn1' is in training mode"):
        torchops.fuse(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision(dtype: torch.dtype) -> None:
    """Folded in float64 and rounded once: as close to the truth as what it replaces, which rounds after every layer."""
    model = with_statistics(nn.Sequential(Block(4, 8, 1), Block(8, 8, 2))).eval().to(dtype)
    fused, _ = torchops.fuse(model)
    assert {p.dtype for p in fused.parameters()} == {dtype}
    x = image(2, 4, 9, 8).to(dtype)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.double())
        own, other = ((y.double() - exact).norm() for y in (fused(x), model(x)))
    assert own <= 1.5 * other


def _in_half(weight: float, variance: float, scale: float, cls: type[nn.Module] = nn.Conv2d) -> nn.Module:
    model = nn.Sequential(cls(1, 2, 1, bias=False), nn.BatchNorm2d(2)).eval().half()
    with torch.no_grad():
        for parameter, value in ((model[0].weight, weight), (model[1].running_var, variance), (model[1].weight, scale)):
            # of the other channel, as everywhere
            parameter.fill_(1.0)
            parameter.flatten()[0] = value
    return model


@OPERATOR
@pytest.mark.parametrize("cls", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize(
    ("weight", "variance", "scale", "folded"),
    [
        pytest.param(300.0, 0.0, 1.0, False, id="overflows"),
        pytest.param(1e-3, 6e4, 1e-2, False, id="vanishes"),
        pytest.param(1e-3, 1.0, 1e-6, True, id="counts_for_nothing"),
        pytest.param(0.1, 1.0, 30.0, True, id="large_scale"),
        pytest.param(0.0, 1.0, 1.0, True, id="zero"),
    ],
)
def test_norms_that_a_dtype_cannot_hold_stay(
    cls: type[nn.Module], weight: float, variance: float, scale: float, folded: bool, device: torch.device
) -> None:
    """Folded weights have the range of the sum's scale and the weights' together, which in float16 is soon too much."""
    model = _in_half(weight, variance, scale, cls).to(device)
    fused, report = torchops.fuse(model)
    op = "conv2d" if cls is nn.Conv2d else "conv_transpose2d"
    assert report.fused == {"0": f"{op} + batch_norm" if folded else op}
    assert report.kept == (
        {} if folded else {"1": "folded into the weights, it would leave the range of torch.float16"}
    )
    x = torch.full((1, 1, 2, 2), 100.0 if weight < 1 else 0.1, dtype=torch.float16, device=device)
    close(fused(x), model.double()(x.double()).half(), torch.float16, 2)


def test_functions_that_a_dtype_cannot_hold_stay_by_the_name_of_their_module() -> None:
    model = net(lambda m, x: F.batch_norm(m.a(x), m.bn.running_mean, m.bn.running_var)).half()
    with torch.no_grad():
        model.a.weight.fill_(300)
        model.bn.running_var.zero_()
    _, report = torchops.fuse(nn.Sequential(model).eval())
    assert report.fused == {"0.a": "conv2d"}
    assert list(report.kept) == ["0.batch_norm"]


def test_memory_formats() -> None:
    model = small()
    fused, _ = torchops.fuse(model)
    assert fused(image(2, 3, 16, 16)).is_contiguous(memory_format=torch.channels_last)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in fused.parameters() if p.dim() == 4)
    plain, _ = torchops.fuse(model, channels_last=False)
    assert plain(image(2, 3, 16, 16)).is_contiguous()
    # what nothing was folded into is not copied
    assert plain.head.weight is model.head.weight


def test_unbatched_images_and_dictionaries() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(conv(), nn.ReLU()), nn.Sequential(conv(), nn.Sigmoid())

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = self.body(x)
            return {"features": y, "mask": self.head(y)}

    model = Two().eval()
    fused, _ = torchops.fuse(model)
    expected, actual = model(image(4, 5, 6)), fused(image(4, 5, 6))
    assert actual.keys() == expected.keys()
    for name in expected:
        close(actual[name], expected[name], torch.float32)


@pytest.mark.parametrize("low", [None, torch.bfloat16], ids=["float32", "autocast"])
def test_compile_fullgraph(low: torch.dtype | None) -> None:
    """A residual asks for the dtype that autocast would give it, while it is traced."""
    torch.compiler.reset()
    fused, _ = torchops.fuse(small())
    x = image(2, 3, 16, 12)
    with torch.no_grad(), torch.autocast("cpu", low, enabled=low is not None):
        assert torch.equal(torch.compile(fused, fullgraph=True, backend="aot_eager")(x), fused(x))


class Functions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(F.max_pool2d(y, 3, 1, 1), indices, 2) + F.avg_pool2d(x, 3, 1, 1)


def test_functions_are_taken_over() -> None:
    fused, report = fused_as_before(Functions().eval(), image(1, 4, 8, 8))
    with on_a_gpu_that_is_not_there() as (launches, _):
        fused(image(1, 4, 8, 8))
    # unpooling positions takes two
    assert len(launches) == 5
    assert report.before == report.after


class Adaptive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.up = nn.AdaptiveAvgPool2d(3), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        y, indices = F.adaptive_max_pool2d(x, (6, 5), return_indices=True)
        y = F.adaptive_max_pool2d(y, 4) + F.adaptive_avg_pool2d(indices.float(), (None, 4))[:, :, :4]
        y = F.interpolate(self.up(self.mean(y)), scale_factor=2)
        return y + F.interpolate(x[:, :, :2, :2], size=(12, 12)) + F.interpolate(x, (12, 12), mode="bilinear")


def test_adaptive_pools_and_upsampling_are_taken_over() -> None:
    """But for interpolation to a size, and of another mode."""
    fused, report = fused_as_before(Adaptive().eval(), image(1, 4, 9, 8))
    with on_a_gpu_that_is_not_there() as (launches, inside):
        fused(image(1, 4, 9, 8))
    assert len(launches) == 6
    assert {name: report.after[name] for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate")} == {
        "adaptive_avg_pool2d": 2, "adaptive_max_pool2d": 2, "interpolate": 4,
    }  # fmt: skip
    assert report.before == report.after
    assert sum(inside.calls[False][name] for name in ("upsample_nearest2d", "upsample_bilinear2d")) == 2


def test_annotations_that_are_strings_are_left_out() -> None:
    """As `from __future__ import annotations` has them, here too: torch 2.11 could not pickle the network."""
    assert small().forward.__annotations__["x"] == "Tensor"
    fused, _ = torchops.fuse(small())
    assert {node.type for node in fused.graph.nodes} == {None}


def test_report_prints() -> None:
    _, report = torchops.fuse(NETWORKS["segnet"]())
    text = str(report).splitlines()
    assert text[0] == "name     one kernel for"
    assert "down1.0  conv2d + batch_norm + relu" in text
    assert text[-1].split() == ["all", "22", "9"]
