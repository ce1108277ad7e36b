"""What networks are trained for: the loss, the figures on held-out data, and the pictures. One class a task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from . import pictures
from .checkpoints import Checkpoint, CheckpointError
from .data import Data, Preprocess, Seeded
from .data.masks import IGNORED
from .diffusion import Diffusion
from .figures import by_label, ious, mean_of, of_classes, shares, write_confusion

Forward = Callable[..., Tensor]
Batches = Iterable[Any]
CLASSIFIERS = ("lenet", "resnet", "classifier")
Figures = dict[str, float | None]
"""By name; None where there is nothing to compute a figure from."""


class Task(Protocol):
    """What the training loop has to know."""

    data: Data
    key: str
    """The figure by which epochs are compared."""
    larger: bool
    """Whether more of it is better."""

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        """The mean over the samples of a batch."""
        ...

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device, part: str = "val") -> Figures:
        """Figures of a part of the data, of all processes together; their names begin with the part's."""
        ...

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        """Draw what the network does with held-out data, and say what else there is to say."""
        ...


def to(batch: Any, device: torch.device) -> Any:
    return [t.to(device, non_blocking=True) for t in batch]


def _mean(device: torch.device) -> MeanMetric:
    """The mean over what all processes saw; it is NaN if something was, which torchmetrics would leave out."""
    return MeanMetric(nan_strategy=math.nan).to(device)


def _draw_confusion(counts: Tensor, labels: Sequence[str], folder: Path) -> None:
    """A confusion matrix (K, K), to look at and to compute with."""
    pictures.confusion(counts, labels, folder / "confusion.png")
    write_confusion(counts, labels, folder / "confusion.csv")


class Classification:
    """One class an image.

    Args:
        data: images and their classes.
        criterion: torch's `nll_loss` or `cross_entropy`.
        weights: of the classes in the loss of training, (K,), on the network's device; all weigh the same without them. The
            loss of held-out data does not know them, so that runs can be compared by it.
    """

    key, larger = "val_accuracy", True

    def __init__(self, data: Data, criterion: Callable[..., Tensor], weights: Tensor | None = None) -> None:
        self.data, self.criterion, self.weights = data, criterion, weights
        self.classes = len(data.labels)

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        x, y = batch
        if self.weights is None:
            return self.criterion(forward(x), y)
        # torch's weighted mean divides by the weights in the batch, which differ between the processes that share it
        return self.criterion(forward(x), y, weight=self.weights, reduction="none").mean()

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device, part: str = "val") -> Figures:
        loss = _mean(device)
        accuracy = MulticlassAccuracy(self.classes, average="micro").to(device)
        for batch in batches:
            x, y = to(batch, device)
            scores = forward(x).float()
            loss.update(self.criterion(scores, y), len(y))
            accuracy.update(scores, y)
        return {f"{part}_loss": float(loss.compute()), f"{part}_accuracy": float(accuracy.compute())}

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        matrix = MulticlassConfusionMatrix(self.classes, sync_on_compute=False)
        images, truth, guesses, sure = [], [], [], []
        for x, y in batches:
            p, guess = net(x.to(device)).float().softmax(1).max(1)
            matrix.update(guess.cpu(), y)
            images += list(self.data.preprocess.undo(x))
            truth += y.tolist()
            guesses += guess.tolist()
            sure += p.tolist()
        counts = matrix.compute()
        _draw_confusion(counts, self.data.labels, folder)
        wrong = sorted((i for i in range(len(truth)) if truth[i] != guesses[i]), key=lambda i: -sure[i])

        def draw(chosen: list[int], name: str) -> None:
            pictures.predictions(
                torch.stack([images[i] for i in chosen]) if chosen else torch.empty(0),
                [self.data.labels[truth[i]] for i in chosen],
                [self.data.labels[guesses[i]] for i in chosen],
                [sure[i] for i in chosen],
                folder / name,
            )

        draw(torch.linspace(0, len(truth) - 1, min(24, len(truth))).long().tolist(), "predictions.png")
        draw(wrong[:24], "mistakes.png")
        return {"held_out": len(truth), "wrong": len(wrong), **of_classes(counts, self.data.labels)}


