"""The card of a run, README.md in its folder: what was trained on what, how good it is, how to use it, what it cannot do."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from torchops.files.names import printable

from .data import Data, Found
from .data.found import counted
from .declared import options_of
from .options import Config, NetworkOptions
from .runs import Row

MOST = 40
"""A table of figures has no more rows: of more classes, the worst are shown."""
_NAMES = {
    "lenet": "LeNet", "resnet": "ResNet", "classifier": "Classifier", "unet": "U-Net", "diffusion": "Diffusion model",
}  # fmt: skip
FEW = 30
"""Held-out images; of fewer one moves the accuracy by more than three points, and the card says by how much."""
_PARTS = {"val": "held out", "test": "test", "macro": "mean of the classes"}
_ELSEWHERE = ("data", "dataset", "root", "device", "workers", "log")
"""Options that are told as data, or say where a run is trained."""


def escaped(text: object) -> str:
    """Text that people chose, as Markdown shows it as it is: no markup, no HTML, no links, one line."""
    shown = re.sub(r"([\\`*_{}\[\]<>#|~&$@:^\"])", r"\\\1", printable(text))
    return re.sub(r"(?i)\bwww\.", lambda match: match[0][:-1] + r"\.", shown)


def card(config: Config, data: Data, best: Row, summary: Mapping[str, Any], pictures: Iterable[str]) -> str:
    """The card of a run that is done, in Markdown.

    Args:
        config: what was asked for. Of files and folders the names are told, not where they lie.
        data: what it was trained on.
        best: the figures of the best epoch.
        summary: what `summary.json` says.
        pictures: names of files beside the card.
    """
    made_of = config.data if config.data is not None else config.dataset if config.net != "unet" else "pages of digits"
    name = _NAMES.get(config.net, config.net)
    parts = [
        f"# {name}: {escaped(_name(made_of))}",
        f"{name} of {counted(summary['parameters'], 'parameter')}, trained with torchops {summary['torchops']} "
        f"and torch {escaped(summary['torch'])} on {escaped(summary['device'])}"
        + (f" by {summary['processes']} processes." if summary["processes"] > 1 else "."),
        "## Use",
        *_use(config.net),
        "## Data",
        *_data(data.found),
        "## Figures",
        *_figures(config.net, best, summary),
        *(f"![{escaped(file.removesuffix('.png'))}]({quote(file)})" for file in sorted(pictures)),
        "## Options",
        _table(("option", "value"), _options(config)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(config, data)),
    ]
    return "\n\n".join(parts) + "\n"


def _name(path: str) -> str:
    """The last part of a path, also of "." and of what ends in a slash; other texts stay."""
    return os.path.basename(os.path.abspath(path)) or path


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text; the first column is names, the others are numbers."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def _words(name: str) -> str:
    """A figure's name in words."""
    return escaped(name.replace("_", " ").replace("iou", "IoU").replace("f1", "F1"))


