"""Pictures of the inside of networks: filters, feature maps, Grad-CAM, receptive fields. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch import Tensor

from torchops.files import hues
from torchops.files.plots import figure, label, save, show, style

from .fields import Field

MOST_FILTERS, MOST_MAPS, ACROSS = 64, 16, 8
"""So many filters are drawn, so many maps of a layer, and so many of either beside each other."""
AROUND_ZERO, FROM_ZERO, HEAT = "RdBu_r", "viridis", "inferno"
NAME = 24
"""Characters of a layer's name."""


@style()
def draw_filters(weight: Tensor, layer: str, path: Path) -> Path:
    """Filters (K, C, R, S) on one scale, which ends at the largest absolute value of all.

    Three channels are red, green and blue, gray is 0; of others it is the mean that is drawn, red above 0 and blue below.
    """
    count, channels = weight.shape[:2]
    shown = weight[:MOST_FILTERS]
    colour = channels == 3
    shown = shown if colour else shown.mean(1, keepdim=True)
    largest = float(shown.abs().max()) or 1.0
    # the sheet is about as wide as high, and its rows are full if they can be
    least = min(ACROSS, math.ceil(math.sqrt(len(shown))))
    across = next((n for n in range(least, ACROSS + 1) if len(shown) % n == 0), least)
    sheet, _ = _sheet(shown, across)
    height, width = sheet.shape[1:]
    drawn = figure(0.66 * across + 1.4, 0.66 * across * height / width + 0.8)
    axes = drawn.subplots()
    if colour:
        show(axes, (sheet / (2 * largest) + 0.5).nan_to_num(1.0))
    else:
        axes.imshow(sheet[0].numpy(), cmap=AROUND_ZERO, vmin=-largest, vmax=largest, interpolation="nearest")
        axes.set_axis_off()
    scale = ScalarMappable(Normalize(-largest, largest), "gray" if colour else AROUND_ZERO)
    what = "weight, of red, green, blue each" if colour else "weight" if channels == 1 else f"mean of {channels}"
    drawn.colorbar(scale, ax=axes, label=what, shrink=0.9, aspect=30)
    size = " x ".join(map(str, weight.shape[2:]))
    drawn.suptitle(f"{label(layer, NAME)}: {len(shown)} of {count} filters, {size}")
    return save(drawn, path)


@style()
def draw_maps(maps: Mapping[str, Tensor], path: Path) -> Path:
    """The strongest channels of layers' maps (C, H, W), those with the largest mean absolute value; each layer on one scale."""
    most = MOST_MAPS if len(maps) <= 3 else ACROSS
    strongest = {
        name: map_.abs().mean((1, 2)).argsort(descending=True, stable=True)[:most] for name, map_ in maps.items()
    }
    sheets = {name: _sheet(maps[name][channels, None], ACROSS, 0.2) for name, channels in strongest.items()}
    # maps of long images stay long in rows that can be seen
    shares = [max(0.05, min(2.0, sheet.shape[1] / sheet.shape[2])) for sheet, _ in sheets.values()]
    drawn = figure(0.66 * ACROSS + 2.7, 0.66 * ACROSS * sum(shares) + 0.2 * len(maps) + 0.2)
    rows = drawn.subplots(len(maps), 1, height_ratios=shares, squeeze=False)[:, 0]
    for axes, (name, map_) in zip(rows, maps.items(), strict=True):
        (sheet, corners), channels = sheets[name], strongest[name].tolist()
        largest, negative = float(map_[channels].abs().max()) or 1.0, bool((map_ < 0).any())
        shown = axes.imshow(
            sheet[0].numpy(), cmap=AROUND_ZERO if negative else FROM_ZERO, vmin=-largest if negative else 0, vmax=largest,
            interpolation="nearest",
        )  # fmt: skip
        axes.set_axis_off()
        size = " x ".join(map(str, map_.shape[1:]))
        said = f"{label(name, NAME)}\n{len(channels)} of {len(map_)} channels\n{size}"
        axes.text(-0.02, 0.5, said, va="center", ha="right", ma="left", fontsize=8.5, transform=axes.transAxes)
        for channel, (x, y) in zip(channels, corners, strict=True):
            axes.text(x, y, str(channel), va="bottom", fontsize=8)
        drawn.colorbar(shown, ax=axes, shrink=0.9, aspect=12, pad=0.01).ax.tick_params(labelsize=8)
    return save(drawn, path)


