"""A run and its folder: what was asked for, what came of it, and the checkpoints to use or to go on from."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from torchops.files import not_a_file, replacing

from .checkpoints import CheckpointError
from .options import Config

Row = dict[str, float | None]
"""What an epoch came to; None where there is nothing to count, as the IoU of classes that are not there."""
CARD_MARK = (
    "<!-- Written by torchops train, and anew when the run goes on. Without this line, the file stays as it is. -->"
)
"""The first line of a card; a README.md that begins otherwise is somebody's own."""
PICTURES = (
    "confusion.png", "curves.png", "mistakes.png", "overlays.png", "predictions.png", "samples.png", "steps.png",
)  # fmt: skip
"""What is drawn at the end of a run; each task draws some of them."""
LARGEST_CONFIG = 1 << 20
"""Bytes that a configuration may have."""


def best_row(rows: Sequence[Row], key: str, larger: bool) -> int:
    """The index of the best epoch: of those with the best figure the one of least held-out loss, and of several the first.

    Where no epoch has a figure it is the last of all. A few
    held-out images are soon all told right, by weights that have hardly begun; their loss still tells which are better.

    Args:
        rows: at least one.
        key: the figure that epochs are compared by.
        larger: whether more of it is better.
    """
    sign = 1 if larger else -1
    values = [-math.inf if (value := row[key]) is None else sign * value for row in rows]
    best = max(values)
    if best == -math.inf:
        return len(rows) - 1
    losses = [math.inf if (loss := row.get("val_loss")) is None else loss for row in rows]
    return min((n for n, value in enumerate(values) if value == best), key=losses.__getitem__)


@dataclass(frozen=True)
class Run:
    """The folder of a run."""

    path: Path

    @staticmethod
    def create(path: Path, config: Config) -> Run:
        """Make the folder and write the configuration.

        Raises:
            CheckpointError: if it holds a run already, or cannot be made.
        """
        run = Run(path)
        run.check_unused()
        with run.writing():
            path.mkdir(parents=True, exist_ok=True)
        run.write_config(config)
        return run

    @contextlib.contextmanager
    def begun(self, config: Config) -> Iterator[None]:
        """The folder, made for a new run that is trained in the block. If it fails before its first checkpoint, nothing stays.

        Raises:
            CheckpointError: if the folder holds a run already, another process trains in it, or it cannot be made.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            with self.writing():
                self.path.mkdir(parents=True, exist_ok=True)
            with self.locked():
                Run.create(self.path, config)
                try:
                    yield
                except BaseException:
                    if not self.last.exists():
                        # what was not there before, as is checked
                        for file in (self.config_file, self.best, self.metrics_file):
                            file.unlink(missing_ok=True)
                    raise
        finally:
            for folder in made:
                # those that hold something stay
                with contextlib.suppress(OSError):
                    folder.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process trains in the folder during the block; the lock of a process that was killed is gone with it.

        Raises:
            CheckpointError: if another process does.
        """
        file = self.path / ".lock"
        lock = FileLock(file, timeout=0)
        with self.writing():
            try:
                lock.acquire()
            except Timeout:
                raise CheckpointError(f"{self.path}: is being trained by another process") from None
        try:
            yield
        finally:
            # not all systems remove what is open
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()

    def check_unused(self) -> None:
        """Raise `CheckpointError` if something was trained here, or if `config.json` is of something else.

        The configuration of a run that was killed in its first epoch is no obstacle.
        """
        if any(file.exists() for file in (self.last, self.best, self.metrics_file)):
            raise CheckpointError(
                f"{self.path}: holds a run already; `resume` goes on with it, another `path` starts anew"
            )
        if self.config_file.exists():
            self.config()

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def summary_file(self) -> Path:
        return self.path / "summary.json"

    @property
    def confusion_file(self) -> Path:
        """How often a class was taken for another, on held-out data, by the best network."""
        return self.path / "confusion.csv"

    @property
    def card_file(self) -> Path:
        return self.path / "README.md"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint to use."""
        return self.path / "best.pt"

    def config(self) -> Config:
        """What was asked for.

        Raises:
            CheckpointError: if the folder holds no run.
        """
        file = self.config_file
        try:
            reason = not_a_file(file)
            if reason is not None:
                raise ValueError(f"{file.name} {reason}" if reason.startswith("is ") else f"{reason}, {file.name}")
            if file.stat().st_size > LARGEST_CONFIG:
                raise ValueError(f"{file.name} is larger than {LARGEST_CONFIG:,} bytes")
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"{file.name} holds no fields")
            return Config(**content)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            reason = str(error).removeprefix("Config.__init__() ") or type(error).__name__
            raise CheckpointError(f"{self.path}: holds no run of torchops train that can be read: {reason}") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes to the folder: why it could not.

        Raises:
            CheckpointError: if it could not.
        """
        try:
            yield
        except OSError as error:
            kept = "; what was saved before is still there, and `resume` goes on from it" if self.last.exists() else ""
            raise CheckpointError(f"{self.path}: cannot be written: {error.strerror or error}{kept}") from error

    def write(self, name: str, text: str) -> None:
        with self.writing(), replacing(self.path / name) as beside:
            beside.write_text(text, encoding="utf-8")

    def write_config(self, config: Config) -> None:
        self.write(self.config_file.name, json.dumps(dataclasses.asdict(config), indent=2) + "\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        self.write(self.summary_file.name, json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any]:
        """What it says at the end."""
        return json.loads(self.summary_file.read_text(encoding="utf-8"))

    def pictures(self) -> list[Path]:
        """Those that were drawn of the run; other pictures in its folder are somebody's own."""
        return [self.path / name for name in PICTURES if (self.path / name).is_file()]

    def write_card(self, text: str) -> None:
        """Write README.md; one that somebody else has written stays."""
        if not os.path.lexists(self.card_file) or self._has_card():
            self.write(self.card_file.name, f"{CARD_MARK}\n\n{text}")

    def remove_results(self) -> None:
        """Remove what says that the run is done."""
        with self.writing():
            for file in (self.summary_file, self.confusion_file, *self.pictures()):
                file.unlink(missing_ok=True)
            if self._has_card():
                self.card_file.unlink()

    def _has_card(self) -> bool:
        if not_a_file(self.card_file) is not None:
            return False
        with self.writing(), self.card_file.open("rb") as file:
            return file.read(len(CARD_MARK)) == CARD_MARK.encode()

    def write_metrics(self, rows: list[Row]) -> None:
        """metrics.csv: a row an epoch; the cell of what has no value is empty."""
        with self.writing(), replacing(self.metrics_file) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def metrics(self) -> list[Row]:
        with self.metrics_file.open(newline="") as file:
            return [{name: float(v) if v else None for name, v in row.items()} for row in csv.DictReader(file)]


__all__ = ["Row", "Run", "best_row"]
