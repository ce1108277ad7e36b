"""Pictures of what is counted and modelled: kernels of networks, layers of convolutions. Called in the style of the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from torchops.files import hues
from torchops.files.plots import WIDTH, figure, log_axis, number, times
from torchops.workloads import ConvLayer

KINDS = {
    "convolution": hues.BLUE, "batch norm": hues.VERMILION, "bias, pad, add": hues.ORANGE, "activation": hues.GREEN,
    "all else": hues.GRAY,
}  # fmt: skip
"""What kernels of a network are counted as, and the colour of each."""
BOUNDS = {"DRAM": hues.BLUE, "L2": hues.PURPLE, "tensor": hues.GREEN, "issue": hues.ORANGE}
PASSES = {"forward": "forward", "input_grad": "gradient of the image", "weight_grad": "gradient of the weights"}


def kernels(networks: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> Figure:
    """Two bars a network, with the sum at their ends: its kernels before `torchops.fuse` and after, by `KINDS`."""
    drawn = figure(WIDTH, 0.46 * len(networks) + 1.3)
    axes = drawn.subplots()
    for row, counted in enumerate(networks.values()):
        for offset, counts, text in zip((-0.2, 0.2), counted, ("", " fused"), strict=True):
            left = 0
            for count, colour in zip(counts, KINDS.values(), strict=True):
                axes.barh(row + offset, count, 0.36, left, color=colour, edgecolor=hues.PAPER, linewidth=0.4)
                left += count
            axes.text(left + 2, row + offset, f"{left}{text}", va="center", fontsize=8.5)
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(len(networks) - 0.45, -0.55)
    axes.set_xlabel(
        "kernels of a forward pass, counted in the traced graph: above by torch.nn, below after torchops.fuse"
    )
    drawn.legend(handles=[Patch(color=c, label=k) for k, c in KINDS.items()], loc="outside upper center", ncols=5)
    return drawn


class Left(NamedTuple):
    """Kernels of a network: in eager mode, fused and by `torch.compile`; None where nothing was traced."""

    eager: int
    fused: int | None
    whole: bool
    """Whether `fuse` kept modules or functions whole, each of which counts as one."""
    compiled: int | None


def of_table(table: Mapping[str, Any]) -> dict[str, Left]:
    """The networks of the table `kernels` of a file that `bench.compiled` wrote: "23*" where modules were kept whole."""
    columns = [name for name, *_ in table["columns"]]
    found = {}
    for row in table["rows"]:
        of = dict(zip(columns, map(str, row), strict=True))
        fused = of["fused"]
        traced = None if fused == "kept whole" else int(fused.rstrip("*"))
        found[of["network"]] = Left(int(of["kernels, eager"]), traced, fused.endswith("*"), int(of["this"]))
    return found


def kernels_left(networks: Mapping[str, Left]) -> Figure:
    """A line a network, fewest left first: the share of its kernels that is left, with the counts beside it."""
    found = sorted(networks.items(), key=lambda item: _share(item[1].compiled, item[1].eager))
    drawn = figure(WIDTH, 0.215 * len(found) + 1.5)
    axes, beside = drawn.subplots(1, 2, width_ratios=(3.1, 1), sharey=True)
    for row, (_, left) in enumerate(found):
        fused, compiled = _share(left.fused, left.eager), _share(left.compiled, left.eager)
        axes.plot((min(fused, compiled), 100), (row, row), color=hues.LINE, linewidth=1.2, zorder=1)
        axes.plot(100, row, "|", color=hues.INK, markersize=7)
        axes.plot(fused, row, "D", color=hues.ORANGE, markerfacecolor=hues.PAPER, markersize=7.5, markeredgewidth=1.5)
        axes.plot(compiled, row, "o", color=hues.OURS, markersize=4.5)
        texts = [
            str(left.eager),
            "whole" if left.fused is None else f"{left.fused}{'*' * left.whole}",
            str(left.compiled),
        ]
        for place, text in zip(_PLACES, texts, strict=True):
            beside.text(place, row, text, ha="right", va="center", fontsize=8.5)
    for place, text in zip(_PLACES, ("eager", "fused", "compiled"), strict=True):
        beside.text(place, -0.9, text, ha="right", va="bottom", fontsize=8.5, color=hues.SOFT)
    beside.set_axis_off()
    axes.set_yticks(range(len(found)), [name for name, _ in found], fontsize=8.5)
    axes.set(ylim=(len(found) - 0.4, -1.0), xlim=(0, 102.5), xticks=range(0, 101, 20))
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.grid(axis="x")
    star = "; *: it kept modules or functions whole, each of which counts as one"
    axes.set_xlabel(
        "kernels left of those of eager mode, counted in the graph: one for each operator but views;\n"
        f"whole: fuse traced nothing{star * any(left.whole for left in networks.values())}"
    )
    handles = [
        Line2D([], [], color=hues.INK, marker="|", linestyle="", markersize=8, label="eager"),
        Line2D([], [], color=hues.ORANGE, marker="D", markerfacecolor=hues.PAPER, linestyle="", markersize=7,
               markeredgewidth=1.5, label="torchops.fuse"),
        Line2D([], [], color=hues.OURS, marker="o", linestyle="", label='torch.compile(backend="torchops")'),
    ]  # fmt: skip
    drawn.legend(handles=handles, loc="outside upper center", ncols=3)
    return drawn


_PLACES = (0.2, 0.5, 0.98)
"""Where columns of numbers end."""


def _share(count: int | None, of: int) -> float:
    return 100 * (of if count is None else count) / of


class Modelled(NamedTuple):
    """A pass of a layer: modelled and least possible microseconds, and what bounds its longest launch."""

    layer: ConvLayer
    name: str
    us: float
    floor_us: float
    bound: str


def over_floor(passes: Sequence[Modelled], gpu: str) -> Figure:
    """Three bars a layer, hollow since nothing is measured: modelled times over the floor, coloured by what bounds them."""
    layers = list(dict.fromkeys(one.layer for one in passes))
    drawn = figure(WIDTH, 0.23 * (len(passes) + 1.4 * len(layers)) + 1.5)
    axes = drawn.subplots()
    ticks: dict[float, str] = {}
    for index, one in enumerate(passes):
        row = index + 1.4 * layers.index(one.layer)
        if not ticks or one.layer != passes[index - 1].layer:
            axes.text(1, row - 0.6, _described(one.layer), fontsize=9, weight="bold", va="bottom")
        ratio, colour = one.us / one.floor_us, BOUNDS[one.bound]
        axes.barh(row, ratio - 1, 0.72, 1, facecolor=hues.pale(colour, 0.85), edgecolor=colour, linewidth=1.6)
        axes.text(ratio * 1.03, row, f"{number(round(one.us))} us, {_words(one.bound)}", va="center", fontsize=8.5)
        ticks[row] = PASSES[one.name]
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=8.5)
    axes.set_ylim(max(ticks) + 0.6, -1.9)
    log_axis(axes.xaxis, times)
    axes.set_xlim(1, 1.5 * max(one.us / one.floor_us for one in passes))
    axes.grid(axis="x")
    axes.set_xlabel(
        "modelled time over the floor, logarithmic; 1x is the floor, which nothing can be faster than:\n"
        "every multiply-add on the matrix units, and every element moved once"
    )  # fmt: skip
    axes.set_title(f"MODELLED, not measured: convolutions on an {gpu}, bfloat16, channels_last", loc="left")
    handles = [
        Patch(facecolor=hues.pale(c, 0.85), edgecolor=c, label=f"bound by {_words(b)}") for b, c in BOUNDS.items()
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4)
    return drawn


def _words(bound: str) -> str:
    return {"tensor": "matrix units", "issue": "issued instructions"}.get(bound, bound)


def _described(layer: ConvLayer) -> str:
    more = f", stride {layer.stride}" * (layer.stride > 1) + f", dilation {layer.dilation}" * (layer.dilation > 1)
    return (
        f"{layer.name}: {layer.R} x {layer.S}, {layer.C} to {layer.K} channels, {layer.H} x {layer.W} pixels{more}, "
        f"{layer.N} images"
    )
