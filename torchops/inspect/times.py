"""The modelled time of a launch, which is never measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch
    from torchops.kernels.planning.model import Model


class Counted(NamedTuple):
    """What a launch was compiled to, as far as its time depends on it."""

    loop: int
    """Instructions of the main loop."""
    outside: int
    """All others."""
    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a program."""


def model(launch: Launch, counted: Counted | None = None) -> Model:
    """The modelled time of a recorded launch.

    Args:
        launch: recorded for a GPU.
        counted: what it was compiled to. Without it the instructions and registers of a convolution are estimated as they are
            when its block sizes are picked, and of another kernel instructions are left out.
    """
    from torchops.kernels.planning import conv2d
    from torchops.kernels.planning.model import Work, model

    if launch.problem is not None:
        work = conv2d.work(launch.problem, launch.config, launch.device)
    else:
        work = Work(
            programs=launch.programs, num_warps=launch.meta["num_warps"], cost=launch.cost,
            loop=0, outside=0, registers=64, shared_bytes=0,
        )  # fmt: skip
    if counted is not None:
        work = replace(work, **counted._asdict())
    return model(work, launch.device)
