"""Two roofs of the machine at hand, measured: what a large copy moves, and what a large product multiplies.

A data sheet's peaks are reached by nothing: a result is told as its share of these.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch

from torchops.measure.race import device_seconds, race, seconds

from .harness import Contest, judged


@dataclass(frozen=True)
class Roofs:
    """Medians of the rounds."""

    copy_gb_per_s: float
    """Bytes read and bytes written."""
    product_tflops: float
    """Of bfloat16, on random values; a multiply-add is two."""
    copy_bytes: int
    """Of the tensor that is copied."""
    product_size: int
    """Rows, and columns, of both matrices."""


def measure(rounds: int = 9) -> Roofs:
    """On the current GPU, a copy of 1 GiB within it and a product of 8192 x 8192 matrices; smaller ones on a CPU."""
    on_gpu = torch.cuda.is_available()
    device, copied, size = ("cuda", 1 << 30, 8192) if on_gpu else ("cpu", 1 << 26, 512)
    generator = torch.Generator(device).manual_seed(0)
    source = torch.empty(copied // 2, dtype=torch.bfloat16, device=device).normal_(generator=generator)
    copy = torch.empty_like(source)
    a, b = (torch.empty(size, size, dtype=torch.bfloat16, device=device).normal_(generator=generator) for _ in range(2))
    product = torch.empty_like(a)
    times = race(
        {"copy": lambda: copy.copy_(source), "product": lambda: torch.mm(a, b, out=product)},
        rounds=rounds, clock=device_seconds if on_gpu else seconds, turn=0.02, most=50,
    )  # fmt: skip
    middle = {name: statistics.median(found) for name, found in times.items()}
    return Roofs(2 * source.nbytes / middle["copy"] / 1e9, 2 * size**3 / middle["product"] / 1e12, source.nbytes, size)


def shares(contest: Contest, provider: str, roofs: Roofs) -> dict[str, float]:
    """What a provider reaches of each roof, 1 for all of it; of the product's only where something is multiplied.

    The bytes are the least that the problem has to move: what the L2 cache keeps can take a small case above the roof. The
    time is that of the CUDA graph where there is one.
    """
    time = statistics.median(judged(contest, provider))
    found = {"of_copy": contest.bytes_least / time / 1e9 / roofs.copy_gb_per_s}
    if contest.flops:
        found["of_product"] = contest.flops / time / 1e12 / roofs.product_tflops
    return found
