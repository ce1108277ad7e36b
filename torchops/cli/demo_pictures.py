"""The demo: the edges of a real photo, how long they take, the photo convolved, another pooled. Needs the extra `demo`."""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.progress import track
from skimage import data
from torch import Tensor

from torchops import functional
from torchops.files.hues import GRAY, PAPER
from torchops.files.images import stretched
from torchops.files.plots import WIDTH, figure, save, show, style
from torchops.measure.race import race, ratio
from torchops.measure.rivals import sobel_providers, threads


@style()
def draw_edges(path: Path) -> Path:
    """Draw a photo (Eileen Collins, NASA, public domain; from scikit-image) next to its edges; return the file."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    edges = functional.sobel(photo)
    luminance = photo.float().mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    gray = functional.sobel(luminance)
    drawn = figure(WIDTH, 2.85)
    panels = {"photo": photo / 255, "Sobel, of each channel": edges, "Sobel, of the luminance": gray}
    for axes, (title, image) in zip(drawn.subplots(1, 3), panels.items(), strict=True):
        bright = image if title == "photo" else stretched(image.permute(1, 2, 0), 1.0)[0].permute(2, 0, 1)
        show(axes, bright, title)
    return _saved(drawn, path)


BLUR, CORNER, FACE = 61, 112, (slice(0, 256), slice(96, 352))
"""In pixels: the sides of the blur and of the corner that is enlarged, and the part of the photo that others are shown on."""
BORDERS: dict[str, tuple[dict[str, float], str]] = {
    "zeros": ({}, "black beyond\nthe border"),
    "constant": ({"padding_value": 1.0}, "white, or any\nother value"),
    "replicate": ({}, "the outermost\npixel goes on"),
    "reflect": ({}, "a mirror at the\noutermost pixel"),
    "circular": ({}, "the other side\nof the photo"),
}
"""Padding modes, what else they are told, and what a filter sees beyond the border."""


@style()
def draw_filters(path: Path) -> Path:
    """Draw the photo convolved: what a border does to a blur, and what an edge, dilation and stride do; return the file."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    drawn = figure(WIDTH, 6.5)
    parts: Any = drawn.subfigures(2, 1, height_ratios=(1.32, 1))
    above, below = parts
    _draw_borders(above, photo)
    _draw_taps(below, photo)
    return _saved(drawn, path)


def _draw_borders(drawn: SubFigure, photo: Tensor) -> None:
    """The lower left corner, as it is padded and as it is blurred, a column a border."""
    conv = functools.partial(functional.conv2d, photo, groups=3)
    blur, one = torch.full((3, 1, BLUR, BLUR), BLUR**-2.0), torch.ones(3, 1, 1, 1)
    beyond = BLUR // 2
    grid = drawn.subplots(2, len(BORDERS))
    for (upper, lower), (mode, (more, seen)) in zip(grid.T, BORDERS.items(), strict=True):
        options: Any = {"padding_mode": mode, **more}
        padded = conv(one, padding=beyond, **options)[:, -CORNER - beyond :, : CORNER + beyond]
        show(upper, padded, f"{mode}\n{seen}", fontsize=9)
        across, down = (beyond - 0.5, beyond - 0.5, CORNER + beyond - 0.5), (-0.5, CORNER - 0.5, CORNER - 0.5)
        upper.plot(across, down, color=PAPER, linewidth=1.4, linestyle=(0, (4, 3)))
        # what is beyond may be as white as the page
        upper.add_patch(Rectangle((0, 0), 1, 1, transform=upper.transAxes, fill=False, edgecolor=GRAY, linewidth=0.8))
        show(lower, conv(blur, padding="same", **options)[:, -CORNER:, :CORNER])
    for axes, text in zip(
        grid[:, 0], ("padded by the op;\ndashes: the border", f"blurred,\n{BLUR} x {BLUR}"), strict=True
    ):
        axes.text(-0.06, 0.5, text, transform=axes.transAxes, ha="right", va="center", fontsize=9)
    drawn.suptitle(f"The border: the lower left {CORNER} x {CORNER} pixels of a photo, enlarged")


