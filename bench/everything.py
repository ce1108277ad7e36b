"""`python -m bench all`: measure all that there is for this machine, part after part, each in a process of its own.

Results go to bench/results/<machine>-<day>/, of what is modelled to bench/results/modelled-<GPU>/. What is there is kept,
unless --again asks for it; a part that fails is named, and the rest goes on. At the end the reports of the folders are written
anew, and the figures of README and docs with them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import arguments, kept, report

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Asked:
    """Files that some parts need, and the folder of this machine's results."""

    out: Path
    results: Path = kept.RESULTS
    photos: Path | None = None
    pokemon: Path | None = None
    types: Path | None = None
    root: Path | None = None
    isbi: Path | None = None

    def given(self, *names: str) -> list[str]:
        """Options for those that there are."""
        return [word for name in names if (path := getattr(self, name)) for word in (f"--{name}", str(path))]


@dataclass(frozen=True)
class Part:
    """A program and the file that it leaves.

    Attributes:
        name: to be asked for by.
        minutes: it takes about so many on two cores.
        what: it finds, in a line.
        module: what is run.
        gpu: of a modelled part, one that is not there; "" for this machine.
        options: of the program, besides its file.
        needs: why it cannot run, or "".
    """

    name: str
    minutes: int
    what: str
    module: str
    gpu: str = ""
    options: Callable[[Asked], list[str]] = lambda asked: []
    needs: Callable[[Asked], str] = lambda asked: ""

    def file(self, asked: Asked) -> Path:
        folder = asked.results / f"modelled-{self.gpu}" if self.gpu else asked.out
        return folder / f"{self.name.removeprefix('modelled-')}.json"

    def begun(self, asked: Asked) -> Path:
        """What it writes until it is over; a run that goes on adds to it. Some write their own file at the end."""
        own = self.gpu or self.name == "results"
        return self.file(asked) if own else self.file(asked).with_suffix(".begun")

    def command(self, asked: Asked) -> list[str]:
        place = ["--out", str(asked.out)] if self.name == "results" else ["--file", str(self.begun(asked))]
        place = [] if self.gpu else place
        return [sys.executable, "-m", self.module, *self.options(asked), *place]


def _photos(asked: Asked) -> str:
    if asked.photos or (asked.pokemon and asked.types):
        return ""
    return "no photos: --photos, or --pokemon and --types, say where they are"


PARTS = (
    Part("results", 15, "every op against ATen, Inductor, kornia and OpenCV", "bench"),
    Part("networks", 3, "what becomes of each network, and how exact it stays", "bench.bench_models"),
    Part("compiled", 60, "torch.compile with this backend, with Inductor, and fused", "bench.compiled"),
    Part("epochs", 20, "epochs of torchops train against a plain loop", "bench.throughput"),
    Part(
        "training", 10, "what torchops train reaches", "bench.training", options=lambda asked: asked.given("root", "isbi")
    ),
    Part("predict-memory", 5, "memory that torchops predict takes for a pixel", "bench.predict_memory"),
    Part(
        "fine-tuning", 20, "training from ImageNet's weights against training from scratch", "bench.finetune",
        options=lambda asked: asked.given("photos", "pokemon", "types"), needs=_photos,
    ),
    Part("modelled-model-errors", 1, "the model against times that others published", "bench.published", "H100"),
    Part("modelled-conv2d", 5, "convolutions on four GPUs that are not there", "bench.model", "H100"),
    Part("modelled-pooling", 2, "pools on an H100 that is not there", "bench.model_pooling", "H100"),
    Part("modelled-lessons", 1, "the kernels of the lessons on an H100 that is not there", "bench.lessons_table", "H100"),
)  # fmt: skip


def run(part: Part, asked: Asked) -> str:
    """Run a part in a process of its own; why it failed, or ""."""
    part.file(asked).parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    code = subprocess.run(part.command(asked), check=False, env=environment).returncode
    begun = part.begun(asked)
    if code == 0 and begun != part.file(asked) and begun.exists():
        begun.replace(part.file(asked))
    if code:
        return f"exit code {code}"
    return "" if part.file(asked).exists() else "it wrote no file"


def state(part: Part, asked: Asked, again: bool) -> str:
    """ "to run", or why it is not run."""
    if part.file(asked).exists() and not again:
        return "kept: its file is there"
    needs = part.needs(asked)
    return f"left out: {needs}" if needs else "to run"


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench all", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="list the parts and run nothing")
    parser.add_argument("--only", action="append", choices=[p.name for p in PARTS], help="a part, again for more")
    parser.add_argument("--again", action="store_true", help="run parts whose files are there, too")
    parser.add_argument("--out", type=Path, help="folder of this machine's results (default: by machine and day)")
    parser.add_argument("--photos", type=arguments.folder, help="the folder stamps of Tux Paint")
    parser.add_argument("--pokemon", type=arguments.folder, help="sprites with numbers as names")
    parser.add_argument("--types", type=arguments.file, help="CSV of their numbers and types")
    parser.add_argument("--root", type=arguments.folder, help="where Fashion-MNIST lies")
    parser.add_argument("--isbi", type=arguments.folder, help="where ISBI 2012 lies")
    chosen = parser.parse_args(given)
    files = {name: getattr(chosen, name) for name in ("photos", "pokemon", "types", "root", "isbi")}
    asked = Asked((chosen.out or kept.folder()).absolute(), **files)
    parts = [part for part in PARTS if not chosen.only or part.name in chosen.only]
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("part", "about, min", "what", "state", title=str(asked.out))
    for part in parts:
        table.add_row(part.name, str(part.minutes), part.what, state(part, asked, chosen.again))
    console.print(table)
    return 0 if chosen.dry_run else _all(parts, asked, chosen.again, console)


def _all(parts: Sequence[Part], asked: Asked, again: bool, console: Console) -> int:
    failed = []
    for part in parts:
        if state(part, asked, again) != "to run":
            continue
        console.print(f"{part.name} ...", highlight=False)
        began = time.monotonic()
        problem = run(part, asked)
        console.print(f"{part.name}: {problem or 'ok'}, {time.monotonic() - began:.0f} s", highlight=False)
        if problem:
            failed.append(part.name)
    for folder in [asked.out, *sorted(asked.results.glob("modelled-*"))]:
        if any(folder.glob("*.json")):
            report.write(folder, folder)
            console.print(f"written: {folder / 'report.md'}", highlight=False, soft_wrap=True)
    if asked.results == kept.RESULTS:
        from . import pages

        pages.main([])
    if failed:
        console.print(f"failed: {', '.join(failed)}; run again, the others are kept", highlight=False)
    return int(bool(failed))
