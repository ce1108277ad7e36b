"""Figures in the style of the project, that need no screen and appear as whole files. Needs matplotlib."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from . import replacing
from .fonts import choose
from .fonts import label as label

STYLE = Path(__file__).with_name("torchops.mplstyle")
WIDTH = 8.0
"""Inches of a picture that is as wide as a page."""


@contextmanager
def style(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """What figures are made and saved in: matplotlib's defaults, `STYLE`, and `more` parameters; nothing of the user's.

    `@style()` puts a function in it.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_style())
        parameters: Any = more or {}
        mpl.rcParams.update(parameters)
        yield


@functools.cache
def _style() -> Any:
    return mpl.rc_params_from_file(STYLE, use_default_template=False)


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


def number(value: float) -> str:
    """As people write it: 0.05, 1, 20,000; 1e-6 and 1e+7 where zeros would have to be counted."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.6g}"
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(exponent):+d}".replace("e+", "e")


def times(value: float) -> str:
    """A ratio, as 0.5x, 1x, 2x."""
    return f"{number(value)}x"


def log_axis(axis: Axis, words: Callable[[float], str] = number) -> None:
    """Make an axis logarithmic, with few ticks, at round numbers, in words."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(_RoundNumbers())
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


class _RoundNumbers(LogLocator):
    """Powers of ten on an axis of many, else 1, 2 and 5 times these, else numbers at equal distances."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        if not (0 < vmin < vmax < math.inf):
            return []
        decades = math.log10(vmax / vmin)
        if decades < 0.8:
            found = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax)
            return [float(value) for value in found if value > 0]
        step = math.ceil(decades / 8)
        first, last = math.floor(math.log10(vmin)), math.ceil(math.log10(vmax))
        factors = (1,) if decades > 3.3 else (1, 2, 5)
        return [float(f"{factor}e{power}") for power in range(first, last + 1, step) for factor in factors]


def save(figure: Figure, path: Path, dpi: int | None = None, **options: Any) -> Path:
    """Write a figure, in fonts that have the characters of its texts; names are to have gone through :func:`label`.

    Args:
        figure: made in :func:`style`, and saved in it.
        path: its suffix says in which format.
        dpi: pixels an inch; those of the style if not given.
        options: of matplotlib's `savefig`.
    """
    choose(figure)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi or "figure", **options)
    return path


def paint(figure: Figure) -> Image.Image:
    """The pixels of a figure, in fonts that have the characters of its texts."""
    choose(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save_drawing(picture: Image.Image, description: str, path: Path) -> Path:
    """Write a picture of few colours as a PNG, which takes a third of the bytes of many; the description says what it shows."""
    described = PngInfo()
    described.add_text("Description", description, zip=True)
    with replacing(path) as beside:
        picture.quantize(128).save(beside, "PNG", pnginfo=described, optimize=True)
    return path