def _sheet(tiles: Tensor, across: int, above: float = 0.0) -> tuple[Tensor, list[tuple[float, float]]]:
    """Tiles (N, C, h, w) in rows, with gaps of NaN between them, and, above each, a gap of so many of its heights.

    Returns:
        (C, H, W), and the upper left corner of every tile, in pixels.
    """
    # small ones are enlarged, so that gaps can be narrower than their pixels
    enlarged = math.ceil(32 / min(tiles.shape[2:]))
    tiles = tiles.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    count, channels, height, width = tiles.shape
    gap = math.ceil(0.08 * min(height, width))
    top = max(gap, math.ceil(above * height))
    rows = math.ceil(count / across)
    sheet = torch.full((channels, rows * (height + top), across * (width + gap) - gap), math.nan)
    corners: list[tuple[float, float]] = []
    for n, tile in enumerate(tiles):
        x, y = n % across * (width + gap), n // across * (height + top) + top
        sheet[:, y : y + height, x : x + width] = tile
        corners.append((x, y - 0.5))
    return sheet, corners


@style()
def draw_cam(
    image: Tensor, cam: Tensor, place: tuple[float, float, float, float], title: str, what: str, path: Path
) -> Path:
    """An image (C, H, W), a map (h, w) that lies on it as :func:`torchops.models.inside.placement` says, and both; its
    largest value becomes 1."""
    height, width = image.shape[1:]
    side = 2.3
    drawn = figure(3 * side * max(0.8, min(1.2, width / height)) + 0.9, side + 0.7)
    left, middle, right = drawn.subplots(1, 3)
    heat = cam / (float(cam.max()) or 1.0)
    show(left, image, "image", fontsize=9)
    shown = middle.imshow(heat.numpy(), cmap=HEAT, vmin=0, vmax=1, extent=place, interpolation="bilinear")
    middle.set_title(what, fontsize=9)
    # no map is known beyond its place
    middle.set_facecolor(hues.LINE)
    show(right, image, "both", fontsize=9)
    # a picture's first pixel lies around 0; where the map is weak the image is to be seen
    beside = place[0] - 0.5, place[1] - 0.5, place[2] - 0.5, place[3] - 0.5
    right.imshow(
        heat.numpy(), cmap=HEAT, vmin=0, vmax=1, extent=beside, interpolation="bilinear", alpha=0.75 * heat.numpy()
    )
    middle.set(xlim=(0, width), ylim=(height, 0))
    right.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    middle.set(xticks=[], yticks=[])
    drawn.colorbar(shown, ax=right, shrink=0.8).ax.tick_params(labelsize=8)
    drawn.suptitle(title)
    return save(drawn, path)


@dataclass(frozen=True)
class Seen:
    """What the unit in a layer's centre sees."""

    layer: str
    field: Field
    effective: Tensor
    """(H, W), as :func:`torchops.models.inside.effective_field` gives it."""


@style()
def draw_fields(image: Tensor, seen: Sequence[Seen], path: Path) -> Path:
    """Receptive fields on the image (C, H, W), those of all layers together and each with what the unit looks at."""
    across = min(4, len(seen) + 1)
    rows = math.ceil((len(seen) + 1) / across)
    ratio = max(0.5, min(2.0, image.shape[2] / image.shape[1]))
    drawn = figure(2 * across * max(1.0, ratio), rows * (2 * max(1.0, ratio) / ratio + 0.7))
    grid = drawn.subplots(rows, across, squeeze=False).flat
    for axes in grid:
        axes.set_axis_off()
    first, *others = drawn.axes
    show(first, image, "what the units\nin the centre see", fontsize=8.5)
    # light ones first: they are to be seen on dark images and on heat
    colours = (hues.SKY, hues.ORANGE, hues.GREEN, hues.YELLOW, hues.PURPLE, hues.VERMILION, hues.BLUE)
    for n, (axes, one) in enumerate(zip(others, seen, strict=False)):
        colour = colours[n % len(colours)]
        axes.imshow(one.effective.sqrt().numpy(), cmap=HEAT, interpolation="nearest")
        cut = ",\ncut by the border" if _is_cut(one.field, image) else ""
        said = f"{one.field.height} x {one.field.width} pixels{cut}"
        axes.set_title(f"{label(one.layer, NAME)}\n{said}", fontsize=8.5)
        for each in (first, axes):
            each.add_patch(_outline(one.field, colour, n if each is first else 0))
    drawn.suptitle("what changes them: the square root of |d unit / d pixel|")
    return save(drawn, path)


def _is_cut(field: Field, image: Tensor) -> bool:
    return (
        field.top == 0
        or field.left == 0
        or field.top + field.height == image.shape[1]
        or field.left + field.width == image.shape[2]
    )


def _outline(field: Field, colour: Any, drawn_before: int) -> Rectangle:
    """Around the pixels; dashes let one that lies on another be seen."""
    style: Any = "-" if drawn_before % 2 == 0 else (0, (4, 3))
    corner = field.left - 0.5, field.top - 0.5
    return Rectangle(
        corner, field.width, field.height, fill=False, edgecolor=colour, linewidth=2, linestyle=style, clip_on=False
    )
