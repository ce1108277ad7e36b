"""What numbers depend on, besides what `torchops check` says of a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from torchops.inspect.check import machine
from torchops.kernels.planning.hardware import device_of


def provenance(rounds: int, note: str) -> dict[str, Any]:
    """Machine, versions and flags of a run; `roofs` are the peaks that the model knows of the GPU, None on a CPU."""
    on_gpu = torch.cuda.is_available()
    cudnn = torch.backends.cudnn.version() if on_gpu else None
    return {
        **machine(),
        "driver": _driver(),
        "cuda": torch.version.cuda or torch.version.hip or "none",
        "cudnn": str(cudnn) if cudnn else "not used",
        "flags": f"cudnn.benchmark; cudnn.allow_tf32 {torch.backends.cudnn.allow_tf32}, False for networks",
        "rounds": str(rounds),
        "load before": f"{_load():.1f} of {os.cpu_count()} cores",
        "note": note,
        "roofs": asdict(device_of(torch.empty(0, device="cuda"))) if on_gpu else None,
    }


def commit() -> str:
    """Of the checkout that runs."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _driver() -> str:
    """NVIDIA's, where it says so."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown" if torch.cuda.is_available() else "none"
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else "unknown"


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
