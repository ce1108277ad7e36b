"""`python -m bench.picture`: the kernels of a forward pass of each network, before and after `torchops.fuse`, as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torchops
from torchops.activations import ACTIVATIONS
from torchops.files.plots import paint, save_drawing, style

from . import charts
from .drawing import content
from .networks import NETWORKS

FILE = Path(__file__).parent.parent / "assets" / "kernels.png"
OPS = {
    "convolution": ("conv2d", "conv_transpose2d"), "batch norm": ("batch_norm",), "bias, pad, add": ("bias", "pad", "add"),
    "activation": tuple(ACTIVATIONS), "all else": (),
}  # fmt: skip
"""The operators that are counted as each of `charts.KINDS`."""


def _by_kind(counts: Counter[str]) -> list[int]:
    known = [sum(counts[op] for op in OPS[kind]) for kind in charts.KINDS]
    return [*known[:-1], counts.total() - sum(known)]


@style()
def draw(file: Path = FILE) -> Path:
    """Two bars a network, the sum at their ends."""
    counted = {}
    for name, build in NETWORKS.items():
        _, report = torchops.fuse(build().eval())
        counted[name] = _by_kind(report.before), _by_kind(report.after)
    drawn = charts.kernels(counted)
    return save_drawing(paint(drawn), content(drawn), file)


if __name__ == "__main__":
    print(f"written: {draw()}")
