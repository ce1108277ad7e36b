"""A run from its beginning to its end: whose the folder is, what goes on, what is left of what fails."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchops import backend

from .checkpoints import CheckpointError
from .distributed import Elsewhere, Processes
from .options import Config
from .runs import Run
from .trainer import Diverged, Interrupted, Trainer, Watcher


def train(config: Config, run: Run, watcher: Watcher, *, resume: bool = False) -> dict[str, Any]:
    """Train a network as a run says, and fill its folder, in which no other process trains meanwhile.

    Args:
        config: what to train, and how.
        run: the folder, made if it is not there.
        watcher: is told of what was found, and of every step and epoch.
        resume: go on where the folder's last checkpoint stands. Of the folder's own configuration, `config` may differ in
            `device` and `workers`, and ask for more epochs: these are a cycle of their own, see :func:`rate`.

    Returns:
        What `summary.json` says.

    Raises:
        DataError, CheckpointError, ImageError: if data or a file of weights are not what they should be, or the folder is
            another process's or cannot be written.
        ValueError: if the configuration cannot be, or is not that of the run.
        Interrupted: after Ctrl-C. The state is saved, and `resume` goes on.
        Diverged: where the loss, a held-out figure or a weight is nan or infinite.
    """
    with _joined(config) as processes, contextlib.ExitStack() as stack:
        with processes.as_one():
            if resume and processes.first:
                stack.enter_context(run.locked())
                # another process may have extended it meanwhile
                before = run.config()
                config = before.changed(config)
            goes_on = resume and run.last.exists()
            # what it once started from may be gone by now
            trainer = Trainer(dataclasses.replace(config, weights=None) if goes_on else config, run, processes, watcher)
            if goes_on:
                trainer.resume()
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
        return trainer.train()


def look(config: Config, watcher: Watcher) -> None:
    """Tell a watcher what a run would be trained on, and which network; nothing is trained, written or downloaded for it.

    Raises:
        DataError, ImageError: if the data are not what they should be.
        ValueError: if the configuration cannot be.
    """
    config = dataclasses.replace(config, weights=None, judge=None)
    with _joined(config) as processes, processes.as_one():
        Trainer(config, Run(Path()), processes, watcher)


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


@contextlib.contextmanager
def _joined(config: Config) -> Iterator[Processes]:
    processes = Processes.join(config.device)
    try:
        with backend.use_backend(config.backend or backend.get_backend()):
            yield processes
    finally:
        processes.leave()


__all__ = ["CheckpointError", "Diverged", "Elsewhere", "Interrupted", "Trainer", "Watcher", "look", "train"]
