"""fuse with an example: by torch.export, where the trace by torch.fx sees too little."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torchvision.ops import FrozenBatchNorm2d

import torchops

from .compiled import leaves
from .conformance import close
from .networks import Block, as_torch_has_it, image, small
from .test_fusion import ONE_KERNEL, conv, net, sequential
from .test_fusion_limits import HAZARDS


@pytest.fixture(autouse=True)
def _not_deterministic() -> Iterator[None]:
    # of torch's functions max_unpool2d refuses it
    with as_torch_has_it():
        yield


def _fused_as_before(model: nn.Module, x: Tensor | None = None, **options: Any) -> tuple[nn.Module, Any]:
    x = (image(2, 4, 9, 8) if x is None else x).double()
    model = model.double()
    fused, report = torchops.fuse(model, args=(x.clone(),), **options)
    with torch.no_grad():
        expected, actual = model(x.clone()), fused(x.clone())
    for one, other in zip(leaves(actual), leaves(expected), strict=True):
        assert (one.dtype, one.stride()) == (other.dtype, other.stride())
        close(one, other, torch.float64, 10)
    return fused, report


@pytest.mark.parametrize("which", [which for which in HAZARDS if which != "written_out"])
def test_only_what_stays_right_is_fused(which: str) -> None:
    _fused_as_before(net(HAZARDS[which][0]))


@pytest.mark.parametrize("which", ONE_KERNEL)
def test_a_convolution_takes_in_what_its_kernel_can_do(which: str) -> None:
    forward, parts = ONE_KERNEL[which]
    assert list(_fused_as_before(net(forward))[1].fused.values()) == [parts]


def test_every_layer_and_its_attributes() -> None:
    model = small()
    model.classes = ("cat", "dog")
    fused, report = _fused_as_before(model, image(2, 3, 16, 16))
    assert report.kept == {}
    assert report.after["max_unpool2d"] == 1
    assert next(iter(report.fused.values())) == "reflect pad + conv2d + batch_norm + silu"
    assert fused.classes == ("cat", "dog")
    with torch.no_grad():
        other = image(3, 3, 32, 24).double()
        close(fused(other), torchops.convert(model)[0](other), torch.float64, 10)


class Decides(nn.Module):
    """Its forward asks for shapes and values, as no trace by torch.fx can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.bn = Block(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        if x.shape[-1] > 4:
            x = self.bn(self.body(x))
        y: Tensor = x * scale
        return y


def test_what_torch_fx_cannot_follow() -> None:
    model, x = Decides().eval(), image(2, 4, 9, 8)
    assert "" in torchops.fuse(model)[1].kept
    fused, report = torchops.fuse(model, args=(x,), kwargs={"scale": 2.0})
    assert list(report.fused.values()) == ["conv2d + batch_norm + relu", "conv2d + batch_norm + add + relu"]
    with torch.no_grad():
        close(fused(x, scale=2.0), model(x, scale=2.0).double(), torch.float32, 10)


def test_a_frozen_norm_of_another_dtype() -> None:
    model = nn.Sequential(conv(), FrozenBatchNorm2d(4), nn.ReLU()).eval()
    model[0].half()
    x = image(2, 4, 9, 8).half()
    fused, _ = torchops.fuse(model, args=(x,))
    with torch.no_grad():
        assert fused(x).dtype == model(x).dtype == torch.float32
        close(fused(x), model(x).double(), torch.float16, 10)


def test_sums_in_place_keep_their_dtype() -> None:
    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv()

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            y = self.conv(x)
            y += z
            return y

    model, x, z = Adds().eval(), image(2, 4, 9, 8), image(2, 4, 9, 8).double()
    fused, report = torchops.fuse(model, args=(x, z))
    with torch.no_grad():
        assert torch.equal(fused(x, z), model(x, z))
    assert list(report.fused.values()) == ["conv2d"]


def test_include_and_exclude() -> None:
    _, report = _fused_as_before(small(), image(2, 3, 16, 16), include=Block)
    assert list(report.fused) == [
        "blocks.0.conv1",
        "blocks.0.conv2",
        "blocks.1.downsample.0",
        "blocks.1.conv1",
        "blocks.1.conv2",
    ]
    assert report.kept["head"] == "not included"
    _, report = _fused_as_before(small(), image(2, 3, 16, 16), exclude=["blocks.*", "up"])
    assert list(report.fused) == ["stem.1", "head"]


# of what torch 2.11 does itself when it copies a program
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_copies() -> None:
    x = image(2, 4, 9, 8)
    model = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2)).eval()
    fused, _ = torchops.fuse(model, args=(x,))
    with torch.no_grad():
        expected = fused(x)
        assert torch.equal(copy.deepcopy(fused)(x), expected)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no_tuple": ({"args": image(1, 4, 6, 6)}, "`args` must be a tuple of the arguments of a call, got Tensor"),
    "shapes_alone": ({"dynamic_shapes": ({0: Dim.AUTO},)}, "`kwargs` and `dynamic_shapes` go with `args`, which is None"),
    "does_not_fit": ({"args": (image(1, 3, 6, 6),)}, "`model` cannot be exported with these `args`"),
    "name": ({"args": (image(1, 4, 6, 6),), "include": "layer9"}, "`include` must name layers of the model, got 'layer9'"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_refuses(which: str) -> None:
    options, message = REFUSED[which]
    with pytest.raises((TypeError, ValueError), match=message):
        torchops.fuse(sequential(conv(), nn.BatchNorm2d(4)), **options)


def test_other_sizes_are_refused_where_they_are_taken_for_good() -> None:
    x = image(1, 4, 9, 8)
    fused, _ = torchops.fuse(sequential(conv(), nn.BatchNorm2d(4)), args=(x,))
    with pytest.raises(Exception, match="Guard failed"):
        fused(image(2, 4, 9, 8))
