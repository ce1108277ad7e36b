"""What `explain` and `inspect` say of functions and modules: what is called, on which tensors, in which passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchops
from torchops import catalog, inspect
from torchops.kernels.launch import record
from torchops.kernels.planning.hardware import DEVICES
from torchops.recording import Spec, module_calls

from .conformance import OPERATOR
from .inside import on_a_gpu_that_is_not_there
from .networks import small

H100 = DEVICES["sm_90"]
LAYERS = ["first.conv2d", "first.conv2d", "inner.pool.max_pool2d", "inner.up.conv2d_input_grad", "sobel"]


class Layers(nn.Module):
    """A layer that is called twice, a module inside a module, and a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torchops.nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.inner = nn.Sequential()
        self.inner.add_module("pool", torchops.nn.MaxPool2d(2))
        self.inner.add_module("up", torchops.nn.ConvTranspose2d(3, 4, 2, stride=2))

    def forward(self, x: Tensor, *, edges: bool = True) -> Tensor:
        y = self.inner(self.norm(self.first(self.first(x))))
        return torchops.sobel(y) if edges else y


def _called(explanation: inspect.Explanation) -> list[str]:
    """The calls of a module, without its class."""
    return [f"{call.name}.{call.op}".partition(".")[2] for call in explanation.calls]


@OPERATOR
class TestModule:
    def test_lists_every_call(self, device: torch.device) -> None:
        module, x = Layers().to(device), torch.rand(2, 3, 8, 9, device=device).to(memory_format=torch.channels_last)
        explanation = torchops.explain(module, x)
        assert (explanation.op, explanation.implementation) == ("Layers", torchops.explain("sobel", x).implementation)
        assert _called(explanation) == LAYERS
        first = explanation.calls[0]
        assert dict(first.inputs) == {
            "x": Spec.of(x), "weight": Spec.of(module.first.weight), "bias": Spec((3,), (1,), torch.float32)
        }  # fmt: skip
        assert "Layers.first, conv2d of x 2x3x8x9 float32 channels_last, weight 3x3x3x3 float32 contiguous" in str(
            explanation
        )
        assert _called(torchops.explain(module, x, edges=False)) == LAYERS[:-1]

    def test_nothing_is_computed_or_changed(self, device: torch.device) -> None:
        module, x = Layers().to(device), torch.rand(2, 3, 8, 8, device=device)
        before = {name: t.clone() for name, t in module.state_dict().items()}
        torchops.explain(module, x)
        assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
        with pytest.raises(ValueError, match="takes 3 channels"):
            torchops.explain(module, x[:, :2])
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())

    def test_one_layer(self, device: torch.device) -> None:
        x = torch.rand(2, 3, 8, 8, device=device)
        (call,) = torchops.explain(
            torchops.nn.Conv2d(3, 4, 1, bias=False, device=device), x, residual=x[:, :1].expand(2, 4, 8, 8)
        ).calls
        assert (call.name, call.op, [name for name, _ in call.inputs]) == (
            "Conv2d",
            "conv2d",
            ["x", "weight", "residual"],
        )

    def test_refuses_what_it_would_tell_wrong(self, device: torch.device) -> None:
        module, x = Layers().to(device), torch.rand(2, 3, 8, 8, device=device)
        with torch.autocast(device.type, torch.bfloat16), pytest.raises(RuntimeError, match="leave autocast"):
            torchops.explain(module, x)

    def test_a_module_without_ours(self, device: torch.device) -> None:
        model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(device), torch.rand(1, 3, 8, 8, device=device)
        with pytest.raises(
            ValueError, match=r"`op`, a Sequential, calls no operator of torchops: use torchops.convert"
        ):
            torchops.explain(model, x)
        with torchops.override():
            assert _called(torchops.explain(model, x)) == ["0.conv2d"]
        with pytest.raises(ValueError, match="`args` must hold the tensors"):
            torchops.explain(model)


@pytest.mark.parametrize("way", ["converted", "fused", "compiled", "exported"])
def test_models(way: str) -> None:
    model, x = small().eval(), torch.rand(2, 3, 16, 16)
    converted = torchops.fuse(model)[0] if way == "fused" else torchops.convert(model)[0]
    if way == "compiled":
        converted.compile(backend="eager")
    elif way == "exported":
        converted = torch.export.export(converted, (x,)).module()
    with torch.no_grad(), on_a_gpu_that_is_not_there() as (launches, _):
        converted(x)
    with record(H100), torchops.use_backend("triton"):
        explanation = torchops.explain(converted, x)
    assert [kernel for kernel, _, _ in explanation.launches] == [launch.name for launch in launches]
    assert explanation.launches == tuple(launch for call in explanation.calls for launch in call.launches)


def test_total_is_that_of_all_launches() -> None:
    with record(H100), torchops.use_backend("triton"):
        explanation = torchops.explain(Layers(), torch.rand(2, 3, 8, 8))
    total = explanation.total
    assert total.launches == len(explanation.launches) == len(LAYERS)
    assert (
        total.bytes_moved == sum(explanation.bytes_moved) == sum(call.total.bytes_moved for call in explanation.calls)
    )
    assert total.modelled_us == pytest.approx(sum(m[0] for m in explanation.modelled if m))
    assert set(explanation.passes) == {"forward"}
    text = str(explanation)
    assert text.endswith(
        f"\n  total: {len(LAYERS)} launches, {total.bytes_moved / 1e6:.1f} MB moved, modelled {total.modelled_us:.1f} us"
    )
    assert text.count("MB moved") == len(LAYERS) + 1


