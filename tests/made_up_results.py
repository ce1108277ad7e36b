"""Results of benchmarks that nobody ran: made up, as `python -m bench` writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torchops.kernels.planning.hardware import DEVICES

H100 = DEVICES["sm_90"]


def made_up_run(
    times: dict[tuple[str, str], tuple[float, ...]], kind: str = "conv2d", gpu: bool = False, **machine: Any
) -> dict[str, Any]:
    """Results as `python -m bench` writes them: milliseconds by case and provider."""
    device = {"gpu": H100.name, "roofs": asdict(H100)} if gpu else {"gpu": "none", "roofs": None}
    rows = [
        {
            "fullname": f"bench_{kind}.py::test",
            "stats": {"data": [t / 1e3 for t in found]},
            "extra_info": {
                "case": case, "provider": provider, "threads": 1, "dtype": "f32", "layout": "nchw", "batch": 1, "error": 1e-7,
                "peak_mib": 3.0, "flops": 10**9, "bytes_least": 10**7, "tflops": 1.0, "gb_per_s": 10.0, "ms_p50": found[0],
            },
        }
        for (case, provider), found in times.items()
    ]  # fmt: skip
    return {
        "machine_info": {"cpu": "a CPU", "torch": "2.14.1", **device, **machine},
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": rows,
    }


def written(path: Path, run: dict[str, Any]) -> Path:
    path.write_text(json.dumps(run))
    return path


SLOW, FAST, BASE = (2.0, 2.1, 2.0, 1.9, 2.0), (0.5, 0.5, 0.6, 0.5, 0.5), (1.0, 1.0, 1.1, 1.0, 0.9)


TIMES = {
    ("lost.forward", "torchops"): SLOW, ("lost.forward", "aten"): BASE,
    ("won.forward", "torchops"): FAST, ("won.forward", "aten"): BASE,
}  # fmt: skip
