"""The optimizers to choose from: what they do in a step, and runs that go on with them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.rounding import figures
from tests.models.tiny import Silent, tiny
from torchops.models import Checkpoint, CheckpointError
from torchops.models.options import Config
from torchops.models.runs import Run
from torchops.models.setup import optimizer_for
from torchops.models.state import load_moments
from torchops.models.training import Interrupted, train

from .test_resuming import stopping

pytestmark = pytest.mark.usefixtures("undrawn")


def test_sgd_follows_nesterov() -> None:
    """Two steps on a constant gradient g: the momentum is g, then 1.9 g, and a step goes along g + 0.9 of it."""
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(net.weight)
    optimizer = optimizer_for(Config("lenet", optimizer="sgd", lr=0.1, weight_decay=0.0), net)
    for expected in (1 - 0.1 * 1.9, 1 - 0.1 * 1.9 - 0.1 * (1 + 0.9 * 1.9)):
        net.weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert float(net.weight.detach()) == pytest.approx(expected)


def test_of_a_resnet_every_stage_has_its_rate() -> None:
    from torchops.models import build

    config = Config("resnet", optimizer="sgd", lr=0.1, layer_decay=0.5)
    optimizer = optimizer_for(config, build("resnet", classes=2))
    assert isinstance(optimizer, torch.optim.SGD)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[-1] == 0.1
    assert all(a == b / 2 for a, b in itertools.pairwise(rates))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}


def test_adamw_is_the_default() -> None:
    """Also of runs of before, whose configurations do not name it."""
    assert isinstance(optimizer_for(Config("lenet"), torch.nn.Linear(1, 1)), torch.optim.AdamW)
    with pytest.raises(ValueError, match="`optimizer` must be one of adamw, sgd, got 'adam'"):
        Config("lenet", optimizer="adam")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stopped(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "stopped")
    with pytest.raises(Interrupted):
        train(tiny("lenet", optimizer="sgd", lr=0.05), run, stopping(2))
    return run


def _again(run: Run, path: Path, **optimizer: Any) -> Run:
    """A copy that stands where the run does, but for what its optimizer kept."""
    copy = Run.create(path, run.config())
    copy.best.write_bytes(run.best.read_bytes())
    copy.write_metrics(run.metrics())
    checkpoint = Checkpoint.load(run.last)
    checkpoint.training["optimizer"].update(optimizer)
    checkpoint.save(copy.last)
    return copy


def test_sgd_goes_on_as_if_never_stopped(stopped: Run, tmp_path: Path) -> None:
    straight, resumed = Run(tmp_path / "straight"), _again(stopped, tmp_path / "resumed")
    train(stopped.config(), straight, Silent())
    train(resumed.config(), resumed, Silent(), resume=True)
    assert figures(resumed) == figures(straight)
    states = [Checkpoint.load(run.last).training["optimizer"]["state"] for run in (straight, resumed)]
    assert states[0].keys() == states[1].keys() != set()
    assert all(torch.equal(m["momentum_buffer"], states[1][i]["momentum_buffer"]) for i, m in states[0].items())
    # without the momentum it is another run
    forgetful = _again(stopped, tmp_path / "forgetful", state={})
    train(forgetful.config(), forgetful, Silent(), resume=True)
    assert figures(forgetful) != figures(straight)


def test_a_run_keeps_its_optimizer(stopped: Run) -> None:
    with pytest.raises(ValueError, match=r"`optimizer` \(=adamw\): the run was started with sgd"):
        stopped.config().changed(tiny("lenet"), ["optimizer"])


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({0: {"momentum_buffer": torch.zeros(3)}}, r"momentum_buffer of the optimizer's parameter 0 is \(3,\)"),
        ({0: {"momentum_buffer": None}}, "the optimizer's parameter 0 lacks momentum_buffer"),
        ({0: {}}, "the optimizer's parameter 0 lacks momentum_buffer"),
        ({0: {"momentum_buffer": torch.full((20, 1, 5, 5), torch.nan)}}, "moments of the optimizer's .* not finite"),
        ({99: {}}, "the optimizer has other parameters"),
        ({0: 1}, "the optimizer has other parameters"),
    ],
)
def test_rejects_momentum_that_is_not_its_own(state: object, match: str, stopped: Run, tmp_path: Path) -> None:
    run = _again(stopped, tmp_path / "run", state=state)
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(CheckpointError, match=f"last.pt: does not fit the run: .*{match}"):
        train(run.config(), run, Silent(), resume=True)
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


@pytest.mark.parametrize(("kept", "own"), [("adamw", "sgd"), ("sgd", "adamw")])
def test_moments_of_the_other_optimizer_are_refused(kept: str, own: str) -> None:
    net = torch.nn.Linear(1, 1)
    optimizers = {name: optimizer_for(Config("lenet", optimizer=name), net) for name in (kept, own)}  # type: ignore[arg-type]
    net(torch.ones(1, 1)).sum().backward()
    optimizers[kept].step()
    with pytest.raises(CheckpointError, match=r"the optimizer's parameter 0 (has|lacks) "):
        load_moments(optimizers[own], optimizers[kept].state_dict())
