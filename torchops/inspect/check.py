"""Does every op compute the right thing on this machine? `torchops check` shows the answer as a table.

`python -m torchops.inspect.check` prints the rows of this process as JSON: that is how the Triton kernels are checked in
Triton's interpreter, which needs a process of its own.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata

import torch
from torch import Tensor

from torchops import catalog, workers
from torchops._version import __version__
from torchops.backend import _has_triton, use_backend

_SHAPE = (2, 3, 5, 17)


@dataclass(frozen=True)
class Row:
    """One op in one dtype on one backend. Errors are the largest, relative to the largest value in float64."""

    op: str
    dtype: str
    backend: str
    error: float | None
    grad_error: float | None
    tolerance: float
    verdict: str
    """"ok", "FAILED" or the reason why it was not run."""


def machine() -> dict[str, str]:
    """What numbers from this machine depend on."""

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "not installed"

    gpu = "none"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()} ({torch.version.cuda or torch.version.hip})"
    return {
        "torchops": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "triton": version("triton"),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": f"{_cpu_name()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "gpu": gpu,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    scale = max(1.0, float(expected.abs().max()))
    return float((actual.double().cpu() - expected).abs().max()) / scale


def check_op(op: catalog.Op, dtype: torch.dtype, device: str, label: str) -> Row:
    """Compare one op, forward and backward, with its reference in float64."""
    inputs = op.random_inputs(_SHAPE, dtype)
    # a first input of bytes is an image, and a later one holds indices
    exact = tuple(t.double() if t.is_floating_point() or t is inputs[0] else t for t in inputs)
    for t in exact:
        t.requires_grad_(dtype.is_floating_point and t.is_floating_point())
    leaves = tuple(t.to(device).requires_grad_(t.is_floating_point()) for t in inputs)
    expected, actual = op.reference(*exact, **op.kwargs), op.function(*leaves, **op.kwargs)
    error, grad_error = _relative_error(actual.detach(), expected.detach()), None
    tolerance = catalog.TOLERANCE[dtype]
    if dtype.is_floating_point:
        grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        grads = torch.autograd.grad(actual, [t for t in leaves if t.requires_grad], grad.to(device))
        expected_grads = torch.autograd.grad(expected, [t for t in exact if t.requires_grad], grad.double())
        grad_error = catalog.largest(_relative_error(a, e) for a, e in zip(grads, expected_grads, strict=True))
    # an error that is NaN compares false, and so fails
    good = error <= tolerance and (grad_error is None or grad_error <= 4 * tolerance)
    name = str(dtype).removeprefix("torch.")
    return Row(op.name, name, label, error, grad_error, tolerance, "ok" if good else "FAILED")


def _check(backend: str, device: str, label: str, item: tuple[str, torch.dtype]) -> Row:
    """Check an op in a dtype, by their names; whatever it raises is its verdict."""
    op, dtype = catalog.OPS[item[0]], item[1]
    with use_backend(backend):  # type: ignore[arg-type]
        try:
            return check_op(op, dtype, device, label)
        except Exception as error:  # a machine that is not set up for Triton may raise anything
            return _unchecked(op, dtype, label, f"FAILED: {' '.join(str(error).split())[:200]}")


def _unchecked(op: catalog.Op, dtype: torch.dtype, label: str, verdict: str) -> Row:
    return Row(op.name, str(dtype).removeprefix("torch."), label, None, None, catalog.TOLERANCE[dtype], verdict)


def check_here(backend: str, device: str, label: str, without: dict[torch.dtype, str]) -> list[Row]:
    """Check every op in every dtype in this process; `without` gives reasons not to."""
    return [
        _unchecked(op, dtype, label, without[dtype])
        if dtype in without
        else _check(backend, device, label, (op.name, dtype))
        for op in catalog.OPS.values()
        for dtype in op.dtypes
    ]


def check_gpu(label: str = "triton, cuda") -> list[Row]:
    """Check every op in every dtype on the GPU, in a process of its own: one that loses the GPU fails alone."""
    items = [(op.name, dtype) for op in catalog.OPS.values() for dtype in op.dtypes]
    return [
        _unchecked(catalog.OPS[items[number][0]], items[number][1], label, f"FAILED: {found.reason}")
        if isinstance(found, workers.Failure)
        else found
        for number, found in workers.run(partial(_check, "triton", "cuda", label), items, seconds=120)
    ]


def _version(name: str) -> tuple[int, ...]:
    """Major and minor version of a package; (0,) if it is not installed."""
    try:
        return tuple(int(part) for part in metadata.version(name).split(".")[:2])
    except (metadata.PackageNotFoundError, ValueError):
        return (0,)


def check_interpreted() -> list[Row]:
    """Check the Triton kernels in Triton's interpreter, in a process of its own."""
    if _version("triton") < (3, 7) and _version("numpy") >= (2, 4):
        verdict = "not run: the interpreter of triton < 3.7 needs numpy < 2.4"
        return [Row("all", "all", "triton, interpreted", None, None, 0.0, verdict)]
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torchops.inspect.check"], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return [Row("all", "all", "triton, interpreted", None, None, 0.0, f"FAILED: {last[0]}")]
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def check_all() -> list[Row]:
    """Every op, dtype and backend that this machine can run."""
    rows = check_here("aten", "cpu", "aten, cpu", {})
    if torch.cuda.is_available():
        rows += check_gpu()
    if _has_triton():
        rows += check_interpreted()
    return rows


if __name__ == "__main__":
    found = check_here(
        "triton",
        "cpu",
        "triton, interpreted",
        {torch.bfloat16: "not run: Triton's interpreter computes bfloat16 wrongly"},
    )
    json.dump([asdict(row) for row in found], sys.stdout)
