"""What networks are trained for: the loss, the figures on held-out data, and the pictures. One class a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex

from . import pictures
from .checkpoints import Checkpoint
from .data import Data, Preprocess, Seeded
from .diffusion import Diffusion

Forward = Callable[..., Tensor]
Batches = Iterable[Any]
Figures = dict[str, float]


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

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device) -> Figures:
        """Figures of the held-out data, of all processes together."""
        ...

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        """Draw what the network does with held-out data, and say what else there is to say."""
        ...


def to(batch: Any, device: torch.device) -> Any:
    return [t.to(device, non_blocking=True) for t in batch]


class Classification:
    """One class an image."""

    key, larger = "val_accuracy", True

    def __init__(self, data: Data, criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.data, self.criterion = data, criterion
        self.classes = len(data.labels)

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        x, y = batch
        return self.criterion(forward(x), y)

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device) -> Figures:
        loss = MeanMetric().to(device)
        accuracy = MulticlassAccuracy(self.classes, average="micro").to(device)
        for batch in batches:
            x, y = to(batch, device)
            scores = forward(x).float()
            loss.update(self.criterion(scores, y), len(y))
            accuracy.update(scores, y)
        return {"val_loss": float(loss.compute()), "val_accuracy": float(accuracy.compute())}

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
        pictures.confusion(counts, self.data.labels, folder / "confusion.png")
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
        recall = counts.diagonal() / counts.sum(1).clamp(min=1)
        return {
            "held_out": len(truth),
            "wrong": len(wrong),
            "recall": {label: round(float(r), 4) for label, r in zip(self.data.labels, recall, strict=True)},
        }


def dice_loss(scores: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 |A B| / (|A| + |B|), softly, over the classes that an image shows: (N, K, H, W) and (N, H, W) to the mean over N.

    Classes that are not there do not count: theirs is 1 as soon as a few pixels hedge, which teaches a network of many classes
    to see none. Source: F. Milletari, N. Navab, S.-A. Ahmadi, V-Net, 3DV 2016.
    """
    p = scores.softmax(1)
    t = F.one_hot(truth, scores.shape[1]).movedim(-1, 1).to(p.dtype)
    there = t.sum((2, 3))
    both, sizes = (p * t).sum((2, 3)), p.sum((2, 3)) + there
    shown = (there > 0).to(p.dtype)
    return ((1 - 2 * both / sizes.clamp(min=1)) * shown).sum(1).div(shown.sum(1)).mean()


class Segmentation:
    """One class a pixel: cross-entropy and Dice; the figure is the mean intersection over union."""

    key, larger = "val_iou", True

    def __init__(self, data: Data) -> None:
        self.data, self.classes = data, len(data.labels)

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        x, y = batch
        scores = forward(x).float()
        return F.cross_entropy(scores, y) + dice_loss(scores, y)

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device) -> Figures:
        loss = MeanMetric().to(device)
        accuracy = MulticlassAccuracy(self.classes, average="micro").to(device)
        iou = MulticlassJaccardIndex(self.classes, average="macro").to(device)
        for batch in batches:
            x, y = to(batch, device)
            scores = forward(x).float()
            loss.update(F.cross_entropy(scores, y) + dice_loss(scores, y), len(y))
            guess = scores.argmax(1)
            accuracy.update(guess, y)
            iou.update(guess, y)
        return {
            "val_loss": float(loss.compute()),
            "val_accuracy": float(accuracy.compute()),
            "val_iou": float(iou.compute()),
        }

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        matrix = MulticlassConfusionMatrix(self.classes, sync_on_compute=False)
        shown: list[tuple[Tensor, Tensor, Tensor]] = []
        for x, y in batches:
            guess = net(x.to(device)).argmax(1).cpu()
            matrix.update(guess, y)
            if len(shown) < 4:
                shown += zip(self.data.preprocess.undo(x), y, guess, strict=True)
        counts = matrix.compute()
        pictures.confusion(counts, self.data.labels, folder / "confusion.png")
        images, truth, guesses = zip(*shown[:4], strict=True)
        pictures.overlays(images, truth, guesses, self.data.labels, folder / "overlays.png")
        both = counts.diagonal()
        iou = both / (counts.sum(0) + counts.sum(1) - both).clamp(min=1)
        said: dict[str, Any] = {"iou": {k: round(float(v), 4) for k, v in zip(self.data.labels, iou, strict=True)}}
        if self.classes == 2 and self.data.preprocess.channels == 1:
            said["threshold_iou"] = dict(zip(self.data.labels, threshold_iou(self.data), strict=True))
        return said


def threshold_iou(data: Data) -> list[float]:
    """What a global threshold, chosen for each of two classes on the training images, reaches on the held-out ones."""

    def histograms(dataset: Dataset[Any]) -> Tensor:
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

    train, val = histograms(data.train), histograms(data.val)
    return [round(float(ious(val, c).flatten()[ious(train, c).argmax()]), 4) for c in (0, 1)]


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
        judge: checkpoint of a classifier that says what it takes the samples for.
    """

    key, larger = "val_loss", False

    def __init__(self, data: Data, diffusion: Diffusion, judge: str | None = None) -> None:
        steps = diffusion.steps
        val = Seeded(Noised(data.val, steps), seed=0)
        self.data = Data(Noised(data.train, steps), val, data.labels, data.preprocess)
        self.diffuse, self.judge = diffusion.diffuse, judge

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        x, t, noise = batch
        noised, velocity = self.diffuse(x, t, noise)
        return F.mse_loss(forward(noised, t).float(), velocity)

    def evaluate(self, forward: Forward, batches: Batches, device: torch.device) -> Figures:
        loss = MeanMetric().to(device)
        for batch in batches:
            loss.update(self.loss(forward, to(batch, device)), len(batch[0]))
        return {"val_loss": float(loss.compute())}

    def finish(self, net: nn.Module, batches: Batches, folder: Path, device: torch.device) -> dict[str, Any]:
        assert isinstance(net, Diffusion)
        undo = self.data.preprocess.undo
        generator = torch.Generator().manual_seed(0)
        drawn = undo(net.sample(100, generator=generator).cpu())
        few = min(25, net.steps)
        quick = undo(net.sample(100, steps=few, eta=0.0, generator=generator).cpu())
        real = torch.stack([undo(self.data.val[i][0]) for i in range(min(100, len(self.data.val)))])  # type: ignore[arg-type]
        groups = {"real": real, f"DDPM, {net.steps} steps": drawn, f"DDIM, {few} steps": quick}
        pictures.samples(groups, folder / "samples.png")
        way = list(net.denoise(8, steps=few, eta=0.0, generator=torch.Generator().manual_seed(1)))
        stages = torch.stack([way[i] for i in torch.linspace(0, few - 1, 8).long().tolist()], dim=1)
        pictures.samples({"what it is taken for, step by step": undo(stages.flatten(0, 1).cpu())}, folder / "steps.png")
        if self.judge is None:
            return {}
        return {"recognised": {name: recognised(images, self.judge) for name, images in groups.items()}}


def recognised(images: Tensor, judge: str, confidence: float = 0.9) -> float:
    """The share of images, values from 0 to 1, for which a classifier's largest probability exceeds `confidence`."""
    checkpoint = Checkpoint.load(Path(judge))
    with torch.no_grad():
        x = Preprocess(**checkpoint.preprocess)(images)
        return float((checkpoint.model()(x).softmax(1).amax(1) > confidence).float().mean())
