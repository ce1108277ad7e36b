"""What the programs of a launch touched, and how many bytes that are."""

from __future__ import annotations

import math

import numpy as np

from .report import Launch, Program, Traffic


def touched(launch: Launch, buffer: str) -> tuple[dict[Program, np.ndarray], dict[Program, np.ndarray]]:
    """The elements of a buffer that each program loads, and those that it stores, each once."""
    loads: dict[Program, list[np.ndarray]] = {}
    stores: dict[Program, list[np.ndarray]] = {}
    for access in launch.accesses or ():
        if access.buffer == buffer:
            (stores if access.stores else loads).setdefault(access.program, []).append(access.elements)
    return tuple({p: np.unique(np.concatenate(e)) for p, e in side.items()} for side in (loads, stores))  # type: ignore[return-value]


def traffic(launch: Launch) -> Traffic:
    """Bytes that the programs of a launch touch, an element once a program; and the least, each element once."""
    size = {access.buffer: access.itemsize for access in launch.accesses or ()}
    moved = least = 0
    for name, itemsize in size.items():
        for side in touched(launch, name):
            if side:
                moved += itemsize * sum(len(elements) for elements in side.values())
                least += itemsize * len(np.unique(np.concatenate(list(side.values()))))
    return Traffic(launch.kernel, math.prod(launch.grid), moved, least)
