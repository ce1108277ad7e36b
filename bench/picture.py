"""`python -m bench.picture`: the kernels of a forward pass of each network, before and after `torchops.fuse`, as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import torchops
from torchops.activations import ACTIVATIONS
from torchops.files import replacing

from .networks import NETWORKS

FILE = Path(__file__).parent.parent / "assets" / "kernels.png"
KINDS = {
    "convolution": (("conv2d", "conv_transpose2d"), "#1f4e79"),
    "batch norm": (("batch_norm",), "#d1495b"),
    "bias, pad, add": (("bias", "pad", "add"), "#edae49"),
    "activation": (tuple(ACTIVATIONS), "#00798c"),
    "all else": ((), "#b8b8b8"),
}


def _by_kind(counts: Counter[str]) -> list[int]:
    known = [sum(counts[op] for op in ops) for ops, _ in KINDS.values()]
    return [*known[:-1], counts.total() - sum(known)]


def draw(file: Path = FILE) -> None:
    """Two bars a network, the sum at their ends."""
    figure = Figure(figsize=(9, 0.5 * len(NETWORKS) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, build in enumerate(NETWORKS.values()):
        _, report = torchops.fuse(build().eval())
        for offset, counts in ((-0.2, report.before), (0.2, report.after)):
            left = 0
            for count, (kind, (_, colour)) in zip(_by_kind(counts), KINDS.items(), strict=True):
                axes.barh(
                    row + offset, count, 0.36, left, color=colour, label=kind if row == 0 and offset < 0 else None
                )
                left += count
            axes.text(left + 2, row + offset, str(left), va="center", fontsize=8)
    axes.set_yticks(range(len(NETWORKS)), NETWORKS)
    axes.invert_yaxis()
    axes.set_xlabel("kernels of a forward pass: above as torch.nn runs it, below fused (counted in the traced graph)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    with replacing(file) as beside:
        figure.savefig(beside, dpi=100)


if __name__ == "__main__":
    draw()
    print(f"written: {FILE}")
