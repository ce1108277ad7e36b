"""Batches whose content depends on the seed, the epoch and the step, and on nothing else: not on processes, not on restarts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from torchops.files.opening import ImageError

from .found import DataError, Found
from .preprocess import Preprocess
from .stored import scaled


@dataclass(frozen=True)
class Data:
    """What a network is trained on and what it is judged by."""

    train: Dataset[Any]
    """Pairs of a normalised image (C, H, W) and its truth, drawn with torch's random numbers."""
    val: Dataset[Any]
    """The same, held out, without randomness."""
    labels: tuple[str, ...]
    preprocess: Preprocess
    test: Dataset[Any] | None = None
    """Judged once, at the end, by the best network."""
    found: Found = field(default_factory=Found)
    values: tuple[int, ...] = ()
    """The value of every class in the masks; empty where there are no masks in files."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """The colour of every class, where masks came with a palette."""
    weights: tuple[float, ...] = ()
    """Of every class, in the loss of training; empty where all weigh the same."""


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory, (N, C, H, W) of uint8, or from 0 to 1, and their targets, with random changes to each."""

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        preprocess: Preprocess,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.images, self.targets = images, targets
        self.preprocess, self.augment = preprocess, augment

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.preprocess.resize(scaled(self.images[index]))
        if self.augment is not None:
            image = self.augment(image)
        return self.preprocess.normalize(image), self.targets[index]


class Seeded(Dataset[Any]):
    """A dataset whose random numbers depend on the seed, the epoch and the sample."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        generator = torch.default_generator
        before = generator.get_state()
        try:
            generator.manual_seed(_seed(self.seed, self.epoch, index))
            return self.dataset[index]
        finally:
            generator.set_state(before)


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little") >> 1


class Batches(Sampler[list[int]]):
    """One process's share of the batches of an epoch, from a step on. What is left over at the end is dropped."""

    def __init__(self, size: int, batch_size: int, seed: int, epoch: int, start: int, rank: int, world: int) -> None:
        self.steps = size // batch_size
        self.order = torch.randperm(size, generator=torch.Generator().manual_seed(_seed(seed, epoch)))
        self.batch_size, self.start, self.rank, self.world = batch_size, start, rank, world

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            batch = self.order[step * self.batch_size : (step + 1) * self.batch_size]
            yield batch[self.rank :: self.world].tolist()


class _Loader(DataLoader[Any]):
    """Tells what is wrong with a file as the file's reader did, whether it is read here or in another process."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (DataError, ImageError) as error:
            kind = type(error)
            # what a worker raised arrives as the traceback that it had there, which ends with the message
            _, raised, told = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
            if not raised:
                raise
            # DataError has escaped the traceback's line ends
            raise kind(told.removesuffix("\n").removesuffix("\\n")) from error


def train_loader(
    dataset: Seeded, batch_size: int, epoch: int, *, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
) -> DataLoader[Any]:
    """Batches of an epoch, from step `start` on: this process's share of `batch_size` samples each."""
    dataset.epoch = epoch
    batches = Batches(len(dataset), batch_size, dataset.seed, epoch, start, rank, world)
    return _Loader(dataset, batch_sampler=batches, num_workers=workers, pin_memory=torch.cuda.is_available())


def val_loader(
    dataset: Dataset[Any], batch_size: int, *, rank: int = 0, world: int = 1, workers: int = 0
) -> DataLoader[Any]:
    """Every held-out sample once, in order, shared among the processes."""
    mine = list(range(rank, len(dataset), world))  # type: ignore[arg-type]
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    return _Loader(dataset, batch_sampler=batches, num_workers=workers)
