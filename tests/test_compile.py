"""torch.compile with the backend: what becomes one kernel, that numbers stay, options, reports."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations

import torchops
from bench.networks import with_statistics
from torchops.compile import Backend

from .compiled import compiled_as_before
from .conformance import close
from .networks import Block, image, small
from .test_fusion import ONE_KERNEL, conv, net, sequential
from .test_fusion_limits import HAZARDS

pytestmark = pytest.mark.usefixtures("fresh_compiler")

_WIDER = {
    # what nothing can write to between may be taken in, which a graph that may write does not tell
    "mutated_input": ["conv2d + batch_norm + add"],
    "mutated_residual": ["conv2d + batch_norm + add", "conv2d"],
    "other_read_after": ["conv2d + add"],
    "features": ["conv2d", "conv2d + add"],
    "written_out": ["conv2d + sigmoid"],
    "method_in_place": ["conv2d + add"],
    "random_dropout": ["conv2d + batch_norm"],
    # a sum of other sizes or dtypes is known to be one
    "asked_of_the_sum": ["conv2d"],
    "wider_sum": ["conv2d"],
    "narrower_sum": ["conv2d"],
    "other_dtype": ["conv2d"],
    # a convolution with weights that are computed is ours, too
    "weights_at_run_time": ["conv2d"],
}


@pytest.mark.parametrize("which", HAZARDS)
@pytest.mark.parametrize("channels_last", [False, None])
def test_only_what_stays_right_is_fused(which: str, channels_last: bool | None) -> None:
    forward, parts = HAZARDS[which]
    report = compiled_as_before(net(forward), backend=Backend(rest="eager", channels_last=channels_last))
    assert list(report.fused.values()) == _WIDER.get(which, parts)


@pytest.mark.parametrize("which", ONE_KERNEL)
def test_a_convolution_takes_in_what_its_kernel_can_do(which: str) -> None:
    forward, parts = ONE_KERNEL[which]
    assert list(compiled_as_before(net(forward)).fused.values()) == [parts]


@pytest.mark.parametrize("rest", ["eager", "inductor"])
def test_a_network_of_every_layer(rest: str) -> None:
    report = compiled_as_before(small(), image(2, 3, 16, 16), rest=rest)
    assert list(report.fused.values()) == [
        "reflect pad + conv2d + batch_norm + silu", "conv2d + batch_norm + relu", "conv2d + batch_norm + add + relu",
        "conv2d + batch_norm", "conv2d + batch_norm + relu", "conv2d + batch_norm + add + relu",
        "conv_transpose2d + batch_norm", "conv2d",
    ]  # fmt: skip
    assert report.kept == {}
    assert report.after.total() == 12


PADS: dict[str, tuple[nn.Module, str]] = {
    "reflect": (nn.ReflectionPad2d((1, 2, 0, 1)), "reflect pad + conv2d"),
    "replicate": (nn.ReplicationPad2d(1), "replicate pad + conv2d"),
    "circular": (nn.CircularPad2d((1, 0, 1, 0)), "circular pad + conv2d"),
    "zero": (nn.ZeroPad2d((0, 1, 0, 1)), "zero pad + conv2d"),
    "constant": (nn.ConstantPad2d(1, 0.5), "constant pad + conv2d"),
}


@pytest.mark.parametrize("which", PADS)
@pytest.mark.parametrize("trains", [False, True])
def test_a_pad_becomes_the_border(which: str, trains: bool) -> None:
    pad, parts = PADS[which]
    model = sequential(pad, conv(padding=0))
    if not trains:
        assert list(compiled_as_before(model).fused.values()) == [parts]
        return
    backend = Backend(rest="eager")
    x = image(2, 4, 9, 8)
    assert torch.equal(torch.compile(model, backend=backend)(x), torchops.convert(model)[0](x))
    assert backend.reports[0].training


def _scaled(m: Any, x: Tensor) -> Tensor:
    return m.relu(m.a(x) * m.bn.weight.reshape(1, -1, 1, 1) + m.bn.bias.reshape(1, -1, 1, 1))


def _pad_beside(m: Any, x: Tensor) -> Tensor:
    padded, other = F.pad(x, (1, 1, 1, 1), "reflect"), x + 1
    return m.a(padded) + other.sum()


AFTERWARDS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "scale_and_shift": (_scaled, "conv2d + scale + shift + relu"),
    "product_with_an_input": (lambda m, x: m.a(x) * x.mean((0, 2, 3)).reshape(1, -1, 1, 1), "conv2d"),
    "pad_that_is_read_twice": (lambda m, x: (lambda p: m.a(p)[..., 1:-1, 1:-1] + p.sum())(F.pad(x, (1, 1, 1, 1))), "conv2d"),
    "pad_beside": (_pad_beside, "reflect pad + conv2d"),
}  # fmt: skip


@pytest.mark.parametrize("which", AFTERWARDS)
def test_what_only_this_sees(which: str) -> None:
    forward, parts = AFTERWARDS[which]
    model = net(forward)
    if which == "pad_beside":
        model.a.padding = (0, 0)
    assert list(compiled_as_before(model).fused.values()) == [parts]


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_goes_into_a_transposed_convolution(groups: int) -> None:
    model = sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=groups), nn.BatchNorm2d(6))
    assert list(compiled_as_before(model).fused.values()) == ["conv_transpose2d + batch_norm"]


def test_unbatched_images() -> None:
    compiled_as_before(sequential(conv(), nn.ReLU()), image(4, 9, 8))


@pytest.mark.parametrize("interpolation", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("to", [{"size": (13, 11)}, {"scale_factor": 1.7}, {"scale_factor": (2, 3)}])
def test_interpolation_is_one_kernel(interpolation: str, to: Any) -> None:
    for recompute in (None, *((True,) if "scale_factor" in to else ())):
        arguments = {"mode": interpolation, "recompute_scale_factor": recompute, **to}
        report = compiled_as_before(net(functools.partial(_enlarged, arguments)))
        assert report.after.total() == 2


def _enlarged(arguments: Any, m: Any, x: Tensor) -> Tensor:
    y: Tensor = m.a(F.interpolate(x, **arguments))
    return y


def test_calls_that_ours_refuse_stay_torchs() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return m.a(x), F.conv2d(x.to(torch.complex64), m.a.weight.to(torch.complex64)).abs(), F.max_pool2d(x.long(), 2)

    report = compiled_as_before(net(forward).float(), image(1, 4, 6, 6), dtype=torch.float32)
    assert [why.split(",")[0] for why in report.kept.values()][:2] == [
        "its input is torch.complex64",
        "its input is torch.int64",
    ]


#
# Sizes, formats, dtypes.


def test_sizes_that_change_make_no_graph_each() -> None:
    model = sequential(
        nn.ReflectionPad2d(1), conv(padding=0), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2), Block(4, 8, 2)
    )
    model = model.double()
    backend, theirs = Backend(rest="eager"), Counting()
    runs = [torch.compile(model, backend=b, dynamic=True) for b in (backend, theirs)]
    for n, h, w in ((2, 16, 16), (3, 24, 16), (1, 32, 40), (4, 48, 48)):
        x = image(n, 4, h, w).double()
        with torch.no_grad():
            close(runs[0](x), runs[1](x), torch.float64, 10)
    assert len(backend.reports) == theirs.graphs
    assert list(backend.reports[-1].fused.values())[:1] == ["reflect pad + conv2d + batch_norm + silu"]


class Counting:
    """torch's own backend, which counts graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        self.graphs += 1
        return torch._dynamo.backends.debugging.aot_eager(gm, example_inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("channels_last", [None, True])
@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
def test_dtypes_and_formats(dtype: torch.dtype, channels_last: bool | None, layout: str) -> None:
    model, form = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2)), getattr(torch, layout)
    model = with_statistics(model).eval().to(dtype=dtype, memory_format=form)
    x = image(2, 4, 10, 9).to(dtype=dtype, memory_format=form)
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
        plain = model(x)
        y = torch.compile(model, backend=Backend(rest="eager", channels_last=channels_last))(x)
    assert y.stride() == plain.stride()
    close(y, expected, dtype, 8)


