"""`python -m bench.lessons_table`: the table of kernels/conv2d/README.md, what the model says of each kernel on an H100.

Compiled for an H100 that is not there, and written to bench/results/modelled-H100/lessons.json, too. Nothing here is measured.
"""

from __future__ import annotations

from torchops.inspect import report
from torchops.kernels.conv2d import PlainConfig
from torchops.kernels.launch import Launch
from torchops.kernels.planning.conv2d import ranking
from torchops.workloads import CASES, LAYERS

from . import arguments, kept
from .lessons import H100, forward
from .model import METHOD, floor_us, title

COLUMNS = (
    kept.Column("layer"), kept.Column("floor", form=".1f"), kept.Column("plain"), kept.Column("gemm"),
    kept.Column("shift, rows, slide or flat_slide"),
)  # fmt: skip

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


def table() -> kept.Table:
    """Of some layers, microseconds of a forward pass on an H100 by the model: the least possible, then by kernel."""
    rows: list[list[kept.Cell]] = []
    for layer in (one for name in SHOWN for one in CASES + LAYERS if one.name == name):
        picked = forward(layer)
        name = picked.name.removeprefix("conv2d_").removesuffix("_kernel")
        plain = gemm = special = None
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
        rows.append([layer.name, floor_us(layer, H100), plain, gemm, special])
    return kept.Table("lessons", "The kernels that the lessons derive, a forward pass, us", COLUMNS, rows)


if __name__ == "__main__":
    arguments.none("python -m bench.lessons_table", "The kernels of the lessons on an H100 that is not there.")
    made = table()
    told = kept.about("modelled", "python -m bench.lessons_table", METHOD, threads="none", machine=title(H100))
    kept.write(kept.RESULTS / "modelled-H100" / "lessons.json", told, [made])
    print(kept.printed(made))
