"""`python -m bench compare A B`: what became slower or faster from one run to another, beyond the noise of both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .harness import spread
from .results_file import OURS, BadRunError, Row, Run, load

MACHINE = ("gpu", "cpu", "torch", "triton", "driver", "cuda", "cudnn", "flags")
"""What two comparable runs have in common."""


@dataclass(frozen=True)
class Change:
    """One provider on one case, in both runs."""

    before: Row
    after: Row
    ms: tuple[float, float]
    """Medians of A and of B."""
    raw: float
    """Median of B over that of A."""
    ratio: float
    """That, over how the baseline of the case moved: a machine's drift is in both."""
    noise: float
    """Half the p20 to p80 range of the rounds, of A and of B together, relative to their medians."""

    def beyond(self, threshold: float) -> bool:
        return abs(math.log(self.ratio)) > math.log1p(max(threshold, self.noise))


def _baseline(rows: list[Row]) -> Row | None:
    """ATen, or the first provider that is not ours."""
    others = [row for row in rows if row.provider not in OURS]
    return next((row for row in others if row.provider == "aten"), others[0] if others else None)


Times = Callable[[Row], Sequence[float]]


def _relative(row: Row, base: Row | None, times: Times) -> tuple[float, float]:
    """Median, over the rounds, of a time over the baseline's in the same round; and half the spread of it.

    The rounds of a race apart are others than the baseline's: there it is a time over the baseline's median.
    """
    found = times(row)
    if base is not None:
        under = times(base) if row.apart is None else [statistics.median(times(base))] * len(found)
        found = [a / b for a, b in zip(found, under, strict=True)]
    low, median, high = spread(list(found))
    return median, (high - low) / 2 / median


def _times(rows: list[Row | None]) -> Times:
    """Those of CUDA graphs, where all of the rows have them."""
    graphs = all(row.graph for row in rows if row is not None)
    return lambda row: row.graph if graphs else row.times


def changes(a: Run, b: Run) -> list[Change]:
    """Of all that is in both; the baselines themselves are left out."""
    in_b = {row.key: row for row in b.rows if not row.impossible}
    found = []
    for case in {row.key[:2]: None for row in a.rows}:
        pairs = {row: in_b[row.key] for row in a.rows if row.key[:2] == case and row.key in in_b and not row.impossible}
        base = _baseline(list(pairs))
        for before, after in pairs.items():
            if before is base:
                continue
            base_after = pairs[base] if base else None
            times = _times([before, after, base, base_after])
            old, old_noise = _relative(before, base, times)
            new, new_noise = _relative(after, base_after, times)
            ms_a, ms_b = (statistics.median(times(row)) * 1e3 for row in (before, after))
            found.append(Change(before, after, (ms_a, ms_b), ms_b / ms_a, new / old, old_noise + new_noise))
    return found


def warnings(a: Run, b: Run) -> list[str]:
    """Why the two may not be compared."""
    found = [
        f"{name}: {a.machine.get(name, 'unknown')} in A, {b.machine.get(name, 'unknown')} in B"
        for name in MACHINE
        if a.machine.get(name) != b.machine.get(name)
    ]
    keys_a, keys_b = {row.key for row in a.rows}, {row.key for row in b.rows}
    for side, only in (("A", keys_a - keys_b), ("B", keys_b - keys_a)):
        if only:
            names = sorted(f"{case} ({provider}, {threads} threads)" for case, threads, provider in only)
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            found.append(f"only in {side}: {', '.join(names[:5])}{more}")
    for side, run in (("A", a), ("B", b)):
        found += [f"{row.case} in {side}, {row.impossible}: left out" for row in run.impossible]
    return found


def compare(file_a: Path, file_b: Path, threshold: float, console: Console) -> int:
    """Print the table; return 1 if torchops became slower somewhere, 2 if a file is bad."""
    try:
        a, b = load(file_a), load(file_b)
    except BadRunError as error:
        console.print(str(error), markup=False, highlight=False)
        return 2
    for warning in warnings(a, b):
        console.print(f"not comparable: {warning}", markup=False, highlight=False, style="yellow")
    found = changes(a, b)
    if not found:
        console.print("no case is in both runs")
        return 2
    slower = [c for c in found if c.before.provider in OURS and c.ratio > 1 and c.beyond(threshold)]
    rest = [c for c in found if c not in slower]
    table = Table(
        "case", "threads", "provider", "A, ms", "B, ms", "B / A, x", "of baseline, x", "noise, %", "", box=None
    )
    for change in sorted(slower, key=lambda c: -c.ratio) + sorted(rest, key=lambda c: -c.ratio):
        table.add_row(*_cells(change, change in slower, threshold), style="red" if change in slower else "")
    console.print(table)
    console.print(
        f"{len(slower)} of {len(found)} slower by more than {threshold:.0%} and the noise; "
        "of baseline: how much more than ATen (or another provider of the case) it moved"
    )
    return 1 if slower else 0


def _cells(change: Change, slower: bool, threshold: float) -> tuple[str, ...]:
    word = "SLOWER" if slower else "moved" if change.beyond(threshold) else ""
    if word and change.ratio < 1:
        word = "faster"
    return (
        change.before.case,
        change.before.threads,
        change.before.provider,
        f"{change.ms[0]:.4g}",
        f"{change.ms[1]:.4g}",
        f"{change.raw:.2f}",
        f"{change.ratio:.2f}",
        f"{change.noise:.0%}".rstrip("%"),
        word,
    )
