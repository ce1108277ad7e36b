"""Classes that weigh more in the loss the rarer they are: how much, in which loss, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.utils.data import TensorDataset

from tests.models.masks import save
from tests.models.tiny import Silent, tiny
from tests.models.trees import grow
from torchops.models import pictures
from torchops.models.balance import class_weights
from torchops.models.data import Data, Preprocess
from torchops.models.data.masks import IGNORED
from torchops.models.options import Config
from torchops.models.runs import Run
from torchops.models.setup import data_for
from torchops.models.tasks import Classification, Segmentation, dice_loss
from torchops.models.training import train

CPU = torch.device("cpu")
WEIGHTS = torch.tensor([0.4, 2.0, 5.0])
DATA = Data(TensorDataset(), TensorDataset(), ("a", "b", "c"), Preprocess(1, None, (0.0,), (1.0,)))


def test_weights_are_scikit_learns() -> None:
    targets = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    assert class_weights([7, 2, 1]) == pytest.approx(expected)
    # shares do as well; what is not there weighs nothing, and is no class
    assert class_weights([0.7, 0.0, 0.2, 0.1]) == pytest.approx([expected[0], 0.0, *expected[1:]])


@pytest.mark.parametrize("criterion", [F.cross_entropy, F.nll_loss])
def test_gradients_are_those_of_the_formula(criterion: Any) -> None:
    torch.manual_seed(0)
    scores, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 2, 0])
    weights = WEIGHTS.double()
    x = scores.clone().requires_grad_()
    right = F.one_hot(y, 3)
    guessed = scores.softmax(1) if criterion is F.cross_entropy else torch.zeros_like(scores)
    expected = weights[y].unsqueeze(1) * (guessed - right) / len(y)
    task = Classification(DATA, criterion, weights)
    task.loss(lambda x: x, (x, y)).backward()
    torch.testing.assert_close(x.grad, expected)
    # held-out data weigh the same
    assert task.evaluate(lambda x: x, [(scores, y)], CPU) == Classification(DATA, criterion).evaluate(
        lambda x: x, [(scores, y)], CPU
    )


def pixels() -> tuple[Tensor, Tensor]:
    """Scores of four images, and the truth, of which a part is ignored."""
    torch.manual_seed(0)
    truth = torch.randint(0, 3, (4, 5, 6))
    truth[0, :2] = truth[3] = IGNORED
    return torch.randn(4, 3, 5, 6, dtype=torch.float64), truth


def test_gradients_of_pixels_are_those_of_the_formula() -> None:
    scores, truth = pixels()
    x, same = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    counts = (truth != IGNORED).sum((1, 2)).clamp(min=1).view(4, 1, 1, 1)
    seen = truth.clamp(min=0)
    weight = (WEIGHTS[seen] * (truth != IGNORED)).unsqueeze(1)
    of_pixels = weight * (scores.softmax(1) - F.one_hot(seen, 3).movedim(-1, 1)) / counts / 4
    (dice,) = torch.autograd.grad(dice_loss(same, truth).mean(), same)
    task = Segmentation(DATA, WEIGHTS)
    # losses of pixels are those of float32
    task.loss(lambda x: x, (x, truth)).backward()
    torch.testing.assert_close(x.grad, of_pixels + dice, rtol=1e-4, atol=1e-7)
    batches = [(scores, truth)]
    assert task.evaluate(lambda x: x, batches, CPU) == Segmentation(DATA).evaluate(lambda x: x, batches, CPU)


def test_halves_of_a_batch_have_the_mean_of_its_loss() -> None:
    """As processes share it: one half has other classes than the other."""
    scores, truth = pixels()
    y = torch.tensor([0, 0, 1, 2])
    for task, x, target in (
        (Classification(DATA, F.cross_entropy, WEIGHTS.double()), scores.mean((2, 3)), y),
        (Segmentation(DATA, WEIGHTS), scores, truth),
    ):
        halves = [task.loss(lambda x: x, (x[part], target[part])) for part in (slice(2), slice(2, 4))]
        torch.testing.assert_close(task.loss(lambda x: x, (x, target)), (halves[0] + halves[1]) / 2)


def test_images_are_counted(tmp_path: Path) -> None:
    grow(tmp_path, {"train/cat": 9, "train/dog": 3, "val/cat": 1, "val/dog": 8})
    config = Config("lenet", data=str(tmp_path), size=8)
    assert data_for(config).weights == ()
    data = data_for(Config("lenet", data=str(tmp_path), size=8, balance=True))
    assert data.weights == pytest.approx((12 / (2 * 9), 12 / (2 * 3)))
    assert data.found.notes[-1] == "weights in the loss: cat 0.667, dog 2"
    # only those that are trained on count
    few = data_for(Config("lenet", data=str(tmp_path), size=8, balance=True, examples=4))
    assert few.weights == pytest.approx((7 / (2 * 4), 7 / (2 * 3)))
    grow(tmp_path, {f"train/{i:02}": 1 + i for i in range(11)} | {f"val/{i:02}": 1 for i in range(11)})
    note = data_for(Config("lenet", data=str(tmp_path), size=8, balance=True)).found.notes[-1]
    assert note == "weights in the loss: 13 classes, from 10 0.545 to 00 6"
    grow(tmp_path, {"many/train/cat": 2001, "many/train/dog": 1, "many/val/cat": 1, "many/val/dog": 1})
    notes = data_for(Config("lenet", data=str(tmp_path / "many"), size=8, balance=True)).found.notes
    assert notes[-2] == "weights in the loss: cat 0.5, dog 1,001"
    assert notes[-1].startswith("dog is so rare that a few of its samples decide about the loss")
    assert data_for(Config("diffusion", data=str(tmp_path), size=8, balance=True)).weights == ()


def test_pixels_are_counted(tmp_path: Path) -> None:
    """Without those that are ignored; a class that no mask to train on shows weighs nothing."""
    (tmp_path / "classes.txt").write_text("0 paper\n1 ink\n2 gold\n9 ignore\n")
    for i in range(5):
        values = np.full((8, 10), 9, np.uint8)
        values[:, :5] = 0
        values[:4, 0] = 1
        if i == 4:
            values[0] = 2
        for name in ("images", "masks"):
            save(tmp_path / name / f"{i}.png", values)
    data = data_for(Config("unet", data=str(tmp_path), size=8, balance=True))
    assert data.weights == pytest.approx((40 / (2 * 36), 40 / (2 * 4), 0.0))
    assert data.found.notes[-1] == "weights in the loss: paper 0.556, ink 5, gold 0"


def test_pages_are_counted() -> None:
    data = data_for(Config("unet", size=32, crops=1, balance=True))
    paper, *digits = data.weights
    assert 0.05 < paper < 0.2
    assert all(4 < weight < 20 for weight in digits)
    assert data_for(Config("unet", size=32, crops=1, balance=True, seed=1)).weights == data.weights


def test_a_rare_class_is_found_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of noise that are hard to tell apart: one of them is seldom to be seen in training."""
    for name in ("curves", "confusion", "predictions"):
        monkeypatch.setattr(pictures, name, lambda *arguments: None)
    generator = np.random.default_rng(0)
    for part, counts in {"train": (60, 6), "val": (30, 30)}.items():
        for label, count in zip(("common", "rare"), counts, strict=True):
            for i in range(count):
                noise = generator.integers(0, 200, (16, 16)) + (20 if label == "rare" else 0)
                file = tmp_path / "photos" / part / label / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise.astype(np.uint8)).save(file)
    recall = {}
    shared = {"data": str(tmp_path / "photos"), "examples": None, "augment": False, "epochs": 3, "batch_size": 22}
    for balance in (False, True):
        run = Run(tmp_path / str(balance))
        summary = train(tiny("lenet", balance=balance, **shared), run, Silent())
        recall[balance] = summary["recall"]["rare"]
    assert recall[True] > recall[False] + 0.3
