"""`python -m bench.published`: what others measured and published, beside what the model of a launch's time says of it.

Writes bench/results/modelled-H100/model-errors.json. Sizes, tiles and times are theirs. Instructions and registers were read
off the machine code of such kernels for sm_90.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torchops.kernels.planning.conv2d import Problem, modelled_us, pick_config
from torchops.kernels.planning.hardware import GPUS
from torchops.kernels.planning.model import Work, model
from torchops.kernels.planning.protocol import Cost
from torchops.workloads import CASES

from . import arguments, kept

COLUMNS = (
    kept.Column("published"), kept.Column("GPU"), kept.Column("measured", "us"), kept.Column("modelled", "us", ".0f"),
    kept.Column("error"),
)  # fmt: skip
METHOD = (
    "sizes, tiles and times as others published them; instructions and registers of such kernels, compiled for sm_90"
)
H100 = GPUS["H100"]
H20 = replace(H100, name="H20", sms=78, clock_ghz=1.98, hbm_gb_s=4000, tflops=(148, 74, 44, 44))
"""Its data sheet."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product, or an implicit one, of 16-bit floats: its tile and what it was compiled to."""

    m: int
    n: int
    k: int
    tile: tuple[int, int, int]
    loop: int
    outside: int
    registers: int
    shared_bytes: int
    stages: int
    num_warps: int = 8
    bytes_moved: int

    @property
    def work(self) -> Work:
        (block_m, block_n, block_k), trips = self.tile, -(-self.k // self.tile[2])
        count = -(-self.m // block_m) * -(-self.n // block_n)
        need = Cost(
            self.bytes_moved, self.bytes_moved, trips,
            bytes_l2=2 * (block_m + block_n) * block_k * trips * count, bytes_out=2 * block_m * block_n * count,
            flops=2 * block_m * block_n * block_k * trips * count, itemsize=2,
        )  # fmt: skip
        return Work(
            programs=count, num_warps=self.num_warps, cost=need, loop=self.loop, outside=self.outside,
            registers=self.registers, shared_bytes=self.shared_bytes, stages=self.stages,
        )  # fmt: skip


def gluon(k: int) -> Product:
    """8192 x 8192 x k of Triton's tutorial for Gluon, python/tutorials/gluon/07-persistence.py, "nonpersistent" on Hopper."""
    return Product(
        m=8192, n=8192, k=k, tile=(128, 256, 64), loop=100, outside=700, registers=200, shared_bytes=147_456, stages=3,
        bytes_moved=2 * (2 * 8192 * k + 8192 * 8192),
    )  # fmt: skip


TUTORIAL = {512: 491.74, 1024: 554.24, 2048: 573.87, 4096: 609.36, 8192: 629.44, 16384: 653.79}
"""TFLOP/s by K."""
_CONV1D = 2 * (3072 * 128 * 202 + 3072 * 384 * 200 + 384 * 384)
INDUCTOR = (
    Product(
        m=3072 * 200, n=384, k=384, tile=(128, 128, 64), loop=172, outside=718, registers=128, shared_bytes=98_304, stages=3,
        bytes_moved=_CONV1D,
    ),
    Product(
        m=3072 * 200, n=384, k=384, tile=(128, 256, 64), loop=199, outside=1101, registers=195, shared_bytes=98_304, stages=2,
        bytes_moved=_CONV1D,
    ),
)  # fmt: skip
"""Inductor's Triton template, 3072 x 128 x 202 to 384 channels with 3 taps, channels_last: 551 us in pytorch/pytorch#174989 and
549 in #174752, which do not say which tile was picked."""
FLAGGEMS = Product(
    m=32 * 130 * 130, n=32, k=576, tile=(64, 32, 32), loop=486, outside=862, registers=194, shared_bytes=6144, stages=3,
    num_warps=4, bytes_moved=90_000_000,
)  # fmt: skip
"""FlagGems's convolution, 32 x 64 x 128 x 128 to 32 channels with 3 x 3 taps and a padding of 2, on an H20: 486 to 490 us in
flagos-ai/FlagGems#5290 and #5625, 896 in #5642."""


def table() -> kept.Table:
    """Every published time beside the modelled one."""
    rows: list[list[kept.Cell]] = []
    for k, tflops in TUTORIAL.items():
        measured, modelled = 2 * 8192 * 8192 * k / tflops / 1e6, model(gluon(k).work, H100).us
        name = f"Triton's Gluon tutorial 07, nonpersistent, 8192 x 8192 x {k}"
        rows.append([name, "H100", f"{measured:.0f}", modelled, f"{modelled / measured - 1:+.1%}"])
    for tile in INDUCTOR:
        us, (height, width, _) = model(tile.work, H100).us, tile.tile
        name = f"Inductor's convolution, 3072x128x202 to 384, 3 taps, if its tile was {height} x {width}"
        rows.append([name, "H100", "549, 551", us, f"{us / 550 - 1:+.1%}"])
    us = model(FLAGGEMS.work, H20).us
    apart = f"{us / 488 - 1:+.1%}, {us / 896 - 1:+.1%}"
    rows.append(["FlagGems's convolution, 32x64x128x128 to 32, 3 x 3", "H20", "486, 490, 896", us, apart])
    return kept.Table("model-errors", "The model against what others measured and published", COLUMNS, rows)


PCIE = replace(H100, name="H100-PCIe", sms=114, clock_ghz=1.395, hbm_gb_s=2000, tflops=(651, 325, 44, 44))
"""At the clock at which cuDNN was measured."""


def body() -> Problem:
    """The forward pass of the layer `body`, bfloat16, channels_last."""
    layer = next(case for case in CASES if case.name == "body")
    return Problem(
        kind="gather", m=layer.N * layer.output_size[0] * layer.output_size[1], k=layer.K, c=layer.C, taps=layer.R * layer.S,
        row=layer.S, phases=1, groups=1, itemsize=2, tf32=False, coalesced=True, span=2, lean=True,
        bytes_least=2 * layer.elements,
    )  # fmt: skip


def cudnn() -> kept.Table:
    """What others measured of cuDNN beside what the model says of our kernel for the same layer."""
    us = modelled_us(body(), pick_config(body(), H100), PCIE)
    rows: list[list[kept.Cell]] = [["the layer body, an H100 PCIe at 1,395 MHz", "H100 PCIe", "31 to 34", us, None]]
    return kept.Table("cudnn", "cuDNN, measured by others, beside the model of our kernel", COLUMNS, rows)


def main() -> None:
    arguments.none("python -m bench.published", "The model against times that others published.")
    told = kept.about("modelled", "python -m bench.published", METHOD, threads="none", machine="H100-SXM5 and H20")
    file = kept.RESULTS / "modelled-H100" / "model-errors.json"
    kept.write(file, told, [table(), cudnn()])
    print(f"written: {file}")


if __name__ == "__main__":
    main()
