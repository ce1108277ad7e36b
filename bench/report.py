"""The report of a folder of results: Markdown with pictures; of a run HTML, too, that loads nothing. Losses come first."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from matplotlib.figure import Figure

from torchops.files import replacing
from torchops.files.plots import paint, save_drawing
from torchops.kernels.planning.hardware import DEVICES, Device

from . import figures, kept
from .kernel_facts import ARCH, read
from .results_file import OURS, Duel, Row, Run, load

LOSSES = 20
"""The worst, in the first table."""


@dataclass(frozen=True)
class Table:
    """Cells as text; a mark, "loss", "win", "impossible" or "", for every row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Sequence[str] = ()
    title: str = ""
    folded: bool = False
    """Behind a line to click on, with a filter."""


@dataclass(frozen=True)
class Picture:
    name: str
    alt: str
    draw: Callable[[], Figure]


@dataclass
class Section:
    title: str
    words: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def write(file: Path, out: Path) -> list[Path]:
    """Write `report.md`, of a run `report.html`, too, and pictures to `out`; return them.

    Args:
        file: results.json of a run, or a folder. What is known of kernels is read from `kernels.json` beside it, and the other
            files of figures there are a section each.
        out: the folder to write to.

    Raises:
        BadRunError: if the file is no result.
        BadFiguresError: if another file of the folder is none, or there is none at all.
    """
    folder = file if file.is_dir() else file.parent
    ran = folder / "results.json" if file.is_dir() else file
    others = [kept.read(one) for one in sorted(folder.glob("*.json")) if one != ran and kept.holds_figures(one)]
    if file.is_dir() and not ran.exists():
        if not others:
            raise kept.BadFiguresError(f"{folder} holds no figures")
        told = others[0].provenance
        head = {"machine": told["machine"], "kind": told["kind"], "date": "", "commit": ""}
        return _rendered(out, [_figures(one) for one in others], head, ("report.md",))
    run = load(ran)
    kind = "measured on a GPU" if run.on_gpu else "measured on a CPU"
    head = {"machine": _name(run), "date": run.date, "commit": run.commit, "kind": kind}
    found = [*sections(run, read(folder / "kernels.json")), *(_figures(one) for one in others)]
    return _rendered(out, found, head, ("report.html", "report.md"))


def _rendered(out: Path, found: list[Section], head: dict[str, str], names: Sequence[str]) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), trim_blocks=True, lstrip_blocks=True,
        autoescape=select_autoescape(["html.j2"]),
    )  # fmt: skip
    written = []
    with figures.style():
        pictures = [p for section in found for p in section.pictures]
        svgs = {p.name: figures.svg(p.draw()) for p in pictures}
    with figures.style(page=False):
        written += [save_drawing(paint(p.draw()), p.alt, out / f"{p.name}.png") for p in pictures]
    for name in names:
        text = environment.get_template(f"{name}.j2").render(sections=found, svgs=svgs, **head)
        with replacing(out / name) as beside:
            beside.write_text(text + "\n")
        written.append(out / name)
    return written


def _figures(held: kept.Figures) -> Section:
    """A file of figures: where they come from, then its tables."""
    told = held.provenance
    section = Section(
        f"{next(iter(held.tables.values())).title}, {told['kind']}",
        [f"{told['kind'].capitalize()} by `{told['command']}`: {told['method']}."],
    )
    section.words += [table.note for table in held.tables.values() if table.note]
    rows = [[name, str(value)] for name, value in told.items() if name not in ("kind", "command", "method")]
    section.tables.append(Table(("what", "value"), rows))
    for number, table in enumerate(held.tables.values()):
        title = table.title if number else ""
        section.tables.append(
            Table([c.heading for c in table.columns], table.texts(), title=title, folded=table.folded)
        )
    return section


def _name(run: Run) -> str:
    return str(run.machine["gpu"] if run.on_gpu else run.machine.get("cpu", "a CPU"))


def sections(run: Run, kernels: list[dict[str, Any]]) -> list[Section]:
    """The report, in its order."""
    made = [_summary(run), _provenance(run), _ratios(run), _roofline(run, kernels), _memory(run)]
    return [*made, _kernels(kernels), _errors(run), _everything(run)]


