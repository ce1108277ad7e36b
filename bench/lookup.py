"""The latest files of bench/results/ by name, and how their figures are printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import kept
from .results_file import Duel, Run, load


@dataclass(frozen=True)
class Source:
    """A file that figures come from: what it says of them, and the folder of its report."""

    provenance: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Block:
    """Markdown, and where its figures come from."""

    text: str
    sources: tuple[Source, ...]


class Results:
    """The files of results: the latest one of each name counts.

    Args:
        root: the folder that has a folder for each machine and day.
    """

    def __init__(self, root: Path = kept.RESULTS) -> None:
        self.root = root
        self._used: list[Source] = []

    def block(self, make: Callable[[Results], str]) -> Block:
        """What a function makes of the files, and the files that it asked for."""
        self._used = []
        text = make(self)
        return Block(text, tuple(self._used))

    def use(self, source: Source) -> None:
        if source not in self._used:
            self._used.append(source)

    @cached_property
    def _run(self) -> tuple[Run, Path]:
        files = [(load(file), file) for file in self.root.glob("*/results.json")]
        on_cpu = [(run, file) for run, file in files if not run.on_gpu]
        if not on_cpu:
            raise kept.BadFiguresError(f"{self.root} has no results.json of a CPU; `make bench` writes one")
        run, file = max(on_cpu, key=lambda found: found[0].date)
        return run, file.parent

    def run(self) -> Run:
        """The latest run of `make bench` on a CPU."""
        run, folder = self._run
        m = run.machine
        versions = ", ".join(f"{name} {m[name]}" for name in ("torchops", "torch", "triton", "python") if name in m)
        told = {
            "kind": "measured",
            "machine": m.get("cpu", "a CPU"),
            "threads": "as the rows say",
            "versions": versions,
            "commit": run.commit,
            "date": run.date[:10],
            "command": "python -m bench",
            "method": "interleaved rounds; ratios are medians over them",
        }
        self.use(Source(told, folder))
        return run

    def duel(self, case: str, other: str, threads: str = "1", ours: str = "torchops") -> Duel:
        """One comparison of that run.

        Raises:
            BadFiguresError: if it was not made.
        """
        for duel in self.run().duels:
            if (duel.ours.key, duel.other.provider) == ((case, threads, ours), other):
                return duel
        raise kept.BadFiguresError(f"{self._run[1]} has no {case} of {ours} against {other} on {threads} threads")

    def all(self, name: str, kind: str = "measured") -> list[tuple[kept.Figures, Path]]:
        """All files of a name, measured on CPUs or modelled of GPUs that are not there; the latest first."""
        folders = "cpu-*" if kind == "measured" else "modelled-*"
        found = [(kept.read(file), file.parent) for file in sorted(self.root.glob(f"{folders}/{name}.json"))]
        return sorted(found, key=lambda one: str(one[0].provenance["date"]), reverse=True)

    def measured(self, file: str, table: str = "") -> kept.Table:
        """A table of the latest file of that name that has it; its own name is the file's by default.

        Raises:
            BadFiguresError: if there is none.
        """
        for figures, folder in self.all(file):
            if (table or file) in figures.tables:
                self.use(Source(figures.provenance, folder))
                return figures.tables[table or file]
        raise kept.BadFiguresError(f"{self.root} has no {file}.json with a table {table or file!r}")

    def modelled(self, gpu: str, file: str, table: str = "") -> kept.Table:
        """A table of a GPU that is not there."""
        folder = self.root / f"modelled-{gpu}"
        figures = kept.read(folder / f"{file}.json")
        self.use(Source(figures.provenance, folder))
        return figures.tables[table or file]


def shown(table: kept.Table, *names: str) -> str:
    """Some columns of a table as Markdown; all of them by default."""
    chosen = [i for i, c in enumerate(table.columns) if not names or c.heading in names]
    columns = [table.columns[i] for i in chosen]
    rows = [[row[i] for i in chosen] for row in table.texts()]
    return kept.markdown([c.heading for c in columns], rows, [bool(c.form) for c in columns])


def time(seconds: float) -> str:
    """To three digits, with a unit."""
    for unit, scale in (("us", 1e-6), ("ms", 1e-3)):
        digits = f"{seconds / scale:.3g}"
        # what rounds to a thousand is one of the next unit
        if float(digits) < 1000:
            return f"{digits} {unit}"
    return f"{seconds:.3g} s"


def ratio(value: float) -> str:
    return f"{value:.2f}x"


def span(values: Sequence[float]) -> str:
    """The least to the largest, one where they are the same."""
    low, high = ratio(min(values)), ratio(max(values))
    return low if low == high else f"{low} to {high}"
