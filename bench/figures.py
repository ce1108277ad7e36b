"""The pictures of a report. A loss is red, a win blue; measured points are filled, modelled ones hollow."""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from torchops.files import hues
from torchops.files.plots import WIDTH, figure, log_axis, number, times
from torchops.files.plots import style as style_of_all
from torchops.kernels.planning.hardware import Device

from .results_file import Duel, Row

INK = "#010203"
"""Of text and axes: in the page it becomes the page's own colour."""
COLOURS = {"loss": hues.LOSS, "win": hues.WIN, "even": hues.EVEN}
MARKERS = {
    "aten": "o", "inductor": "s", "kornia": "^", "opencv": "D", "scikit-image": "v", "interpolate": "P",
    "interpolate+scale": "X", "conv_transpose": "d", "operator": "<", "function": ">", "torchops": "o", "fused": "*",
}  # fmt: skip
HUES = (hues.PURPLE, hues.ORANGE, hues.GREEN, hues.SKY, hues.YELLOW)
"""Of points that are neither a loss nor a win."""
_STYLE = dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color", "ytick.color",
                        "xtick.labelcolor", "ytick.labelcolor"), INK)  # fmt: skip


def style(page: bool = True) -> Any:
    """The context in which figures are drawn and saved: of a page, in whose colours their texts are, or of files."""
    return style_of_all(_STYLE if page else None)


