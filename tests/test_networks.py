"""Real networks, converted and fused: the same results, the same training, in fewer kernels."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch import nn

import torchops

from .conformance import close
from .inside import on_a_gpu_that_is_not_there
from .networks import NETWORKS, as_torch_has_it, gradients, image, output

network_names = pytest.mark.parametrize("name", NETWORKS)


@network_names
def test_converted(name: str) -> None:
    """Logits, training and gradients are the original's; so is the state_dict, both ways."""
    model = NETWORKS[name]()
    state = copy.deepcopy(model.state_dict())
    x = image(2, 3, 64, 64)
    with as_torch_has_it():
        with torch.no_grad():
            expected = output(model(x))
        expected_step, expected_grads = gradients(model, x)
    model.load_state_dict(state)
    converted, report = torchops.convert(model.eval())
    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ConvTranspose2d, nn.MaxUnpool2d, nn.AdaptiveAvgPool2d)
    assert len(report.swapped) == sum(isinstance(m, kinds) for m in model.modules()) > 0
    assert report.kept == ()
    assert all(type(m).__module__ == "torchops.nn" for m in converted.modules() if isinstance(m, kinds))
    with torch.no_grad():
        close(output(converted(x)), expected, torch.float32)
    step, grads = gradients(converted, x)
    close(step, expected_step, torch.float32)
    assert grads.keys() == expected_grads.keys()
    for parameter, grad in grads.items():
        close(grad, expected_grads[parameter], torch.float32)
    fresh = NETWORKS[name]()
    assert fresh.load_state_dict(converted.state_dict()).missing_keys == []
    assert converted.load_state_dict(state).unexpected_keys == []
    reverted, undone = torchops.revert(converted)
    assert len(undone.swapped) == len(report.swapped)
    assert [type(m) for m in reverted.modules()] == [type(m) for m in model.modules()]
    assert [vars(m).keys() for m in reverted.modules()] == [vars(m).keys() for m in model.modules()]


@network_names
def test_fused(name: str) -> None:
    """In float64 the logits are the original's to the last bits; in float32 as close to those as the original's."""
    model = NETWORKS[name]()
    before = copy.deepcopy(model.state_dict())
    x = image(2, 3, 64, 64)
    fused, report = torchops.fuse(model)
    wide = copy.deepcopy(model).double()
    with torch.no_grad(), as_torch_has_it():
        exact = output(wide(x.double()))
        close(output(torchops.fuse(wide)[0](x.double())), exact, torch.float64, 10)
        own, other = ((output(m(x)).double() - exact).abs().max() for m in (model, fused))
    assert other <= 2 * own + 2e-6 * exact.abs().max()
    assert report.after["batch_norm"] == report.after["bias"] == report.after["add"] == 0
    assert report.after.total() < report.before.total()
    assert report.kept == {}
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())


KERNELS = {
    # conv, batch_norm, relu, add: one each, and the pools and the classifier
    "resnet18": (68, 23),
    "resnet50": (174, 56),
    "deeplabv3_resnet50": (199, 66),
    "mobilenet_v3_small": (173, 74),
    "vgg11": (35, 19),
    "segnet": (22, 9),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_before_and_after(name: str) -> None:
    _, report = torchops.fuse(NETWORKS[name]())
    assert (report.before.total(), report.after.total()) == KERNELS[name]


def test_resnet50_is_55_launches() -> None:
    """53 convolutions and two pools. What else runs is the classifier, once, and no copy of anything."""
    fused, _ = torchops.fuse(NETWORKS["resnet50"]())
    x = image(1, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.no_grad(), on_a_gpu_that_is_not_there() as (launches, inside):
        fused(x)
    assert Counter(launch.name.split("_")[0] for launch in launches) == {"conv2d": 53, "max": 1, "adaptive": 1}
    assert inside.calls[False] == {
        "conv2d": 53, "max_pool2d": 1, "adaptive_avg_pool2d": 1, "view": 1, "t": 1, "addmm": 1,
    }  # fmt: skip
    assert set(inside.calls[True]) <= {"empty", "as_strided"}
