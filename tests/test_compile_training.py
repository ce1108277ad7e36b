"""Training under the backend: calls are swapped, gradients are torchops's, numbers are torch's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torchops.compile import Backend
from torchops.models import LeNet, UNet

from .conformance import close
from .networks import Block, gradients, image, small
from .test_fusion import conv

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def _same_step(model: nn.Module, x: Tensor, **options: Any) -> Backend:
    """A step of the compiled model leaves the very gradients and buffers of one in torch's."""
    theirs, backend = copy.deepcopy(model), Backend(**options)
    expected, wanted = gradients(torch.compile(theirs, backend="eager"), x)
    actual, found = gradients(torch.compile(model, backend=backend), x)
    assert torch.equal(actual, expected)
    assert found.keys() == wanted.keys()
    for name, t in wanted.items():
        assert torch.equal(found[name], t), name
    for one, other in zip(model.buffers(), theirs.buffers(), strict=True):
        assert torch.equal(one, other)
    return backend


def test_a_step_of_every_layer() -> None:
    backend = _same_step(small(), image(2, 3, 16, 16), rest="eager")
    assert [report.training for report in backend.reports] == [True]
    assert backend.reports[0].swapped["conv2d"] == 7


def test_a_step_in_inductor() -> None:
    model = nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2))
    theirs, x = copy.deepcopy(model), image(2, 4, 9, 8)
    actual, found = gradients(torch.compile(model, backend=Backend()), x)
    expected, wanted = gradients(theirs, x)
    close(actual, expected.double(), torch.float32, 10)
    for name, t in wanted.items():
        close(found[f"_orig_mod.{name}"], t.double(), torch.float32, 100)


@pytest.mark.parametrize("build", [lambda: LeNet(10), lambda: UNet(2, depth=2)], ids=["lenet", "unet"])
def test_our_networks(build: Any) -> None:
    torch.manual_seed(0)
    _same_step(build(), image(2, 1, 28, 28), rest="eager")


def test_autocast() -> None:
    model, x = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU()), image(2, 3, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        backend = Backend(rest="eager")
        y, found = gradients(torch.compile(model, backend=backend), x)
    expected, wanted = gradients(copy.deepcopy(model), x)
    close(y, expected.double(), torch.bfloat16, 20)
    for name, t in wanted.items():
        close(found[f"_orig_mod.{name}"], t.double(), torch.bfloat16, 20)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = nn.Sequential(conv(), nn.ReLU(), conv()), conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(checkpoint(self.block, x, use_reentrant=False))
        return y


def test_what_is_computed_again_for_the_gradient_is_swapped_too() -> None:
    backend = _same_step(Checkpointed(), image(2, 4, 9, 8), rest="eager")
    assert backend.reports[0].swapped["conv2d"] == 3


class Frozen(nn.Module):
    """A trained body under no_grad, and a head that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Block(4, 4, 1).eval(), conv()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.body(x)
        return F.relu(self.head(x))


def test_a_frozen_body() -> None:
    _same_step(Frozen(), image(2, 4, 9, 8), rest="eager")


class TurnsOn(nn.Module):
    """It wants a gradient whatever its caller says, as code does that moves along one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            y: Tensor = F.interpolate(self.conv(x), scale_factor=1.5, mode="bilinear")
        return y


def test_grad_mode_that_is_turned_on_within() -> None:
    model, x, backend = TurnsOn().eval(), image(2, 4, 8, 8), Backend(rest="eager")
    with torch.no_grad():
        y, expected = torch.compile(model, backend=backend)(x), model(x)
    assert y.requires_grad
    wanted = torch.autograd.grad(expected.square().sum(), [*model.parameters()])
    for one, other in zip(torch.autograd.grad(y.square().sum(), [*model.parameters()]), wanted, strict=True):
        close(one, other.double(), torch.float32, 10)


def test_evaluation_between_steps_sees_the_new_weights() -> None:
    model, backend, x = small(), Backend(rest="eager"), image(2, 3, 16, 16)
    run, optimizer = torch.compile(model, backend=backend), torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        model.train()
        run(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            close(run(x), copy.deepcopy(model).double()(x.double()), torch.float32, 20)
    assert [report.training for report in backend.reports] == [True, False]
    assert backend.reports[1].recomputed() == 3
