"""Losses and figures of the tasks, against what follows from their definitions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from torchops.models import Checkpoint, CheckpointError, build
from torchops.models.data import Data, Preprocess
from torchops.models.data.masks import IGNORED
from torchops.models.diffusion import Diffusion
from torchops.models.tasks import Classification, Denoising, Segmentation, dice_loss, pixel_loss, threshold_iou

from .rounding import counted


def segmented(classes: int) -> Data:
    """No data, of so many classes."""
    return Data(TensorDataset(), TensorDataset(), tuple("abcdefgh"[:classes]), Preprocess(1, None, (0.0,), (1.0,)))


def scores_of(p: Tensor) -> Tensor:
    """Scores whose softmax is p: (N, K, H, W)."""
    return p.clamp(min=1e-30).log()


def test_dice_is_that_of_the_sets_where_the_network_is_sure() -> None:
    truth = torch.tensor([[[0, 0, 0, 1], [0, 2, 2, 1]]])
    guess = torch.tensor([[[0, 0, 1, 1], [0, 2, 0, 1]]])
    p = torch.nn.functional.one_hot(guess, 3).movedim(-1, 1).float()
    # 3 of 4 and 4, 2 of 2 and 3, 1 of 2 and 1
    expected = 1 - (6 / 8 + 4 / 5 + 2 / 3) / 3
    torch.testing.assert_close(dice_loss(scores_of(p), truth), torch.tensor([expected]))
    torch.testing.assert_close(dice_loss(scores_of(p), guess), torch.tensor([0.0]))


def test_dice_counts_the_classes_that_an_image_shows_and_no_others() -> None:
    """A pixel that hedges between ten classes costs what it misses of its own, not one for each of the others."""
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[:, :4] = 1
    sure = torch.nn.functional.one_hot(truth, 11).movedim(-1, 1).float()
    hedged = sure * 0.5 + 0.5 / 11
    # its half of 64 pixels, and of the sum over the class 32
    share = 32 * (0.5 + 0.5 / 11)
    expected = 1 - 2 * share / (32 + share + 32 * 0.5 / 11)
    torch.testing.assert_close(dice_loss(scores_of(hedged), truth), torch.tensor([expected]))


def test_cross_entropy_is_torchs_where_nothing_is_ignored() -> None:
    scores, truth = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    torch.testing.assert_close(pixel_loss(scores, truth).mean(), torch.nn.functional.cross_entropy(scores, truth))


@pytest.mark.parametrize("losses", [dice_loss, pixel_loss])
def test_ignored_pixels_are_as_if_they_were_not_there(losses: Callable[[Tensor, Tensor], Tensor]) -> None:
    """An image of which a part is ignored has the loss of the rest; of nothing else, none."""
    scores, truth = torch.randn(3, 4, 6, 5, requires_grad=True), torch.randint(0, 4, (3, 6, 5))
    expected = torch.stack(
        [losses(scores[:1, :, 2:], truth[:1, 2:])[0], torch.zeros(()), losses(scores[2:], truth[2:])[0]]
    )
    truth[0, :2] = IGNORED
    truth[1] = IGNORED
    found = losses(scores, truth)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert gradient.isfinite().all()
    assert not gradient[0, :, :2].any()
    assert not gradient[1].any()
    assert gradient[0, :, 2:].all()


@pytest.mark.parametrize("losses", [dice_loss, pixel_loss])
def test_losses_are_those_of_every_image(losses: Callable[[Tensor, Tensor], Tensor]) -> None:
    """So that processes with a part of the batch each have its mean, however many pixels are ignored in which part."""
    scores, truth = torch.randn(4, 3, 5, 5), torch.randint(-1, 3, (4, 5, 5))
    truth[0] = 2
    truth[3, :4] = IGNORED
    apart = torch.cat([losses(scores[i : i + 1], truth[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(losses(scores, truth), apart)
    task = Segmentation(segmented(3))
    halves = [float(task.loss(lambda x: x, (scores[part], truth[part]))) for part in (slice(2), slice(2, 4))]
    assert sum(halves) / 2 == pytest.approx(float(task.loss(lambda x: x, (scores, truth))), rel=1e-6)


def test_dice_has_a_gradient_where_a_class_has_no_probability_left() -> None:
    scores = torch.full((1, 3, 4, 4), -200.0)
    scores[:, 0] = 200.0
    scores.requires_grad_()
    loss = dice_loss(scores, torch.zeros(1, 4, 4, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_threshold_is_the_best_of_all_levels_and_both_directions() -> None:
    torch.manual_seed(0)
    levels, truth = torch.randint(0, 256, (2, 1, 12, 12)), torch.randint(0, 2, (2, 12, 12))
    # the class 1 is brighter, most of the time
    levels = (levels + 60 * truth.unsqueeze(1)).clamp(max=255)
    preprocess = Preprocess(1, None, (0.4,), (0.3,))
    dataset = TensorDataset(preprocess.normalize(levels / 255), truth)
    data = Data(dataset, dataset, ("dark", "bright"), preprocess)

    def iou(taken: Tensor, there: Tensor) -> float:
        return float((taken & there).sum() / (taken | there).sum().clamp(min=1))

    flat, labels = levels.flatten(), truth.flatten()
    for c, found in enumerate(threshold_iou(data)):
        best = max(iou(side, labels == c) for t in range(256) for side in (flat <= t, flat > t))
        assert abs(found - best) < 1e-4


def test_bounds_of_counted_figures_hold_whichever_way_a_close_pixel_falls() -> None:
    """And are the figures themselves where none is close."""
    torch.manual_seed(0)
    truth = torch.randint(0, 3, (2, 5, 5))
    scores = torch.randn(2, 4, 5, 5) + 0.5 * torch.nn.functional.one_hot(truth, 4).movedim(-1, 1)

    def figures(scores: Tensor) -> dict[str, Any]:
        return Segmentation(segmented(4)).evaluate(lambda x: x, [(scores, truth)], torch.device("cpu"))

    for name, (least, most) in counted(scores, truth, 0.0).items():
        assert least == most
        assert abs(figures(scores)[name] - least) < 1e-6
    bounds, seen = counted(scores, truth, 0.4), []
    for _ in range(200):
        seen.append(figures(scores + 0.4 * torch.rand_like(scores)))
        for name, (least, most) in bounds.items():
            assert least - 1e-6 <= seen[-1][name] <= most + 1e-6
    assert len({row["val_accuracy"] for row in seen}) > 3


# class 0 has 2 of 3, 1 has 1 of 3 (and a pixel more is ignored), 2 is guessed and not there, 3 is neither, 4 is there only
TRUTH = torch.tensor([[[0, 0, 1, 1]], [[IGNORED, 0, 4, IGNORED]]])
GUESS = torch.tensor([[[0, 1, 1, 2]], [[1, 0, 0, 3]]])


def test_figures_are_those_of_the_definition() -> None:
    """A class that is neither there nor guessed has no figure, and no part in the mean; ignored pixels count nowhere."""
    scores = 5 * nn.functional.one_hot(GUESS, 5).movedim(-1, 1).float()
    task = Segmentation(segmented(5))
    # in batches of one image each
    batches = [(scores[i : i + 1], TRUTH[i : i + 1]) for i in (0, 1)]
    found = task.evaluate(lambda x: x, batches, torch.device("cpu"), part="test")
    losses = pixel_loss(scores, TRUTH) + dice_loss(scores, TRUTH)
    assert found == pytest.approx(
        {"test_loss": float(losses.mean()), "test_accuracy": 3 / 6, "test_iou": (2 / 4 + 1 / 3) / 4}, rel=1e-6
    )
    # an image that is ignored as a whole has no part in the loss either
    batches.append((scores[:1], torch.full((1, 1, 4), IGNORED)))
    assert task.evaluate(lambda x: x, batches, torch.device("cpu"), part="test") == found
    nothing = task.evaluate(lambda x: x, batches[2:], torch.device("cpu"))
    assert (nothing["val_accuracy"], nothing["val_iou"]) == (None, None)


def test_figures_of_two_processes_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process sees other classes than the other one; threads stand for processes, and meet where torchmetrics gathers."""
    ranks, meeting, brought = threading.local(), threading.Barrier(2), [torch.empty(0)] * 2

    def gather(tensor: Tensor, group: object = None) -> list[Tensor]:
        brought[ranks.rank] = tensor
        meeting.wait(timeout=60)
        together = list(brought)
        meeting.wait(timeout=60)
        return together

    scores = 5 * nn.functional.one_hot(GUESS, 5).movedim(-1, 1).float()
    task, device = Segmentation(segmented(5)), torch.device("cpu")
    expected = task.evaluate(lambda x: x, [(scores, TRUTH)], device)
    monkeypatch.setattr("torchmetrics.metric.gather_all_tensors", gather)
    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)

    def evaluate(rank: int) -> dict[str, Any]:
        ranks.rank = rank
        return task.evaluate(lambda x: x, [(scores[rank : rank + 1], TRUTH[rank : rank + 1])], device)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(evaluate, (0, 1)):
            assert found == pytest.approx(expected, rel=1e-6)