def _summary(run: Run) -> Section:
    count = Counter(duel.verdict for duel in run.duels)
    section = Section(
        "Losses and wins",
        [
            f"torchops loses {count['loss']} comparisons, wins {count['win']}, and in {count['even']} neither. A loss or a win "
            "is what four of five rounds agree on. Ratios are the time of torchops over the other's: above 1x it is slower.",
        ],
    )
    if run.on_gpu:
        section.words.append(
            "Where both were captured as CUDA graphs, the times are those of the graphs: what Python takes to launch is not in "
            "them."
        )
    if run.impossible:
        section.words.append(
            f"IMPOSSIBLE measurements, from which nothing is concluded: {len(run.impossible)}. They are faster than the GPU "
            "can move the least bytes, or multiply: a fault of the measurement, or of what is held to be the least."
        )
        section.tables.append(
            Table(
                ("case", "threads, count", "provider", "why it is impossible"),
                [[*r.key, r.impossible] for r in run.impossible],
                ["impossible"] * len(run.impossible),
                "Impossible",
            )
        )
    worst = sorted((d for d in run.duels if d.verdict == "loss"), key=lambda d: -d.ratio)
    section.tables.append(
        Table(
            ("case", "threads, count", "of ours", "against", "ours, ms", "theirs, ms", "ratio, x", "p20 to p80, x"),
            [_duel(d) for d in worst[:LOSSES]],
            ["loss"] * min(LOSSES, len(worst)),
            f"The worst {LOSSES} of {len(worst)} losses" if len(worst) > LOSSES else "All losses, worst first",
        )
    )
    rows, marks = [], []
    for (family, other), found in _grouped(run.duels, lambda d: (d.ours.family, d.other.provider)):
        verdicts, all_ratios = Counter(d.verdict for d in found), [d.ratio for d in found]
        numbers = [verdicts["loss"], verdicts["win"], verdicts["even"]]
        ratios = max(all_ratios), statistics.median(all_ratios), min(all_ratios)
        rows.append([family, other, *map(str, numbers), *(f"{r:.2f}" for r in ratios)])
        marks.append("loss" if numbers[0] > numbers[1] else "win" if numbers[1] > numbers[0] else "")
    columns = (
        "family",
        "against",
        "losses, count",
        "wins, count",
        "neither, count",
        "worst, x",
        "median, x",
        "best, x",
    )
    section.tables.append(Table(columns, rows, marks, "By family"))
    return section


