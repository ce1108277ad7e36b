"""Exported programs, fused: what becomes one kernel, that numbers and strides stay, and that the result is exported in turn."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, export

from torchops.export import fuse, to_aten

from .compiled import leaves
from .conformance import close
from .networks import NETWORKS, Block, as_torch_has_it, image, small
from .test_compile import PADS
from .test_fusion import ONE_KERNEL, conv, net, sequential
from .test_fusion_limits import HAZARDS

_AUTO = dict.fromkeys(range(4), Dim.AUTO)


def _fused_as_before(model: nn.Module, x: Tensor | None = None, **options: Any) -> tuple[nn.Module, Any]:
    """The fused program, which gives the model's results in float64, with their strides, and leaves its input as that does."""
    x = (image(2, 4, 9, 8) if x is None else x).double()
    model = model.double()
    with torch.no_grad(), as_torch_has_it():
        program = export(copy.deepcopy(model), (x.clone(),))
        fused, report = fuse(program, **options)
        given, left = x.clone(), x.clone()
        expected, actual = model(given), fused(left)
    for one, other in zip(leaves(actual), leaves(expected), strict=True):
        close(one, other, torch.float64, 10)
        assert one.stride() == other.stride()
    close(left, given, torch.float64, 1)
    return fused, report


@pytest.mark.parametrize("which", [which for which in HAZARDS if which != "written_out"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_only_what_stays_right_is_fused(which: str, channels_last: bool) -> None:
    forward, _ = HAZARDS[which]
    _fused_as_before(net(forward), channels_last=channels_last)


@pytest.mark.parametrize("which", ONE_KERNEL)
def test_a_convolution_takes_in_what_its_kernel_can_do(which: str) -> None:
    forward, parts = ONE_KERNEL[which]
    _, report = _fused_as_before(net(forward))
    assert list(report.fused.values()) == [parts]


@pytest.mark.parametrize("which", PADS)
def test_a_pad_becomes_the_border(which: str) -> None:
    pad, parts = PADS[which]
    _, report = _fused_as_before(sequential(pad, conv(padding=0)))
    assert list(report.fused.values()) == [parts]


def test_a_network_of_every_layer() -> None:
    model = small()
    fused, report = _fused_as_before(model, image(2, 3, 16, 16))
    assert report.fused["stem.1"] == "reflect pad + conv2d + batch_norm + silu"
    assert report.fused["up.0"] == "conv_transpose2d + batch_norm"
    # the indices alone do not tell the window that they are of
    assert report.kept == {"unpool": "ATen's operator does not tell the windows, which torchops's needs"}
    assert not any("running" in name or "bn" in name for name, _ in fused.named_parameters())


@pytest.mark.parametrize("which", ["resnet18", "timm.resnet18d"])
def test_networks_of_any_size(which: str) -> None:
    model = NETWORKS[which]().double()
    program = export(model, (image(2, 3, 64, 64).double(),), dynamic_shapes=(_AUTO,))
    fused, report = fuse(program)
    assert report.kept == {}
    assert report.after["batch_norm"] == 0
    assert report.after.total() == {"resnet18": 23, "timm.resnet18d": 28}[which]
    with torch.no_grad():
        for shape in ((2, 3, 64, 64), (3, 3, 96, 64)):
            x = image(*shape).double()
            close(fused(x), model(x), torch.float64, 100)
    with pytest.raises(Exception, match="Guard failed"):
        fused(image(2, 4, 64, 64).double())


def test_interpolation_is_one_kernel() -> None:
    model = net(lambda m, x: F.interpolate(m.a(F.interpolate(x, scale_factor=2)), size=(7, 5), mode="bilinear"))
    _, report = _fused_as_before(model, channels_last=False)
    assert report.after.total() == 3


def test_what_is_refused_stays() -> None:
    from torchops.graphs.nodes import module_name

    _, report = _fused_as_before(
        small(), image(2, 3, 16, 16), refused=lambda node: "not now" if module_name(node) == "head" else None
    )
    assert report.kept["head"] == "not now"
    assert "head" not in report.fused


# of what torch 2.11 does itself when it loads a program, and when it copies one
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_saved_and_loaded() -> None:
    model = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2)).eval()
    x = image(2, 4, 9, 8)
    with torch.no_grad():
        # of weights that are channels_last torch warns when it saves them
        fused, _ = fuse(export(model, (x,), dynamic_shapes=(_AUTO,)), channels_last=False)
        file = io.BytesIO()
        torch.export.save(export(fused, (x,), dynamic_shapes=(_AUTO,)), file)
        file.seek(0)
        program = torch.export.load(file)
        for shape in ((2, 4, 9, 8), (3, 4, 12, 12)):
            y = image(*shape)
            close(program.module()(y), model(y).double(), torch.float32, 10)
            close(to_aten(program).module()(y), model(y).double(), torch.float32, 10)


def test_what_would_leave_float16_is_not_folded() -> None:
    model = sequential(conv(), nn.BatchNorm2d(4))
    with torch.no_grad():
        model[0].weight.mul_(200)
        model[1].running_var.fill_(1e-6)
        model[1].weight.fill_(100.0)
    _, report = fuse(export(model.half(), (image(1, 4, 6, 6).half(),)))
    assert report.kept["1"].startswith("folded into the weights, it would leave the range of torch.float16")


def test_refuses_what_is_no_program() -> None:
    with pytest.raises(TypeError, match=r"`program` must be a torch.export.ExportedProgram, got Sequential"):
        fuse(nn.Sequential())  # type: ignore[arg-type]
