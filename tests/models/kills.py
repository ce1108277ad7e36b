"""Runs that are killed at random moments and gone on with: `python -m tests.models.kills [kills] [seed]`.

A run that was killed ends as one that was not: the same metrics.csv but for the seconds, the same weights of the last and
of the best epoch, the same summary, the same files.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

import torch

from tests.models.rounding import figures
from tests.models.tiny import Silent, tiny
from torchops.models import Checkpoint
from torchops.models.runs import Run
from torchops.models.training import train

PATIENCE = 300.0
"""Seconds after which a process will not end any more."""
LONGER: dict[str, dict[str, Any]] = {"lenet": {"epochs": 8, "examples": 60}, "unet": {"epochs": 5, "crops": 2}}


@dataclass
class Killed:
    """What came of it."""

    net: str
    seconds: float
    """Of the run that was not killed, with its process."""
    moments: list[tuple[float, str]] = field(default_factory=list)
    """When the process was killed, and what the folder held then."""
    differs: list[str] = field(default_factory=list)


def forking() -> ForkServerContext:
    """Processes begin where all is imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.models.tiny", "torchops.models.training"])
    return context


def child(net: str, path: str) -> None:
    """One process: begins, or goes on."""
    torch.set_num_threads(1)
    run = Run(Path(path))
    if run.config_file.exists():
        train(run.config(), run, Silent(), resume=True)
    else:
        train(tiny(net, **LONGER[net]), run, Silent())


def _held(run: Run) -> str:
    if not run.last.exists():
        return "config" if run.config_file.exists() else "nothing"
    if run.summary_file.exists():
        return "all"
    training = Checkpoint.load(run.last).training
    return f"epoch {len(training['rows'])}"


def _without_seconds(summary: dict[str, Any]) -> dict[str, Any]:
    return {**summary, "last": {k: v for k, v in summary["last"].items() if k != "seconds"}}


def compare(one: Run, other: Run) -> list[str]:
    """What differs between two runs that should be the same."""
    differs = []
    if figures(one) != figures(other):
        differs.append("metrics.csv")
    for name in ("last.pt", "best.pt"):
        states = [Checkpoint.load(run.path / name) for run in (one, other)]
        for kind in ("state", "net"):
            tensors = [s.state if kind == "state" else s.training.get(kind, {}) for s in states]
            if tensors[0].keys() != tensors[1].keys() or not all(
                torch.equal(t, tensors[1][k]) for k, t in tensors[0].items()
            ):
                differs.append(f"{kind} of {name}")
        if states[0].training.get("epoch") != states[1].training.get("epoch"):
            differs.append(f"epoch of {name}")
    summaries = [_without_seconds(json.loads(run.summary_file.read_text())) for run in (one, other)]
    if summaries[0] != summaries[1]:
        differs.append("summary.json")
    names = [sorted(file.name for file in run.path.iterdir()) for run in (one, other)]
    if names[0] != names[1]:
        differs.append(f"files: {names}")
    return differs


def kill(net: str, folder: Path, kills: int, seed: int, context: ForkServerContext | SpawnContext) -> Killed:
    """Kill a run so many times, each at a moment of the time that a whole one takes, and go on until it is done.

    Args:
        net: the network.
        folder: to work in, an empty one.
        kills: how often; less often if it is done before.
        seed: of the moments.
        context: how processes begin: "spawn" has each import all there is, so that some are killed at that.
    """
    whole, pieces = Run(folder / "whole"), Run(folder / "pieces")

    def start(run: Run) -> Any:
        process = context.Process(target=child, args=(net, str(run.path)))
        process.start()
        return process

    # the first one waits for a server of forks
    process = context.Process(target=int)
    process.start()
    process.join(PATIENCE)
    began = time.monotonic()
    process = start(whole)
    process.join(PATIENCE)
    assert process.exitcode == 0, process.exitcode
    result = Killed(net, time.monotonic() - began)
    moments = random.Random(seed)
    for _ in range(kills):
        moment = moments.uniform(0, result.seconds)
        process = start(pieces)
        process.join(moment)
        if process.exitcode is None:
            process.kill()
            process.join()
            result.moments.append((moment, _held(pieces)))
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    process = start(pieces)
    process.join(PATIENCE)
    assert process.exitcode == 0, process.exitcode
    result.differs = compare(whole, pieces)
    return result


def main(kills: int, seed: int) -> int:
    print(f"seed {seed}")
    failed = 0
    for net in LONGER:
        done = 0
        while done < kills:
            # some are killed while they import, more while they train
            context = forking() if done % 4 else multiprocessing.get_context("spawn")
            with tempfile.TemporaryDirectory() as folder:
                result = kill(net, Path(folder), min(3, kills - done), seed, context)
            told = "; ".join(f"at {moment:.1f} s: {held}" for moment, held in result.moments)
            print(f"{net} of {result.seconds:.1f} s, killed {told}: {result.differs or 'the same'}", flush=True)
            failed += bool(result.differs)
            done += len(result.moments)
            seed += 1
    return failed


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(given[0] if given else 10, given[1] if len(given) > 1 else random.randrange(2**32)))
