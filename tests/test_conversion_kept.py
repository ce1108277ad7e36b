"""What convert keeps, with the reason, and what cannot be made of a converted model: quantized layers, scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchops

from .conformance import close
from .networks import Small, image
from .test_conversion import Tagged, conv


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Scaled(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight / 2, bias)


def replaced() -> nn.Module:
    layer = conv()
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def activated() -> nn.Module:
    layer = conv()
    layer.activation = "relu"
    return layer


def tiling() -> nn.Module:
    """As diffusion models are made to give images without seams."""
    layer = conv()
    layer._conv_forward = lambda x, w, b: F.conv2d(F.pad(x, (1, 1, 1, 1), "circular"), w, b)  # type: ignore[method-assign]
    return layer


def repadded() -> nn.Module:
    layer = conv(padding_mode="circular")
    layer.padding = (0, 0)
    return layer


def sparse() -> nn.Module:
    layer = conv()
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse())
    return layer


def subclass() -> nn.Module:
    layer = conv()
    layer.weight = nn.Parameter(torch.ones(4, 4, 3, 3).as_subclass(type("Special", (Tensor,), {})))
    return layer


def quantized() -> nn.Module:
    return torch.ao.nn.quantized.Conv2d(4, 4, 3)


def prepared() -> nn.Module:
    layer = conv()
    layer.qconfig = torch.ao.quantization.get_default_qat_qconfig("qnnpack")
    return torch.ao.quantization.prepare_qat(nn.Sequential(layer))[0]


KEPT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "overridden": (lambda: Doubled(4, 4, 3), "Doubled overrides forward"),
    "overridden_inside": (lambda: Scaled(4, 4, 3), "Scaled overrides _conv_forward"),
    "replaced": (replaced, "the forward of this one layer is replaced"),
    "lazy": (lambda: nn.LazyConv2d(4, 3), "not initialised yet: run it once, or load its state_dict"),
    "meta": (lambda: conv(device="meta"), "`weight` is on the meta device: convert it when it has values"),
    "complex": (lambda: conv(dtype=torch.complex64), "`weight` is torch.complex64"),
    "sparse": (sparse, "`weight` is of layout torch.sparse_coo"),
    "subclass": (subclass, "`weight` is a Special"),
    "quantized": (quantized, "quantized: torch.ao.nn.quantized.modules.conv"),
    "prepared": (prepared, "to be quantized: its qconfig is set"),
    "scripted": (lambda: torch.jit.script(conv()), "scripted: its code is compiled"),
    "attribute": (activated, "it has an attribute `activation` of its own"),
    "convolution_replaced": (tiling, "the _conv_forward of this one layer is replaced"),
    "padding_changed": (repadded, "its padding was changed after it was made"),
    "other_dimensions": (lambda: nn.Conv1d(4, 4, 3), "torchops has no Conv1d"),
    "powers": (lambda: nn.LPPool2d(2, 2), "torchops has no LPPool2d"),
    "bilinear": (
        lambda: nn.UpsamplingBilinear2d(scale_factor=2),
        "`mode` must be 'nearest' or 'nearest-exact': torchops has no other, got 'bilinear'",
    ),
    "broken_factor": (
        lambda: nn.Upsample(scale_factor=1.5),
        "`scale_factor` must be a whole number or a pair of them, got 1.5",
    ),
    "factor_of_a_volume": (
        lambda: nn.Upsample(scale_factor=(2, 2, 2)),
        "`scale_factor` must be a whole number or a pair of them, got (2.0, 2.0, 2.0)",
    ),
    "upsampled_to_a_size": (lambda: nn.Upsample((8, 8)), "its size is (8, 8): the factors depend on the input"),
    "ours": (lambda: torchops.nn.MinPool2d(2), "torchops's already"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:.*Lazy modules are a new feature")
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("which", KEPT)
def test_kept_with_the_reason(which: str, inplace: bool) -> None:
    make, why = KEPT[which]
    model = nn.Sequential(conv(), make())
    cls = type(model[1])
    converted, report = torchops.convert(model, inplace=inplace)
    assert [(row.name, row.swapped, row.note) for row in report.rows] == [
        ("0", True, "torchops.nn.Conv2d"),
        ("1", False, why),
    ]
    assert type(converted[1]) is cls
    assert f"kept     {why}" in str(report)


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
@pytest.mark.parametrize(
    "layer", [conv(), nn.ConvTranspose2d(4, 4, 3), Tagged(4, 4, 3)], ids=lambda m: type(m).__name__
)
def test_quantization_that_would_leave_a_layer_out_raises(layer: nn.Module) -> None:
    """It looks layers up by torch.nn's very classes, and passes by all others."""
    model, _ = torchops.convert(nn.Sequential(layer, nn.Linear(4, 4)))
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("qnnpack")
    with pytest.raises(RuntimeError, match=f"the layer {type(layer).__name__} of torchops cannot be quantized"):
        torch.ao.quantization.prepare_qat(model, inplace=True)
    # as torch's own, it is left out by None
    model[0].qconfig = None
    torch.ao.quantization.prepare_qat(model, inplace=True)
    assert isinstance(model[0], (torchops.nn.Conv2d, torchops.nn.ConvTranspose2d))
    assert type(model[1]) is torch.ao.nn.qat.Linear


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
def test_quantization_of_other_layers_works() -> None:
    model, _ = torchops.convert(nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)))
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert [type(quantized[i]) for i in (0, 3)] == [torchops.nn.Conv2d, torch.ao.nn.quantized.dynamic.Linear]
    close(quantized(image(1, 4, 5, 5)), model(image(1, 4, 5, 5)), torch.bfloat16, 4)


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
def test_a_model_prepared_for_quantization_keeps_what_is_to_be_quantized() -> None:
    model = nn.Sequential(conv(), nn.ConvTranspose2d(4, 4, 2), nn.MaxPool2d(2))
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("qnnpack")
    torch.ao.quantization.prepare_qat(model, inplace=True)
    converted, report = torchops.convert(model)
    assert {(row.swapped, row.note) for row in report.rows} == {(False, "to be quantized: its qconfig is set")}
    assert [type(layer) for layer in converted] == [torch.ao.nn.qat.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("make", [torchops.convert, torchops.fuse])
def test_scripting_says_what_to_do(make: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(conv(), nn.ReLU())).eval()
    with pytest.raises(RuntimeError, match=r"cannot compile torchops's layer Conv2d: .* torch\.export\.export"):
        torch.jit.script(make(model)[0])
    x = image(1, 4, 5, 5)
    close(torch.jit.script(torchops.revert(torchops.convert(model)[0])[0])(x), model(x), torch.float32)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("function", [torchops.conv2d, torchops.sobel, torchops.min_pool2d])
def test_scripting_a_function_says_what_to_do(function: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match=f"cannot compile torchops's function {function.__name__}: export"):
        torch.jit.script(function)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize(
    "layer",
    [
        torchops.nn.ConvTranspose2d(3, 4, 3), torchops.nn.MaxPool2d(2), torchops.nn.MinPool2d(2), torchops.nn.AvgPool2d(2),
        torchops.nn.MaxUnpool2d(2), torchops.nn.AvgUnpool2d(2), torchops.nn.Sobel(),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_no_layer_is_scripted(layer: nn.Module) -> None:
    with pytest.raises(RuntimeError, match=f"cannot compile torchops's layer {type(layer).__name__}: export"):
        torch.jit.script(nn.Sequential(layer))


def test_a_model_on_the_meta_device_is_kept() -> None:
    with torch.device("meta"):
        model = Small()
    converted, report = torchops.convert(model)
    assert report.swapped == ()
    assert {row.note for row in report.kept} == {"on the meta device: convert it when it has values"}
    assert [type(m) for m in converted.modules()] == [type(m) for m in model.modules()]