def _grouped(items: Sequence[Any], key: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    return [(k, list(group)) for k, group in groupby(sorted(items, key=key), key=key)]


def _duel(d: Duel) -> list[str]:
    low, middle, high = d.ratios
    times = (f"{ms:.4g}" for ms in d.ms)
    return [*d.ours.key[:2], d.ours.provider, d.other.provider, *times, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]


def _provenance(run: Run) -> Section:
    facts = {name: value for name, value in run.machine.items() if name != "roofs" and value}
    facts |= {"commit": run.commit, "date": run.date}
    return Section(
        "Where these numbers come from", tables=[Table(("what", "value"), [[n, str(v)] for n, v in facts.items()])]
    )


def _ratios(run: Run) -> Section:
    section = Section(
        "Every case",
        ["One line a case, worst first; the bar is from p20 to p80 of the rounds, the axis logarithmic: twice as slow is as "
         "far from the middle as twice as fast. Red is a loss, blue a win, grey neither."],
    )  # fmt: skip
    for family, duels in _grouped(run.duels, lambda d: d.ours.family):
        name = f"ratios-{family.lower()}"
        section.pictures.append(
            Picture(name, f"{family}: time of torchops over each provider's", lambda duels=duels: figures.ratios(duels))
        )
    return section


def modelled(kernels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Passes of layers and ops: their launches together."""
    found = []
    for (_, name), launches in _grouped(kernels, lambda k: (k["case"], k["pass"])):
        us, moved = sum(k["modelled_us"] for k in launches), max(k["bytes_least"] for k in launches)
        known = launches[0]["flops"]
        if known or "conv" not in launches[0]["case"]:
            found.append({"pass": name, "flops": known, "bytes_least": moved, "us": us})
    return found


def _roofline(run: Run, kernels: list[dict[str, Any]]) -> Section:
    section = Section("Roofline")
    points = modelled(kernels)
    roofs = run.machine.get("roofs")
    if roofs:
        device = Device(**{**roofs, "tflops": tuple(roofs["tflops"])})
        points = points if device.arch == ARCH else []
        timed = [r for r in run.rows if r.info.get("bytes_least") and not r.impossible]
        measured = [r for r in timed if r.provider in ("torchops", "aten")]
        section.words.append(
            f"Filled points are measured on {device.name}; hollow diamonds are modelled and not measured."
        )
    else:
        device, measured = DEVICES[ARCH], []
        section.words.append(
            "MODELLED, not measured: this run was on a CPU. The hollow diamonds are what the model says of the kernels "
            f"compiled for {device.name} ({ARCH}), under the roofs of its data sheet. A CPU has no roofs here: its caches "
            "hold the data."
        )
    if not points and not measured:
        section.words.append("No kernel was compiled: `python -m bench report FILE --kernels` does it, in two minutes.")
        return section
    alt = "Roofline: " + ("measured points" if measured else "modelled points, none measured")
    section.pictures.append(Picture("roofline", alt, lambda: figures.roofline(device, measured, points)))
    return section


def _memory(run: Run) -> Section:
    cases = []
    for _, rows in _grouped(run.rows, lambda r: r.key[:2]):
        ours = [r.info["peak_mib"] for r in rows if r.provider == "torchops"]
        others = [r.info["peak_mib"] for r in rows if r.provider not in OURS]
        if ours and others and max(ours + others) >= 1:
            cases.append((ours[0] - min(others), rows))
    cases.sort(key=lambda c: -c[0])
    section = Section(
        "Memory",
        ["The most that a run adds: to torch's allocator on a GPU, to the process on a CPU, where memory that is there already "
         f"and is used again does not count. Of {len(cases)} cases in which something adds 1 MiB, the 40 with the largest "
         "excess of torchops."],
    )  # fmt: skip
    if cases:
        chosen = [rows for _, rows in cases[:40]]
        section.pictures.append(Picture("memory", "Peak memory by provider", lambda: figures.memory(chosen)))
    return section


def _kernels(kernels: list[dict[str, Any]]) -> Section:
    section = Section("Kernels, compiled")
    if not kernels:
        section.words.append("Not computed: `python -m bench report FILE --kernels` compiles them, in two minutes.")
        return section
    spilling = [k for k in kernels if k["spills"]]
    section.words.append(
        f"{len(kernels)} launches, compiled for {kernels[0]['gpu']} ({kernels[0]['arch']}) and read off the machine code; "
        f"{len(spilling)} spill registers. Times are MODELLED, not measured. Widths are bits of a load or store: how often."
    )

    ordered = sorted(kernels, key=lambda k: -k["spills"])
    columns = (
        "case", "pass", "kernel", "dtype", "registers, a thread", "spills, count", "shared, KiB", "loop, instructions",
        "matrix, instructions", "loads, count x bits", "stores, count x bits", "modelled, us", "bound by",
    )  # fmt: skip
    marks = ["loss" if k["spills"] else "" for k in ordered]
    section.tables.append(Table(columns, [_kernel(k) for k in ordered], marks, "Every launch", folded=True))
    return section


def _kernel(k: dict[str, Any]) -> list[str]:
    def widths(found: dict[str, int]) -> str:
        return ", ".join(f"{n} x {bits}" for bits, n in found.items())

    counts = (k[name] for name in ("registers", "spills"))
    code = (k[name] for name in ("loop_instructions", "matrix_instructions"))
    return [
        k["case"], k["pass"], k["kernel"].removesuffix("_kernel"), k["dtype"], *map(str, counts),
        f"{k['shared_bytes'] / 1024:.1f}", *map(str, code), widths(k["loads"]), widths(k["stores"]),
        f"{k['modelled_us']:.1f}", k["bound"],
    ]  # fmt: skip


def _errors(run: Run) -> Section:
    rows = [r for r in run.rows if r.info.get("error") is not None]
    section = Section(
        "Error", ["Every result is compared with float64 before it is timed, and a wrong one is not timed."]
    )
    if rows:
        section.pictures.append(Picture("errors", "Errors against float64", lambda: figures.errors(rows)))
        worst = [(*key, max(r.info["error"] for r in found)) for key, found in _grouped(
            rows, lambda r: (r.family, str(r.info.get("dtype", "")), r.provider)
        )]  # fmt: skip
        columns = ("family", "dtype", "provider", "largest error, of the largest value")
        section.tables.append(
            Table(columns, [[*w[:3], f"{w[3]:.1e}"] for w in worst], title="The largest", folded=True)
        )
    return section


def _number(value: Any, form: str = ".4g") -> str:
    return "" if value is None or value != value else format(value, form)


def _everything(run: Run) -> Section:
    duels = {(d.other.key, d.ours.provider): d for d in run.duels}

    def cells(r: Row) -> list[str]:
        i, duel = r.info, duels.get((r.key, "torchops"))
        return [
            r.case, r.threads, r.provider, str(i.get("dtype", "")), str(i.get("layout", "")), str(i.get("batch", "")),
            *(_number(i.get(n)) for n in ("ms_p50", "ms_p20", "ms_p80", "graph_ms_p50", "floor_ms")),
            *(_number(i.get(n) or None, ".3g") for n in ("tflops", "gb_per_s")), _number(i.get("peak_mib"), ".0f"),
            _number(i.get("error"), ".1e"), "IMPOSSIBLE" if r.impossible else _verdict(duel) if duel else "",
            str(i.get("no_graph", "")),
        ]  # fmt: skip

    def mark(r: Row) -> str:
        duel = duels.get((r.key, "torchops"))
        if r.impossible:
            return "impossible"
        return duel.verdict if duel and duel.verdict != "even" else ""

    columns = (
        "case", "threads, count", "provider", "dtype", "layout", "batch, images", "p50, ms", "p20, ms", "p80, ms",
        "CUDA graph p50, ms", "floor, ms", "rate, TFLOP/s", "traffic, GB/s", "peak, MiB", "error, of the largest",
        "torchops takes, x", "why no graph",
    )  # fmt: skip
    rows = [cells(r) for r in run.rows]
    used = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    table = Table(
        [columns[i] for i in used],
        [[row[i] for i in used] for row in rows],
        [mark(r) for r in run.rows],
        "Every measurement",
        folded=True,
    )
    return Section("Everything", tables=[table])


def _verdict(duel: Duel) -> str:
    return f"{duel.ratio:.2f}" + (" slower" if duel.verdict == "loss" else "")
