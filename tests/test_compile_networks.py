"""Real networks by `torch.compile(backend=torchops.compile.Backend())`: the same results, few kernels, the same training.

`python -m bench.compiled` asks more of them, and Inductor too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bench import networks
from bench.networks import untrained
from torchops.compile import Backend
from torchops.models import LeNet, UNet

from .networks import NETWORKS, as_torch_has_it, gradients, image

pytestmark = pytest.mark.usefixtures("fresh_compiler")


KERNELS = {
    # as many as torchops.fuse leaves; of detectors' bodies fewer, and of FPN and DeepLab+ it leaves all, which it cannot trace
    "resnet18": 23,
    "mobilenet_v3_small": 74,
    "deeplabv3_resnet50": 66,
    "timm.resnet18d": 28,
    "segnet": 9,
    "lraspp_mobilenet_v3_large": 86,
    "timm.hrnet_w18_small": 127,
    "timm.resnet18.features": 21,
    "timm.efficientnet_b0.features": 112,
    "fasterrcnn_resnet50_fpn.frozen": 66,
    "retinanet_resnet50_fpn.body": 65,
    "smp.Unet": 41,
    "smp.FPN": 59,
    "smp.DeepLabV3Plus": 42,
}
"""Kernels that are left of each network, but for copies of what it returns. What is like one of these, as other ResNets are, is
left to `bench.compiled`."""


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]


@pytest.mark.parametrize("name", KERNELS)
def test_inference(name: str) -> None:
    """In float64 the results are the network's to 1e-10 of the largest, by one graph of so many kernels."""
    builds = {**networks.MORE, **NETWORKS}
    model, x = builds[name]().double(), image(1, 3, 64, 64).double()
    backend = Backend(rest="eager")
    with torch.no_grad(), as_torch_has_it():
        expected = _tensors(model(x))
        actual = _tensors(torch.compile(model, backend=backend, fullgraph=True)(x))
    for a, b in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert (a - b).abs().max() <= 1e-10 * b.abs().max()
    (report,) = backend.reports
    assert report.kept == {}
    assert report.after["batch_norm"] == report.after["bias"] == 0
    # what is computed channels_last, and returned with the strides of the network's own results, is copied; torch 2.11 copies
    # where a dropout does nothing
    dropouts = sum(isinstance(module, nn.Dropout) for module in model.modules())
    assert report.after["clone"] <= sum(t.dim() == 4 for t in expected) + dropouts
    assert report.after.total() - report.after["clone"] <= KERNELS[name] < report.before.total()


TRAINED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{name: (NETWORKS[name], (2, 3, 64, 64)) for name in ("resnet18", "mobilenet_v3_small", "googlenet")},
    "smp.Unet": (networks.MORE["smp.Unet"], (2, 3, 64, 64)),
    "torchops.unet": (partial(untrained, partial(UNet, classes=2)), (2, 1, 64, 64)),
    "torchops.lenet": (partial(untrained, LeNet), (4, 1, 28, 28)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training(name: str) -> None:
    """Results, gradients and running statistics of a step are those of the network, to the last bit."""
    build, shape = TRAINED[name]
    x = image(*shape)
    plain, model = build(), build()
    backend = Backend(rest="eager")
    model.compile(backend=backend, fullgraph=True)
    with as_torch_has_it():
        expected, expected_grads = gradients(plain, x)
        actual, grads = gradients(model, x)
    assert torch.equal(actual, expected)
    assert grads.keys() == expected_grads.keys() == dict(plain.named_parameters()).keys()
    assert [key for key, grad in grads.items() if not torch.equal(grad, expected_grads[key])] == []
    state = plain.state_dict()
    assert [key for key, t in model.state_dict().items() if not torch.equal(t, state[key])] == []
    (report,) = backend.reports
    assert report.training
    assert report.kept == {}
    # ours are of torchops's layers already
    assert (report.swapped["conv2d"] > 0) == (not name.startswith("torchops"))
