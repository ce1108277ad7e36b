"""Several processes that train as one: who they are, what they agree on, and batch norm over all of their images."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Elsewhere(Exception):  # noqa: N818 (the error is another one)
    """Something failed in another process."""


@dataclass(frozen=True)
class Processes:
    """This process among those that torchrun started; one alone without it."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @staticmethod
    def choose(device: str | None) -> torch.device:
        """A device by its name; a GPU if there is no name and there is one."""
        try:
            chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise ValueError(f"`device` (={device}): torch knows no such device") from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"`device` (={device}): there is no GPU that torch can use")
        return chosen

    @staticmethod
    def join(device: str | None = None) -> Processes:
        """Meet the others: over NCCL on GPUs, one each, over gloo otherwise.

        Args:
            device: "cpu", "cuda", "cuda:1"; a GPU by default, if there is one.
        """
        chosen = Processes.choose(device)
        if "WORLD_SIZE" not in os.environ:
            return Processes(chosen)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return Processes(chosen, dist.get_rank(), dist.get_world_size())

    def leave(self) -> None:
        """Leave the group, when nothing is left that uses it: what outlives it may wait for it for ever."""
        if self.world > 1 and dist.is_initialized():
            gc.collect()
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return self.mean(float(flag)) > 0

    @contextlib.contextmanager
    def as_one(self) -> Iterator[None]:
        """Around what may fail in one process: none waits for ever for one that failed. Not around what waits for others.

        Raises:
            Elsewhere: where it failed in another process, which says why.
        """
        try:
            yield
        except BaseException:
            self.any(True)
            raise
        if self.any(False):
            raise Elsewhere("another process could not go on")

    def mean(self, value: float) -> float:
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.world

    def synchronized(self, model: nn.Module) -> nn.Module:
        """The model, with batch norms that see the images of all processes; names and weights stay."""
        if self.world == 1:
            return model
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                # the two classes differ in their forward alone
                module.__class__ = SyncBatchNorm2d
        return model

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model, with gradients that are means over all processes."""
        if self.world == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.device.index] if self.device.type == "cuda" else None, broadcast_buffers=False
        )


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.SyncBatchNorm` for CPUs, where torch has none; every process brings as many images as the others."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.momentum is None or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        world, dims = dist.get_world_size(), (0, 2, 3)
        mean = collective.all_reduce(input.mean(dims)) / world
        centred = input - mean[:, None, None]
        var = collective.all_reduce(centred.square().mean(dims)) / world
        count = world * input.numel() // input.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / max(1, count - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        y = centred * scale[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]
