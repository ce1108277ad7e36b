"""Weights of classes in the loss, by which rare classes count as much as frequent ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from .data import Data, Seeded
from .data.found import counted
from .data.masks import IGNORED

FEW = 12
"""Of more classes, the weights of the rarest and of the most frequent one are told."""
LARGE = 100
"""A weight above this is worth a note: the mean is 1."""


def class_weights(counts: Sequence[float]) -> list[float]:
    """N / (K n_k) for n_k samples of class k, or shares of them: their mean over the N samples is 1.

    K is the number of classes that there are; one without samples weighs 0. These are the weights that scikit-learn calls
    "balanced".

    >>> class_weights([6, 2, 0])
    [0.6666666666666666, 2.0, 0.0]
    """
    total, present = sum(counts), sum(count > 0 for count in counts)
    return [total / (present * count) if count else 0.0 for count in counts]


def balanced(data: Data) -> Data:
    """The data with weights of their classes, by the images to train on, or by the pixels of their masks; a note says which."""
    weights = class_weights(_counts(data))
    told = [f"{label} {_told(weight)}" for label, weight in zip(data.labels, weights, strict=True)]
    rarest = max(range(len(weights)), key=weights.__getitem__)
    if len(told) > FEW:
        order = sorted((i for i, weight in enumerate(weights) if weight), key=weights.__getitem__)
        told = [f"{counted(len(told), 'class')}, from {told[order[0]]} to {told[order[-1]]}"]
    data.found.notes.append(f"weights in the loss: {', '.join(told)}")
    if weights[rarest] > LARGE:
        data.found.notes.append(
            f"{data.labels[rarest]} is so rare that a few of its samples decide about the loss: are they labelled rightly?"
        )
    return dataclasses.replace(data, weights=tuple(weights))


def _told(weight: float) -> str:
    return f"{weight:.3g}" if weight < 1000 else f"{weight:,.0f}"


def _counts(data: Data) -> Sequence[float]:
    """How many samples to train on are of each class, or which share of them."""
    found = data.found.shares or data.found.parts.get("train")
    if found is not None:
        return [found[label] for label in data.labels]
    # pages are drawn anew in every epoch: those of one tell about all
    pages, counts = Seeded(data.train, seed=0), torch.zeros(len(data.labels), dtype=torch.int64)
    for i in range(len(pages)):
        truth = pages[i][1]
        counts += torch.bincount(truth[truth != IGNORED], minlength=len(counts))
    return counts.tolist()
