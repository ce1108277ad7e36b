"""Weights in oneDNN's own layout that change: no write leaves a copy that is used, and copies go with their weight."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchops
from torchops.ops.conv2d import packed

from . import packing

pytestmark = packing.MARKS


def _load(layer: Any) -> None:
    layer.load_state_dict({name: t + 0.5 for name, t in layer.state_dict().items()})


def _assign(layer: Any) -> None:
    layer.load_state_dict({name: t + 0.5 for name, t in layer.state_dict().items()}, assign=True)


def _write(layer: Any) -> None:
    """To an element that is not among those that are compared."""
    with torch.no_grad():
        layer.weight[1, 1, 1, 1] += 1


def _swap(layer: Any) -> None:
    torch.utils.swap_tensors(layer.weight, nn.Parameter(torch.randn_like(layer.weight)))


def _train(layer: Any) -> None:
    layer.train()
    steps = torch.optim.Adam(layer.parameters(), fused=True)
    layer(packing.image(layer.in_channels)).sum().backward()
    steps.step()
    layer.eval()


def _step(layer: Any) -> None:
    """Without a change of mode, and of a gradient that reaches one element."""
    steps = torch.optim.Adam(layer.parameters(), fused=True)
    layer.weight.grad = torch.zeros_like(layer.weight)
    layer.weight.grad[1, 1, 1, 1] = 1
    steps.step()


def _share(layer: Any) -> None:
    layer.weight.share_memory_()
    layer.weight.data.mul_(2)


def _move(layer: Any) -> None:
    layer.to(torch.float64)
    layer.weight.data[0, 0, 0, 0] += 1
    layer.to(torch.float32)


def _replace(layer: Any) -> None:
    layer.weight.data = torch.randn_like(layer.weight)


def _transpose(layer: Any) -> None:
    """The same memory, read otherwise."""
    layer.weight.data = layer.weight.data.transpose(2, 3)


def _forgotten(layer: Any) -> None:
    layer.weight.detach().numpy()[1, 1, 1, 1] += 1
    torchops.forget()


def _mode_changed(layer: Any) -> None:
    layer.weight.data[1, 1, 1, 1] += 1
    layer.train().eval()


_CHANGES: dict[str, Callable[[Any], None]] = {
    "load_state_dict": _load, "assigned": _assign, "part_written": _write, "swapped": _swap, "trained": _train,
    "fused_step": _step, "shared": _share, "another_dtype": _move, "data_replaced": _replace, "transposed": _transpose,
    "data_scaled": lambda layer: layer.weight.data.mul_(2), "forgotten": _forgotten, "train_and_eval": _mode_changed,
    "numpy": lambda layer: layer.weight.detach().numpy().fill(0.5),
    "parameter_replaced": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn_like(layer.weight))),
    "bias_written": lambda layer: layer.bias.data.add_(1),
    "bias_replaced": lambda layer: setattr(layer.bias, "data", torch.randn_like(layer.bias)),
    "formats": lambda layer: layer.to(memory_format=torch.channels_last),
}  # fmt: skip


@pytest.mark.parametrize("form", packing.FORMATS)
@pytest.mark.parametrize("which", _CHANGES)
def test_changes_are_seen(which: str, form: torch.memory_format) -> None:
    layer, x = packing.layer(channels=192, form=form), packing.image(channels=192, form=form)
    packing.have_copied(layer, x)
    for _ in range(2):
        _CHANGES[which](layer)
        assert all(packing.is_right(layer, x) for _ in range(4))


def test_a_part_of_data_may_be_written_to_unseen() -> None:
    """Which is said in the documentation, with the remedy."""
    layer, x = packing.layer(), packing.image()
    packing.have_copied(layer, x)
    layer.weight.data[1, 1, 1, 1] += 1
    assert not packing.is_right(layer, x)
    torchops.forget()
    assert packing.is_right(layer, x)


def test_writes_in_every_call_have_nothing_copied() -> None:
    layer, x = packing.layer(), packing.image()
    for _ in range(5):
        _write(layer)
        assert packing.is_right(layer, x)
        assert packed.held(layer.weight) == 0


def _saved(layer: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(layer, file)
    return file.getvalue()


def test_nothing_of_it_is_in_the_layer() -> None:
    layer, x = packing.layer(), packing.image()
    attributes, state, size = set(vars(layer)), list(layer.state_dict()), len(_saved(layer))
    packing.have_copied(layer, x)
    assert (set(vars(layer)), list(layer.state_dict())) == (attributes, state)
    assert len(_saved(layer)) == size
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert packed.held(twin.weight) == 0
        with torch.no_grad():
            twin.weight.zero_()
        assert packing.is_right(twin, x)
    packing.have_copied(layer, x)


@pytest.mark.parametrize("form", packing.FORMATS)
def test_copies_go_with_the_weight(form: torch.memory_format) -> None:
    layer, x = packing.layer(channels=192, form=form), packing.image(channels=192, form=form)
    packing.have_copied(layer, x)
    key = id(layer.weight)
    known = weakref.ref(packed.declared[key])
    references = weakref.ref(layer.weight), weakref.ref(layer.weight.untyped_storage())
    del layer
    gc.collect()
    assert [r() for r in (*references, known)] == [None] * 3
    assert key not in packed.declared


def test_a_replaced_memory_goes() -> None:
    layer, x = packing.layer(), packing.image()
    packing.have_copied(layer, x)
    known = weakref.ref(packed.declared[id(layer.weight)])
    layer.weight.data = layer.weight.data * 2
    gc.collect()
    assert known() is None