def test_autocast_casts_weights_once() -> None:
    model, x, backend = small(), image(2, 3, 16, 16), Backend(rest="eager")
    run = torch.compile(model, backend=backend)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = run(x)
        run(x)
        plain = model(x)
    (report,) = backend.reports
    assert y.dtype == plain.dtype == torch.bfloat16
    close(y, small().double()(x.double()), torch.bfloat16, 8)
    assert report.recomputed() == 1
    assert report.fused["stem.1"] == "reflect pad + conv2d + batch_norm + silu"
    # what is left to be cast are images
    assert report.after["_to_copy"] <= 3


def test_parametrized_weights_are_computed_once() -> None:
    model = sequential(parametrizations.weight_norm(conv()), nn.BatchNorm2d(4))
    report = compiled_as_before(model)
    assert report.after.total() == 1
    assert report.recomputed() == 1


def test_graph_breaks() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.bn(m.a(x))
        torch._dynamo.graph_break()
        return m.relu(m.bn2(m.b(y)))

    backend = Backend(rest="eager")
    compiled_as_before(net(forward), backend=backend)
    assert [list(r.fused.values()) for r in backend.reports] == [
        ["conv2d + batch_norm"],
        ["conv2d + batch_norm + relu"],
    ]
    assert [r.number for r in backend.reports] == [0, 1]


