"""What a picture of a lesson shows, as data: the elements that some programs of a launch load and store."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .faults import SECONDS, Expired, time_limit
from .lesson import Lesson, Picture, Step
from .machine import Machine
from .report import Buffer, Launch, Program
from .source import holes_before, holes_outside, load, read
from .trace import touched

MOST_PLANES = 6
"""Of a tensor that has more, those are shown that the chosen programs touch first."""
LONG = 32
"""A row of so many elements goes on in the next line, if the tensor has but one dimension; such a line has half as many."""


@dataclass(frozen=True)
class Cell:
    text: str
    """Its value; "" where nobody has stored one."""
    programs: tuple[int, ...]
    """Which of the chosen programs touch it."""


@dataclass(frozen=True)
class Plane:
    label: str
    cells: tuple[tuple[Cell, ...], ...]
    rows: tuple[int, ...]
    """What stands beside the rows."""


@dataclass(frozen=True)
class Grid:
    """A parameter of the kernel: its tensor, in planes of the last two dimensions."""

    title: str
    stores: bool
    planes: tuple[Plane, ...]


@dataclass(frozen=True)
class Scene:
    name: str
    title: str
    caption: str
    programs: tuple[str, ...]
    grids: tuple[Grid, ...]


def scenes(file: Path, lesson: Lesson, machine: Machine) -> tuple[list[Scene], list[str]]:
    """The scenes of a lesson, from a run of the student's file; and in words, why others cannot be shown.

    It runs the student's code: call it where that may crash, as the checks of a server are.
    """
    file = Path(os.path.abspath(file))
    steps = {step.name: step for step in lesson.steps}
    if lesson.prepare is not None:
        lesson.prepare()
    try:
        source = read(file)
        if holes_outside(source):
            return [], [f"{file.name}: line {holes_outside(source)[0]} is not filled in yet"]
        machine.prepare()
        with time_limit(SECONDS):
            loaded = load(file, source)
    except (Exception, SystemExit, Expired) as error:  # whatever a student's file raises
        return [], [f"{file.name} cannot be run ({type(error).__name__}: {error}): check it first"]
    shown, undrawn = [], []
    for picture in lesson.pictures:
        step = steps[picture.step]
        if holes_before(source, step, lesson.steps):
            undrawn.append(f"{picture.name}: step {step.name} is not filled in yet")
            continue
        try:
            shown.append(scene(picture, launch(picture, step, loaded, file, machine)))
        except ValueError as error:
            undrawn.append(f"{picture.name}: {error}")
    return shown, undrawn


def launch(picture: Picture, step: Step, loaded: Any, file: Path, machine: Machine) -> Launch:
    """The launch that a picture is of; a race does not stop it.

    Raises:
        ValueError: if the step cannot be run, or launches fewer kernels.
    """
    more = {} if picture.block is None else {"block": picture.block}
    function = getattr(loaded, step.function, None)
    if function is None:
        raise ValueError(f"the file has no function `{step.function}`")
    torch.manual_seed(0)
    call = step.call or (lambda function, *inputs, **block: function(*inputs, **block))
    ran = machine.run(lambda: call(function, *picture.inputs(), **more), file, SECONDS, order="forward")
    if ran.fault is not None:
        at = f", line {ran.fault.line}" if ran.fault.line else ""
        raise ValueError(f"step {step.name} does not run to its end ({ran.fault.kind}{at}): check it first")
    if not -len(ran.launches) <= picture.launch < len(ran.launches):
        raise ValueError(f"step {step.name} launches {len(ran.launches)} kernels")
    return ran.launches[picture.launch]


def scene(picture: Picture, launch: Launch) -> Scene:
    """What a picture shows of a launch.

    Raises:
        ValueError: if the kernel has no such parameter, or its accesses were too many to keep.
    """
    if launch.accesses is None:
        raise ValueError(f"{launch.kernel} makes more accesses than are kept")
    asked = [(False, picture.loads), (True, picture.stores)]
    missing = [name for _, names in asked for name in names if name not in launch.buffers]
    if missing:
        raise ValueError(f"{launch.kernel} has no parameter `{missing[0]}`")
    grids = tuple(
        Grid(title, stores, tuple(_planes(launch.buffers[name], touched(launch, name)[stores], picture.programs)))
        for stores, names in asked
        for name, title in names.items()
    )
    axes = max((n for n, size in enumerate(launch.grid, 1) if size > 1), default=1)
    programs = tuple(f"program {program[0] if axes == 1 else program[:axes]}" for program in picture.programs)
    size = " x ".join(str(n) for n in launch.grid[:axes])
    one = math.prod(launch.grid) == 1
    caption = f"{launch.kernel}, launched as {size} program{'' if one else 's'}; recorded from a run"
    return Scene(picture.name, picture.title, caption, programs, grids)


def _planes(buffer: Buffer, side: Mapping[Program, np.ndarray], programs: tuple[Program, ...]) -> Iterator[Plane]:
    owners: dict[int, list[int]] = {}
    for n, program in enumerate(programs):
        for element in side.get(program, np.array([], int)).tolist():
            owners.setdefault(element, []).append(n)
    strides = np.array(buffer.strides, int)

    def cell(*index: int) -> Cell:
        element = buffer.offset + int(np.dot(strides, np.array(index, int)))
        value = math.nan if buffer.values is None else float(buffer.values[element])
        return Cell(text(value), tuple(owners.get(element, ())))

    if len(buffer.shape) < 2:
        length = buffer.shape[0] if buffer.shape else 1
        line = length if length <= LONG else LONG // 2
        starts = range(0, length, line)
        rows = [tuple(cell(*(i,) * len(buffer.shape)) for i in range(s, min(s + line, length))) for s in starts]
        yield Plane("", tuple(rows), tuple(starts))
        return
    *planes, height, width = buffer.shape
    made = [
        Plane(
            str(list(plane)) if math.prod(planes) > 1 else "",
            tuple(tuple(cell(*plane, h, w) for w in range(width)) for h in range(height)),
            tuple(range(height)),
        )
        for plane in np.ndindex(*planes)
    ]
    while len(made) > MOST_PLANES:
        empty = [plane for plane in made if not any(one.programs for row in plane.cells for one in row)]
        made.remove((empty or made)[-1])
    yield from made


def text(value: float) -> str:
    """A value in few characters; "" for what nobody has stored."""
    if math.isnan(value):
        return ""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 10_000
    return str(int(value)) if whole else f"{value:.2g}"
