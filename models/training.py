"""A run from its beginning to its end: whose the folder is, what goes on, what is left of what fails."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torchops import backend

from .checkpoints import CheckpointError
from .data import DataError
from .distributed import Elsewhere, Processes
from .logs import check_log, logged
from .options import Config
from .runs import Run
from .state import difference
from .trainer import Diverged, Interrupted, Trainer, Watcher


def train(
    config: Config, run: Run, watcher: Watcher, *, resume: bool = False, processes: Processes | None = None
) -> dict[str, Any]:
    """Train a network as a run says, and fill its folder, in which no other process trains meanwhile.

    Of several processes the first one's configuration counts, but for what is each machine's own; it alone needs the files of
    weights and the folder, and fills it.

    Args:
        config: what to train, and how.
        run: the folder, made if it is not there.
        watcher: is told of what was found, and of every step and epoch.
        resume: go on where the folder's last checkpoint stands. Of the folder's own configuration, `config` may differ in
            `device`, `workers` and `log`, and ask for more epochs: these are a cycle of their own, see :func:`rate`.
        processes: those that train; if they have not met yet, they do so here.

    Returns:
        What `summary.json` says; nothing in other processes than the first.

    Raises:
        DataError, CheckpointError, ImageError: if data or a file of weights are not what they should be, or the folder is
            another process's or cannot be written.
        ModuleNotFoundError: without what `log` takes.
        ValueError: if the configuration cannot be, or is not that of the run.
        Elsewhere: if it was another process that failed.
        Interrupted: after Ctrl-C. The state is saved, and `resume` goes on.
        Diverged: where the loss, a held-out figure or a weight is nan or infinite.
    """
    with _joined(processes) as processes, contextlib.ExitStack() as stack:
        goes_on = False
        with processes.as_one():
            if resume and processes.first:
                stack.enter_context(run.locked())
                # another process may have extended it meanwhile
                before = run.config()
                config = before.changed(config)
                goes_on = run.last.exists()
        first, goes_on = processes.from_first((config, goes_on))
        config = first.at(config)
        with processes.as_one():
            if processes.first:
                check_log(config)
            processes = stack.enter_context(_computing(config, processes))
            # what it once started from may be gone by now
            weights = config.weights if processes.first and not goes_on else None
            judge = config.judge if processes.first else None
            trainer = Trainer(dataclasses.replace(config, weights=weights, judge=judge), run, processes, watcher)
        _check_alike(trainer)
        if goes_on:
            with processes.file_from_first(run.last) as last, processes.as_one():
                trainer.resume(last)
        else:
            processes.tensors_from_first(*trainer.first_weights())
        with processes.as_one():
            if resume:
                if processes.first and config.epochs != before.epochs:
                    _extend(trainer, before)
                elif processes.first and trainer.ended():
                    watcher.note(
                        "nothing is left to train" + ("" if trainer.stale() else ": more epochs extend the run")
                    )
            elif processes.first:
                # the folder is made only now: a run that is refused leaves none
                stack.enter_context(run.begun(config))
        if processes.first:
            trainer.watcher = stack.enter_context(logged(config, run, watcher))
        return trainer.train()


def look(config: Config, watcher: Watcher, *, processes: Processes | None = None) -> None:
    """Tell a watcher what a run would be trained on, and which network; nothing is trained, no weights are
    downloaded, and no run is written. A set that is known by name is downloaded if it is not there.

    Raises:
        DataError, ImageError: if the data are not what they should be.
        ValueError: if the configuration cannot be.
    """
    config = dataclasses.replace(config, weights=None, judge=None)
    with _joined(processes) as processes, processes.as_one(), _computing(config, processes) as here:
        Trainer(config, Run(Path()), here, watcher)


def _check_alike(trainer: Trainer) -> None:
    """See that all processes have the same data, and that they compute on devices of one kind.

    Raises:
        DataError, ValueError: in the first process: which one differs from it, and in what.
        Elsewhere: in the others.
    """
    processes, data = trainer.processes, trainer.task.data
    said = processes.of_all((trainer.device.type, trainer.identity, data.labels))
    device, identity, labels = said[0][2]
    with processes.as_one():
        for rank, (_, host, (its_device, its_identity, its_labels)) in enumerate(said if processes.first else []):
            if its_device != device:
                raise ValueError(f"`device`: process {rank} on {host} computes on {its_device}, process 0 on {device}")
            differs = difference(its_identity, identity, "there", "in process 0")
            if differs is None and its_labels != labels:
                differs = "the classes differ"
            if differs is not None:
                raise DataError(f"process {rank} on {host} has other data than process 0: {differs}")


def _extend(trainer: Trainer, before: Config) -> None:
    """Write that there are more epochs than in the configuration of before, and say so.

    Raises:
        ValueError: if it was not for want of epochs that the run ended.
    """
    epochs, patience = trainer.config.epochs, trainer.config.patience
    run = trainer.run_folder
    if trainer.stale():
        raise ValueError(
            f"`epochs` (={epochs}): the run was stopped by `patience` (={patience}) after {len(trainer.rows)} epochs, "
            f"the best of which is {trainer.best + 1}; a new run can have its best.pt as `weights`"
        )
    kept = dataclasses.replace(before, epochs=epochs, cycles=trainer.config.cycles)
    run.write_config(kept)
    # it is of fewer epochs
    run.remove_results()
    trainer.watcher.note(
        f"from {before.epochs} epochs to {epochs}: in the added ones the learning rate rises again, "
        "for a twentieth of the steps, and falls as a cosine to zero"
    )


def _joined(processes: Processes | None) -> AbstractContextManager[Processes]:
    return Processes.joined() if processes is None else contextlib.nullcontext(processes)


@contextlib.contextmanager
def _computing(config: Config, processes: Processes) -> Iterator[Processes]:
    """The processes on the device, and the operators by the backend, that are asked for."""
    with backend.use_backend(config.backend or backend.get_backend()):
        yield processes.on(config.device)


__all__ = [
    "CheckpointError", "Diverged", "Elsewhere", "Interrupted", "Processes", "Trainer", "Watcher", "look", "train",
]  # fmt: skip
