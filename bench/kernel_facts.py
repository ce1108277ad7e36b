"""What the compiler makes of every kernel, for a GPU that is not there. Nothing here is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from torchops.catalog import OPS
from torchops.files import replacing
from torchops.inspect import LaunchReport, plan, report
from torchops.kernels.planning.hardware import DEVICES
from torchops.workloads import CASES, LAYERS

from .model import launches

ARCH = "sm_90"


def _row(case: str, name: str, flops: int, dtype: str, launch: LaunchReport) -> dict[str, Any]:
    return {**launch.as_dict(), "case": case, "pass": name, "flops": flops, "dtype": dtype}


def _rows() -> Iterator[dict[str, Any]]:
    """Every op of the catalog in channels_last, then every layer with convolutions."""
    for op in OPS:
        dtype = torch.float32 if op in ("sobel", "spatial_gradient") else torch.bfloat16
        for name, found in zip(("forward", "backward"), plan(op, ARCH, dtype, channels_last=True), strict=True):
            for launch in found:
                yield _row(op, name, 0, str(dtype).removeprefix("torch."), report(launch))
    for layer in CASES + LAYERS:
        for name, found in launches(layer, DEVICES[ARCH]).items():
            for launch in found:
                yield _row(layer.name, name, layer.flops, "bfloat16", report(launch))


def write(file: Path) -> None:
    """Compile them all, which takes a minute or two, into a JSON that reports are made from."""
    rows = list(_rows())
    with replacing(file) as beside:
        beside.write_text(json.dumps({"arch": ARCH, "kernels": rows}, separators=(",", ":")))


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of `write`; none if there is no such file, or it holds something else."""
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text())["kernels"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return rows
