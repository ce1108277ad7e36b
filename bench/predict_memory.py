"""`python -m bench.predict_memory [side ...]`: memory that `torchops predict` takes for a pixel, and seconds, of a U-Net.

The command runs in a process of its own on a square image of noise, and once on one of 64 x 64 pixels, whose peak is taken off;
with the tiles of its default, of 512 and 256 pixels, and with one that is the whole image. The U-Net is that of
`torchops train unet`, width 16, depth 3, 11 classes: what it has learned takes no memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from torchops.models import Checkpoint, build
from torchops.models.data import Preprocess

from . import kept

METHOD = "the peak of a process of `torchops predict`, with a U-Net of width 16, depth 3 and 11 classes, float32"
COLUMNS = (
    kept.Column("side", "pixels", "d"), kept.Column("tiles"), kept.Column("memory", "bytes a pixel", ".0f"),
    kept.Column("peak", "MiB", ".0f"), kept.Column("time", "s", ".1f"),
)  # fmt: skip
TILES = ("whole", "default", "512", "256")


def save_net(path: Path) -> None:
    """A U-Net as `torchops train unet` begins with."""
    options = {"classes": 11, "channels": 1, "width": 16, "depth": 3}
    torch.manual_seed(0)
    labels = ["paper", *map(str, range(10))]
    preprocess = Preprocess(1, None, (0.5,), (0.5,)).as_dict()
    Checkpoint("unet", options, build("unet", **options).state_dict(), labels, preprocess).save(path)


def predict(net: Path, image: Path, tile: str, side: int) -> tuple[int, float]:
    """The largest memory of the command in bytes, and its seconds."""
    command = [sys.executable, "-m", "torchops", "predict", str(net), str(image), "--device", "cpu"]
    command += ["--out", str(image.parent / "out"), "--max-pixels", str(2**40)]
    # a tile is a multiple of what the network pools together
    command += {"default": [], "whole": ["--tile", str(-(side // -8) * 8)]}.get(tile, ["--tile", tile])
    began = time.monotonic()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    # Linux counts kilobytes, macOS bytes
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.predict_memory", description=__doc__.splitlines()[0])
    parser.add_argument("sides", type=int, nargs="*", default=[2048, 4096], help="height and width of the images")
    parser.add_argument("--tile", choices=TILES, action="append", help="how it is seen, again for more; all by default")
    parser.add_argument("--file", type=Path, help="predict-memory.json of this machine and day by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.pt"
        save_net(net)
        for side in (64, *asked.sides):
            Image.effect_noise((side, side), 64).save(Path(folder) / f"{side}.png")
        least, _ = predict(net, Path(folder) / "64.png", "default", 64)
        print(f"an image of 64 x 64 pixels: {least / 2**20:.0f} MiB")
        rows: list[list[kept.Cell]] = []
        for side in asked.sides:
            for tile in asked.tile or TILES:
                most, seconds = predict(net, Path(folder) / f"{side}.png", tile, side)
                rows.append([side, tile, (most - least) / side**2, most / 2**20, seconds])
                print(f"{side} x {side}, {tile}: {most / 2**20:.0f} MiB, {seconds:.1f} s", flush=True)
    note = f"The bytes a pixel are those over the peak of a process that sees 64 x 64 pixels: {least / 2**20:.0f} MiB."
    table = kept.Table(
        "predict-memory", "Memory and seconds of torchops predict on a square gray image", COLUMNS, rows, note
    )
    told = kept.about("measured", "python -m bench.predict_memory", METHOD, threads=str(torch.get_num_threads()))
    file = asked.file or kept.folder() / "predict-memory.json"
    kept.write(file, told, [table])
    print(f"{kept.printed(table)}\nwritten: {file}")


if __name__ == "__main__":
    main()
