"""What a run looks like: curves, confusions, predictions beside the truth, overlays, samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torchvision.utils import draw_segmentation_masks

from torchops.files.plots import figure, save, show


def curves(rows: Sequence[Mapping[str, float]], key: str, path: Path) -> Path:
    """Loss of training and of the held-out data, and the figure that epochs are compared by, over the epochs."""
    drawn = figure(9, 3.4)
    left, right = drawn.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for name, label in (("train_loss", "training"), ("val_loss", "held out")):
        left.plot(epochs, [row[name] for row in rows], label=label, marker=".")
    left.set_ylabel("loss")
    left.set_yscale("log")
    left.legend()
    right.plot(epochs, [row[key] for row in rows], color="C1", marker=".")
    right.set_ylabel(f"{key.removeprefix('val_')}, held out")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return save(drawn, path)


def confusion(matrix: Tensor, labels: Sequence[str], path: Path) -> Path:
    """How often a class (row) was taken for another (column); the shade is the share of the row."""
    count = len(labels)
    drawn = figure(2.5 + 0.45 * count, 2 + 0.42 * count)
    axes = drawn.subplots()
    share = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    if count <= 30:
        for row in range(count):
            for column in range(count):
                number = int(matrix[row, column])
                if number:
                    colour = "white" if share[row, column] > 0.5 else "black"
                    axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(count), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(range(count), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    return save(drawn, path)


def predictions(
    images: Tensor, truth: Sequence[str], predicted: Sequence[str], probabilities: Sequence[float], path: Path
) -> Path:
    """Images (N, C, H, W) with what they were taken for; wrong ones in red, with the truth."""
    columns = min(8, max(4, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    drawn = figure(1.35 * columns, 1.7 * rows)
    grid = drawn.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    if not len(images):
        drawn.suptitle("none")
    for axes, image, right, guess, p in zip(grid, images, truth, predicted, probabilities, strict=False):
        wrong = guess != right
        title = f"{guess}, {p:.0%}\nis {right}" if wrong else f"{guess}, {p:.0%}\n"
        show(axes, image, title, fontsize=8, color="firebrick" if wrong else "black")
    return save(drawn, path)


def _colours(count: int) -> list[tuple[float, float, float]]:
    """Colours of so many classes are hues: gray is the image's. The first class, if more than two, is the background."""
    return [matplotlib.colormaps["hsv"](i / count)[:3] for i in range(count)]


def coloured(image: Tensor, classes: Tensor, count: int) -> Tensor:
    """An image (C, H, W) under the colours of its pixels' classes (H, W); the first class stays as it is if there are more
    than two, since it is the background then. Values from 0 to 1."""
    palette = [tuple(int(255 * part) for part in colour) for colour in _colours(count)]
    rgb = (image.expand(3, -1, -1) * 255).to(torch.uint8)
    first = 1 if count > 2 else 0
    masks = torch.stack([classes == i for i in range(first, count)])
    return draw_segmentation_masks(rgb, masks, alpha=0.6, colors=palette[first:]).float() / 255


def overlays(
    images: Sequence[Tensor], truth: Sequence[Tensor], predicted: Sequence[Tensor], labels: Sequence[str], path: Path
) -> Path:
    """Images beside the truth, what was predicted, and where the two differ."""
    drawn = figure(11, 2.9 * len(images) + 0.5)
    for row, (image, right, guess) in zip(
        drawn.subplots(len(images), 4, squeeze=False), zip(images, truth, predicted, strict=True), strict=True
    ):
        share = float((right == guess).float().mean())
        show(row[0], image, "image")
        show(row[1], coloured(image, right, len(labels)), "truth")
        show(row[2], coloured(image, guess, len(labels)), "predicted")
        show(row[3], (right != guess).float(), f"differ: {1 - share:.1%} of the pixels")
    handles = [
        matplotlib.patches.Patch(color=colour, label=label)
        for i, (label, colour) in enumerate(zip(labels, _colours(len(labels)), strict=True))
        if i or len(labels) <= 2
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=min(12, len(handles)))
    return save(drawn, path)


def samples(groups: Mapping[str, Tensor], path: Path) -> Path:
    """Grids of images (N, C, H, W) beside each other, one for each group."""
    drawn = figure(3.6 * len(groups), 3.9)
    for axes, (title, images) in zip(drawn.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        side = math.isqrt(len(images))
        _, c, h, w = images.shape
        tiles = torch.nn.functional.pad(images[: side * side], (1, 1, 1, 1), value=1.0)
        sheet = tiles.view(side, side, c, h + 2, w + 2).permute(2, 0, 3, 1, 4)
        show(axes, sheet.reshape(c, side * (h + 2), side * (w + 2)), title)
    return save(drawn, path)


def compared(
    losses: Mapping[str, Sequence[float]], seconds: Mapping[str, Sequence[float]], title: str, path: Path
) -> Path:
    """Losses step by step on top of each other, how far they are apart, and how long a step takes."""
    drawn = figure(12, 3.4)
    left, middle, right = drawn.subplots(1, 3)
    (one, other) = losses
    for name, width, style in ((one, 4.0, "-"), (other, 1.2, "--")):
        left.plot(losses[name], label=name, linewidth=width, linestyle=style)
    left.set_ylabel("loss")
    left.legend()
    middle.plot([abs(a - b) for a, b in zip(losses[one], losses[other], strict=True)], color="C2")
    middle.set_yscale("symlog", linthresh=1e-7)
    middle.set_ylabel("difference of the losses")
    right.boxplot([[1e3 * s for s in seconds[name]] for name in losses], tick_labels=list(losses), showfliers=False)
    right.set_ylabel("ms a step")
    for axes in (left, middle):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    drawn.suptitle(title)
    return save(drawn, path)
