"""The demo: the edges of a real photo, how long they take, the photo convolved, another pooled. Needs the extra `demo`."""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from skimage import data

from torchops import functional
from torchops.files.images import stretched
from torchops.files.plots import figure, save
from torchops.measure.race import race, ratio
from torchops.measure.rivals import sobel_providers, threads


def draw_edges(path: Path) -> Path:
    """Draw a photo (Eileen Collins, NASA, public domain; from scikit-image) next to its edges; return the file."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    edges = functional.sobel(photo).permute(1, 2, 0)
    luminance = photo.float().mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    gray = functional.sobel(luminance)[0]
    drawn = figure(12, 4.2)
    titles = ("photo", "edges by channel", "edges of the luminance")
    for axes, image, title in zip(drawn.subplots(1, 3), (photo.permute(1, 2, 0), edges, gray), titles, strict=True):
        bright = image if title == "photo" else stretched(image, 1.0)[0]
        axes.imshow(bright.numpy(), cmap="gray", interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    return save(drawn, path)


def draw_filters(path: Path) -> Path:
    """Draw the photo convolved: what a border does to a blur, and what stride and dilation do to an edge; return the file."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    blur = torch.full((3, 1, 61, 61), 61.0**-2)
    emboss = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]).expand(3, 1, 3, 3)
    conv = functools.partial(functional.conv2d, photo, groups=3)
    panels = {
        "blur 61 x 61, zeros": conv(blur, padding="same"),
        "reflect": conv(blur, padding="same", padding_mode="reflect"),
        "circular": conv(blur, padding="same", padding_mode="circular"),
        "constant 1": conv(blur, padding="same", padding_mode="constant", padding_value=1.0),
        "emboss 3 x 3": conv(emboss, padding="same", padding_mode="replicate"),
        "dilation 6": conv(emboss, padding=6, dilation=6, padding_mode="replicate"),
        "stride 8": conv(emboss, padding=1, stride=8, padding_mode="replicate"),
    }
    drawn = figure(14, 2.4)
    for axes, (title, image) in zip(drawn.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return save(drawn, path)


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
        "max unpooled 4 x 4\n96 x 96 pixels": functional.max_unpool2d(maxima, indices, 4),
        "average unpooled 4 x 4\n96 x 96 pixels": functional.avg_unpool2d(means, 4),
        "average unpooled 6 x 6\nstride 4, padding 1": functional.avg_unpool2d(means, 6, stride=4, padding=1),
    }
    drawn = figure(14, 6.35)
    # the photo, twice as large, left of three pooled over three unpooled
    places = drawn.subplot_mosaic("0123;0456", width_ratios=(2.22, 1, 1, 1))
    for axes, (title, image) in zip(places.values(), panels.items(), strict=True):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(title, fontsize=14)
        axes.set_axis_off()
    return save(drawn, path)


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