@pytest.mark.tiers("interpreter")
def test_the_interpreter_has_no_times() -> None:
    explanation = torchops.explain(Layers(), torch.rand(2, 3, 8, 8))
    assert explanation.total.launches == len(LAYERS)
    assert explanation.total.modelled_us is None
    assert "modelled" not in str(explanation)


def test_a_call_says_what_it_is_given() -> None:
    x, weight = torch.rand(2, 3, 8, 9)[..., 1:], torch.rand(4, 3, 3, 3).to(memory_format=torch.channels_last)
    with record(H100), torchops.use_backend("triton"):
        explanation = torchops.explain(torchops.conv2d, x, weight, padding=1)
    assert explanation.inputs == (("input", Spec.of(x)), ("weight", Spec.of(weight)))
    of = "  of input 2x3x8x8 float32 strides (216, 72, 9, 1), weight 4x3x3x3 float32 channels_last"
    assert str(explanation).splitlines()[1] == of
    with pytest.raises(TypeError, match="missing a required argument: 'weight'"):
        torchops.explain(torchops.conv2d, x)


FORWARD, BACKWARD = ["forward"], ["backward"]
PASSES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "conv2d": ({}, ["input_grad", "weight_grad", "bias_grad"]),
    "conv2d, border": ({"padding_mode": "reflect"}, ["input_grad", "weight_grad", "bias_grad"]),
    "conv2d, no bias": ({"bias": None}, ["input_grad", "weight_grad"]),
    # what it was applied to is computed once more
    "conv2d, silu": ({"activation": "silu"}, ["forward", "input_grad", "weight_grad", "bias_grad"]),
    "conv2d, depthwise": ({"groups": 6}, ["input_grad", "weight_grad", "bias_grad"]),
    "conv_transpose2d": ({}, ["input_grad", "weight_grad"]),
    **{name: ({}, BACKWARD) for name in catalog.OPS if not name.startswith("conv")},
}


@pytest.mark.parametrize("case", PASSES)
def test_passes(case: str) -> None:
    kwargs, expected = PASSES[case]
    forward, backward = inspect.plan(case.partition(",")[0], shape=(2, 6, 9, 9), **kwargs)
    assert {launch.pass_name for launch in forward} == {"forward"}
    # in this order, each of one launch or more
    assert list(dict.fromkeys(launch.pass_name for launch in backward)) == expected
    for launch in backward:
        if "weight_grad" in launch.name or "bias_grad" in launch.name:
            assert launch.pass_name in launch.name


def test_tensors_of_a_launch_are_those_that_its_kernel_uses() -> None:
    forward, backward = inspect.plan("conv2d", shape=(2, 6, 9, 9), channels_last=True, bias=None)
    (launch,) = forward
    assert {name: tuple(t.shape) for name, t in launch.tensors.items()} == {
        "x": (2, 6, 9, 9),
        "w": (6, 6, 3, 3),
        "y": (2, 6, 9, 9),
    }
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in launch.tensors.values())
    assert list(backward[0].tensors) == ["x", "w", "y"]
    (launch, *_), _ = inspect.plan("max_unpool2d", shape=(2, 6, 9, 9), indices="position")
    assert next(t for t in launch.tensors.values() if not t.is_floating_point()).dtype == torch.int64


@pytest.mark.tiers("compile")
def test_reports_say_what_they_were_compiled_for() -> None:
    reports = inspect.inspect("conv2d", dtype=torch.bfloat16, shape=(2, 32, 9, 9), channels_last=True)
    assert [r.pass_name for r in reports if "sum" not in r.kernel] == [
        "forward",
        "input_grad",
        "weight_grad",
        "bias_grad",
    ]
    x = Spec((2, 32, 9, 9), (2592, 1, 288, 32), torch.bfloat16)
    assert reports[0].tensors["x"] == x
    row = json.loads(json.dumps(reports[0].as_dict()))
    assert row["pass"] == "forward"
    assert row["tensors"]["x"] == {"shape": [2, 32, 9, 9], "strides": [2592, 1, 288, 32], "dtype": "bfloat16"}
    total = inspect.total(reports)
    assert total.launches == len(reports)
    assert total.bytes_moved == sum(r.bytes_moved for r in reports)
    assert total.modelled_us == pytest.approx(sum(r.modelled_us for r in reports))


def test_calls_are_named_after_the_modules_that_make_them() -> None:
    calls = module_calls("net", Layers(), torch.rand(2, 3, 8, 8), backward=True)
    names = [call.name for call in calls]
    assert names[:3] == ["net.first.0.forward", "net.first.1.forward", "net.inner.pool.2.max_pool2d_with_indices"]
    # a backward is no module's
    assert all(name.split(".")[1].isdecimal() for name in names[5:])


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.empty(2, 3, 4, 5), "2x3x4x5 float32 contiguous"),
        (torch.empty(2, 3, 4, 5, dtype=torch.bfloat16).to(memory_format=torch.channels_last), "2x3x4x5 bfloat16 channels_last"),
        (torch.empty(1).expand(2, 3), "2x3 float32 strides (0, 0)"),
        (torch.empty(7, dtype=torch.uint8), "7 uint8"),
    ],
)  # fmt: skip
def test_a_tensor_in_words(tensor: Tensor, text: str) -> None:
    assert str(Spec.of(tensor)) == text
