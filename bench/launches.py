"""The kernels that the GPU check launches, stage by stage, for a GPU that need not be there: `torchops precompile --cases`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from torchops.backend import use_backend
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.conv2d import ranking
from torchops.kernels.planning.hardware import Device, listed
from torchops.measure import tune as tuning
from torchops.precompile import Kernel, kernels_of, launches_of, read_kernels
from torchops.recording import NAMED, layer_calls, record_calls

from .gpu_check import smoke
from .rehearsal import rehearsing
from .telling import FILES, benchmarks, telling

ROOT = Path(__file__).parent.parent
TUNED = ("body", "mid", "deep", "stem", "pointwise", "aspp", "unet-up", "stride2", "depthwise")
"""The layers that the check tunes."""
TOP = 4
"""Configs of each of their problems."""


def smoke_launches(device: Device) -> Iterator[Launch]:
    """Of all smoke checks."""
    for check in smoke.checks():
        with rehearsing(device) as launches:
            smoke.run(check, "cpu", device)
        yield from launches


def of_cases(name: str, cases: Iterable[Any], device: Device) -> Iterator[Launch]:
    """Of cases of a file of benchmarks, as they are on a GPU."""
    module = benchmarks(name)
    for case in cases:
        if name == "models":
            # a network is recorded without values; what it calls is launched with the switches of its race
            with use_backend("triton"), record_calls(case.name) as calls:
                module.rehearse(case, torch.device("meta"))
            with module.FLAGS():
                yield from launches_of(calls, device)
            continue
        with record(device) as launches, use_backend("triton"):
            module.rehearse(case, torch.device("cpu"))
        yield from launches


def telling_launches(device: Device) -> Iterator[Launch]:
    for name, cases in telling(gpu=True).items():
        yield from of_cases(name, cases, device)


def tune_launches(device: Device) -> Iterator[Launch]:
    calls = [call for name in TUNED for call in layer_calls(NAMED[name])]
    for task in tuning.tasks(calls, device):
        for config in ranking(task.problem, device)[:TOP]:
            yield from tuning.launches_with(task, config, device)


def bench_launches(device: Device) -> Iterator[Launch]:
    for name in FILES:
        yield from of_cases(name, benchmarks(name).every_case(gpu=True), device)


def test_kernels(device: Device) -> list[Kernel]:
    """Of the tier gpu, rehearsed; what wants a GPU fails there, and is not missed."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--tier", "gpu", "--rehearse", listed(device.name) or device.arch, "--kernels", folder)
        command = [sys.executable, "-m", "pytest", str(ROOT / "tests"), *options, "-q"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        # pytest says 1 if some tests have failed, which a rehearsal may
        if done.returncode > 1:
            raise RuntimeError(f"the tier gpu cannot be rehearsed: {done.stdout[-500:]}")
        return read_kernels(Path(folder).iterdir())


CASES: dict[str, Callable[[Device], Iterable[Kernel]]] = {
    "smoke": lambda device: kernels_of(smoke_launches(device)),
    "telling": lambda device: kernels_of(telling_launches(device)),
    "tune": lambda device: kernels_of(tune_launches(device)),
    "tests": test_kernels,
    "bench": lambda device: kernels_of(bench_launches(device)),
}
"""By the name of `torchops precompile --cases`."""
