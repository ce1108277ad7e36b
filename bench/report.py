"""A pytest-benchmark JSON as a Markdown table, losses marked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any


def table(file: Path) -> str:
    """The Markdown of one run: the machine, then every case with all its providers."""
    run = json.loads(file.read_text())
    return "\n".join(_lines(run))


def _verdict(share: float) -> str:
    return f"{share:.2f}x" + (" **slower**" if share > 1 else "")


def _lines(run: dict[str, Any]) -> Iterator[str]:
    machine = run["machine_info"]
    yield "Measured, " + ", ".join(f"{name} {value}" for name, value in machine.items()) + "."
    yield ""
    yield "| case | threads | provider | ms_p50 | ms_p20 | ms_p80 | tflops | gb_per_s | peak_mib | torchops takes |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    rows = [b["extra_info"] for b in run["benchmarks"]]
    for (case, threads), providers in groupby(rows, key=lambda r: (r["case"], r["threads"])):
        for row in providers:
            verdict = "" if row["provider"] == "torchops" else _verdict(row["torchops_over_this"])
            if row["provider"] == "fused":
                # ours as well
                verdict = f"fused takes {_verdict(row['fused_over_aten'])} of aten"
            times = " | ".join(f"{row[name]:.4g}" for name in ("ms_p50", "ms_p20", "ms_p80"))
            rates = " | ".join(f"{row[name]:.3g}" if row[name] else "" for name in ("tflops", "gb_per_s"))
            yield f"| {case} | {threads} | {row['provider']} | {times} | {rates} | {row['peak_mib']:.0f} | {verdict} |"
