"""How large the learning rate is."""

from __future__ import annotations

import math
from collections.abc import Sequence

WARMUP = 0.05
"""Share of the steps in which the learning rate rises, before it falls as a cosine."""


def rate(step: int, ends: Sequence[int]) -> float:
    """The share of the full learning rate: in every cycle it rises in a line, then falls as a cosine to zero.

    Args:
        step: how many steps were taken before.
        ends: the steps at which cycles end, ascending; one after the first is a warm restart.

    Source: I. Loshchilov, F. Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017.
    """
    begin = max((end for end in ends[:-1] if end <= step), default=0)
    end = next((end for end in ends if end > step), ends[-1])
    step, total = step - begin, end - begin
    warmup = max(1, round(WARMUP * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