class Appends(nn.Module):
    """What a trace by torch.fx was wrong of: it appends to a list of its own, and asks for what is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = conv(), []

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.seen.append(tuple(y.shape))
        return y.relu()


def test_lists_grow_in_every_call() -> None:
    model = Appends().eval()
    run = torch.compile(model, backend=Backend(rest="eager"))
    with torch.no_grad():
        for _ in range(3):
            run(image(1, 4, 6, 6))
    assert model.seen == [(1, 4, 6, 6)] * 3


def test_batch_norm_of_an_unbatched_image_raises_as_torch_does() -> None:
    model = sequential(conv(), nn.BatchNorm2d(4))
    with torch.no_grad(), pytest.raises(Exception, match="expected 4D input"):
        torch.compile(model, backend=Backend(rest="eager"))(image(4, 9, 8))


def test_a_view_read_after_a_write_with_channels_last() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        view = y.view(x.shape[0], -1)
        y.mul_(2)
        return view

    report = compiled_as_before(net(forward), backend=Backend(rest="eager", channels_last=True))
    assert list(report.fused.values()) == ["conv2d"]


def test_pools_and_unpools_keep_the_format_of_the_convolutions() -> None:
    graphs: list[fx.GraphModule] = []

    def rest(gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        graphs.append(gm)
        return gm.forward

    layers = nn.Upsample(scale_factor=2), conv(), nn.AvgPool2d(2), conv(), nn.AdaptiveAvgPool2d(3), conv()
    compiled_as_before(sequential(conv(), *layers), backend=Backend(rest=rest))
    (gm,) = graphs
    for n in gm.graph.nodes:
        t = n.meta.get("val")
        if n.op == "call_function" and n.target is not torch.ops.aten.clone.default:
            assert t.is_contiguous(memory_format=torch.channels_last), n
    assert not any(n.args[-1] is False for n in gm.graph.nodes if n.op == "call_function")


@pytest.mark.parametrize(
    "made", [lambda m: torchops.convert(m)[0], lambda m: torchops.fuse(m)[0]], ids=["converted", "fused"]
)
def test_models_of_our_layers(made: Callable[[nn.Module], nn.Module]) -> None:
    report = compiled_as_before(made(small()), image(2, 3, 16, 16))
    assert report.after.total() == 12


def test_a_pad_that_changes_the_format_stays() -> None:
    model = net(lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1), "circular")).view(x.shape[0], -1))
    model.b.padding = (0, 0)
    x = image(2, 4, 9, 8).contiguous(memory_format=torch.channels_last)
    assert list(compiled_as_before(model, x).fused.values()) == ["conv2d", "conv2d"]


@torch.library.custom_op("torchops_tests::first_four", mutates_args=())
def _first_four(x: Tensor) -> Tensor:
    """It reads memory as it lies."""
    return torch.as_strided(x, (4,), (1,)).clone()


@_first_four.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(4)


def _deep(m: Any, x: Tensor) -> Tensor:
    y: Tensor = m.b(m.a(x))
    return y


BY_STRIDES: dict[str, Callable[[Any, Tensor], Any]] = {
    "operator": lambda m, x: _first_four(_deep(m, x).relu()),
    "views_returned": lambda m, x: (lambda y: (y, y.flatten(1), y[0]))(_deep(m, x)),
    "complex": lambda m, x: torch.view_as_complex(_deep(m, x).unflatten(3, (4, 2))).abs(),
    "bytes": lambda m, x: _deep(m, x).view(torch.uint8),
    "cond": lambda m, x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (_deep(m, x),)),
    "random": lambda m, x: F.dropout(_deep(m, x), 0.5, training=True),
}


@pytest.mark.parametrize("which", BY_STRIDES)
def test_what_reads_strides_keeps_the_format(which: str) -> None:
    model, x = net(BY_STRIDES[which]), image(2, 4, 9, 8)
    compiled_as_before(model, x, backend=Backend(rest="eager"))
    if which == "views_returned":
        with torch.no_grad():
            y, flat, first = torch.compile(model.double(), backend=Backend(rest="eager"))(x.double())
            y.zero_()
        assert not flat.any()
        assert not first.any()


def test_sizes_that_depend_on_values() -> None:
    model = net(lambda m, x: F.max_pool2d(m.b(m.a(x[x.sum((1, 2, 3)) > 0])), 2))
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        report = compiled_as_before(model, backend=Backend(rest="eager"))
    assert list(report.fused.values()) == ["conv2d", "conv2d"]


def test_transforms_of_functions() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        filters = torch.stack((m.a.weight, m.b.weight))
        y = torch.vmap(lambda w: F.conv2d(x, w, padding=1))(filters)
        return m.bn(m.a(x)), y, torch.vmap(lambda t: F.max_pool2d(t, 2))(y)

    report = compiled_as_before(net(forward))
    assert "conv2d + batch_norm" in report.fused.values()


def test_strides_that_are_read_keep_their_format() -> None:
    forward, _ = HAZARDS["strides"]
    compiled_as_before(net(forward), backend=Backend(rest="eager", channels_last=True))
