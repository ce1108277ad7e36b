"""A run whose loss is no number any more stops with a line, and what was saved before is still what it was."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.tiny import Silent, tiny
from tests.shell import invoke
from torchops.models import Checkpoint
from torchops.models.runs import Run
from torchops.models.trainer import Trainer
from torchops.models.training import Diverged, Interrupted, train

pytestmark = pytest.mark.usefixtures("undrawn")


def in_update(act: Callable[[Trainer, Tensor], Tensor]) -> Any:
    update = Trainer._update

    def changed(self: Trainer, forward: nn.Module, batch: list[Tensor]) -> Tensor:
        return act(self, update(self, forward, batch))

    return changed


def at(epoch: int, step: int, value: float) -> Any:
    """A loss of that value in one step."""
    return in_update(
        lambda trainer, loss: (
            torch.tensor(value) if (len(trainer.rows), trainer.step) == (epoch - 1, step - 1) else loss
        )
    )


def test_nothing_is_left_of_a_first_epoch_that_diverges(tmp_path: Path) -> None:
    config = tiny("lenet", lr=1e30, options={})
    with pytest.raises(
        Diverged, match=r"^the loss became (nan|inf) in epoch 1, step \d of 4: try a smaller `lr` than 1e\+30"
    ):
        train(config, Run(tmp_path / "some" / "run"), Silent())
    assert list(tmp_path.iterdir()) == []
    # what was there before stays
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Diverged):
        train(config, Run(tmp_path), Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_the_loss_of_a_step(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "run")
    monkeypatch.setattr(Trainer, "_update", at(2, 3, value))
    with pytest.raises(Diverged, match=rf"the loss became {value} in epoch 2, step 3 of 4: .*; best.pt holds epoch 1$"):
        train(tiny("lenet"), run, Silent())
    assert len(run.metrics()) == 1
    assert len(Checkpoint.load(run.last).training["rows"]) == 1
    assert all(t.isfinite().all() for t in Checkpoint.load(run.best).state.values())


def test_a_figure_of_held_out_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = Trainer._evaluate
    monkeypatch.setattr(Trainer, "_evaluate", lambda self, loss: {**evaluate(self, loss), "val_loss": math.nan})
    with pytest.raises(Diverged, match=r"val_loss became nan in epoch 1, step 4 of 4"):
        train(tiny("lenet"), Run(tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("interrupts", [True, False], ids=["ctrl-c", "epoch"])
def test_weights_that_no_loss_has_seen(interrupts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step before Ctrl-C, or of an epoch, leaves them; with batch norm before it, no loss need tell."""

    def spoil(trainer: Trainer, loss: Tensor) -> Tensor:
        if (len(trainer.rows), trainer.step) == (1, 3):
            trainer.net.bias_that_nothing_reads.fill_(math.nan)  # type: ignore[union-attr, operator]
            trainer.stop = interrupts
        return loss

    run = Run(tmp_path / "run")
    make = Trainer.__init__

    def made(self: Trainer, *arguments: Any) -> None:
        make(self, *arguments)
        self.net.register_buffer("bias_that_nothing_reads", torch.zeros(1))

    monkeypatch.setattr(Trainer, "__init__", made)
    monkeypatch.setattr(Trainer, "_update", in_update(spoil))
    with pytest.raises(Diverged, match=r"a weight became nan in epoch 2, step 4 of 4: .*; best.pt holds epoch 1"):
        train(tiny("lenet"), run, Silent())
    assert all(t.isfinite().all() for t in Checkpoint.load(run.last).training["net"].values())
    assert len(run.metrics()) == 1


def test_no_figure_is_no_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is kept as None, in the run's files too, and is never the best."""
    evaluate = Trainer._evaluate

    def without(self: Trainer, loss: float) -> Any:
        return {**evaluate(self, loss), **({} if len(self.rows) == 1 else {"val_accuracy": None})}

    monkeypatch.setattr(Trainer, "_evaluate", without)
    run = Run(tmp_path / "run")
    summary = train(tiny("lenet", epochs=3), run, Silent())
    assert [row["val_accuracy"] is None for row in run.metrics()] == [True, False, True]
    assert summary["best_epoch"] == 2
    assert Checkpoint.load(run.best).training == {"epoch": 2}


def test_the_shell_says_so_in_a_line(tmp_path: Path) -> None:
    result = invoke("train", "lenet", "--examples", 4, "--size", 16, "--lr", "1e30", "--out", tmp_path / "run")
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert re.fullmatch(
        r"torchops: val_loss became nan in epoch 1, step 1 of 1: try a smaller --lr than 1e\+30; no epoch was over",
        line,
    )
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_that_is_sound_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(trainer: Trainer, loss: Tensor) -> Tensor:
        trainer.stop = True
        return loss

    monkeypatch.setattr(Trainer, "_update", in_update(stop))
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(tiny("lenet"), run, Silent())
    assert Checkpoint.load(run.last).training["step"] == 1
