"""What every planner answers: conv2d.py, strips.py, windows.py and adaptive.py, each a module that is a `Planner`.

A launcher describes what it has to do as a `Problem`, takes the `Config` that the planner picks, or the one that it is given,
and launches as many programs as that makes, with the `Cost` of it for whoever records the launch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .compilers import Version
from .hardware import Device


@dataclass(frozen=True)
class Cost:
    """What one launch asks of the hardware, counted from its problem and its config."""

    bytes_moved: int
    """DRAM traffic in bytes. What several programs read, as halos, is counted for each of them, but not in convolutions, which
    count it in `bytes_l2`."""
    bytes_least: int
    """Every input element read once, every output element written once."""
    trips: float
    """Iterations of the main loop, per program."""
    bytes_l2: int = 0
    """What all programs load, wherever it comes from; 0 where that is not the bound."""
    bytes_out: int = 0
    """What all programs write when their loops are done; 0 where they write as they go."""
    flops: int = 0
    """Of the matrix units, padding of tiles included."""
    itemsize: int = 4
    """Bytes of an element of the matrix products."""
    tf32: bool = False
    """Whether float32 is multiplied as TF32."""


Problem = TypeVar("Problem", contravariant=True)
"""The planner's class of this name: a frozen dataclass of keywords, what a launch has to do as far as its block sizes depend on
it. Equal problems get equal configs."""
Config = TypeVar("Config")
"""The planner's class of this name: a frozen dataclass of block sizes and `num_warps`."""


class Planner(Protocol[Problem, Config]):
    """The functions that every planner has, beside its `Problem` and its `Config`."""

    def candidates(self, problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
        """The configs that can be picked for a problem; all of them are tested.

        Args:
            compiler: major and minor version of Triton, which may spill registers where another does not; by default, of the
                one that is installed.
        """

    def programs(self, problem: Problem, config: Config) -> int:
        """How many programs a launch has."""

    def cost(self, problem: Problem, config: Config) -> Cost:
        """What a launch asks of the hardware, whatever that is."""

    def pick_config(self, problem: Problem, device: Device) -> Config:
        """What a table says, where the planner has tables (conv2d.py), else the fastest of the candidates by the model of
        hardware.py; or what is best for the interpreter."""


def frugal(configs: list[Config], cost: Callable[[Config], Cost]) -> list[Config]:
    """The configs that move at most 5% more bytes than the least; all, where none does.

    None may be where tiles of many interleaved lanes are few pixels wide, and share much with their neighbours.
    """
    needs = [cost(config) for config in configs]
    return [c for c, need in zip(configs, needs, strict=True) if need.bytes_moved <= 1.05 * need.bytes_least] or configs


def power_of_2(n: int) -> int:
    """The least power of 2 that is not below n, which is positive: `tl.arange` takes no other number."""
    return 1 << (n - 1).bit_length()
