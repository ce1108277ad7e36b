"""Figures of classes from a confusion matrix, (K, K): rows are the truth, columns what was predicted."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from torchops.files import replacing

ByLabel = dict[str, float | None]
"""A figure of every class, rounded; None where there is nothing to compute it from."""


def shares(parts: Tensor, wholes: Tensor) -> list[float | None]:
    """Quotients of counts; None where there is nothing to have a share of."""
    return [a / b if b else None for a, b in zip(parts.tolist(), wholes.tolist(), strict=True)]


def ious(counts: Tensor) -> list[float | None]:
    """The intersection over union of every class; None of a class that is neither there nor predicted."""
    both = counts.diagonal()
    return shares(both, counts.sum(0) + counts.sum(1) - both)


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that there are."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def by_label(labels: Sequence[str], values: Iterable[float | None]) -> ByLabel:
    return dict(zip(labels, map(_rounded, values), strict=True))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def of_classes(counts: Tensor, labels: Sequence[str]) -> dict[str, Any]:
    """Precision, recall and F1 of every class, and their means over the classes that have them, rounded.

    Precision is the share of what was predicted that is right, None of a class that is never predicted; recall the share of
    what is there that was found, None of a class that is not there; F1 is 2 TP / (2 TP + FP + FN), None of a class that is
    neither.

    Returns:
        "precision", "recall" and "f1" by label; "macro_precision", "macro_recall" and "macro_f1".
    """
    right, predicted, there = counts.diagonal(), counts.sum(0), counts.sum(1)
    found = {
        "precision": shares(right, predicted),
        "recall": shares(right, there),
        "f1": shares(2 * right, predicted + there),
    }
    means = {f"macro_{name}": _rounded(mean_of(values)) for name, values in found.items()}
    return {name: by_label(labels, values) for name, values in found.items()} | means


def write_confusion(counts: Tensor, labels: Sequence[str], path: Path) -> None:
    """A confusion matrix as CSV in UTF-8: a row for every class that is true, a column for every one that is predicted.

    Labels stand as they are, quoted; those that are no text come out as the bytes that they were.
    """
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        rows.writerow(["truth / predicted", *labels])
        rows.writerows([name, *row] for name, row in zip(labels, counts.tolist(), strict=True))
