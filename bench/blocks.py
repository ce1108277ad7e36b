"""What each block of figures in README and docs says, made of the files in bench/results/. Losses stand first.

A block is a table or a sentence, and the files it is made of. :mod:`bench.pages` puts it into the pages.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from torchops.workloads import CASES

from . import kept
from .conclusions import compiled_summary, conclusions, readme
from .lookup import Results, Source, ratio, shown, time
from .results_file import Duel

GPUS = ("h100", "h200", "a100", "b200")
WORST = 8
"""Rows of a table of losses."""
FURTHEST = 12
"""Rows of a table of what is furthest from the floor."""


def losses(r: Results) -> str:
    lost = sorted((d for d in r.run().duels if d.verdict == "loss"), key=lambda d: -d.ratio)
    rows = [
        [f"`{d.ours.case}`", d.ours.key[1], d.other.provider, time(d.ms[0] / 1e3), time(d.ms[1] / 1e3), ratio(d.ratio)]
        for d in lost[:WORST]
    ]
    return kept.markdown(("case", "threads", "against", "torchops", "the other", "ratio"), rows)


def cpu_families(r: Results) -> str:
    groups: dict[tuple[str, str], list[Duel]] = {}
    for duel in r.run().duels:
        groups.setdefault((duel.ours.family, duel.other.provider), []).append(duel)
    rows = []
    for (family, other), found in groups.items():
        count, values = Counter(d.verdict for d in found), [d.ratio for d in found]
        told = f"{count['loss']}, {count['win']}, {count['even']}"
        rows.append(
            (max(values), [family, other, told, *map(ratio, (max(values), statistics.median(values), min(values)))])
        )
    ordered = [cells for _, cells in sorted(rows, key=lambda one: -one[0])]
    return kept.markdown(("family", "against", "lost, won, neither", "worst", "median", "best"), ordered)


def training(r: Results) -> str:
    rows: dict[str, list[str]] = {}
    columns: Sequence[str] = ()
    for figures, folder in r.all("training"):
        if "training" in figures.tables:
            r.use(Source(figures.provenance, folder))
            columns = [c.heading for c in figures.tables["training"].columns]
            for row in figures.tables["training"].texts():
                rows.setdefault(row[0], row)
    if not rows:
        raise kept.BadFiguresError(f"{r.root} has no training.json")
    return kept.markdown(columns, list(rows.values()))


def epochs(r: Results) -> str:
    return shown(r.measured("epochs"), "network, data", "threads", "torchops, s", "torch.nn, s", "ratio, x")


def compiled(r: Results) -> str:
    names = ("network", "this + Inductor / Inductor, x", "this + Inductor / eager, x", "this alone / fused, x")
    return shown(r.measured("compiled", "times"), *names)


def of_gpu(name: str) -> Callable[[Results], str]:
    """The named layers on a GPU that is not there: every pass, furthest from the floor first."""

    def block(r: Results) -> str:
        known = {case.name for case in CASES}
        found = [row for row in r.modelled(name.upper(), "conv2d").records() if row["case"] in known]
        found.sort(key=lambda row: -row["modelled"] / row["floor"])
        rows = [
            [row["case"], row["pass"], row["kernel"], row["bound"], f"{row['modelled']:.1f}", f"{row['floor']:.1f}"]
            for row in found
        ]
        columns = ("layer", "pass", "kernel", "bound by", "modelled, us", "floor, us")
        return kept.markdown(columns, rows, (False,) * 4 + (True,) * 2)

    return block


def pooling_modelled(r: Results) -> str:
    found = list(r.modelled("H100", "pooling").records())
    found.sort(key=lambda row: -row["modelled"] / row["floor"])
    rows = [
        [row["case"], row["pass"], row["format"], *(f"{row[n]:.1f}" for n in ("modelled", "floor"))]
        for row in found[:FURTHEST]
    ]
    return kept.markdown(("pool", "pass", "format", "modelled, us", "floor, us"), rows, (False,) * 3 + (True,) * 2)


def model_errors(r: Results) -> str:
    table, cudnn = r.modelled("H100", "model-errors"), r.modelled("H100", "model-errors", "cudnn")
    rows = [[f"{name}, {gpu}", *rest] for name, gpu, *rest in table.texts()] + [
        [row[0], *row[2:]] for row in cudnn.texts()
    ]
    return kept.markdown(["published", *(c.heading for c in table.columns[2:])], rows)


def reports(r: Results) -> str:
    lines = []
    for folder in sorted((f for f in r.root.iterdir() if f.is_dir()), key=lambda f: f.name):
        files = sorted(file.stem for file in folder.glob("*.json") if file.name != "kernels.json")
        if files:
            lines.append(f"- `{folder.name}`: {', '.join(files)}")
            told = [kept.read(folder / f"{name}.json").provenance for name in files if name != "results"]
            if told:
                r.use(Source(told[0], folder))
            else:
                r.run()
    return "\n".join(lines)


def _whole(file: str, table: str = "") -> Callable[[Results], str]:
    return lambda r: shown(r.measured(file, table))


def _modelled(file: str) -> Callable[[Results], str]:
    return lambda r: shown(r.modelled("H100", file))


BLOCKS: dict[str, Callable[[Results], str]] = {
    "readme": readme,
    "conclusions": conclusions,
    "losses": losses,
    "cpu-families": cpu_families,
    "training": training,
    "training-step": _whole("training", "compare"),
    "isbi": _whole("training", "isbi"),
    "fine-tuning": _whole("fine-tuning"),
    "transfer": _whole("transfer"),
    "epochs": epochs,
    "epochs-where": _whole("epochs", "where"),
    "workers": _whole("epochs", "workers"),
    "predict-memory": _whole("predict-memory"),
    "networks": _whole("networks"),
    "becomes": _whole("networks", "becomes"),
    "compiled": compiled,
    "compiled-summary": compiled_summary,
    **{f"modelled-{gpu}": of_gpu(gpu) for gpu in GPUS},
    "pooling-modelled": pooling_modelled,
    "model-errors": model_errors,
    "four-layers": _modelled("four-layers"),
    "reports": reports,
}
"""Every name that a page may ask for."""