def _figure(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def _use(net: str) -> list[str]:
    if net == "diffusion":
        return [
            "In this folder:",
            "```console\n$ torchops draw .\n```",
            '```python\nimport torchops\n\nimages = torchops.models.load(".").sample(16)\n```',
        ]
    return [
        "In this folder:",
        "```console\n$ torchops predict . image.png\n```",
        '```python\nimport torchops\n\nnet = torchops.models.load(".")\nnet.predict("image.png")\n```',
    ]


def _data(found: Found) -> list[str]:
    said = [escaped(line) for line in found.sentences()[:1]] if found.images else []
    left_out = [f"{counted(count, 'file')}: {escaped(reason)}" for reason, count in found.reasons().most_common()]
    if left_out:
        said.append(f"Left out: {'; '.join(left_out)}.")
    if any(found.parts.values()):
        headings, rows = found.table()
        said.append(_table(headings, [[escaped(cell) for cell in row] for row in rows]))
    return said


def _figures(net: str, best: Row, summary: Mapping[str, Any]) -> list[str]:
    """Those of the best epoch; and by class, or whatever else they are of."""
    scalars = best | {name: value for name, value in summary.items() if name.startswith(("test_", "macro_"))}
    rows = []
    for name, value in scalars.items():
        part, _, what = name.partition("_")
        if part in _PARTS:
            rows.append([f"{_words(what)}, {_PARTS[part]}", _figure(value)])
    last = summary["last"]["epoch"]
    said = [f"`best.pt` is of epoch {summary['best_epoch']} of {last:.0f}.", _table(("figure", "value"), rows)]
    of = {name: values for name, values in summary.items() if name != "last" and _by_label(values)}
    labels = list(dict.fromkeys(label for values in of.values() for label in values))
    if not labels:
        return said
    worst = "f1" if "f1" in of else next(iter(of))

    def figure(label: str) -> float:
        value = of[worst].get(label)
        return math.inf if value is None else value

    if len(labels) > MOST:
        said.append(f"Of {len(labels):,} classes, the {MOST} with the smallest {_words(worst)}:")
        labels = sorted(labels, key=figure)[:MOST]
    headings = ["images" if net == "diffusion" else "class", *(_words(name) for name in of)]
    rows = [[escaped(label), *(_figure(values.get(label)) for values in of.values())] for label in labels]
    said.append(_table(headings, rows))
    return said if net == "diffusion" else [*said, "How often each was taken for which: `confusion.csv`."]


def _by_label(values: Any) -> bool:
    """Whether these are figures by the names of what they are of."""
    return isinstance(values, dict) and all(v is None or isinstance(v, int | float) for v in values.values())


def _options(config: Config) -> list[list[str]]:
    """All that are set, as they were; of paths the names."""
    shown = {name: found for name, found in options_of(Config, config.net).items() if found.shown}
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(Config) if f.name in shown}
    rows = {name: config.options[name] for name in options_of(NetworkOptions, config.net) if name in config.options}
    rows |= {name: value for name, value in values.items() if name not in _ELSEWHERE and value is not None}
    paths = {"weights", *(name for name, found in shown.items() if found.path)}
    return [
        [f"`{name}`", escaped(_name(value) if name in paths else _told(value))]
        for name, value in rows.items()
        if value is not None
    ]


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(config: Config, data: Data) -> list[str]:
    net = config.net
    preprocess = data.preprocess
    colours = "shades of gray" if preprocess.channels == 1 else "colour"
    if net == "diffusion":
        side = preprocess.size
        return [
            f"It draws images of {side} x {side} pixels, in {colours}, that look like those it was trained on; some may "
            "be nearly the same as one of them.",
            "It was judged by how well it tells noise from images, which does not say how good what it draws looks.",
        ]
    sees = f"An image is seen in {colours}"
    if preprocess.size is not None:
        sees += (
            f", its middle, of {preprocess.size} x {preprocess.size} pixels; what is smaller than a pixel then is lost"
        )
    kind = "pixel" if net == "unet" else "image"
    limits = [
        f"Every {kind} gets one of these {counted(len(data.labels), 'class')}, also where it is of none.",
        sees + ".",
        "The held-out images chose the best epoch, so that their figures are a little too good"
        + (": those of the test part are not." if data.test is not None else "; no others were there to judge by."),
        "The figures are of images as those it was trained on: with other cameras, places or people it may do worse.",
    ]
    held_out = len(data.val)  # type: ignore[arg-type]
    if net != "unet" and 0 < held_out < FEW:
        limits.append(
            f"Held out were {counted(held_out, 'image')}: one is {100 / held_out:.0f} points of the accuracy."
        )
    if net == "unet":
        limits.append(
            "Large images need much memory: `tile=512` sees them in tiles, if the encoder does not look at the whole image."
            if config.options.get("encoder")
            else "Images of more than 4 million pixels are seen in tiles; smaller ones, as `tile=512`, need less memory still."
        )
    return limits
