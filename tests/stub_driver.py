"""Launches on a driver that does nothing, from a cache that has all they need: a process that says what became of them.

`python -m tests.stub_driver CALLS`, with TRITON_CACHE_DIR set, prints how many kernels were found in the cache, compiled, and
launched.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from triton import knobs
from triton.backends.nvidia.driver import CudaDriver, CudaLauncher, CudaUtils
from triton.runtime import driver

from torchops import precompile
from torchops.inspect.machine_code import target_of
from torchops.kernels.planning.hardware import find
from torchops.precompile import host_code as launchers
from torchops.recording import read_calls


class StubDriver(CudaDriver):  # type: ignore[misc]
    """Triton's own for NVIDIA's GPUs, but for what it asks torch."""

    def __init__(self) -> None:
        self.utils = CudaUtils()
        self.launcher_cls = CudaLauncher

    def get_current_target(self) -> Any:
        return target_of("sm_90", 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def main(calls: Path) -> None:
    library = launchers.driver_that_does_nothing()
    driver.set_active(StubDriver())
    hits: list[bool] = []
    knobs.compilation.listener = lambda cache_hit, **_: hits.append(cache_hit)
    launches = list(precompile.launches_of(read_calls(calls), find("sm_90")))
    for launch in launches:
        launch.kernel[launch.grid](*launch.args, **launch.meta)
    found = {"found": sum(hits), "compiled": len(hits) - sum(hits), "launched": library.torchops_launches()}
    print(json.dumps({**found, "launches": len(launches)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
