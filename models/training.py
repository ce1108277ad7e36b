"""The training loop: one for every network, on any number of processes, that can be stopped and gone on with at any step."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchops import backend
from torchops._version import __version__
from torchops.torch_internals import BatchNorm

from . import pictures
from .checkpoints import Checkpoint, CheckpointError
from .data import DataError, Seeded, train_loader, val_loader
from .distributed import Processes
from .options import Config
from .runs import Run
from .setup import data_for, net_for, optimizer_for, task_for
from .tasks import to

WARMUP = 0.05
"""Share of the steps in which the rate rises, before it falls as a cosine."""


class Interrupted(Exception):  # noqa: N818 (it is none)
    """Stopped by a signal; what was done is saved."""


class Watcher(Protocol):
    """Whoever is told how a run goes on."""

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None: ...

    def epoch(self, figures: dict[str, float]) -> None: ...

    def note(self, text: str) -> None: ...


def _rate(step: int, total: int) -> float:
    """The share of the full rate: it rises in a line, then falls as a cosine to zero."""
    warmup = max(1, round(WARMUP * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class Trainer:
    """One run, as this process trains it."""

    def __init__(self, config: Config, run: Run, processes: Processes, watcher: Watcher) -> None:
        self.config, self.run_folder, self.processes, self.watcher = config, run, processes, watcher
        device = self.device = processes.device
        data = data_for(config)
        if data.found.left_out and processes.first:
            watcher.note(
                f"left out {len(data.found.left_out)} files that cannot be read, as {data.found.left_out[0][0]}"
            )
        net, self.options = net_for(config, data)
        on_gpu = device.type == "cuda"
        self.amp = on_gpu if config.amp is None else config.amp
        # channels_last takes half as many conversions on GPUs with matrix units; on CPUs U-Net and ResNet are faster in it too
        last = (config.net in ("unet", "resnet") or on_gpu) if config.channels_last is None else config.channels_last
        self.format = torch.channels_last if last else torch.contiguous_format
        self.net = processes.synchronized(net.to(device).to(memory_format=self.format))
        self.task = task_for(config, data, self.net)
        self.train_set = Seeded(self.task.data.train, config.seed)
        self.batch_size = self._batch_size(len(self.train_set))
        self.steps = len(self.train_set) // self.batch_size
        self.optimizer = optimizer_for(config, self.net)
        total = self.steps * config.epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _rate(step, total))
        self.half = torch.bfloat16 if not on_gpu or torch.cuda.is_bf16_supported() else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp and self.half == torch.float16)
        self.average = (
            None if config.ema is None else AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        )
        self.rows: list[dict[str, float]] = []
        self.step, self.loss_sum, self.seconds = 0, torch.zeros((), dtype=torch.float64), 0.0
        self.stop = False
        self.forward: Any = None

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
    def best(self) -> float:
        """The best figure so far."""
        values = [row[self.task.key] for row in self.rows]
        return max(values) if self.task.larger else min(values)

    def train(self) -> dict[str, Any]:
        """Train, from where it stands to the end; return what the summary says.

        Raises:
            Interrupted: after a signal. The state is saved.
        """
        with self._signals():
            while len(self.rows) < self.config.epochs and not self._stale():
                self._epoch()
                loss = self.processes.mean(float(self.loss_sum) / self.steps)
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss of epoch {len(self.rows) + 1} is {loss}: try a smaller `lr` than {self.config.lr}"
                    )
                self.rows.append(self._evaluate(loss))
                self.step, self.loss_sum = 0, torch.zeros((), dtype=torch.float64)
                if self.processes.first:
                    self._save()
                    self.watcher.epoch(self.rows[-1])
        return self._finish() if self.processes.first else {}

    def _stale(self) -> bool:
        if self.config.patience is None or not self.rows:
            return False
        values = [row[self.task.key] for row in self.rows]
        return len(values) - 1 - values.index(self.best) >= self.config.patience

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
        """Keep everything but a ResNet's head as it came, for the first epochs."""
        frozen = len(self.rows) < self.config.freeze
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(not frozen or name.startswith("fc."))
        if frozen:
            for module in self.net.modules():
                if isinstance(module, BatchNorm):
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
        self.loss_sum = self.loss_sum.to(self.device)
        for batch in loader:
            loss = self._update(forward, to(batch, self.device))
            self.loss_sum += loss
            self.step += 1
            now = time.monotonic()
            if self.processes.first and (now - shown > 0.2 or self.step == self.steps):
                speed = (self.step - first) * self.batch_size / (now - began)
                self.watcher.step(len(self.rows) + 1, self.step, self.steps, float(loss), speed)
                shown = now
            # asking the others makes a GPU wait
            asks = self.processes.world == 1 or self.step % 10 == 0 or self.step == self.steps
            if asks and self.processes.any(self.stop):
                self.seconds += time.monotonic() - began
                # every process will go on from the mean
                self.loss_sum = torch.tensor(self.processes.mean(float(self.loss_sum)), dtype=torch.float64)
                if self.processes.first:
                    self._save(finished=False)
                raise Interrupted(f"epoch {len(self.rows) + 1}, step {self.step} of {self.steps}")
        self.seconds += time.monotonic() - began

    def _update(self, forward: nn.Module, batch: list[Tensor]) -> Tensor:
        batch[0] = batch[0].contiguous(memory_format=self.format)
        with torch.autocast(self.device.type, self.half, enabled=self.amp):
            loss = self.task.loss(forward, batch)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.net)
        return loss.detach()

    @torch.no_grad()
    def _evaluate(self, train_loss: float) -> dict[str, float]:
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
            "lr": float(self.schedule.get_last_lr()[-1]),
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
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "rows": self.rows,
            "step": self.step,
            "loss_sum": float(self.loss_sum),
            "seconds": self.seconds,
        }
        if finished:
            self.run_folder.write_metrics(self.rows)
            if self.rows[-1][self.task.key] == self.best:
                self._checkpoint({}).save(self.run_folder.best)
        self._checkpoint(state).save(self.run_folder.last)

    def resume(self) -> None:
        """Go on from the folder's last checkpoint; from the start if there is none yet.

        Raises:
            CheckpointError: if it cannot be read, or is of other data.
        """
        if not self.run_folder.last.exists():
            return
        checkpoint = Checkpoint.load(self.run_folder.last)
        if checkpoint.labels != list(self.task.data.labels):
            raise CheckpointError(f"{self.run_folder.last}: was trained on other classes than the data have now")
        state = checkpoint.training
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.rows, self.step, self.seconds = state["rows"], state["step"], state["seconds"]
        self.loss_sum = torch.tensor(state["loss_sum"], dtype=torch.float64)

    @torch.no_grad()
    def _finish(self) -> dict[str, Any]:
        figures = self.rows[-1]
        net = Checkpoint.load(self.run_folder.best).model(layers=self.config.layers).to(self.device)
        batches = val_loader(self.task.data.val, self._val_batch)
        pictures.curves(self.rows, self.task.key, self.run_folder.path / "curves.png")
        said = self.task.finish(net, batches, self.run_folder.path, self.device)
        values = [row[self.task.key] for row in self.rows]
        summary = {
            "last": figures,
            "best_epoch": values.index(self.best) + 1,
            f"best_{self.task.key}": self.best,
            "parameters": sum(p.numel() for p in net.parameters()),
            "torch": torch.__version__,
            "torchops": __version__,
            "device": str(self.device),
            "processes": self.processes.world,
            **said,
        }
        self.run_folder.write("summary.json", json.dumps(summary, indent=2) + "\n")
        return summary


def train(config: Config, run: Run, watcher: Watcher, *, resume: bool = False) -> dict[str, Any]:
    """Train a network as a run says, and fill its folder.

    Args:
        config: what to train, and how.
        run: the folder, made if it is not there.
        watcher: is told of every step and epoch.
        resume: go on where the folder's last checkpoint stands.

    Returns:
        What `summary.json` says.

    Raises:
        DataError, CheckpointError, ImageError: if data or a file of weights are not what they should be.
        Interrupted: after Ctrl-C. The state is saved, and `resume` goes on.
    """
    processes = Processes.join(config.device)
    try:
        with backend.use_backend(config.backend or backend.get_backend()):
            return _train(config, run, watcher, processes, resume)
    finally:
        processes.leave()


def _train(config: Config, run: Run, watcher: Watcher, processes: Processes, resume: bool) -> dict[str, Any]:
    trainer = Trainer(config, run, processes, watcher)
    if resume:
        trainer.resume()
    elif processes.first:  # the folder is made only now: a run that is refused leaves none
        Run.create(run.path, config)
    return trainer.train()
