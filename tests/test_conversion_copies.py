"""convert without inplace: a copy of the structure, which shares the tensors, and is told apart by its hooks."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import torchops

from .networks import image, small
from .test_conversion import conv


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, what: str, *rest: Any) -> None:
        self.seen.append(what)

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.seen.append("called")


def test_hooks_go_on() -> None:
    """Of layers and of models; what they write to is not copied with the model."""
    model, recorder = small(), Recorder()
    layer = model.stem[1]
    layer.register_forward_hook(recorder)
    layer.register_forward_pre_hook(functools.partial(recorder.note, "before"))
    layer.register_forward_hook(lambda module, args, output: recorder.note(type(module).__module__))
    layer.register_full_backward_hook(lambda module, dx, dy: recorder.note("backward"))
    layer.weight.register_hook(lambda grad: recorder.note("gradient"))
    converted, _ = torchops.convert(model)
    converted(image(1, 3, 16, 16).requires_grad_()).mean().backward()
    assert sorted(recorder.seen) == ["backward", "before", "called", "gradient", "torchops.nn"]
    with pytest.raises(RuntimeError, match="shape"):
        converted.load_state_dict({**model.state_dict(), "head.weight": torch.zeros(1)})


class Metric(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def note(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.seen.append(output)


def test_a_hook_of_another_module_goes_on() -> None:
    model, metric = nn.Sequential(conv()), Metric()
    model[0].register_forward_hook(metric.note)
    torchops.convert(model)[0](image(1, 4, 5, 5))
    assert len(metric.seen) == 1


@pytest.mark.parametrize("training", [True, False])
def test_training_flags_and_hooks_of_a_traced_model(training: bool) -> None:
    """torch.fx copies its modules without them."""
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Sequential(conv(), nn.BatchNorm2d(4)))).train(training)
    seen: list[Tensor] = []
    model.register_forward_hook(lambda module, args, y: seen.append(y))
    converted, report = torchops.convert(model)
    assert len(report.swapped) == 1
    assert {m.training for m in converted.modules()} == {training}
    converted(image(2, 4, 5, 5))
    assert len(seen) == 1


class Rewired(nn.Module):
    """A hook that is a method of the model itself, and a layer kept in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = conv(), []
        self.order = [self.conv]
        self.conv.register_forward_hook(self.note)

    def note(self, module: nn.Module, args: Any, output: Any) -> None:
        self.seen.append(type(module))

    def forward(self, x: Tensor) -> Tensor:
        return self.order[0](x)


def test_a_copy_refers_to_itself() -> None:
    model = Rewired()
    converted, _ = torchops.convert(model)
    converted(image(1, 4, 5, 5))
    assert (model.seen, converted.seen) == ([], [torchops.nn.Conv2d])


def test_hooks_that_write_to_what_the_model_has() -> None:
    """timm's feature extractors: the copy's write to the copy's."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", features_only=True, feature_cls="hook").eval()
    converted, _ = torchops.convert(model)
    x = image(1, 3, 32, 32)
    for one, other in zip(converted(x), model(x), strict=True):
        assert torch.equal(one, other)
    assert len(converted(x)) == 5


class Obstinate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def test_a_model_that_does_not_copy_itself_is_not_changed() -> None:
    model = nn.Sequential(Obstinate())
    with pytest.raises(TypeError, match=r"`model` cannot be copied \(the __deepcopy__ in it, at '0'"):
        torchops.convert(model)
    assert type(model[0].conv) is nn.Conv2d


def test_tensors_in_containers_are_shared_and_hidden_modules_copied() -> None:
    model = nn.Sequential(conv())
    model.anchors, model.teacher = {"a": [torch.ones(1, requires_grad=True) * 2]}, [conv()]
    converted, _ = torchops.convert(model)
    assert converted.anchors["a"][0] is model.anchors["a"][0]
    assert converted.teacher[0].weight is model.teacher[0].weight
    assert converted.teacher[0] is not model.teacher[0]


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lines = conv(), (line for line in "ab")


def test_a_model_that_cannot_be_copied() -> None:
    model = Uncopyable()
    with pytest.raises(TypeError, match=r"`model` cannot be copied \(.*generator.*\); convert with inplace=True"):
        torchops.convert(model)
    assert type(model.conv) is nn.Conv2d
    torchops.convert(model, inplace=True)
    assert type(model.conv) is torchops.nn.Conv2d
