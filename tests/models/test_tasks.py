"""Losses and figures of the tasks, against what follows from their definitions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from torchops.models.data import Data, Preprocess
from torchops.models.tasks import Segmentation, dice_loss, threshold_iou

from .rounding import counted


def scores_of(p: Tensor) -> Tensor:
    """Scores whose softmax is p: (N, K, H, W)."""
    return p.clamp(min=1e-30).log()


def test_dice_is_that_of_the_sets_where_the_network_is_sure() -> None:
    truth = torch.tensor([[[0, 0, 0, 1], [0, 2, 2, 1]]])
    guess = torch.tensor([[[0, 0, 1, 1], [0, 2, 0, 1]]])
    p = torch.nn.functional.one_hot(guess, 3).movedim(-1, 1).float()
    # 3 of 4 and 4, 2 of 2 and 3, 1 of 2 and 1
    expected = 1 - (6 / 8 + 4 / 5 + 2 / 3) / 3
    torch.testing.assert_close(dice_loss(scores_of(p), truth), torch.tensor(expected))
    torch.testing.assert_close(dice_loss(scores_of(p), guess), torch.tensor(0.0))


def test_dice_counts_the_classes_that_an_image_shows_and_no_others() -> None:
    """A pixel that hedges between ten classes costs what it misses of its own, not one for each of the others."""
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[:, :4] = 1
    sure = torch.nn.functional.one_hot(truth, 11).movedim(-1, 1).float()
    hedged = sure * 0.5 + 0.5 / 11
    # its half of 64 pixels, and of the sum over the class 32
    share = 32 * (0.5 + 0.5 / 11)
    expected = 1 - 2 * share / (32 + share + 32 * 0.5 / 11)
    torch.testing.assert_close(dice_loss(scores_of(hedged), truth), torch.tensor(expected))


def test_dice_is_the_mean_over_the_images() -> None:
    """So that processes with a part of the batch each have its mean."""
    scores, truth = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    truth[0] = 2
    apart = torch.stack([dice_loss(scores[i : i + 1], truth[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(dice_loss(scores, truth), apart.mean())


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
    data = Data(TensorDataset(), TensorDataset(), ("a", "b", "c", "not there"), Preprocess(1, None, (0.0,), (1.0,)))

    def figures(scores: Tensor) -> dict[str, float]:
        return Segmentation(data).evaluate(lambda x: x, [(scores, truth)], torch.device("cpu"))

    for name, (least, most) in counted(scores, truth, 0.0).items():
        assert least == most
        assert abs(figures(scores)[name] - least) < 1e-6
    bounds, seen = counted(scores, truth, 0.4), []
    for _ in range(200):
        seen.append(figures(scores + 0.4 * torch.rand_like(scores)))
        for name, (least, most) in bounds.items():
            assert least - 1e-6 <= seen[-1][name] <= most + 1e-6
    assert len({row["val_accuracy"] for row in seen}) > 3