def svg(drawn: Figure) -> str:
    """The figure as an element of a page, in the page's colours; it loads nothing."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    # a hundredth of a point is as fine as anybody sees
    return re.sub(r"(\d\.\d\d)\d{4}\b", r"\1", text).replace(INK, "currentColor")


def _log(axes: Axes, label: str) -> None:
    log_axis(axes.xaxis, times)
    axes.set_xlabel(label)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """A name a row, from the top."""
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")


def _threads(count: str) -> str:
    return f"{count} thread{'' if str(count) == '1' else 's'}"


def _marker(name: str) -> str:
    return MARKERS.get(name, "o")


def ratios(duels: Sequence[Duel]) -> Figure:
    """A line a case, worst first: the time of torchops over that of each provider, with the spread of the rounds."""
    cases: dict[tuple[str, str], list[Duel]] = {}
    for duel in sorted(duels, key=lambda d: -d.ratio):
        cases.setdefault(duel.ours.key[:2], []).append(duel)
    drawn = figure(WIDTH, 0.19 * len(cases) + 1.4)
    axes = drawn.subplots()
    several = len({threads for _, threads in cases}) > 1
    for row, found in enumerate(cases.values()):
        for duel in found:
            colour, (low, middle, high) = COLOURS[duel.verdict], duel.ratios
            axes.plot((low, high), (row, row), color=colour, linewidth=1)
            rim = {"markeredgecolor": INK, "markeredgewidth": 1.2} if duel.ours.provider == "fused" else {}
            axes.plot(middle, row, _marker(duel.other.provider), color=colour, markersize=5, **rim)
    low, high = min(d.ratios[0] for d in duels), max(d.ratios[2] for d in duels)
    axes.set_xlim(min(0.45, low / 1.1), max(2.2, high * 1.1))
    axes.axvspan(1, axes.get_xlim()[1], color=COLOURS["loss"], alpha=0.07, linewidth=0)
    axes.axvspan(axes.get_xlim()[0], 1, color=COLOURS["win"], alpha=0.07, linewidth=0)
    axes.axvline(1, color=axes.xaxis.label.get_color(), linewidth=0.8)
    _rows(axes, [f"{c} ({_threads(t)})" if several else c for c, t in cases])
    _log(axes, "time of torchops over the provider's\n1x: as fast; right of it torchops is slower")
    names = dict.fromkeys(d.other.provider for d in duels)
    handles = [Line2D([], [], color=COLOURS[v], linewidth=4, label=w) for v, w in _VERDICTS.items()]
    handles += [Line2D([], [], color=INK, marker=_marker(n), linestyle="", label=f"against {n}") for n in names]
    if any(d.ours.provider == "fused" for d in duels):
        fused = {"color": hues.LINE, "markeredgecolor": INK, "markeredgewidth": 1.2}
        handles.append(Line2D([], [], marker="o", linestyle="", label="fused (dark rim)", **fused))
    drawn.legend(handles=handles, loc="outside upper center", ncols=3)
    return drawn


_VERDICTS = {"loss": "loss (4 of 5 rounds)", "win": "win (4 of 5 rounds)", "even": "neither"}
MEASURED, MODELLED = "measured: {}", "MODELLED, not measured: {}"


def roofline(device: Device, measured: Sequence[Row], modelled: Sequence[dict[str, Any]]) -> Figure:
    """Left what multiplies, under the roofs of memory and matrix units; right what only moves data, under that of memory.

    Args:
        device: whose roofs.
        measured: rows of a run on that GPU.
        modelled: kernel, family, flops, bytes_least and us of passes, compiled and not run.
    """
    drawn = figure(WIDTH, 4.3)
    left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
    points = [
        ("filled", r.provider, r.info["flops"], r.info["bytes_least"], statistics.median(r.judged)) for r in measured
    ]
    points += [("hollow", m["pass"], m["flops"], m["bytes_least"], m["us"] / 1e6) for m in modelled]
    kinds = list(dict.fromkeys(point[:2] for point in points))
    for how, kind, flops, moved, time in points:
        colour = HUES[kinds.index((how, kind)) % len(HUES)]
        face, marker = (colour, "o") if how == "filled" else ("none", "D")
        at = (flops / moved, flops / time / 1e12) if flops else (moved / 1e6, moved / time / 1e9)
        (left if flops else right).plot(*at, marker, color=colour, markerfacecolor=face, markersize=5)
    intensity = [0.5, *(p / device.hbm_gb_s * 1e3 for p in device.tflops[:3]), 1e5]
    for peak, name in zip(device.tflops, ("16-bit", "TF32", "float32"), strict=False):
        ys = [min(peak, x * device.hbm_gb_s / 1e3) for x in sorted(intensity)]
        left.plot(sorted(intensity), ys, color=INK, linewidth=0.9)
        left.text(1e5, peak * 1.06, f"{name}, {peak:g} TFLOP/s", ha="right", fontsize=8.5)
    log_axis(left.xaxis)
    log_axis(left.yaxis)
    left.set(xlabel="FLOP a byte that has to move", ylabel="TFLOP/s")
    right.axhline(device.hbm_gb_s, color=INK, linewidth=0.9)
    right.text(0.98, device.hbm_gb_s * 1.02, f"DRAM, {device.hbm_gb_s:g} GB/s", ha="right", fontsize=8.5,
               transform=right.get_yaxis_transform())  # fmt: skip
    log_axis(right.xaxis)
    right.set(xlabel="MB that have to move", ylabel="GB/s", ylim=(0, device.hbm_gb_s * 1.12))
    how = "measured (filled) and modelled (hollow)" if measured else "MODELLED, not measured"
    left.set_title(f"{device.name}: {how}", loc="left")
    for axes in (left, right):
        axes.grid()
    words = {"filled": MEASURED, "hollow": MODELLED}
    handles = [
        Line2D([], [], color=HUES[i % len(HUES)], linestyle="", label=words[how].format(kind),
               marker="o" if how == "filled" else "D", markerfacecolor=None if how == "filled" else "none")
        for i, (how, kind) in enumerate(kinds)
    ]  # fmt: skip
    drawn.legend(handles=handles, loc="outside upper center", ncols=2)
    return drawn


def memory(cases: Sequence[Sequence[Row]]) -> Figure:
    """A line a case: the most memory that a run of each provider adds, largest excess of torchops first."""
    drawn = figure(WIDTH, 0.19 * len(cases) + 1.4)
    axes = drawn.subplots()
    names: dict[str, None] = {}
    for place, rows in enumerate(cases):
        least = min(r.info["peak_mib"] for r in rows if r.provider not in ("torchops", "fused"))
        for row in rows:
            ours = row.provider in ("torchops", "fused")
            verdict = "even" if not ours else "loss" if row.info["peak_mib"] > least + 1 else "win"
            names[row.provider] = None
            # ours lies on what it lies at the same place as
            size, above = (4.5, 3) if ours else (7, 2)
            at = row.info["peak_mib"], place
            axes.plot(*at, _marker(row.provider), color=COLOURS[verdict], markersize=size, zorder=above)
    several = len({rows[0].threads for rows in cases}) > 1
    _rows(axes, [f"{r[0].case} ({_threads(r[0].threads)})" if several else r[0].case for r in cases])
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-0.2, 1.5 * max(2.0, *(r.info["peak_mib"] for rows in cases for r in rows)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_xlabel("peak memory that a run adds, MiB")
    handles = [
        Line2D([], [], color=COLOURS["loss"], marker="o", linestyle="", label="torchops, needs more than another"),
        Line2D([], [], color=COLOURS["win"], marker="o", linestyle="", label="torchops, does not"),
    ]
    if "fused" in names:
        handles.append(Line2D([], [], color=hues.INK, marker=_marker("fused"), linestyle="", label="torchops, fused"))
    others = [n for n in names if n not in ("torchops", "fused")]
    handles += [
        Line2D([], [], color=COLOURS["even"], marker=_marker(n), markersize=7, linestyle="", label=n) for n in others
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=3)
    return drawn


EXACT = 1e-12
"""Where errors of nothing are drawn."""


def errors(rows: Sequence[Row]) -> Figure:
    """A line a family and dtype: the error of every case against float64, providers under one another."""
    lines = sorted({(r.family, str(r.info.get("dtype", ""))) for r in rows})
    names = list(dict.fromkeys(r.provider for r in rows))
    drawn = figure(WIDTH, 0.55 * len(lines) + 1.4)
    axes = drawn.subplots()
    for row in rows:
        line, place = lines.index((row.family, str(row.info.get("dtype", "")))), names.index(row.provider)
        ours = row.provider in ("torchops", "fused")
        axes.plot(
            max(row.info["error"], EXACT), line + 0.7 * (place / max(1, len(names) - 1) - 0.5), _marker(row.provider),
            color=hues.OURS if ours else hues.OTHERS, markersize=4.5,
        )  # fmt: skip
    _rows(axes, [" ".join(line) for line in lines])
    log_axis(axes.xaxis)
    axes.set_xticks([EXACT, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2], ["exact", "1e-10", "1e-8", "1e-6", "1e-4", "0.01"])
    axes.set_xlabel("largest error against float64, relative to the largest value")
    handles = [
        Line2D([], [], linestyle="", marker=_marker(n), label=n, color=hues.OURS if n in ("torchops", "fused") else hues.OTHERS)
        for n in names
    ]  # fmt: skip
    drawn.legend(handles=handles, loc="outside upper center", ncols=5)
    return drawn
