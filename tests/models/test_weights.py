"""Weights of other programs: unwrapped, compared, and taken over whole or not at all; a new head where classes differ."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from torchops.models import Checkpoint, CheckpointError, LeNet, UNet, build
from torchops.models.checkpoints import read
from torchops.models.data import Data, Preprocess
from torchops.models.options import Config
from torchops.models.setup import net_for
from torchops.models.weights import HEADS, PREFIXES, WRAPPERS, take_over, unwrapped

BUILT: dict[str, Callable[[int], nn.Module]] = {
    "lenet": lambda classes: LeNet(classes, size=16, widths=(2, 3), hidden=4),
    "unet": lambda classes: UNet(classes, width=2, depth=1),
    "resnet": lambda classes: build("resnet", depth=18, classes=classes),
}
SMALL: dict[str, Tensor] = {"features.0.weight": torch.ones(2), "classifier.3.bias": torch.zeros(1)}


def prefixed(prefix: str, state: dict[str, Tensor] = SMALL) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


WRAPPED: dict[str, Any] = {
    "plain": SMALL,
    "ordered": OrderedDict(SMALL),
    **{f"in-{key}": {key: SMALL, "epoch": 3, "optimizer": {"state": {}}} for key in WRAPPERS},
    **{f"behind-{prefix}": prefixed(prefix) for prefix in PREFIXES},
    "compiled-parallel": prefixed("module._orig_mod."),
    "parallel-compiled": prefixed("_orig_mod.module."),
    "lightning": {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2"},
    "lightning-compiled": {"state_dict": prefixed("model._orig_mod."), "callbacks": {}},
    "nested": {"model": {"state_dict": prefixed("module.")}},
    "nested-twice": {"ema": {"model": {"params": SMALL}}},
    "average": {"ema": {"n_averaged": torch.tensor(3), **prefixed("module.")}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_weights_are_found_in_what_they_are_wrapped_in(name: str) -> None:
    found = unwrapped(WRAPPED[name])
    assert found.keys() == SMALL.keys()
    assert all(found[k] is v for k, v in SMALL.items())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([SMALL], "no weights are found: save"),
        ({}, "no weights are found"),
        ({"epoch": 3, "optimizer": {}}, "no weights are found"),
        ({"model": {"model": {"model": {"model": {"model": SMALL}}}}}, "no weights are found"),
        ({**SMALL, "epoch": 3}, "epoch is no tensor with a name"),
        ({**SMALL, 3: torch.zeros(1)}, "int is no tensor with a name"),
        (torch.zeros(3), "no weights are found"),
    ],
)
def test_what_holds_no_weights_is_refused(content: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        unwrapped(content)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's network, with weights as they are drawn."""
    return torchvision.models.resnet18(weights=None)


@pytest.mark.parametrize("wrapper", ["parallel", "compiled", "average", "lightning"])
def test_torchvisions_resnet_through_every_wrapper(wrapper: str, theirs: nn.Module, tmp_path: Path) -> None:
    saved: dict[str, Callable[[], dict[str, Any]]] = {
        "parallel": lambda: nn.DataParallel(theirs).state_dict(),
        "compiled": lambda: {"model": torch.compile(theirs).state_dict()},
        "average": lambda: {"ema": AveragedModel(theirs).state_dict()},
        "lightning": lambda: {"state_dict": prefixed("model.", theirs.state_dict()), "epoch": 1},
    }
    torch.save(saved[wrapper](), tmp_path / "r.pt")
    found, state = unwrapped(read(tmp_path / "r.pt")), theirs.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], v) for k, v in state.items())


def test_torchvisions_weights_are_a_resnets(theirs: nn.Module, tmp_path: Path) -> None:
    """Counters of batch norms may be missing: torchvision's first files have none."""
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "r.pt")
    ours, notes = started("resnet", tmp_path / "r.pt", 1000)
    assert notes == []
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)


def started(net: str, weights: Path, classes: int) -> tuple[nn.Module, list[str]]:
    """The network of a run that starts from a file, and what is said of it."""
    small: dict[str, dict[str, Any]] = {"lenet": {"widths": [2, 3], "hidden": 4}, "unet": {"width": 2, "depth": 1}}
    config = Config(net, small.get(net, {"depth": 18}), size=16, weights=str(weights))
    channels = 3 if net == "resnet" else 1
    data = Data([], [], tuple(map(str, range(classes))), Preprocess(channels, 16))  # type: ignore[arg-type]
    return net_for(config, data)[0], data.found.notes


