"""What is written of a run beside metrics.csv, for other programs to draw."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Iterator, Mapping
from typing import Any

from torchops.files.images import ImageError, read_image

from .data import Found
from .options import Config
from .runs import Row, Run
from .trainer import Watcher

FOLDER = "tensorboard"
"""In that of the run."""


def check_log(config: Config) -> None:
    """See that what is to be logged can be.

    Raises:
        ModuleNotFoundError: without the extra that it takes.
    """
    if config.log == "tensorboard":
        try:
            import torch.utils.tensorboard  # noqa: F401
        # a folder of this name, as in a run's, is taken for the package where there is none
        except ImportError as error:
            message = "`log` (=tensorboard) needs tensorboard: pip install 'torchops[tensorboard]'"
            raise ModuleNotFoundError(message, name="tensorboard") from error


@contextlib.contextmanager
def logged(config: Config, run: Run, watcher: Watcher) -> Iterator[Watcher]:
    """A watcher that tells another one, and logs what the configuration asks for; the pictures, if the block succeeds.

    Raises:
        CheckpointError: if the log cannot be written.
    """
    if config.log == "none":
        yield watcher
        return
    log = TensorBoard(run)
    try:
        yield Both(watcher, log)
        log.finish()
    finally:
        log.close()


class Both:
    """A watcher that tells two."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def found(self, found: Found) -> None:
        for watcher in self.watchers:
            watcher.found(found)

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None:
        for watcher in self.watchers:
            watcher.step(epoch, step, steps, loss, images_per_second)

    def epoch(self, figures: Row) -> None:
        for watcher in self.watchers:
            watcher.epoch(figures)

    def note(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.note(text)


class TensorBoard:
    """A watcher that writes event files for TensorBoard: figures by epoch, and at the end the run's pictures.

    Each time that a run is gone on with, there is a file more, with all epochs in metrics.csv: it purges what older files say,
    which may be more, as of an epoch that was not saved, or less, as of a run that was not logged then.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.writer: Any = None
        self.began = 0.0

    def found(self, found: Found) -> None:
        pass

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None:
        pass

    def epoch(self, figures: Row) -> None:
        with self.run.writing():
            if self.writer is None:
                # the figures are among those of metrics.csv
                self._open()
            else:
                self._write(figures)
            self.writer.flush()

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        """Write the pictures of the run's folder, what its summary says, and its test figures, at its last epoch."""
        with self.run.writing():
            if self.writer is None:
                self._open()
            last = len(self.run.metrics())
            summary = self.run.summary()
            self._figures(last, {name: value for name, value in summary.items() if name.startswith("test_")})
            self._text("summary", self.run.summary_file.read_text(encoding="utf-8"), last)
            for file in self.run.pictures():
                # one that cannot be read is not the run's
                with contextlib.suppress(ImageError):
                    self.writer.add_image(file.stem, read_image(file).scaled(), last)

    def close(self) -> None:
        if self.writer is not None:
            with self.run.writing():
                self.writer.close()

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.run.path / FOLDER), purge_step=0)
        rows = self.run.metrics()
        # texts are not purged: each is that of a run from here on
        self._text("config", self.run.config_file.read_text(encoding="utf-8"), len(rows))
        self.began = time.time() - (rows[-1]["seconds"] or 0)
        for row in rows:
            self._write(row)

    def _write(self, row: Row) -> None:
        """The figures of an epoch, at the time that it would have been over if the run had never been stopped."""
        figures = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
        self._figures(int(row["epoch"] or 0), figures, self.began + (row["seconds"] or 0))

    def _figures(self, epoch: int, figures: Mapping[str, float | None], when: float | None = None) -> None:
        """As "train/loss" and "val/loss", which are drawn in a group each."""
        for name, value in figures.items():
            if value is not None:
                self.writer.add_scalar(name.replace("_", "/", 1), value, epoch, when)

    def _text(self, name: str, content: str, epoch: int) -> None:
        # Markdown leaves what is indented as it is
        self.writer.add_text(name, textwrap.indent(content, "    "), epoch)
