"""`python -m bench.training [name ...]`: what `torchops train` reaches on held-out data, and its seconds, network by network.

    --root FOLDER    where Fashion-MNIST lies; without it what needs it is left out
    --isbi FOLDER    where ISBI 2012 lies, likewise

A run is that of the command, in a folder that is gone then. What was found before stays in the file until the same is run
again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from . import arguments, kept

ROOT = Path(__file__).parent.parent
COLUMNS = (
    kept.Column("command"), kept.Column("what it reaches on held-out data"), kept.Column("goal"),
    kept.Column("training", "s", ".0f"),
)  # fmt: skip
RUNS = {
    "lenet": ("lenet", "98.5%"),
    "unet": ("unet", None),
    "diffusion": ("diffusion --judge {lenet}", "60%"),
    "fashion-mnist": ("lenet --dataset fashion-mnist --epochs 5 --root {root}", "89%"),
    "isbi2012": ("unet --data isbi2012 --size 128 --batch-size 8 --epochs 40 --root {isbi}", "92%; threshold + 0.10"),
}
"""What the command is asked for, and the goal."""
NEEDS = {"fashion-mnist": "root", "isbi2012": "isbi"}
METHOD = "figures of the last epoch on held-out data, as summary.json has them; seconds of training"


def train(name: str, into: Path, folders: dict[str, Path]) -> dict[str, Any]:
    """Train once by the command; what the run says of its last epoch, and what a judge recognises."""
    asked, _ = RUNS[name]
    places = {"lenet": into / "lenet", **folders}
    words = [word.format(**places) for word in asked.split()]
    out = ["--out", str(into / name)]
    subprocess.run([sys.executable, "-m", "torchops", "train", *words, *out], cwd=ROOT, check=True)
    summary: dict[str, Any] = json.loads((into / name / "summary.json").read_text())
    return summary["last"] | {"recognised": summary.get("recognised", {})}


def table(found: dict[str, dict[str, Any]]) -> kept.Table:
    """A row a run."""
    rows: list[list[kept.Cell]] = []
    for name in (name for name in RUNS if name in found):
        asked, goal = RUNS[name]
        last = found[name]
        figures = {k: v for k, v in last.items() if isinstance(v, float) and k.startswith("val_") and "loss" not in k}
        sure = {f"LeNet is sure of {who}": share for who, share in last.get("recognised", {}).items()}
        reached = ", ".join(f"{k} {v:.3f}" for k, v in (figures | sure).items())
        command = f"`torchops train {asked.replace('{lenet}', 'runs/lenet').partition(' --root')[0]}`"
        rows.append([command, f"{reached}, last", goal, last["seconds"]])
    return kept.Table("training", "Networks that torchops trains", COLUMNS, rows)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RUNS)}; all that can be run by default")
    parser.add_argument("--root", type=arguments.folder, help="where Fashion-MNIST lies")
    parser.add_argument("--isbi", type=arguments.folder, help="where ISBI 2012 lies")
    parser.add_argument("--file", type=Path, help="what is added to; training.json of this machine and day by default")
    asked = parser.parse_args(given)
    if unknown := sorted({*asked.names} - {*RUNS}):
        parser.error(f"no run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    folders = {name: path.absolute() for name in ("root", "isbi") if (path := getattr(asked, name)) is not None}
    file = arguments.figures(parser, asked.file or kept.folder() / "training.json", False)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.names or RUNS:
            if (need := NEEDS.get(name)) and need not in folders:
                print(f"{name} is left out: --{need} does not say where its files are")
                continue
            if name == "diffusion" and not (Path(folder) / "lenet").exists():
                train("lenet", Path(folder), folders)
            found = kept.found(file) | {name: train(name, Path(folder), folders)}
            told = kept.about("measured", "python -m bench.training", METHOD, threads=str(torch.get_num_threads()))
            kept.write(file, told, [table(found)], found)
            print(f"{name}: {found[name]}", flush=True)


if __name__ == "__main__":
    main()