@pytest.mark.parametrize("net", HEADS)
def test_other_classes_get_a_new_head_and_it_is_said(net: str, tmp_path: Path) -> None:
    theirs = BUILT[net](7)
    torch.save({"model": theirs.state_dict()}, tmp_path / "a.pt")
    ours, notes = started(net, tmp_path / "a.pt", 3)
    assert notes == [f"{tmp_path / 'a.pt'}: the weights are of 7 classes, not 3: the head is a new one"]
    torch.manual_seed(0)
    fresh = BUILT[net](3).state_dict()
    for name, value in ours.state_dict().items():
        wanted = fresh if name.startswith(HEADS[net]) else theirs.state_dict()
        assert torch.equal(value, wanted[name]), name


@pytest.mark.parametrize("net", HEADS)
def test_weights_without_a_head_get_one(net: str) -> None:
    theirs, ours = BUILT[net](3), BUILT[net](3)
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith(HEADS[net])}
    assert take_over(ours, state, HEADS[net]) == ["the weights have no head: the head is a new one"]
    assert all(torch.equal(ours.state_dict()[k], v) for k, v in state.items())


@pytest.mark.parametrize("layers", ["torch", "torchops"])
def test_layers_of_torch_have_the_same_names(layers: str) -> None:
    options: dict[str, Any] = {"size": 16, "widths": [2, 3], "hidden": 4}
    theirs = build("lenet", layers=layers, **options)
    ours = build("lenet", **options)
    assert take_over(ours, theirs.state_dict(), HEADS["lenet"]) == []
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(ours(x), theirs(x))


def _without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("net", "change", "match"),
    [
        ("resnet", lambda s: {**s, "conv1.weight": torch.zeros(64, 1, 7, 7)},
         r"conv1\.weight takes images of 1 channels, not 3: it is \(64, 1, 7, 7\), not \(64, 3, 7, 7\)"),
        ("unet", lambda s: UNet(3, 3, width=2, depth=1).state_dict(),
         r"down\.0\.first\.0\.weight takes images of 3 channels, not 1: it is \(2, 3, 3, 3\), not \(2, 1, 3, 3\)"),
        ("unet", lambda s: UNet(3, width=4, depth=1).state_dict(),
         r"down\.0\.first\.0\.weight is \(4, 1, 3, 3\), not \(2, 1, 3, 3\)"),
        ("lenet", lambda s: LeNet(3, size=20, widths=(2, 3), hidden=4).state_dict(),
         r"classifier\.1\.weight is \(4, 12\), not \(4, 3\)"),
        ("lenet", lambda s: {**s, "classifier.3.weight": torch.zeros(3, 5)},
         r"classifier\.3\.weight is \(3, 5\), not \(3, 4\)"),
        ("lenet", lambda s: _without(s, "classifier.3.bias"), r"classifier\.3\.bias is missing"),
        ("lenet", lambda s: _without(s, "features.0.bias"), r"features\.0\.bias is missing"),
        ("lenet", lambda s: {**s, "loss.weight": torch.zeros(1)}, r"there is no loss\.weight in it"),
        ("lenet", lambda s: {**s, "features.0.bias": torch.tensor([1.0, float("nan")])}, r"features\.0\.bias holds NaN"),
        ("lenet", lambda s: UNet(3, width=2, depth=1).state_dict(), r"there is no down\.0\.first\.0\.weight in it"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_change_nothing(
    net: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], match: str, tmp_path: Path
) -> None:
    ours = BUILT[net](3)
    before = copy.deepcopy(ours.state_dict())
    state = change(BUILT[net](3).state_dict())
    head = HEADS[net]
    with pytest.raises(ValueError, match=f"^these are weights of another network: .*{match}"):
        take_over(ours, state, head)
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"^`weights` \(=\S+a\.pt\): these are .*{match}") as caught:
        started(net, tmp_path / "a.pt", 3)
    assert len(str(caught.value).splitlines()) == 1


def test_checkpoints_of_ours_start_a_run(tmp_path: Path) -> None:
    net = BUILT["lenet"](3)
    checkpoint = Checkpoint("lenet", {}, net.state_dict(), ["a", "b", "c"], {})
    checkpoint.save(tmp_path / "best.pt")
    found, notes = started("lenet", tmp_path, 3)
    assert notes == []
    assert torch.equal(found.state_dict()["features.0.weight"], net.state_dict()["features.0.weight"])
    with pytest.raises(CheckpointError, match="is of another network, lenet, not unet"):
        started("unet", tmp_path, 3)


def test_safetensors_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = pytest.importorskip("safetensors.torch")
    net, path = BUILT["lenet"](3), tmp_path / "a.safetensors"
    written.save_file(net.state_dict(), path)
    found, notes = started("lenet", path, 3)
    assert notes == []
    assert torch.equal(found.state_dict()["features.0.weight"], net.state_dict()["features.0.weight"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is no file of weights, or broken"):
        read(path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(CheckpointError, match="needs safetensors: pip install safetensors"):
        read(path)
