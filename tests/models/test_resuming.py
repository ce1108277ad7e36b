"""A run that goes on: for more epochs, in the same way whenever that is asked for; and never with what is not its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.models.rounding import figures
from tests.models.tiny import Silent, tiny
from torchops.models import Checkpoint, CheckpointError
from torchops.models.options import Config
from torchops.models.runs import Run
from torchops.models.schedule import rate
from torchops.models.state import State, load_moments
from torchops.models.training import Interrupted, train

pytestmark = pytest.mark.usefixtures("undrawn")


def stopping(epoch: int) -> Silent:
    """Looks on, and stops the run in an epoch as Ctrl-C does."""
    import os
    import signal

    return Silent(lambda now, step: os.kill(os.getpid(), signal.SIGINT) if now == epoch else None)


@pytest.fixture(scope="module")
def finished(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "finished")
    train(tiny("lenet"), run, Silent())
    return run


def test_the_learning_rate_rises_again_in_added_epochs() -> None:
    """As stated: in a line over a twentieth of the steps, then a cosine to zero; the first cycle stays what it was."""
    first = [rate(step, [40]) for step in range(41)]
    both = [rate(step, [40, 140]) for step in range(141)]
    assert both[:40] == first[:40]
    assert first[:3] == [0.5, 1.0, 1.0]
    assert first[40] == 0.0
    # 100 added steps, of which five rise
    assert both[40:46] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert both[40 + 5 + 95 // 2] == pytest.approx(0.5, abs=0.01)
    assert both[139] == pytest.approx(0.0, abs=1e-3)
    assert both[140] == 0.0


@pytest.mark.parametrize("net", ["lenet", "diffusion"])
def test_extended_early_or_late_is_the_same(net: str, tmp_path: Path) -> None:
    """Bit for bit: an interrupted run and a finished one, both asked for two more epochs; and one that asks twice."""
    early, late = Run(tmp_path / "early"), Run(tmp_path / "late")
    with pytest.raises(Interrupted):
        train(tiny(net), early, stopping(1))
    train(tiny(net), late, Silent())
    for run in (early, late):
        watcher = Silent()
        config = run.config().changed(tiny(net, epochs=4), ["epochs"])
        summary = train(config, run, watcher, resume=True)
        assert [note for note in watcher.notes if note.startswith("from 2 epochs to 4")], watcher.notes
        assert json.loads((run.path / "summary.json").read_text()) == summary
        assert (run.config().epochs, run.config().cycles) == (4, [2])
        assert [row["epoch"] for row in run.metrics()] == [1, 2, 3, 4]
    assert figures(early) == figures(late)
    for one, other in ((early.last, late.last), (early.best, late.best)):
        states = [Checkpoint.load(file).state for file in (one, other)]
        assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    # asked for again, it is what it is
    assert early.config().changed(tiny(net, epochs=4), ["epochs"]) == early.config()
    assert early.config().changed(tiny(net, epochs=5), ["epochs"]).cycles == [2, 4]


def test_what_differs_is_refused(finished: Run) -> None:
    config = finished.config()
    for name, changed, before in (
        ("lr", 0.1, "0.001"), ("seed", 3, "0"), ("examples", 5, "4"), ("patience", 1, "none"), ("augment", False, "yes"),
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match=rf"`{name}` \(=.*\): the run was started with {before}; only `device`, `workers` and"
        ):
            train(dataclasses.replace(config, **{name: changed}), finished, Silent(), resume=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`norm` \(=after\): the run was started with before"):
        config.changed(Config.asked("lenet", norm="after"), ["norm"])
    with pytest.raises(ValueError, match=r"`epochs` \(=1\): the run was asked for 2, and only more can be added"):
        config.changed(Config.asked("lenet", epochs=1), ["epochs"])
    elsewhere = config.changed(Config.asked("lenet", device="cpu", workers=1), ["device", "workers"])
    assert (elsewhere.device, elsewhere.workers) == ("cpu", 1)
    # the others are the run's own
    assert dataclasses.replace(elsewhere, device=None, workers=0) == config


def test_a_run_that_patience_ended_is_not_extended(tmp_path: Path) -> None:
    run = Run(tmp_path)
    train(tiny("lenet", epochs=8, lr=1e-30, patience=1, options={}), run, Silent())
    before = run.config_file.read_bytes()
    with pytest.raises(ValueError, match=r"`epochs` \(=9\): the run was stopped by `patience` \(=1\) after 2 epochs"):
        train(dataclasses.replace(run.config(), epochs=9), run, Silent(), resume=True)
    assert run.config_file.read_bytes() == before


def test_a_run_does_not_need_what_it_started_from(finished: Run, tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    start.write_bytes(finished.best.read_bytes())
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(tiny("lenet", weights=str(start)), run, stopping(1))
    start.unlink()
    train(run.config(), run, Silent(), resume=True)
    assert len(run.metrics()) == 2


def _set(**values: Any) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: checkpoint.training.update(values)


def _of_net(checkpoint: Checkpoint) -> None:
    name = next(iter(checkpoint.training["net"]))
    checkpoint.training["net"][name] = torch.zeros(3)


def _of_moments(checkpoint: Checkpoint) -> None:
    checkpoint.training["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)


def _of_labels(checkpoint: Checkpoint) -> None:
    checkpoint.labels[0] = "zero"


def _of_rows(checkpoint: Checkpoint, **values: Any) -> None:
    checkpoint.training["rows"][0].update(values)


def _of_data(checkpoint: Checkpoint) -> None:
    checkpoint.training["data"]["val"] += 1


HOSTILE: dict[str, tuple[Callable[[Checkpoint], None], str]] = {
    "nothing": (lambda c: c.training.clear(), "holds no state to go on from"),
    "no-step": (lambda c: c.training.pop("step"), "holds no state to go on from: step is missing"),
    "step-beyond": (_set(step=1), "stands at step 1 of epoch 3: there are 2 epochs of 4 steps"),
    "step-negative": (_set(step=-1), "its step is not what it should be"),
    "step-text": (_set(step="1"), "its step is not what it should be"),
    "step-true": (_set(step=True), "its step is not what it should be"),
    "rows-many": (lambda c: c.training["rows"].append({**c.training["rows"][0], "epoch": 3}),
        "holds 3 epochs, of 2 that were asked for"),
    "rows-number": (_set(rows=3), "its rows is not what it should be"),
    "rows-of-numbers": (_set(rows=[1, 2]), "its rows is not what it should be"),
    "row-text": (lambda c: _of_rows(c, lr="x"), "its rows is not what it should be"),
    "row-nan": (lambda c: _of_rows(c, train_loss=float("nan")), "its rows is not what it should be"),
    "row-other": (lambda c: _of_rows(c, other=1.0), "its rows is not what it should be"),
    "loss-text": (_set(loss_sum="1"), "its loss_sum is not what it should be"),
    "loss-nan": (_set(loss_sum=float("nan")), "its loss_sum is not what it should be"),
    "loss-huge": (_set(loss_sum=10**400), "its loss_sum is not what it should be"),
    "seconds": (_set(seconds=-1.0), "its seconds is not what it should be"),
    "net-number": (_set(net=1), "its net is not what it should be"),
    "net-shape": (_of_net, r"does not fit the run: .* of the network is \(3,\), torch.float32, not"),
    "net-empty": (_set(net={}), "does not fit the run: the network lacks "),
    "moments": (_of_moments, "does not fit the run: exp_avg of the optimizer's parameter 0"),
    "optimizer": (_set(optimizer={}), "the optimizer has no moments"),
    "optimizer-index": (_set(optimizer={"state": {99: {}}}), "the optimizer has other parameters"),
    "scaler": (_set(scaler={"scale": "x"}), "its scaler is not what it should be"),
    "average": (_set(average=[1]), "its average is not what it should be"),
    "data": (_of_data, "was trained on other data: the numbers of held-out images differ: 360 then, 359 now"),
    "names": (lambda c: c.training["data"].update(names="x"), "other data: the names of the images differ$"),
    "labels": (_of_labels, "was trained on other classes than the data have now"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_rejects_a_state_that_is_not_its_own(case: str, finished: Run, tmp_path: Path) -> None:
    change, match = HOSTILE[case]
    run = Run.create(tmp_path / "run", finished.config())
    checkpoint = Checkpoint.load(finished.last)
    change(checkpoint)
    checkpoint.save(run.last)
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(CheckpointError, match=f"last.pt: .*{match}"):
        train(run.config(), run, Silent(), resume=True)
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


def test_checkpoints_of_before_go_on(finished: Run, tmp_path: Path) -> None:
    """They did not say what they were trained on, and held a schedule."""
    run = Run.create(tmp_path / "run", finished.config())
    checkpoint = Checkpoint.load(finished.last)
    del checkpoint.training["data"]
    checkpoint.training["schedule"] = {"last_epoch": 8, "_last_lr": [0.0]}
    checkpoint.save(run.last)
    run.best.write_bytes(finished.best.read_bytes())
    train(run.config(), run, Silent(), resume=True)
    assert (run.path / "summary.json").exists()


def test_moments_come_back_and_rates_do_not() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizers = [torch.optim.AdamW([parameter], lr=lr) for lr in (0.5, 0.1)]
    parameter.grad = torch.ones(2)
    optimizers[0].step()
    load_moments(optimizers[1], optimizers[0].state_dict())
    assert torch.equal(optimizers[1].state[parameter]["exp_avg"], torch.full((2,), 0.1))
    assert optimizers[1].param_groups[0]["lr"] == 0.1


def test_a_state_is_read_back(finished: Run) -> None:
    state = State.read(Checkpoint.load(finished.last).training)
    assert (state.step, len(state.rows), state.data["train"], state.data["steps"]) == (0, 2, 40, 4)


def test_a_checkpoint_that_does_not_know_its_images_says_so(tmp_path: Path) -> None:
    """Those of earlier versions: they left out other files, and so held out others."""
    for i in range(12):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 20 * i).save(file)
    run = Run(tmp_path / "run")
    train(tiny("lenet", data=str(tmp_path / "photos")), run, Silent())
    said = "last.pt does not say which images it was trained on"
    for known, expected in ((True, False), (False, True)):
        checkpoint = Checkpoint.load(run.last)
        if not known:
            del checkpoint.training["data"]
            checkpoint.save(run.last)
        for epochs in (len(run.metrics()), len(run.metrics()) + 1):
            watcher = Silent()
            config = run.config().changed(tiny("lenet", epochs=epochs), ["epochs"])
            before = len(run.metrics())
            train(config, run, watcher, resume=True)
            # what is at its end is trained on nothing
            assert any(said in note for note in watcher.notes) == (expected and epochs > before)


def test_a_run_that_is_done_says_so(tmp_path: Path) -> None:
    config, watcher = tiny("lenet", epochs=1), Silent()
    train(config, Run(tmp_path / "run"), watcher)
    assert not any("nothing is left" in note for note in watcher.notes)
    train(config, Run(tmp_path / "run"), watcher, resume=True)
    assert "nothing is left to train: more epochs extend the run" in watcher.notes
