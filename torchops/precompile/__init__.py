"""Kernels compiled ahead for a GPU that need not be there, into a cache of Triton's that can be packed and taken along.

Triton compiles a kernel when it is first launched with such types, constants and divisibilities. A service may not wait for
that, and a GPU is too dear to wait for it. Recorded launches (see recording.py and kernels/launch.py) say what Triton will
look up; Triton's own hook says it in a form that another process can compile from.

A kernel is found again if all this is the same: Triton's own files, its ptxas, this package's kernels, and the environment
variables that Triton lists among its keys. Where the cache lies does not matter: what is unpacked is made to fit its place.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchops import workers
from torchops.inspect.machine_code import stand_in_driver

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch
    from torchops.kernels.planning.hardware import Device
    from torchops.recording import Call


@dataclass(frozen=True)
class Kernel:
    """A kernel with the types, constants and divisibilities of a launch: what Triton compiles once."""

    module: str
    name: str
    arch: str
    warp_size: int
    specialization: str
    """In Triton's own words, JSON."""


def launches_of(calls: Iterable[Call], device: Device) -> Iterator[Launch]:
    """The launches of recorded calls on a GPU that need not be there; equal calls are recorded once."""
    for call in dict.fromkeys(replace(call, name="") for call in calls):
        yield from call.launches(device)


def kernels_of(launches: Iterable[Launch]) -> list[Kernel]:
    """What Triton would compile for these launches, each once.

    Raises:
        RuntimeError: if kernels are interpreted in this process.
    """
    from triton import knobs
    from triton.runtime.jit import JITFunction

    found: dict[Kernel, None] = {}
    for launch in launches:
        if not isinstance(launch.kernel, JITFunction):
            raise RuntimeError("kernels are interpreted in this process: unset TRITON_INTERPRET to compile them")
        arch, warp_size = launch.device.arch, launch.device.warp_size

        def hook(arch: str = arch, warp_size: int = warp_size, **said: Any) -> bool:
            specialization = said["compile"]["specialization_data"]
            found.setdefault(Kernel(said["fn"].module, said["fn"].name, arch, warp_size, specialization))
            # this tells Triton that it need not compile the kernel
            return True

        # nothing was compiled for a device of this name, so that every kernel comes by the hook
        with stand_in_driver(arch, warp_size, device=f"{arch}, to be compiled ahead"):
            outer, knobs.runtime.jit_cache_hook = knobs.runtime.jit_cache_hook, hook
            try:
                launch.kernel.warmup(*launch.args, grid=launch.grid, **launch.meta)
            finally:
                knobs.runtime.jit_cache_hook = outer
    return list(found)


def write_kernels(file: Path, kernels: Iterable[Kernel]) -> None:
    """Add kernels to a file, one as JSON a line."""
    with file.open("a") as lines:
        lines.writelines(f"{json.dumps(asdict(kernel))}\n" for kernel in kernels)


def read_kernels(files: Iterable[Path]) -> list[Kernel]:
    """The kernels of files that :func:`write_kernels` wrote, each once."""
    return list({Kernel(**json.loads(line)): None for file in files for line in file.read_text().splitlines()})


@dataclass(frozen=True)
class Outcome:
    """What became of a kernel."""

    kernel: Kernel
    found: bool
    """Whether it was in the cache, so that nothing had to be compiled."""
    seconds: float
    error: str = ""


def _compile(cache: Path | None, kernel: Kernel) -> Outcome:
    """Compile a kernel into the cache unless it is there, and what launches it too where Triton builds that by signature."""
    from triton import knobs

    from . import host_code as launchers

    hits: list[bool] = []
    if cache is not None:
        knobs.cache.dir = str(cache)
    knobs.compilation.listener = lambda cache_hit, **_: hits.append(cache_hit)
    began = time.perf_counter()
    with stand_in_driver(kernel.arch, kernel.warp_size):
        compiled = getattr(importlib.import_module(kernel.module), kernel.name).preload(kernel.specialization)
    launchers.build(compiled)
    return Outcome(kernel, all(hits), time.perf_counter() - began)


def compile_all(
    kernels: list[Kernel], cache: Path | None = None, *, processes: int | None = None, until: float | None = None
) -> Iterator[Outcome]:
    """Compile kernels into a cache, in a pool of processes: one that the compiler takes with it is replaced.

    Args:
        kernels: see :func:`kernels_of`.
        cache: a folder, as TRITON_CACHE_DIR; Triton's own where it is None.
        processes: as many as cores where it is None.
        until: time of `time.monotonic` at which it ends; what is not done by then is never mentioned.

    Yields:
        An outcome for every kernel, as they come. As in `workers.run`, the main module has to be importable.
    """
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        cache = cache.absolute()
    count = min(processes or workers.cores(), len(kernels))
    for number, result in workers.run(partial(_compile, cache), kernels, processes=count, until=until):
        if isinstance(result, workers.Failure):
            if result.late:
                continue
            result = Outcome(kernels[number], False, 0.0, result.reason)
        yield result
