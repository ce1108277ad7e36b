"""Figures that need no screen, and appear as whole files. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from . import replacing
from .fonts import choose
from .fonts import label as label


def figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def show(axes: Axes, image: Tensor, title: str = "", **text: Any) -> None:
    """A picture (C, H, W) or (H, W), values from 0 to 1, pixel by pixel; resizing may have left some a little beyond."""
    image = image.clamp(0, 1)
    if image.dim() == 3:
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, **text)
    axes.set_axis_off()


def save(figure: Figure, path: Path, dpi: int = 100) -> Path:
    """Write a figure, in fonts that have the characters of its texts; names are to have gone through :func:`label`."""
    choose(figure)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi)
    return path
