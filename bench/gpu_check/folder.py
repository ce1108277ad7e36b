"""What a check leaves behind: a folder of few files that are whole whenever it is cut off."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torchops.files import replacing

LARGEST_LOG = 4 << 20
"""Bytes that are kept of a log, the last ones."""


@dataclass(frozen=True)
class Outcome:
    """What became of a stage."""

    stage: str
    verdict: str
    """"ok", or what is not."""
    seconds: float
    said: str
    """The figures, in a line."""


@dataclass
class Folder:
    """Seven files: results.jsonl, a line for each result, as it comes; summary.json and summary.md, anew after every stage;
    log.txt; tests.xml; a table of measured block sizes; report.zip of the benchmarks."""

    path: Path
    machine: dict[str, Any]
    dry: bool
    fresh: bool = True
    """Whether what an earlier check left there is deleted, or gone on with."""
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        summary = self.path / "summary.json"
        if not self.fresh and summary.exists():
            self.outcomes = [Outcome(**stage) for stage in json.loads(summary.read_text())["stages"]]
        elif self.fresh:
            for name in ("results.jsonl", "log.txt", "tests.xml", "report.zip"):
                (self.path / name).unlink(missing_ok=True)

    @property
    def results(self) -> Path:
        return self.path / "results.jsonl"

    def add(self, stage: str, **row: Any) -> None:
        """Add a result; it is on disk when this returns."""
        # what was cut off in the middle of a line spoils no other
        begun = self.results.exists() and not self.results.read_bytes().endswith(b"\n")
        with self.results.open("a") as file:
            file.write("\n" * begun + json.dumps({"stage": stage, **row}, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """All results so far, but for a line that was cut off."""
        if not self.results.exists():
            return []
        found = []
        for line in self.results.read_text(errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def log(self, text: str) -> None:
        """Add text to the log, of which the end is kept."""
        file = self.path / "log.txt"
        whole = (file.read_text(errors="replace") if file.exists() else "") + text
        with replacing(file) as beside:
            beside.write_text(whole[-LARGEST_LOG:])

    def close(self, outcome: Outcome) -> None:
        """Write the summary with one more stage."""
        self.outcomes = [o for o in self.outcomes if o.stage != outcome.stage] + [outcome]
        with replacing(self.path / "summary.json") as file:
            found = {"machine": self.machine, "dry_run": self.dry, "stages": [asdict(o) for o in self.outcomes]}
            file.write_text(json.dumps(found, indent=2) + "\n")
        with replacing(self.path / "summary.md") as file:
            file.write_text(summary(self))


def summary(folder: Folder) -> str:
    """The stages, what is wrong, and the telling cases, as Markdown."""
    lines = [
        f"# GPU check{', a dry run' if folder.dry else ''}",
        "",
        *(f"- {name}: {value}" for name, value in folder.machine.items() if isinstance(value, str) and value),
        "",
        "| stage | verdict | seconds | |",
        "|---|---|---|---|",
        *(f"| {o.stage} | {o.verdict} | {o.seconds:.0f} | {o.said} |" for o in folder.outcomes),
    ]
    rows = folder.rows()
    wrong = [row for row in rows if row.get("wrong") or row.get("outcome") == "failed"]
    if wrong:
        lines += ["", "## What is wrong", "", *(f"- {_wrong(row)}" for row in wrong)]
    times = [row for row in rows if row.get("stage") == "timings" and "entry" in row]
    if times:
        lines += [
            "",
            "## Telling cases",
            "",
            "| case | provider | us, graph | torchops over this | of a copy | of a product |",
        ]
        lines.append("|---|---|---|---|---|---|")
        lines += [_time(row) for row in times]
    lines += _against_the_model([row for row in rows if row.get("us") and "modelled_us" in row])
    return "\n".join(lines) + "\n"


def _against_the_model(rows: list[dict[str, Any]]) -> list[str]:
    """What was tuned against what the model says of it, which decides whether the model can be believed."""
    if not rows:
        return []
    ratios = sorted(row["us"] / row["modelled_us"] for row in rows)
    low, middle, high = (ratios[round(share * (len(ratios) - 1))] for share in (0.1, 0.5, 0.9))
    lines = [
        "",
        "## The model against what was tuned",
        "",
        f"Measured over modelled, of {len(rows)} configs: median {middle:.2f}, p10 {low:.2f}, p90 {high:.2f}. The time is that "
        "of the whole call.",
        "",
        "| call | tile, taps, splits | measured us | modelled us | over the model |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        c = row["config"]
        tile = f"{c['block_m']}x{c['block_n']}x{c['block_k']}, {c['taps']}, {c['splits']}"
        lines.append(
            f"| {row['call']} | {tile} | {row['us']:.1f} | {row['modelled_us']:.1f} | {row['us'] / row['modelled_us']:.2f} |"
        )
    return lines


def _wrong(row: dict[str, Any]) -> str:
    stage = row.get("stage") or ("tests" if "test" in row else "tune")
    return f"{stage}: {row.get('name') or row.get('test') or row.get('call')}: {row.get('wrong') or row.get('outcome')}"


def _time(row: dict[str, Any]) -> str:
    shares = [f"{row[name]:.0%}" if name in row else "" for name in ("of_copy", "of_product")]
    info = row["entry"]["extra_info"]
    mark = " IMPOSSIBLE" if info.get("impossible") else ""
    cells = [info["case"], info["provider"], f"{row['us']:.1f}{mark}", f"{info['torchops_over_this']:.2f}", *shares]
    return f"| {' | '.join(cells)} |"


def archive(folder: Folder, files: list[Path]) -> None:
    """Put a report, its pictures and what it is made of into one file of the folder."""
    with (
        replacing(folder.path / "report.zip") as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for file in files:
            packed.write(file, file.name)
