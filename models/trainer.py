"""The training loop: one for every network, on any number of processes, that can be stopped and gone on with at any step."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchops._version import __version__
from torchops.torch_internals import BatchNorm

from . import pictures
from .card import card
from .checkpoints import Checkpoint, CheckpointError
from .data import DataError, Found, Seeded, train_loader, val_loader
from .data.found import counted
from .distributed import Processes
from .options import Config
from .runs import Row, Run, best_row
from .schedule import rate
from .setup import CHANNELS_LAST, data_for, net_for, optimizer_for, task_for, trained_always
from .state import State, finite, fit, identity, load_moments
from .tasks import to


class Interrupted(Exception):  # noqa: N818 (it is none)
    """Stopped by a signal; what was done is saved."""


class Diverged(FloatingPointError):  # noqa: N818 (the error is in the settings)
    """The loss, a figure or the weights are no numbers any more; nothing of that is saved."""


class Watcher(Protocol):
    """Whoever is told how a run goes on."""

    def found(self, found: Found) -> None:
        """What there is to train on, before anything is trained."""
        ...

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None: ...

    def epoch(self, figures: Row) -> None: ...

    def note(self, text: str) -> None: ...


class Trainer:
    """One run, as this process trains it."""

    def __init__(self, config: Config, run: Run, processes: Processes, watcher: Watcher) -> None:
        self.config, self.run_folder, self.processes, self.watcher = config, run, processes, watcher
        device = self.device = processes.device
        self.data = data = data_for(config)
        net, self.options = net_for(config, data)
        # what there is to say of the first weights is among it
        if processes.first:
            watcher.found(data.found)
        on_gpu = device.type == "cuda"
        self.amp = on_gpu if config.amp is None else config.amp
        # channels_last takes half as many conversions on GPUs with matrix units
        last = (config.net in CHANNELS_LAST or on_gpu) if config.channels_last is None else config.channels_last
        self.format = torch.channels_last if last else torch.contiguous_format
        self.net = processes.synchronized(net.to(device).to(memory_format=self.format))
        self.task = task_for(config, data, self.net)
        self.train_set = Seeded(self.task.data.train, config.seed)
        self.batch_size = self._batch_size(len(self.train_set))
        self.steps = len(self.train_set) // self.batch_size
        self.identity = identity(data, config.data, self.steps)
        self.optimizer = optimizer_for(config, self.net)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.cycles = [self.steps * epochs for epochs in (*config.cycles, config.epochs)]
        self.half = torch.bfloat16 if not on_gpu or torch.cuda.is_bf16_supported() else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp and self.half == torch.float16)
        self.average = (
            None if config.ema is None else AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        )
        self.rows: list[Row] = []
        self.step, self.loss_sum, self.seconds = 0, torch.zeros((), dtype=torch.float64), 0.0
        self.stop = False
        self.forward: Any = None
        if processes.first:
            watcher.note(self._network())

    def _network(self) -> str:
        """What is trained, in a line."""
        parameters = sum(p.numel() for p in self.net.parameters())
        half = str(self.half).removeprefix("torch.")
        encoder = self.options.get("encoder")
        said = [
            f"{self.options.get('model', self.config.net)} {f'on {encoder} ' if encoder else ''}of {parameters:,} parameters",
            f"{counted(self.steps, 'step')} of {counted(self.batch_size, 'image')} an epoch",
            f"on {self.device}",
            *([f"by {self.processes.world} processes"] if self.processes.world > 1 else []),
            *([f"in {half} where it is safe"] if self.amp else []),
            *(["channels last"] if self.format == torch.channels_last else []),
            *(["compiled"] if self.config.compile else []),
        ]
        return ", ".join(said)

    def _batch_size(self, samples: int) -> int:
        size, world = self.config.batch_size, self.processes.world
        if size % world:
            raise ValueError(f"`batch_size` must be a multiple of the {world} processes, got {size}")
        if samples < world:
            raise DataError(f"{samples} images are not enough for {world} processes")
        if samples < size:
            size = samples - samples % world
            if self.processes.first:
                self.watcher.note(f"batches of {size}: there are no more images to train on")
        return size

    @property
    def judged(self) -> nn.Module:
        """The network that is evaluated and used: the average, if there is one."""
        return self.net if self.average is None else self.average.module

    @property
    def best(self) -> int:
        """The index of the best epoch so far."""
        return best_row(self.rows, self.task.key, self.task.larger)

    def train(self) -> dict[str, Any]:
        """Train, from where it stands to the end; return what the summary says.

        Raises:
            Interrupted: after a signal. The state is saved.
            Diverged: where the loss, a held-out figure or a weight is nan or infinite. What was saved before stays.
        """
        with self._signals():
            while not self.ended():
                self._epoch()
                loss = self.processes.mean(float(self.loss_sum) / self.steps)
                if not math.isfinite(loss):
                    self._diverged("the loss", loss)
                row = self._evaluate(loss)
                for name, value in row.items():
                    if value is not None and not math.isfinite(value):
                        self._diverged(name, value)
                self._check_weights()
                with self.processes.as_one():
                    self.rows.append(row)
                    self.step, self.loss_sum = 0, torch.zeros((), dtype=torch.float64)
                    if self.processes.first:
                        self._save()
                        self.watcher.epoch(row)
        # what is left to do, one does alone: figures are no longer those of all
        self.forward = None
        self.processes.leave()
        return self._finish() if self.processes.first else {}

    def _diverged(self, what: str, value: float) -> NoReturn:
        kept = f"best.pt holds epoch {self.best + 1}" if self.rows else "no epoch was over"
        raise Diverged(
            f"{what} became {value} in epoch {len(self.rows) + 1}, step {self.step} of {self.steps}: "
            f"try a smaller `lr` than {self.config.lr}; {kept}"
        )

    def _check_weights(self) -> None:
        """See that what is saved is sound: the last step may have left what no loss has seen."""
        if not finite(self.net.state_dict(), None if self.average is None else self.judged.state_dict()):
            self._diverged("a weight", math.nan)

    def ended(self) -> bool:
        """Whether all epochs that were asked for are done, or further ones are not worth while."""
        return len(self.rows) >= self.config.epochs or self.stale()

    def stale(self) -> bool:
        """Whether there was no better epoch for so long that it is to stop."""
        patience = self.config.patience
        return patience is not None and bool(self.rows) and len(self.rows) - 1 - self.best >= patience

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and termination end the run after the step; a second Ctrl-C at once."""

        def stop(number: int, frame: Any) -> None:
            self.stop = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _freeze(self) -> None:
        """Keep everything but the head, or the way up from an encoder, as it came, for the first epochs."""
        frozen, kept = len(self.rows) < self.config.freeze, trained_always(self.config.net, self.net) or ()
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(not frozen or name.startswith(kept))
        if frozen:
            for name, module in self.net.named_modules():
                if isinstance(module, BatchNorm) and not name.startswith(kept):
                    module.eval()

    def _epoch(self) -> None:
        self.net.train()
        self._freeze()
        # the forward is made again where what is trained changes, but is not compiled again in every epoch
        if self.forward is None or len(self.rows) == self.config.freeze:
            self.forward = self.processes.wrapped(self.net)
            if self.config.compile:
                self.forward = torch.compile(self.forward)
        forward = self.forward
        loader = train_loader(
            self.train_set, self.batch_size, len(self.rows), start=self.step,
            rank=self.processes.rank, world=self.processes.world, workers=self.config.workers,
        )  # fmt: skip
        first, began, shown = self.step, time.monotonic(), 0.0
        # asking a GPU for every loss would make it wait
        every, value = self.device.type == "cpu", 0.0
        self.loss_sum = self.loss_sum.to(self.device)
        for batch in loader:
            loss = self._update(forward, to(batch, self.device))
            self.loss_sum += loss
            self.step += 1
            now = time.monotonic()
            shows = self.processes.first and (now - shown > 0.2 or self.step == self.steps)
            if (every or shows) and math.isfinite(value):
                value = float(loss)
            if shows:
                speed = (self.step - first) * self.batch_size / (now - began)
                self.watcher.step(len(self.rows) + 1, self.step, self.steps, value, speed)
                shown = now
            # asking the others makes a GPU wait, too; on a CPU ten steps may take longer than torchrun waits after Ctrl-C
            if self.processes.world > 1 and not every and self.step % 10 and self.step < self.steps:
                continue
            if self.processes.any(not math.isfinite(value)):
                self._diverged("the loss", value)
            if self.processes.any(self.stop):
                self.seconds += time.monotonic() - began
                # every process will go on from the mean
                mean = self.processes.mean(float(self.loss_sum))
                if not math.isfinite(mean):
                    self._diverged("the loss", mean)
                self._check_weights()
                self.loss_sum = torch.tensor(mean, dtype=torch.float64)
                with self.processes.as_one():
                    if self.processes.first:
                        self._save(finished=False)
                raise Interrupted(f"epoch {len(self.rows) + 1}, step {self.step} of {self.steps}")
        self.seconds += time.monotonic() - began

    def _update(self, forward: nn.Module, batch: list[Tensor]) -> Tensor:
        batch[0] = batch[0].contiguous(memory_format=self.format)
        share = rate(len(self.rows) * self.steps + self.step, self.cycles)
        for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = full * share
        with torch.autocast(self.device.type, self.half, enabled=self.amp):
            loss = self.task.loss(forward, batch)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.net)
        return loss.detach()

    @torch.no_grad()
    def _evaluate(self, train_loss: float) -> Row:
        self.judged.eval()
        batches = val_loader(
            self.task.data.val, self._val_batch, rank=self.processes.rank, world=self.processes.world,
            workers=self.config.workers,
        )  # fmt: skip
        with torch.autocast(self.device.type, self.half, enabled=self.amp):
            held_out = self.task.evaluate(self.judged, batches, self.device)
        return {
            "epoch": len(self.rows) + 1,
            "train_loss": train_loss,
            **held_out,
            # this is the last step's
            "lr": self.rates[-1] * rate((len(self.rows) + 1) * self.steps - 1, self.cycles),
            "seconds": round(self.seconds, 3),
        }

    @property
    def _val_batch(self) -> int:
        # a U-Net is judged on whole images of a folder, which may have any size
        return 1 if self.config.net == "unet" and self.config.data else 4 * self.config.batch_size

    def _checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            self.config.net, self.options, self.judged.state_dict(), list(self.task.data.labels),
            self.task.data.preprocess.as_dict(), training, list(self.task.data.values),
            [list(colour) for colour in self.task.data.colours],
        )  # fmt: skip

    def _save(self, finished: bool = True) -> None:
        """Write the state to go on from; after an epoch, also the network if it is the best one, and the figures."""
        state: dict[str, Any] = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "rows": self.rows,
            "step": self.step,
            "loss_sum": float(self.loss_sum),
            "seconds": self.seconds,
            "data": self.identity,
        }
        if finished:
            self.run_folder.write_metrics(self.rows)
            if self.best == len(self.rows) - 1:
                self._checkpoint({"epoch": len(self.rows)}).save(self.run_folder.best)
        self._checkpoint(state).save(self.run_folder.last)

    def first_weights(self) -> list[dict[str, Any]]:
        """All tensors that a run begins with."""
        return [self.net.state_dict(), *([] if self.average is None else [self.average.state_dict()])]

    def resume(self, file: Path) -> None:
        """Go on from the folder's last checkpoint.

        Args:
            file: the checkpoint, or a copy of it.

        Raises:
            CheckpointError: if it cannot be read, or is of other data or another network.
        """
        last = self.run_folder.last
        checkpoint = Checkpoint.load(file)
        try:
            if checkpoint.labels != list(self.task.data.labels):
                raise CheckpointError("was trained on other classes than the data have now")
            state = State.read(checkpoint.training)
            state.check(key=self.task.key, epochs=self.config.epochs, steps=self.steps, data=self.identity)
            if not state.data and self.config.data and len(state.rows) < self.config.epochs and self.processes.first:
                self.watcher.note(
                    f"{last} does not say which images it was trained on, as those of earlier versions do not: "
                    "more may be found now, and others be held out"
                )
            fit(state.net, self.net.state_dict(), "the network")
            if self.average is not None:
                fit(state.average or {}, self.average.state_dict(), "the average")
                self.average.load_state_dict(state.average or {})
            self.net.load_state_dict(state.net)
            load_moments(self.optimizer, state.optimizer)
            # a scale of 16-bit gradients is not kept where there are none, as on another device
            if self.scaler.is_enabled() and state.scaler:
                self.scaler.load_state_dict(state.scaler)
        except CheckpointError as error:
            raise CheckpointError(f"{last}: {error}") from None
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{last}: does not fit the run: {str(error).splitlines()[-1].strip()}") from error
        self.rows, self.step, self.seconds = state.rows, state.step, state.seconds
        self.loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64)

    @torch.no_grad()
    def _finish(self) -> dict[str, Any]:
        figures = self.rows[-1]
        net = Checkpoint.load(self.run_folder.best).model(layers=self.config.layers).to(self.device)
        batches = val_loader(self.task.data.val, self._val_batch)
        with self.run_folder.writing():
            pictures.curves(self.rows, self.task.key, self.run_folder.path / "curves.png")
            said = self.task.finish(net, batches, self.run_folder.path, self.device)
        if self.task.data.test is not None:
            batches = val_loader(self.task.data.test, self._val_batch)
            said |= self.task.evaluate(net, batches, self.device, part="test")
        summary = {
            "last": figures,
            "best_epoch": self.best + 1,
            f"best_{self.task.key}": self.rows[self.best][self.task.key],
            "parameters": sum(p.numel() for p in net.parameters()),
            "torch": torch.__version__,
            "torchops": __version__,
            "device": str(self.device),
            "processes": self.processes.world,
            **said,
        }
        self.run_folder.write_summary(summary)
        self._write_card(summary)
        return summary

    def _write_card(self, summary: dict[str, Any]) -> None:
        run = self.run_folder
        drawn = [file.name for file in run.pictures()]
        # the configuration in the folder names the weights that a run which was gone on with had begun with
        run.write_card(card(run.config(), self.data, self.rows[self.best], summary, drawn))