def dice_loss(scores: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 |A B| / (|A| + |B|), softly, over the classes that an image shows: (N, K, H, W) and (N, H, W) to (N,).

    Classes that are not there do not count: theirs is 1 as soon as a few pixels hedge, which teaches a network of many classes
    to see none. Ignored pixels belong to no set; an image of nothing else has no loss.
    Source: F. Milletari, N. Navab, S.-A. Ahmadi, V-Net, 3DV 2016.
    """
    counted = (truth != IGNORED).unsqueeze(1)
    p = scores.softmax(1) * counted
    t = (F.one_hot(truth.clamp(min=0), scores.shape[1]).movedim(-1, 1) * counted).to(p.dtype)
    there = t.sum((2, 3))
    both, sizes = (p * t).sum((2, 3)), p.sum((2, 3)) + there
    shown = (there > 0).to(p.dtype)
    return ((1 - 2 * both / sizes.clamp(min=1)) * shown).sum(1) / shown.sum(1).clamp(min=1)


def pixel_loss(scores: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, the mean over the pixels of an image that are not ignored: (N, K, H, W) and (N, H, W) to (N,).

    An image of ignored pixels has no loss. Pixels count as their class weighs, (K,), if it does; the mean is by their number.
    """
    each = F.cross_entropy(scores, truth, weights, ignore_index=IGNORED, reduction="none")
    return each.flatten(1).sum(1) / (truth != IGNORED).flatten(1).sum(1).clamp(min=1)


class Segmentation:
    """One class a pixel: cross-entropy and Dice; the figure is the mean intersection over union of the classes that are there
    or predicted.

    Args:
        data: images and the classes of their pixels.
        weights: of the classes in the cross-entropy of training, (K,), on the network's device; all weigh the same without
            them, as they do in the Dice loss and in that of held-out data.
    """

    key, larger = "val_iou", True

    def __init__(self, data: Data, weights: Tensor | None = None) -> None:
        self.data, self.classes, self.weights = data, len(data.labels), weights

    @staticmethod
    def losses(scores: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Of every image: (N,). Means over pixels come before those over images, so that processes can share a batch."""
        return pixel_loss(scores, truth, weights) + dice_loss(scores, truth)

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        x, y = batch
        return self.losses(forward(x).float(), y, self.weights).mean()

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device, part: str = "val") -> Figures:
        loss = _mean(device)
        matrix = MulticlassConfusionMatrix(self.classes, ignore_index=IGNORED).to(device)
        for batch in batches:
            x, y = to(batch, device)
            scores = forward(x).float()
            loss.update(self.losses(scores, y), (y != IGNORED).flatten(1).any(1).float())
            matrix.update(scores.argmax(1), y)
        counts = matrix.compute()
        (accuracy,) = shares(counts.diagonal().sum()[None], counts.sum()[None])
        return {
            f"{part}_loss": float(loss.compute()),
            f"{part}_accuracy": accuracy,
            f"{part}_iou": mean_of(ious(counts)),
        }

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        matrix = MulticlassConfusionMatrix(self.classes, ignore_index=IGNORED, sync_on_compute=False)
        shown: list[tuple[Tensor, Tensor, Tensor]] = []
        for x, y in batches:
            guess = net(x.to(device)).argmax(1).cpu()
            matrix.update(guess, y)
            if len(shown) < 4:
                shown += zip(self.data.preprocess.undo(x), y, guess, strict=True)
        counts = matrix.compute()
        _draw_confusion(counts, self.data.labels, folder)
        images, truth, guesses = zip(*shown[:4], strict=True)
        pictures.overlays(
            images, truth, guesses, self.data.labels, folder / "overlays.png", given=self.data.colours
        )  # fmt: skip
        labels = self.data.labels
        said: dict[str, Any] = {"iou": by_label(labels, ious(counts)), **of_classes(counts, labels)}
        if self.classes == 2 and self.data.preprocess.channels == 1:
            said["threshold_iou"] = by_label(labels, threshold_iou(self.data))
        return said


def threshold_iou(data: Data) -> list[float | None]:
    """What a global threshold, chosen for each of two classes on the training images, reaches on the held-out ones; None of a
    class that they do not show."""

    def histograms(dataset: Dataset[Any]) -> Tensor:
        """Pixels of either class at each level; ignored ones are of none."""
        counts = torch.zeros(2, 256)
        for i in range(len(dataset)):  # type: ignore[arg-type]
            x, y = dataset[i]
            levels = (data.preprocess.undo(x)[0] * 255).round().long()
            counts += torch.stack([torch.bincount(levels[y == c], minlength=256).float() for c in (0, 1)])
        return counts

    def ious(counts: Tensor, c: int) -> Tensor:
        """Intersections over unions of class c, if all pixels up to a level, or (second row) all above it, are taken for it."""
        below, total = counts.cumsum(1), counts.sum(1, keepdim=True)
        taken = torch.stack([below, total - below])
        return taken[:, c] / (total[c] + taken[:, 1 - c]).clamp(min=1)

    # crops are drawn anew every time
    train, val = histograms(Seeded(data.train, seed=0)), histograms(data.val)
    return [
        float(ious(val, c).flatten()[ious(train, c).argmax()]) if val[c].any() else None for c in (0, 1)
    ]  # fmt: skip


class Noised(Dataset[Any]):
    """Images from -1 to 1 with a time and with noise, both drawn for the sample."""

    def __init__(self, dataset: Dataset[Any], steps: int) -> None:
        self.dataset, self.steps = dataset, steps

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        x = self.dataset[index][0]
        return x, torch.randint(self.steps, ()), torch.randn(x.shape)


class Denoising:
    """Image told from noise: the mean squared error of the velocity that the network says.

    Args:
        data: images, normalised to values from -1 to 1; there may be few to hold out, or none.
        diffusion: what is trained.
        judge: checkpoint of a classifier that says what it takes the samples for.

    Raises:
        CheckpointError: if the judge is no classifier, or says no probabilities.
    """

    key, larger = "val_loss", False

    def __init__(self, data: Data, diffusion: Diffusion, judge: str | None = None) -> None:
        steps = diffusion.steps

        def judged(dataset: Dataset[Any]) -> Dataset[Any]:
            return Seeded(Noised(dataset, steps), seed=0)

        test = None if data.test is None else judged(data.test)
        self.data = dataclasses.replace(data, train=Noised(data.train, steps), val=judged(data.val), test=test)
        self.diffuse = diffusion.diffuse
        self.judge = None if judge is None else Judge(Path(judge))
        if self.judge is not None:
            # what is wrong with it is said before the training
            self.judge(data.preprocess.undo(data.train[0][0])[None])

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        x, t, noise = batch
        noised, velocity = self.diffuse(x, t, noise)
        return F.mse_loss(forward(noised, t).float(), velocity)

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device, part: str = "val") -> Figures:
        loss = _mean(device)
        for batch in batches:
            loss.update(self.loss(forward, to(batch, device)), len(batch[0]))
        return {f"{part}_loss": float(loss.compute())}

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        assert isinstance(net, Diffusion)
        undo = self.data.preprocess.undo
        generator = torch.Generator().manual_seed(0)
        drawn = undo(net.sample(100, generator=generator).cpu())
        few = min(25, net.steps)
        quick = undo(net.sample(100, steps=few, eta=0.0, generator=generator).cpu())
        held_out = range(min(100, len(self.data.val)))  # type: ignore[arg-type]
        real = torch.stack([undo(self.data.val[i][0]) for i in held_out]) if held_out else drawn[:0]
        groups = {"real": real, f"DDPM, {net.steps} steps": drawn, f"DDIM, {few} steps": quick}
        pictures.samples(groups, folder / "samples.png")
        way = list(net.denoise(8, steps=few, eta=0.0, generator=torch.Generator().manual_seed(1)))
        stages = torch.stack([way[i] for i in torch.linspace(0, few - 1, 8).long().tolist()], dim=1)
        pictures.samples({"what it is taken for, step by step": undo(stages.flatten(0, 1).cpu())}, folder / "steps.png")
        if self.judge is None:
            return {}
        return {"recognised": {name: recognised(self.judge(images)) for name, images in groups.items() if len(images)}}


class Judge:
    """A classifier, to be asked for probabilities: images (N, C, H, W), values from 0 to 1, to (N, K).

    Raises:
        CheckpointError: if the file is of no classifier, does not take such images, or what it says is not finite.
    """

    def __init__(self, path: Path) -> None:
        checkpoint = Checkpoint.load(path)
        if checkpoint.net not in CLASSIFIERS:
            raise CheckpointError(f"`judge` (={path}): must be one of {', '.join(CLASSIFIERS)}, is {checkpoint.net}")
        self.path, self.net, self.prepare = path, checkpoint.model(), Preprocess(**checkpoint.preprocess)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        try:
            p: Tensor = self.net(self.prepare(images)).softmax(1)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"`judge` (={self.path}): {str(error).splitlines()[0]}") from error
        if not p.isfinite().all():
            raise CheckpointError(f"`judge` (={self.path}): says probabilities that are not finite")
        return p


def recognised(probabilities: Tensor, confidence: float = 0.9) -> float:
    """The share of images whose largest probability, of (N, K), exceeds `confidence`."""
    return float((probabilities.amax(1) > confidence).float().mean())