def _draw_taps(drawn: SubFigure, photo: Tensor) -> None:
    """An emboss filter, the same dilated, and the same strided."""
    emboss = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]).expand(3, 1, 3, 3)
    conv = functools.partial(functional.conv2d, photo[:, FACE[0], FACE[1]], emboss, groups=3, padding_mode="replicate")
    panels = {
        "photo\n256 x 256 pixels": photo[:, FACE[0], FACE[1]],
        "emboss, 3 x 3\nedges in relief": conv(padding=1),
        "dilation 6\nits taps 6 pixels apart": conv(padding=6, dilation=6),
        "stride 4\nevery fourth: 64 x 64 pixels": conv(padding=1, stride=4),
    }
    for axes, (title, image) in zip(drawn.subplots(1, len(panels)), panels.items(), strict=True):
        show(axes, image, title, fontsize=9)
    drawn.suptitle("The taps: one filter, dilated and strided")


@style()
def draw_pooling(path: Path) -> Path:
    """Draw a photo (Chelsea, S. van der Walt, CC0; from scikit-image) pooled and unpooled; return the file."""
    # a small crop: single pixels stay visible
    photo = torch.from_numpy(data.chelsea()[70:166, 124:220]).permute(2, 0, 1).float() / 255
    maxima, indices = functional.max_pool2d(photo, 4, return_indices=True)
    means = functional.avg_pool2d(photo, 4)
    panels = {
        "photo\n96 x 96 pixels": photo,
        "max pooled 4 x 4\n24 x 24 pixels": maxima,
        "average pooled 4 x 4\n24 x 24 pixels": means,
        "min pooled 4 x 4\n24 x 24 pixels": functional.min_pool2d(photo, 4),
        "max unpooled 4 x 4\nmaxima where they were": functional.max_unpool2d(maxima, indices, 4),
        "average unpooled 4 x 4\n96 x 96 pixels": functional.avg_unpool2d(means, 4),
        "average unpooled 6 x 6\nstride 4: they overlap": functional.avg_unpool2d(means, 6, stride=4, padding=1),
    }
    drawn = figure(WIDTH, 4.1)
    # the photo, twice as large, left of three pooled over three unpooled
    places = drawn.subplot_mosaic("0123;0456", width_ratios=(2.22, 1.1, 1.1, 1.1))
    for axes, (title, image) in zip(places.values(), panels.items(), strict=True):
        show(axes, image, title, fontsize=8.5)
    return _saved(drawn, path)


def _saved(drawn: Figure, path: Path) -> Path:
    """A JPEG is to be no larger than a page loads at once."""
    options: Any = {"pil_kwargs": {"quality": 88}} if path.suffix == ".jpg" else {}
    return save(drawn, path, **options)


@dataclass(frozen=True)
class Timing:
    """One provider's median on one case; `ratio` is torchops' time over its."""

    provider: str
    dtype: str
    threads: int
    milliseconds: float
    ratio: float | None


def time_sobel(console: Console, rounds: int = 3) -> Iterator[Timing]:
    """Time Sobel of a 4K frame against every other provider that is installed."""
    counts = sorted({1, os.cpu_count() or 1})
    cases = [(dtype, count) for dtype in (torch.float32, torch.uint8) for count in counts]
    for dtype, count in track(cases, description="timing Sobel", console=console, transient=True):
        x = torch.randint(0, 256, (1, 1, 2160, 3840)).to(dtype)
        providers = sobel_providers(x)
        with threads(count):
            contenders = {name: functools.partial(f, x) for name, f in providers.items()}
            times = race(contenders, rounds=rounds)
        for name, seconds in times.items():
            yield Timing(
                name,
                str(dtype).removeprefix("torch."),
                count,
                statistics.median(seconds) * 1e3,
                None if name == "torchops" else ratio(times, "torchops", name),
            )
