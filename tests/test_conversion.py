"""convert and revert: what is swapped, and that nothing else changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import torchops

from .conformance import close
from .networks import Block, image, small


class Tagged(nn.Conv2d):
    """A user's layer that computes what torch.nn's does."""

    def tag(self) -> str:
        return f"{self.in_channels} to {self.out_channels}"


def conv(**kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, **kwargs)


class Sealed(nn.Conv2d):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses")


@pytest.mark.filterwarnings("ignore:.*Lazy modules are a new feature")
def test_a_lazy_layer_that_has_run_is_swapped() -> None:
    layer = nn.LazyConv2d(4, 3)
    y = layer(image(1, 3, 5, 5))
    converted, _ = torchops.convert(layer)
    assert type(converted) is torchops.nn.Conv2d
    assert torch.equal(converted(image(1, 3, 5, 5)), y)


def test_everything_else_stays() -> None:
    """Parameters, buffers, training flags, memory formats, requires_grad: the same objects, in a model that is another."""
    model = small().to(memory_format=torch.channels_last)
    model.blocks[1].train()
    model.stem[1].weight.requires_grad_(False)
    types = [type(m) for m in model.modules()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    converted, report = torchops.convert(model)
    assert converted is not model
    assert [type(m) for m in model.modules()] == types
    for kind in ("named_parameters", "named_buffers"):
        before, after = dict(getattr(model, kind)()), dict(getattr(converted, kind)())
        assert before.keys() == after.keys()
        assert all(after[name] is before[name] for name in before)
    assert [(n, m.training) for n, m in converted.named_modules()] == [
        (n, m.training) for n, m in model.named_modules()
    ]
    assert len(report.swapped) == 11
    before = model.stem[2].weight.clone()
    converted(image(2, 3, 16, 16)).mean().backward()
    optimizer.step()
    assert not torch.equal(model.stem[2].weight, before)
    again, second = torchops.convert(converted)
    assert second.swapped == ()
    assert {row.note for row in second.kept} == {"torchops's already"}
    assert [type(m) for m in again.modules()] == [type(m) for m in converted.modules()]


def test_inplace_changes_the_very_layers() -> None:
    model = small()
    layer = model.stem[1]
    converted, _ = torchops.convert(model, inplace=True)
    assert converted is model
    assert model.stem[1] is layer
    assert type(layer) is torchops.nn.Conv2d
    reverted, _ = torchops.revert(model, inplace=True)
    assert reverted is model
    assert type(layer) is nn.Conv2d


NORMED: dict[str, Callable[[nn.Conv2d], nn.Module]] = {
    "parametrized": parametrizations.weight_norm,
    "parametrized_spectral": parametrizations.spectral_norm,
    "hooked": weight_norm,
    "hooked_spectral": spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.* is deprecated")
@pytest.mark.parametrize("which", NORMED)
@pytest.mark.parametrize("cls", [nn.Conv2d, Tagged])
def test_weights_that_are_computed(which: str, cls: type[nn.Conv2d]) -> None:
    """Weight and spectral norm, both kinds, and pruning; converted, trained, reverted."""
    torch.manual_seed(0)
    model = nn.Sequential(NORMED[which](cls(4, 4, 3)), nn.ReLU()).eval()
    x = image(2, 4, 6, 6)
    expected = model(x)
    expected_grads = torch.autograd.grad(expected.sum(), list(model.parameters()))
    converted, report = torchops.convert(model)
    assert [row.swapped for row in report.rows] == [True]
    assert isinstance(converted[0], torchops.nn.Conv2d)
    assert torch.equal(converted(x), expected)
    grads = torch.autograd.grad(converted(x).sum(), list(converted.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(grads, expected_grads, strict=True))
    assert converted.state_dict().keys() == model.state_dict().keys()
    if which.startswith("parametrized"):
        assert torch.equal(copy.deepcopy(converted)(x), expected)
    reverted, _ = torchops.revert(converted)
    assert torch.equal(reverted(x), expected)
    assert not isinstance(reverted[0], torchops.nn.Conv2d)
    if which.startswith("parametrized"):
        parametrize.remove_parametrizations(reverted[0], "weight")
        assert type(reverted[0]) is cls
        # the other copy goes on, from the weights that this has left in the Parameters they share
        close(converted(x), expected, torch.float32)


def test_a_users_subclass_stays_one() -> None:
    model = nn.Sequential(Tagged(3, 4, 3), nn.ReLU())
    converted, report = torchops.convert(model)
    assert (report.rows[0].layer, report.rows[0].note) == ("Tagged", "torchops.nn.Conv2d")
    layer = converted[0]
    assert isinstance(layer, Tagged)
    assert isinstance(layer, torchops.nn.Conv2d)
    assert layer.tag() == "3 to 4"
    x = image(1, 3, 5, 5)
    for again in (pickle.loads(pickle.dumps(converted)), copy.deepcopy(converted)):
        assert type(again[0]) is type(layer)
        assert torch.equal(again(x), model(x))
    reverted, _ = torchops.revert(converted)
    assert type(reverted[0]) is Tagged


def test_a_class_is_not_told_of_a_subclass_that_nobody_wrote() -> None:
    converted, report = torchops.convert(nn.Sequential(Sealed(4, 4, 3)))
    assert report.rows[0].swapped
    assert isinstance(converted[0], Sealed)
    assert type(torchops.revert(converted)[0][0]) is Sealed


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes are checked, which a trace remembers
@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d(2), nn.ConvTranspose2d(4, 4, 2), nn.Sequential(conv(), nn.MaxPool2d(2))]
)
def test_jit_trace(layer: nn.Module) -> None:
    converted, _ = torchops.convert(layer)
    x = image(1, 4, 6, 6)
    assert torch.equal(torch.jit.trace(converted, x)(x), layer(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv()
        self.second = self.first
        self.third = conv()
        self.third.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


def test_tied_layers_and_weights_stay_tied() -> None:
    model = Tied()
    converted, report = torchops.convert(model)
    assert converted.first is converted.second
    assert converted.third.weight is converted.first.weight is model.first.weight
    assert [row.name for row in report.swapped] == ["first", "second", "third"]
    kept, report = torchops.convert(model, exclude="second")
    assert type(kept.first) is nn.Conv2d
    assert [row.name for row in report.swapped] == ["third"]


CHOICES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "name": ({"include": "up"}, {"up.0"}),
    "names": ({"include": ["up.0", "stem"]}, {"up.0", "stem.1"}),
    "pattern": ({"include": "blocks.?.conv1"}, {"blocks.0.conv1", "blocks.1.conv1"}),
    "class": ({"include": nn.AvgPool2d}, {"mean"}),
    "classes": ({"include": (nn.MaxPool2d, nn.MaxUnpool2d)}, {"pool", "unpool"}),
    "without": ({"exclude": ["blocks", nn.Conv2d]}, {"up.0", "pool", "unpool", "mean"}),
    "inside_a_class": ({"include": Block, "exclude": nn.Sequential}, set()),
    "inside_classes": (
        {"include": Block},
        {f"blocks.{i}.{n}" for i in (0, 1) for n in ("conv1", "conv2")} | {"blocks.1.downsample.0"},
    ),
    "both": ({"include": "blocks", "exclude": "*.downsample"}, {f"blocks.{i}.conv{j}" for i in (0, 1) for j in (1, 2)}),
    "nothing_there": ({"include": nn.Conv3d}, set()),
}


@pytest.mark.parametrize("which", CHOICES)
def test_include_and_exclude(which: str) -> None:
    kwargs, expected = CHOICES[which]
    converted, report = torchops.convert(small(), **kwargs)
    assert {row.name for row in report.swapped} == expected
    assert {row.note for row in report.kept} <= {"not included", "excluded"}
    ours = {name for name, m in converted.named_modules() if type(m).__module__ == "torchops.nn"}
    assert ours == expected


REJECTIONS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "unknown": (
        lambda: torchops.convert(small(), include="blocks.0.conv3"), ValueError,
        r"`include` must name layers of the model, got 'blocks\.0\.conv3'; near it are blocks\.0\.conv\d, ",
    ),
    "far": (
        lambda: torchops.convert(small(), exclude=["stem", "zzzz"]), ValueError,
        "`exclude` must name layers of the model, got 'zzzz'; its names are like stem, ",
    ),
    "pattern": (lambda: torchops.convert(small(), include="layer*"), ValueError, r"`include` .* got 'layer\*'"),
    "number": (lambda: torchops.convert(small(), include=3), TypeError, "`include` must be names or classes .* got 3"),
    "class": (lambda: torchops.convert(small(), exclude=[int]), TypeError, "`exclude` .* got <class 'int'>"),
    "model": (lambda: torchops.convert([small()]), TypeError, r"`model` must be a torch\.nn\.Module, got list"),
    "reverted": (lambda: torchops.revert(None), TypeError, r"`model` must be a torch\.nn\.Module, got NoneType"),
    "fused": (lambda: torchops.fuse("resnet18"), TypeError, r"`model` must be a torch\.nn\.Module, got str"),
}  # fmt: skip


@pytest.mark.parametrize("which", REJECTIONS)
def test_rejects(which: str) -> None:
    call, error, match = REJECTIONS[which]
    with pytest.raises(error, match=match):
        call()


EXPRESSIBLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "conv": (lambda: torchops.nn.Conv2d(3, 4, 3, padding="same"), "torch.nn.Conv2d"),
    "activation": (lambda: torchops.nn.Conv2d(3, 4, 3, activation="relu"), "its activation is 'relu'"),
    "constant": (
        lambda: torchops.nn.Conv2d(3, 4, 3, padding_mode="constant", padding_value=1), "its padding_mode is 'constant'"
    ),
    "sides": (lambda: torchops.nn.Conv2d(3, 4, 3, padding=(0, 1, 0, 1)), r"its padding is (0, 1, 0, 1)"),
    "transposed": (lambda: torchops.nn.ConvTranspose2d(3, 4, 3), "torch.nn.ConvTranspose2d"),
    "pool": (lambda: torchops.nn.MaxPool2d(2, return_indices=True), "torch.nn.MaxPool2d"),
    "offsets": (lambda: torchops.nn.MaxPool2d(2, return_indices="offset"), "it returns offsets"),
    "unpool": (lambda: torchops.nn.MaxUnpool2d(2), "torch.nn.MaxUnpool2d"),
    "dilated": (lambda: torchops.nn.MaxUnpool2d(2, dilation=2), "its dilation is 2"),
    "mean": (lambda: torchops.nn.AvgPool2d(2), "torch.nn.AvgPool2d"),
    "min": (lambda: torchops.nn.MinPool2d(2), "torch.nn has no MinPool2d"),
    "sobel": (lambda: torchops.nn.Sobel(), "torch.nn has no Sobel"),
}  # fmt: skip


@pytest.mark.parametrize("which", EXPRESSIBLE)
def test_revert_what_torch_can_express(which: str) -> None:
    make, note = EXPRESSIBLE[which]
    model = nn.Sequential(make())
    reverted, report = torchops.revert(model)
    assert [row.note for row in report.rows] == [note]
    swapped = note.startswith("torch.nn.")
    assert report.rows[0].swapped == swapped
    assert type(reverted[0]).__module__.startswith("torch.nn.") == swapped
    if swapped:
        # as if torchops had never been there
        fresh = type(reverted[0])(*(2,) if "Pool" in note or "pool" in note else (3, 4, 3))
        assert vars(reverted[0]).keys() == vars(fresh).keys()


def test_adaptive_pools_and_upsampling() -> None:
    model = nn.Sequential(
        nn.AdaptiveMaxPool2d((5, None)), nn.Upsample(scale_factor=2), nn.UpsamplingNearest2d(scale_factor=(1, 3)),
        nn.AdaptiveAvgPool2d(2),
    )  # fmt: skip
    classes = [type(layer) for layer in model]
    converted, report = torchops.convert(model)
    assert [row.note for row in report.rows] == [f"torchops.nn.{cls.__name__}" for cls in classes]
    x = image(2, 3, 7, 6)
    close(converted(x), model(x), torch.float32)
    assert torch.equal(pickle.loads(pickle.dumps(converted))(x), converted(x))
    back, report = torchops.revert(converted)
    assert [type(layer) for layer in back] == classes
    assert len(report.swapped) == 4


def test_upsampling_of_other_dimensions_goes_on() -> None:
    """torch.nn's layer takes rows, images and volumes; which, nobody knows before it runs."""
    model, _ = torchops.convert(nn.Sequential(nn.Conv3d(1, 2, 3), nn.Upsample(scale_factor=2)))
    assert model(image(1, 1, 4, 5, 6)).shape == (1, 2, 4, 6, 8)
