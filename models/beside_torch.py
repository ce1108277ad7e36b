"""torch.nn's layers against torchops's: the same network, the same seed, the same batches, step by step in turn."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchops.conversion import revert
from torchops.files.plots import figure
from torchops.files.targets import check_writable

from . import pictures
from .data import Seeded, train_loader
from .distributed import Processes
from .options import Config
from .setup import CHANNELS_LAST, data_for, net_for, optimizer_for, task_for
from .tasks import to

SETTINGS = {
    "lenet": Config.asked("lenet"),
    "resnet": Config.asked("resnet", batch_size=16, size=64),
    "classifier": Config.asked("classifier", batch_size=16, size=64),
    "unet": Config.asked("unet"),
    "diffusion": Config.asked("diffusion", batch_size=64),
}
"""What `torchops train` does by default, with fewer images a step but for LeNet and U-Net, and smaller ones for classifiers."""


@dataclass(frozen=True)
class Comparison:
    """Losses and seconds of every step, by layers: "torch.nn" and "torchops"."""

    losses: dict[str, list[float]]
    seconds: dict[str, list[float]]

    def milliseconds(self, layers: str) -> float:
        """The median step, to a microsecond."""
        return round(1e3 * statistics.median(self.seconds[layers]), 3)

    @property
    def ratio(self) -> float:
        """torchops' time over torch.nn's: of the two medians, as they are shown."""
        return self.milliseconds("torchops") / self.milliseconds("torch.nn")

    @property
    def times(self) -> str:
        """How long the two take, in words."""
        ours, theirs = (f"{self.milliseconds(layers):.3f}" for layers in ("torchops", "torch.nn"))
        return f"torchops takes {self.ratio:.3f}x of torch.nn's time, {ours} against {theirs} ms a step"

    @property
    def difference(self) -> float:
        """The largest difference between two losses of the same step."""
        return max(abs(a - b) for a, b in zip(*self.losses.values(), strict=True))


def compare(
    net: str, *, steps: int = 100, batch_size: int | None = None, size: int | None = None, seed: int = 0,
    compile: bool = False, device: str | None = None, path: Path | None = None,
) -> Comparison:  # fmt: skip
    """Train a network twice, a step of one after a step of the other, in turns.

    Args:
        net: "lenet", "resnet", "classifier", "unet" or "diffusion", on their default data.
        steps: of each.
        batch_size, size, seed: of the training; what `torchops train` takes by default.
        compile: `torch.compile` both.
        device: "cpu" or "cuda"; a GPU by default, if there is one.
        path: a picture of the two curves.

    Raises:
        ValueError: before anything is trained, if no picture can be written to `path`.
    """
    if path is not None:
        check_writable(path, [f".{suffix}" for suffix in figure(1, 1).canvas.get_supported_filetypes()])
    where = Processes.choose(device)
    config = copy.deepcopy(SETTINGS[net])
    config.seed, config.batch_size = seed, batch_size or config.batch_size
    config.size = size or config.size
    data = data_for(config)
    ours, _ = net_for(config, data)
    theirs, _ = revert(copy.deepcopy(ours), inplace=True)
    runs: dict[str, Any] = {}
    for name, model in (("torch.nn", theirs), ("torchops", ours)):
        form = torch.channels_last if net in CHANNELS_LAST else torch.contiguous_format
        model = model.to(where).to(memory_format=form).train()
        task = task_for(config, data, model)
        runs[name] = (torch.compile(model) if compile else model, task, optimizer_for(config, model))
    train_set = Seeded(next(iter(runs.values()))[1].data.train, seed)
    size_of_batch = min(config.batch_size, len(train_set))
    epochs = (train_loader(train_set, size_of_batch, epoch) for epoch in itertools.count())
    losses: dict[str, list[float]] = {name: [] for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for step, batch in enumerate(itertools.islice(itertools.chain.from_iterable(epochs), steps)):
        batch = to(batch, where)
        order = list(runs) if step % 2 else list(reversed(runs))
        for name in order:
            model, task, optimizer = runs[name]
            # both drop the same values
            torch.manual_seed(seed + step)
            began = time.perf_counter()
            loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[name].append(float(loss.detach()))
            seconds[name].append(time.perf_counter() - began)
    result = Comparison(losses, seconds)
    if path is not None:
        pictures.compared(losses, seconds, f"{net}: {result.times}", path)
    return result
