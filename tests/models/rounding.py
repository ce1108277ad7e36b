"""Two runs that compute the same and round differently: what may differ between their networks and figures, and how much."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.tiny import Silent
from torchops.models import Checkpoint
from torchops.models.runs import Row, Run
from torchops.models.setup import data_for

# Measured on ten pairs of runs of the tiny U-Net, five seeds with AVX-512 and without: one process and two differ by rounding;
# by more, where each process has batch norms of its own half of a batch.
LOSSES = 5e-5
"""Relative, of losses. Rounding: 4e-6 at most; halves: 1.9e-4 and more in one epoch or the other."""
SCORES = 1e-3
"""Of the scores of all held-out samples: the root mean square of the distance, in standard deviations of the scores. Rounding:
1.7e-4 at most; halves: 4.1e-3 and more."""
ROUNDING = 1e-5
"""How far a score may move when the same network computes it in a batch of another size; 5e-7 was seen."""


class Keeper(Silent):
    """Looks on, and keeps the network of every epoch."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def epoch(self, figures: Row) -> None:
        shutil.copy(self.run.last, kept(self.run, int(figures["epoch"] or 0)))


def kept(run: Run, epoch: int) -> Path:
    return run.path / f"epoch-{epoch}.pt"


def figures(run: Run) -> list[Row]:
    """What a run came to, without how long it took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()]


def counted(scores: Tensor, truth: Tensor, reach: float) -> dict[str, tuple[float, float]]:
    """The least and the most that each counted figure can be, if every score may be `reach` / 2 off: (N, K, ...) and (N, ...).

    A sample's guess may be any class whose score is no more than `reach` below the best one; most samples have one such class.
    Of the 16,384 pixels that the tiny U-Net is judged by, 25 at most could fall otherwise for two processes than for one.
    """
    there = torch.nn.functional.one_hot(truth, scores.shape[1]).movedim(-1, 1).bool()
    possible = scores >= scores.amax(1, keepdim=True) - reach
    certain = possible & (possible.sum(1, keepdim=True) == 1)
    others = [i for i in range(scores.dim()) if i != 1]
    both = [(guess & there).sum(others).double() for guess in (certain, possible)]
    either = [(guess | there).sum(others).double() for guess in (certain, possible)]
    # of classes that are guessed or there
    shown = either[0] > 0
    assert torch.equal(shown, either[1] > 0), "whether a class counts hangs on a close guess"
    least, most = both[0] / either[1], both[1] / either[0]
    return {
        "val_accuracy": (float(both[0].sum()) / truth.numel(), float(both[1].sum()) / truth.numel()),
        "val_iou": (float(least[shown].mean()), float(most[shown].mean())),
    }


def assert_same_but_for_rounding(one: Run, other: Run) -> None:
    """Networks of every epoch, losses, and figures that count guesses.

    Args:
        one, other: runs that a :class:`Keeper` looked on, of the same settings.
    """
    data = data_for(one.config())
    samples = [data.val[i] for i in range(len(data.val))]  # type: ignore[arg-type]
    x, truth = torch.stack([s[0] for s in samples]), torch.stack([torch.as_tensor(s[1]) for s in samples])
    for row, other_row in zip(figures(one), figures(other), strict=True):
        epoch = int(row["epoch"])
        with torch.no_grad():
            scores, others = (Checkpoint.load(kept(run, epoch)).model()(x).double() for run in (one, other))
        apart = others - scores
        assert float(apart.square().mean().sqrt()) <= SCORES * float(scores.std()), f"scores after epoch {epoch}"
        # one of two scores up, the other down
        bounds = counted(scores, truth, 2 * (float(apart.abs().max()) + ROUNDING))
        assert row.keys() == other_row.keys()
        for name, value in row.items():
            if name in bounds:
                least, most = bounds[name]
                # figures are float32
                for found in (value, other_row[name]):
                    assert least - 1e-6 <= found <= most + 1e-6, f"{name} after epoch {epoch}"
            else:
                assert other_row[name] == pytest.approx(value, rel=LOSSES), f"{name} after epoch {epoch}"
