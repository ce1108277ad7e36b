"""`python -m bench.gpu_check [--stage NAME ...] [--dry-run] [--out DIR]`: all that wants a GPU, in stages, in eight minutes.

Nothing has to be installed: the package is imported from the checkout. Every stage writes its results as they come, and a
summary when it ends. The dry run asks every stage what it can answer without a GPU.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from pytest_benchmark.utils import get_commit_info
from rich.console import Console
from rich.table import Table

from bench.provenance import provenance

from .folder import Folder, Outcome
from .stages import CACHE, REPORT, ROOT, ROUNDS, STAGES, TOTAL, Session, Stage, write_report

CONSOLE = Console(width=140)


def ends_at(stage: Stage, began: float, now: float, dry: bool) -> float:
    """When a stage has to end that begins now, in a check that began then."""
    return now + stage.dry_seconds if dry else min(now + stage.seconds, began + TOTAL - REPORT)


def run(stage: Stage, session: Session, until: float) -> Outcome:
    """Run a stage; whatever it raises is its verdict."""
    began = time.monotonic()
    try:
        verdict, said = ("not begun: the time is out", "") if began >= until else stage.run(session, until)
    except Exception as error:  # the stages after it go on
        CONSOLE.print_exception()
        verdict, said = "FAILED", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Outcome(stage.name, verdict, time.monotonic() - began, said)


def main(
    stage: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(s.name for s in STAGES)}; may be repeated. All by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="What can be asked without a GPU.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Test, time and tune everything on this machine's GPU."""
    if unknown := sorted(set(stage or ()) - {s.name for s in STAGES}):
        typer.echo(
            f"gpu-check: --stage must be one of {', '.join(s.name for s in STAGES)}, got {unknown[0]!r}", err=True
        )
        raise typer.Exit(2)
    if not dry_run and not torch.cuda.is_available():
        typer.echo("gpu-check: torch sees no GPU here; --dry-run asks what can be answered without one", err=True)
        raise typer.Exit(2)
    if out is None:
        gpu = "" if dry_run else re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name())
        out = ROOT / ("out/gpu-check" if dry_run else f"bench/results/{gpu}-{time.strftime('%Y%m%d-%H%M%S')}")
    # imports took their time, too
    began = time.monotonic() - (time.time() - psutil.Process().create_time())
    if not dry_run:
        # this is Triton's cache, for this process and all that it starts
        os.environ["TRITON_CACHE_DIR"] = str(CACHE)
    from torchops.measure.tune import this_gpu

    found = get_commit_info()
    commit = f"{found.get('id', 'unknown')}{', with changes' if found.get('dirty') else ''}"
    machine: dict[str, Any] = {**provenance(ROUNDS, "GPU check"), "commit": commit}
    folder = Folder(out.absolute(), machine, dry_run, fresh=not stage)
    session = Session(folder, None if dry_run else this_gpu())
    for name, value in machine.items():
        CONSOLE.print(f"{name:>12}  {value}", highlight=False, soft_wrap=True)
    for one in STAGES:
        if stage and one.name not in stage:
            continue
        CONSOLE.print(f"{one.name} ...", highlight=False)
        outcome = run(one, session, ends_at(one, began, time.monotonic(), dry_run))
        folder.close(outcome)
        CONSOLE.print(f"{outcome.stage}: {outcome.verdict}, {outcome.seconds:.0f} s. {outcome.said}", markup=False)
    try:
        write_report(session)
    except Exception:  # its figures are in results.jsonl
        CONSOLE.print_exception()
    shown = Table("stage", "verdict", "seconds", "", title="gpu-check, a dry run" if dry_run else "gpu-check")
    for outcome in folder.outcomes:
        shown.add_row(outcome.stage, outcome.verdict, f"{outcome.seconds:.0f}", outcome.said)
    CONSOLE.print(shown)
    CONSOLE.print(f"in {folder.path}", highlight=False, soft_wrap=True)
    if any(outcome.verdict != "ok" for outcome in folder.outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
