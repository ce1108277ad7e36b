"""`python -m bench.lessons_table`: the table of kernels/conv2d/README.md, what the model says of each kernel on an H100.

Compiled for an H100 that is not there. Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from torchops.inspect import report
from torchops.kernels.conv2d import PlainConfig
from torchops.kernels.launch import Launch
from torchops.kernels.planning.conv2d import ranking
from torchops.workloads import CASES, LAYERS

from .lessons import H100, forward
from .model import floor_us

SHOWN = (
    "pointwise", "stride2", "aspp", "body", "mid", "unet-up", "reflect", "stem", "unet-stem", "depthwise", "grouped",
)  # fmt: skip
PLAIN_TILES = (
    (128, 64, 32, 4, 3), (128, 128, 32, 8, 3), (256, 64, 64, 8, 3), (256, 128, 64, 8, 3), (128, 256, 64, 8, 3),
)  # fmt: skip


def _cell_of(launches: list[Launch]) -> str:
    """The fastest of some launches: its modelled time, the tile, and what bounds it."""
    found = ((report(launch), launch.config) for launch in launches)
    best, config = min(found, key=lambda one: one[0].modelled_us)
    return f"{best.modelled_us:.1f} ({config.block_m} x {config.block_n}, {best.bound})"


def table() -> Iterator[str]:
    """Of some layers, microseconds of a forward pass on an H100 by the model: the least possible, then by kernel."""
    yield "| layer | floor | plain | gemm | shift, rows, slide or flat_slide |"
    yield "|---|--:|---|---|---|"
    for layer in (one for name in SHOWN for one in CASES + LAYERS if one.name == name):
        picked = forward(layer)
        name = picked.name.removeprefix("conv2d_").removesuffix("_kernel")
        plain = gemm = special = "-"
        if layer.groups == 1 and layer.padding_mode == "zeros":
            deepest = max(16, 1 << (layer.C - 1).bit_length())
            tiles = {(m, n, min(k, deepest), *rest) for m, n, k, *rest in PLAIN_TILES if n <= layer.K}
            plain = _cell_of([forward(layer, PlainConfig(*tile)) for tile in sorted(tiles)])
        if name == "gemm":
            gemm = _cell_of([picked])
        else:
            special = f"{name} {_cell_of([picked])}"
        if name in ("shift", "rows"):
            plain_product = next(c for c in ranking(picked.problem, H100) if c.taps == c.tile_rows == 1)
            gemm = _cell_of([forward(layer, plain_product)])
        yield f"| {layer.name} | {floor_us(layer, H100):.1f} | {plain} | {gemm} | {special} |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
