"""Several processes that train as one, on one machine or more: who they are, what they agree on, one batch norm for all."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

MEETING = timedelta(seconds=60)
"""How long processes wait at the beginning for one that does not come."""
WAITING = timedelta(minutes=10)
"""How long they wait for one that neither goes on nor ends, as where a machine has lost its network."""
PIECE = 1 << 26
"""Bytes of a file that are sent at a time."""
_GONE = "another process has ended, or cannot be reached any more"


class Elsewhere(Exception):  # noqa: N818 (the error is another one)
    """Something failed in another process.

    Args:
        message: which one, and what it says.
        far: whether that is on another machine, so that nobody has read it on this one.
    """

    def __init__(self, message: str, *, far: bool) -> None:
        super().__init__(message)
        self.far = far


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
        """Meet the others. What lies on GPUs goes over NCCL, the rest over gloo.

        Args:
            device: "cpu", "cuda", "cuda:1"; a GPU by default, if there is one.

        Raises:
            Elsewhere: if another process does not come, or cannot be reached.
        """
        if "WORLD_SIZE" not in os.environ:
            return Processes(Processes.choose(device))
        with _failing(f"not all processes have come within {int(MEETING.total_seconds())} seconds"):
            store, rank, world = next(dist.rendezvous("env://", timeout=MEETING))
            _all_say("here", store, rank, world)
        if (interface := _interface(os.environ["MASTER_ADDR"])) is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        ways = {"world_size": world, "rank": rank}
        with _failing(
            "the processes have met, but cannot reach each other: is GLOO_SOCKET_IFNAME the network that they share?"
        ):
            # a group of its own, since who cannot be reached is not to be waited for as long as who works
            dist.init_process_group("gloo", store=dist.PrefixStore("meeting", store), timeout=MEETING, **ways)
            # a group that one has left cannot be joined by those that still connect
            _all_say("connected", store, rank, world)
            dist.destroy_process_group()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        with _failing(_GONE):
            dist.init_process_group(backend, store=dist.PrefixStore("training", store), timeout=WAITING, **ways)
        return Processes(torch.device("cpu"), rank, world).on(device)

    @staticmethod
    @contextlib.contextmanager
    def joined() -> Iterator[Processes]:
        """Meet the others for a block.

        Raises:
            Elsewhere: if one of them does not come, or has ended before the block has.
        """
        processes = Processes.join()
        try:
            yield processes
        except RuntimeError as error:
            # what gloo raises is no more than that, and names gloo's own files
            if processes.world > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise Elsewhere(_GONE, far=True) from error
            raise
        finally:
            processes.leave()

    def on(self, device: str | None) -> Processes:
        """This process on a device; on a GPU of its own, if there are several processes."""
        chosen = Processes.choose(device)
        if self.world > 1 and chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        return dataclasses.replace(self, device=chosen)

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
            Elsewhere: where it failed in another process: which one, and why.
        """
        try:
            yield
        except BaseException as error:
            # others may have ended meanwhile, but this is the error to tell
            with contextlib.suppress(RuntimeError):
                self.of_all(str(error) or "stopped")
            raise
        for rank, (machine, host, said) in enumerate(self.of_all(None)):
            if said is not None:
                raise Elsewhere(f"process {rank} on {host}: {said}", far=machine != self.machine)

    @property
    def machine(self) -> str:
        """The number that torchrun gave this machine."""
        return os.environ.get("GROUP_RANK", "0")

    def of_all(self, value: Any) -> list[tuple[str, str, Any]]:
        """What every process says, in the order of ranks, each with the number and the name of its machine."""
        mine = (self.machine, socket.gethostname(), value)
        said: list[Any] = [mine] * self.world
        if self.world > 1:
            dist.all_gather_object(said, mine)
        return said

    def from_first(self, value: Any) -> Any:
        """What the first process says, whatever the others do."""
        said = [value if self.first else None]
        if self.world > 1:
            dist.broadcast_object_list(said, 0)
        return said[0]

    def tensors_from_first(self, *states: Mapping[str, Any]) -> None:
        """Give tensors the values that they have in the first process."""
        for state in states if self.world > 1 else ():
            for tensor in state.values():
                sent = tensor.detach().contiguous()
                dist.broadcast(sent, 0)
                tensor.detach().copy_(sent)

    @contextlib.contextmanager
    def file_from_first(self, path: Path) -> Iterator[Path]:
        """Where a file of the first process can be read during the block: there itself, in the others a copy of it.

        Raises:
            Elsewhere: in the others, if it cannot be read; in the first one, if there is no room for a copy.
        """
        if self.world == 1:
            yield path
            return
        with contextlib.ExitStack() as stack:
            with self.as_one():
                if not self.first:
                    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
                file: Any = stack.enter_context(path.open("rb" if self.first else "wb"))
                size = path.stat().st_size
            for start in range(0, size := self.from_first(size), PIECE):
                piece = torch.empty(min(PIECE, size - start), dtype=torch.uint8)
                with self.as_one():
                    if self.first and file.readinto(piece.numpy()) < len(piece):
                        raise OSError(f"{path}: has changed while it was read")
                dist.broadcast(piece, 0)
                with self.as_one():
                    if not self.first:
                        file.write(piece.numpy())
                        file.flush()
            yield path

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


@contextlib.contextmanager
def _failing(said: str) -> Iterator[None]:
    """Around what torch raises a RuntimeError of where another process is missing; what is said is raised as Elsewhere."""
    try:
        yield
    except RuntimeError as error:
        raise Elsewhere(said, far=True) from error


def _all_say(word: str, store: dist.Store, rank: int, world: int) -> None:
    """Wait until every process says a word, which each says once."""
    store.set(f"{word}/{rank}", "")
    store.wait([f"{word}/{other}" for other in range(world)], MEETING)


def _interface(host: str) -> str | None:
    """The name of the interface, as "eth0", by which another machine is reached over IPv4; None where that is unknown.

    gloo would take the one that this machine's own name stands for, which on many is that of the machine alone, 127.0.1.1.
    """
    with contextlib.suppress(ImportError, OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        import fcntl

        # nothing is sent
        probe.connect((host, 9))
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                # this number is SIOCGIFADDR of Linux
                said = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(said[20:24]) == own:
                    return name
    return None


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
