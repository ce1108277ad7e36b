"""A run and its folder: what was asked for, what came of it, and the checkpoints to use or to go on from."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from torchops.files import replacing

from .checkpoints import CheckpointError
from .options import Config


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
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.write("config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
        return run

    def check_unused(self) -> None:
        """Raise `CheckpointError` if something was trained here."""
        if self.last.exists():
            raise CheckpointError(
                f"{self.path}: holds a run already; `resume` goes on with it, another `path` starts anew"
            )

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

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
        try:
            return Config(**json.loads(self.config_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{self.path}: holds no run of torchops train that can be read") from error

    def write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as beside:
            beside.write_text(text)

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """metrics.csv: a row an epoch."""
        with replacing(self.path / "metrics.csv") as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def metrics(self) -> list[dict[str, float]]:
        with (self.path / "metrics.csv").open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
