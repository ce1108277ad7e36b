"""What every planner answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one launch asks of the hardware, counted from its problem and its config."""

    bytes_moved: int
    """DRAM traffic in bytes; what programs read twice (halos) is counted once per program."""
    bytes_least: int
    """Every input element read once, every output element written once."""
    trips: float
    """Iterations of the main loop, per program."""
    bytes_l2: int = 0
    """What all programs load, wherever it comes from; 0 where that is not the bound."""
    flops: int = 0
    """Of the matrix units, padding of tiles included."""
    itemsize: int = 4
    """Bytes of an element of the matrix products."""
    tf32: bool = False
    """Whether float32 is multiplied as TF32."""