def test_a_loss_of_nan_is_not_left_out() -> None:
    scores = torch.zeros(2, 3, 4, 4)
    scores[1] = torch.nan
    found = Segmentation(segmented(3)).evaluate(
        lambda x: x, [(scores, torch.zeros(2, 4, 4, dtype=torch.int64))], torch.device("cpu")
    )
    assert str(found["val_loss"]) == "nan"


def test_a_run_of_masks_says_what_there_is(tmp_path: Path) -> None:
    """Of a class that the held-out images do not show, nothing."""
    images = torch.zeros(2, 3, 1, 4)
    truth = TRUTH.clone()
    scores = 5 * nn.functional.one_hot(GUESS, 5).movedim(-1, 1).float()
    data = Data(TensorDataset(), TensorDataset(), tuple("abcde"), Preprocess(3, None, (0.0,), (1.0,)))
    answers = iter(scores.split(1))

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return next(answers)

    batches = [(images[i : i + 1], truth[i : i + 1]) for i in (0, 1)]
    said = Segmentation(data).finish(Net(), batches, tmp_path, torch.device("cpu"))
    assert said.pop("iou") == {"a": 0.5, "b": 0.3333, "c": 0.0, "d": None, "e": 0.0}
    assert said == {
        "precision": {"a": 0.6667, "b": 0.5, "c": 0.0, "d": None, "e": None},
        "recall": {"a": 0.6667, "b": 0.5, "c": None, "d": None, "e": 0.0},
        "f1": {"a": 0.6667, "b": 0.5, "c": 0.0, "d": None, "e": 0.0},
        "macro_precision": 0.3889,
        "macro_recall": 0.3889,
        "macro_f1": 0.2917,
    }
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "confusion.csv", "overlays.png"}


