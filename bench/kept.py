"""Files of figures in bench/results/, a folder for each machine and day: where figures come from, what was found, tables of it.

`python -m bench report FOLDER` makes the report of a folder of them, `python -m bench.pages` the tables of README and docs.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from torchops.files import replacing

from .provenance import commit, provenance

RESULTS = Path(__file__).parent / "results"
PROVENANCE = ("kind", "machine", "threads", "versions", "commit", "date", "command", "method")
"""What every file says of its figures. `kind` is one of KINDS."""
KINDS = ("measured", "modelled")

Cell = str | int | float | None


class BadFiguresError(ValueError):
    """A file that is missing or holds no figures."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    unit: str = ""
    form: str = ""
    """How a number is printed, as `format` takes it."""

    @property
    def heading(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def text(self, cell: Cell) -> str:
        """A cell as it is printed; none is a dash."""
        if cell is None:
            return "-"
        return cell if isinstance(cell, str) else format(cell, self.form)


@dataclass(frozen=True)
class Table:
    """Figures in columns."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    note: str = ""
    folded: bool = False
    """Whether a report hides it behind its title."""

    def texts(self) -> list[list[str]]:
        """The cells as they are printed."""
        return [[c.text(cell) for c, cell in zip(self.columns, row, strict=True)] for row in self.rows]

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries by the names of the columns."""
        for row in self.rows:
            yield dict(zip((c.name for c in self.columns), row, strict=True))


@dataclass(frozen=True)
class Figures:
    """What a file holds."""

    provenance: dict[str, Any]
    tables: dict[str, Table]
    found: dict[str, Any] = field(default_factory=dict)
    """What the program found, in its own order; none where figures were transcribed."""


def folder() -> Path:
    """Of this machine's figures: named after the GPU, or the CPU, and the day."""
    cpu = "cpu-" + re.sub(r"\((R|TM)\)|Processor|,.*", "", provenance(0, "")["cpu"])
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    return RESULTS / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}-{datetime.date.today()}"


def about(kind: str, command: str, method: str, *, threads: str, machine: str = "", note: str = "") -> dict[str, Any]:
    """The provenance of figures that are found now.

    Args:
        kind: "measured" or "modelled".
        command: what finds them.
        method: how, in a sentence.
        threads: how many, of torch, as text.
        machine: that the figures are of; this one by default.
        note: what else there is to know.
    """
    here = provenance(0, "")
    versions = ", ".join(f"{name} {here[name]}" for name in ("torchops", "torch", "triton", "python"))
    told = {
        "kind": kind,
        "machine": machine or (here["gpu"] if torch.cuda.is_available() else here["cpu"]),
        "threads": threads,
        "versions": versions,
        "commit": commit(),
        "date": str(datetime.date.today()),
        "command": command,
        "method": method,
    }
    return (
        told | ({"load before": here["load before"]} if kind == "measured" else {}) | ({"note": note} if note else {})
    )


def read(file: Path) -> Figures:
    """What is in a file.

    Raises:
        BadFiguresError: if it is missing, or no file of figures.
    """
    try:
        held = json.loads(file.read_text())
        tables = [_table(t) for t in held["tables"]]
        told = dict(held["provenance"])
        missing = [name for name in PROVENANCE if not told.get(name)]
        if missing or told["kind"] not in KINDS:
            raise BadFiguresError(f"{file} does not say where its figures come from: {', '.join(missing) or 'kind'}")
        return Figures(told, {t.name: t for t in tables}, held.get("found", {}))
    except OSError as error:
        raise BadFiguresError(f"{file} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise BadFiguresError(f"{file} is no file of figures") from None


def holds_figures(file: Path) -> bool:
    """Whether it is a file of figures, right or wrong, and not one of another kind."""
    return '"provenance"' in file.read_text(errors="replace")[:64]


def found(file: Path) -> dict[str, Any]:
    """What a program found before, which runs of it add to; nothing where there is no file."""
    return read(file).found if file.exists() else {}


def write(file: Path, told: dict[str, Any], tables: Sequence[Table], what: dict[str, Any] | None = None) -> None:
    """Write the file whole or not at all; its folder is made. What JSON does not know becomes text.

    Args:
        file: where to.
        told: the provenance, as :func:`about` gives it.
        tables: what reports and pages show.
        what: what the program found, where runs of it add to the file.
    """
    held: dict[str, Any] = {"provenance": told, "tables": [_stored(t) for t in tables]}
    if what:
        held["found"] = what
    text = json.dumps(held, indent=1, default=str)
    # a row a line
    text = re.sub(r'\[\s+(?:[^\[\]{}"]|"(?:[^"\\]|\\.)*")*?\s+\]', lambda m: json.dumps(json.loads(m[0])), text)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        beside.write_text(text + "\n")


def _stored(table: Table) -> dict[str, Any]:
    columns = [[c.name, c.unit, c.form] for c in table.columns]
    more = {name: getattr(table, name) for name in ("note", "folded") if getattr(table, name)}
    rows = [[_short(cell) for cell in row] for row in table.rows]
    return {"name": table.name, "title": table.title, **more, "columns": columns, "rows": rows}


def _short(cell: Cell) -> Cell:
    return float(f"{cell:.9g}") if isinstance(cell, float) else cell


def _table(held: dict[str, Any]) -> Table:
    columns = tuple(Column(*c) for c in held["columns"])
    return Table(held["name"], held["title"], columns, held["rows"], held.get("note", ""), held.get("folded", False))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool] = ()) -> str:
    """A table as Markdown.

    Args:
        columns: the headings.
        rows: the cells, as text.
        numbers: whether a column holds numbers, which stand to the right; none by default.
    """
    sides = ["--:" if number else "---" for number in numbers] or ["---"] * len(columns)
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(sides)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def printed(table: Table) -> str:
    """All of a table as Markdown."""
    return markdown([c.heading for c in table.columns], table.texts(), [bool(c.form) for c in table.columns])
