"""What a run looks like: curves, confusions, predictions beside the truth, overlays, samples."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from torch import Tensor

from torchops.files import hues
from torchops.files.plots import WIDTH, figure, label, log_axis, number, save, show, style

from .colours import Colour, palette
from .data.masks import IGNORED

ALPHA = 0.6
"""How much of a pixel is the colour of its class."""
GRAY: Colour = (128, 128, 128)
"""The colour of pixels that do not count."""
NUMBERED, CELLS, TICKS, ENTRIES = 30, 48, 64, 40
"""A matrix of so many classes has numbers; it is never larger than one of so many, nor has more names at an axis; and a legend
has no more entries."""


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _values(rows: Sequence[Mapping[str, float | None]], name: str) -> list[float]:
    """A column of figures, NaN where there is none."""
    values = (row.get(name) for row in rows)
    return [v if v is not None and math.isfinite(v) else math.nan for v in values]


@style()
def curves(rows: Sequence[Mapping[str, float | None]], key: str, path: Path) -> Path:
    """Loss of training and of the held-out data, and the figure that epochs are compared by, over the epochs."""
    drawn = figure(WIDTH, 3)
    left, right = drawn.subplots(1, 2)
    epochs, logarithmic = _values(rows, "epoch"), False
    parts = ("train_loss", "training", hues.TRAINED), ("val_loss", "held out", hues.HELD_OUT)
    for name, what, colour in parts:
        losses = _values(rows, name)
        left.plot(epochs, losses, label=what, marker=".", color=colour)
        logarithmic |= any(loss > 0 for loss in losses)
    if logarithmic:
        log_axis(left.yaxis)
    left.set_ylabel("loss, logarithmic" if logarithmic else "loss")
    left.legend()
    right.plot(epochs, _values(rows, key), marker=".", color=hues.HELD_OUT)
    right.set_ylabel(f"{key.removeprefix('val_').replace('_', ' ')}, held out")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid()
    return save(drawn, path)


@style()
def confusion(matrix: Tensor, labels: Sequence[str], path: Path) -> Path:
    """How often a class (row) was taken for another (column); the shade is the share of the row."""
    count = len(labels)
    names = [label(text) for text in labels]
    longest = max(map(_columns, names))
    numbered, cells = count <= NUMBERED, min(count, CELLS)
    digits = len(str(int(matrix.max()))) if numbered else 1
    room, side = 0.085 * longest, cells * max(0.43, 0.1 + 0.07 * digits)
    drawn = figure(1.2 + room + side, 1.2 + (room if longest > 2 else 0.2) + side)
    axes = drawn.subplots()
    share = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    if numbered:
        for row in range(count):
            for column in range(count):
                number = int(matrix[row, column])
                if number:
                    colour = hues.PAPER if share[row, column] > 0.5 else hues.INK
                    axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)
    every = range(0, count, math.ceil(count / TICKS))
    shown, size = [names[i] for i in every], 10 * min(1.0, cells / len(every))
    axes.set_xticks(every, shown, rotation=90 if longest > 2 else 0, fontsize=size)
    axes.set_yticks(every, shown, fontsize=size)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title("images, shade: share of the row" if numbered else "shade: share of the row", fontsize=9)
    return save(drawn, path)


@style()
def predictions(
    images: Tensor, truth: Sequence[str], predicted: Sequence[str], probabilities: Sequence[float], path: Path
) -> Path:
    """Images (N, C, H, W) with what they were taken for; wrong ones in red, with the truth."""
    columns = min(6, max(4, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    drawn = figure(1.35 * columns, 1.7 * rows)
    grid = drawn.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    if not len(images):
        drawn.suptitle("none")
    for axes, image, right, guess, p in zip(grid, images, truth, predicted, probabilities, strict=False):
        wrong = guess != right
        sure = f"{p:.0%}" if math.isfinite(p) else "n/a"
        # a title is no wider than its image
        title = f"{label(guess, 13)}, {sure}\n" + (f"is {label(right, 15)}" if wrong else "")
        show(axes, image, title, fontsize=8.5, color=hues.LOSS if wrong else hues.INK)
    return save(drawn, path)


def coloured(image: Tensor, classes: Tensor, count: int, given: Sequence[Sequence[int]] = ()) -> Tensor:
    """An image (C, H, W) under the colours of its pixels' classes (H, W); the first class stays as it is if there are more
    than two, since it is the background then. Values from 0 to 1."""
    # the class of an ignored pixel, -1, is the last
    colours = torch.tensor([*palette(count, given), GRAY]) / 255
    tint = colours[classes].movedim(-1, 0)
    alpha = torch.where(classes == 0, 0.0, ALPHA) if count > 2 else ALPHA
    return image * (1 - alpha) + tint * alpha


def _patch(colour: Colour, text: str) -> Patch:
    r, g, b = colour
    return Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor=hues.GRAY, linewidth=0.5, label=text)


@style()
def overlays(
    images: Sequence[Tensor], truth: Sequence[Tensor], predicted: Sequence[Tensor], labels: Sequence[str], path: Path,
    given: Sequence[Sequence[int]] = (),
) -> Path:  # fmt: skip
    """Images beside the truth, what was predicted, and where the two differ; ignored pixels are gray, and do not count.

    Args:
        given: the colours of the classes; :func:`palette` by default.
    """
    count = len(labels)
    seen = set(torch.cat([t.flatten() for t in (*truth, *predicted)]).unique().tolist())
    # a legend of many classes is that of the classes to be seen
    entries = [i for i in range(count) if (i or count <= 2) and (count <= ENTRIES or i in seen)]
    colours = palette(count, given)
    handles = [_patch(colours[i], label(labels[i])) for i in entries[:ENTRIES]]
    if IGNORED in seen:
        handles.append(_patch(GRAY, "ignored"))
    if len(entries) > ENTRIES:
        handles.append(Patch(alpha=0, label=f"and {len(entries) - ENTRIES} more"))
    longest = max((_columns(str(handle.get_label())) for handle in handles), default=0)
    across = max(1, min(12, len(handles), int(7.6 / (0.62 + 0.08 * longest))))
    drawn = figure(WIDTH, 2.2 * len(images) + 0.3 + 0.22 * math.ceil(len(handles) / across))
    for row, (image, right, guess) in zip(
        drawn.subplots(len(images), 4, squeeze=False), zip(images, truth, predicted, strict=True), strict=True
    ):
        counts, differ = right != IGNORED, right != guess
        share = f"{float(differ[counts].float().mean()):.1%} of the pixels" if counts.any() else "n/a"
        show(row[0], image, "image")
        show(row[1], coloured(image, right, count, given), "truth")
        show(row[2], coloured(image, guess, count, given), "predicted")
        show(row[3], torch.where(counts, differ.float(), 0.5), f"differ: {share}")
    if handles:
        drawn.legend(handles=handles, loc="outside lower center", ncols=across)
    return save(drawn, path)


@style()
def samples(groups: Mapping[str, Tensor], path: Path) -> Path:
    """Grids of images (N, C, H, W) beside each other, one for each group that has images."""
    groups = {title: images for title, images in groups.items() if len(images)}
    drawn = figure(2.7 * max(1, len(groups)), 3.05)
    if not groups:
        drawn.suptitle("none")
        return save(drawn, path)
    for axes, (title, images) in zip(drawn.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        side = math.ceil(math.sqrt(len(images)))
        count, c, h, w = images.shape
        tiles = torch.nn.functional.pad(images, (1, 1, 1, 1, 0, 0, 0, side * side - count), value=1.0)
        sheet = tiles.view(side, side, c, h + 2, w + 2).permute(2, 0, 3, 1, 4)
        show(axes, sheet.reshape(c, side * (h + 2), side * (w + 2)), title)
    return save(drawn, path)


@style()
def compared(
    losses: Mapping[str, Sequence[float]], seconds: Mapping[str, Sequence[float]], title: str, path: Path
) -> Path:
    """Losses step by step on top of each other, how far they are apart, and how long a step takes."""
    drawn = figure(WIDTH, 2.9)
    left, middle, right = drawn.subplots(1, 3)
    (one, other) = losses
    lines = (one, 4.0, "-", hues.OTHERS), (other, 1.2, "--", hues.OURS)
    for name, width, dashes, colour in lines:
        left.plot(losses[name], label=name, linewidth=width, linestyle=dashes, color=colour)
    left.set_ylabel("loss")
    left.legend()
    middle.plot([abs(a - b) for a, b in zip(losses[one], losses[other], strict=True)], color=hues.INK, linewidth=1)
    middle.set_yscale("symlog", linthresh=1e-7)
    middle.set_ylim(bottom=0)
    middle.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    middle.yaxis.set_minor_locator(NullLocator())
    middle.set_ylabel("difference of the losses")
    boxes = right.boxplot(
        [[1e3 * s for s in seconds[name]] for name in losses], tick_labels=list(losses), showfliers=False,
        medianprops={"color": hues.INK}, patch_artist=True, widths=0.5,
    )  # fmt: skip
    for box, (*_, colour) in zip(boxes["boxes"], lines, strict=True):
        box.set(facecolor=hues.pale(colour, 0.5), edgecolor=colour)
    right.set_ylim(bottom=0)
    right.set_ylabel("ms a step, measured")
    right.grid(axis="y")
    for axes in (left, middle):
        axes.set_xlabel("step")
        axes.grid()
    drawn.suptitle(title)
    return save(drawn, path)