def test_recall_of_a_class_without_images_is_none(tmp_path: Path) -> None:
    data = Data(TensorDataset(), TensorDataset(), ("a", "b", "c"), Preprocess(1, None, (0.0,), (1.0,)))
    x = torch.eye(3)[[0, 0, 2]].reshape(3, 1, 1, 3)
    task = Classification(data, nn.CrossEntropyLoss())
    said = task.finish(nn.Flatten(), [(x, torch.tensor([0, 0, 0]))], tmp_path, torch.device("cpu"))
    assert (said["held_out"], said["wrong"]) == (3, 1)
    assert said["recall"] == {"a": 0.6667, "b": None, "c": None}
    assert said["precision"] == {"a": 1.0, "b": None, "c": 0.0}
    found = task.evaluate(nn.Flatten(), [(x, torch.tensor([0, 0, 0]))], torch.device("cpu"), part="test")
    assert found.keys() == {"test_loss", "test_accuracy"}


def test_threshold_of_a_class_that_is_not_held_out_is_none() -> None:
    """And ignored pixels are of neither class."""
    preprocess = Preprocess(1, None, (0.4,), (0.3,))
    levels = torch.tensor([10, 10, 200, 200, 90]).view(1, 1, 1, 5)
    truth = torch.tensor([0, 0, 1, 1, IGNORED]).view(1, 1, 5)
    train = TensorDataset(preprocess.normalize(levels / 255), truth)
    val = TensorDataset(preprocess.normalize(levels / 255), truth.clamp(max=0))
    assert threshold_iou(Data(train, train, ("dark", "bright"), preprocess)) == [1.0, 1.0]
    assert threshold_iou(Data(train, val, ("dark", "bright"), preprocess)) == [0.5, None]


def noise(count: int) -> Data:
    dataset = TensorDataset(torch.rand(count, 1, 8, 8) * 2 - 1)
    return Data(TensorDataset(torch.rand(4, 1, 8, 8)), dataset, (), Preprocess(1, 8), test=dataset)


def diffusion() -> Diffusion:
    net = build("diffusion", width=8, depth=1, steps=3, embedding=8, size=8, channels=1)
    assert isinstance(net, Diffusion)
    return net.eval()


@pytest.mark.parametrize("count", [0, 3])
def test_few_images_to_tell_from_noise(count: int, tmp_path: Path) -> None:
    net = diffusion()
    task = Denoising(noise(count), net)
    with torch.no_grad():
        assert task.finish(net, [], tmp_path, torch.device("cpu")) == {}
        assert task.data.test is not None
        if count:
            batches = [[part[None] for part in task.data.test[i]] for i in range(count)]
            found = task.evaluate(net, batches, torch.device("cpu"), part="test")
            assert found.keys() == {"test_loss"}


def judge(path: Path, net: str = "lenet", *, channels: int = 3, nan: bool = False, size: int = 16) -> str:
    """A checkpoint of a network of three classes that has learnt nothing."""
    options = {"classes": 3, "channels": channels, **({"size": 16} if net == "lenet" else {})}
    state = build(net, **options).state_dict()
    if nan:
        state = {name: torch.full_like(t, torch.nan) if t.is_floating_point() else t for name, t in state.items()}
    Checkpoint(net, options, state, ["a", "b", "c"], Preprocess(channels, size).as_dict()).save(path)
    return str(path)


def test_a_judge_may_want_other_channels_and_sizes(tmp_path: Path) -> None:
    net = diffusion()
    task = Denoising(noise(2), net, judge(tmp_path / "judge.pt"))
    with torch.no_grad():
        said = task.finish(net, [], tmp_path, torch.device("cpu"))
    assert said["recognised"].keys() == {"real", "DDPM, 3 steps", "DDIM, 3 steps"}
    assert all(0 <= share <= 1 for share in said["recognised"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net": "unet"}, "must be one of lenet, resnet, classifier, is unet"),
        ({"nan": True}, "NaN|not finite"),
        ({"size": 20}, "`judge`"),
    ],
    ids=["no classifier", "NaN", "size that does not fit"],
)  # fmt: skip
def test_a_judge_that_cannot_is_refused_before_the_training(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = judge(tmp_path / "judge.pt", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        Denoising(noise(2), diffusion(), path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
