"""`python -m bench.throughput [name ...]`: epochs of `torchops train` against the loop that one writes with torch.nn.

    --stage times     an epoch of one, an epoch of the other, in turn; ratios of neighbours
    --stage workers   images/s of `torchops train` with 0, 1 and 2 workers, from photos of 1000 x 800 pixels and from digits
    --table           print the tables of what is in the file

Both see the same numbers of images, of the same size, in batches of the same size, change them by the same transforms of
torchvision, train the same network with AdamW, in the same memory format, look at the loss of every step, and compute loss and
accuracy (or IoU) of the held-out images after every epoch, both without workers.

`torchops train` is the command's own loop, :func:`torchops.models.training.train`, with its progress bar painted on a terminal
that nobody sees: a seed for every sample, so that a run can be gone on with at any step, a learning rate for every step,
torchmetrics, checks that losses, figures and weights are finite, and, after every epoch, metrics.csv, last.pt with the
optimizer's moments, and best.pt where it is the best one.

The other is :class:`bench.plain_training.Plain`: torch.nn's layers, a shuffled DataLoader of torchvision's ImageFolder or of
tensors, loss.item() after every step, a confusion matrix by torch.bincount; no seeds, no schedule, no checkpoints.

Not in the times: what is done once a run, as reading all images to see that they can be read, and the pictures at the end. The
first epoch of both is thrown away.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from torchops.cli.train import Screen
from torchops.measure.rivals import threads
from torchops.models.data import Found
from torchops.models.data.found import counted
from torchops.models.options import Config
from torchops.models.runs import Row, Run
from torchops.models.setup import data_for
from torchops.models.training import train

from . import arguments, kept
from .plain_training import Plain
from .provenance import commit

STAGES = ("times", "workers")
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
"""Photos of scikit-image that come with it, a class each."""
WORKERS = (0, 1, 2)


class Enough(Exception):  # noqa: N818 (it is none)
    """All epochs that are timed are over."""


class Turns(Screen):
    """Watches a run; after every epoch something else has its turn. What both took is kept, but for the first of each.

    Args:
        rounds: so many are timed; then `Enough` is raised.
        other: what has its turn.
    """

    def __init__(self, rounds: int, other: Callable[[], Any] = lambda: None) -> None:
        super().__init__(Progress(console=Console(file=io.StringIO(), force_terminal=True)), rounds + 1)
        self.rounds, self.other = rounds, other
        self.seconds: dict[str, list[float]] = {"torchops": [], "torch.nn": []}
        self.cpu: dict[str, list[float]] = {"torchops": [], "torch.nn": []}
        self.steps = 0
        self.began = 0.0, 0.0

    def found(self, found: Found) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None:
        super().step(epoch, step, steps, loss, images_per_second)
        self.steps = steps

    def epoch(self, figures: Row) -> None:
        super().epoch(figures)
        self._over("torchops")
        self.progress.stop()
        self._begin()
        self.other()
        self._over("torch.nn")
        if len(self.seconds["torchops"]) > self.rounds:
            raise Enough
        self._begin()
        self.progress.start()

    def _begin(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def _over(self, name: str) -> None:
        seconds, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        self.seconds[name].append(seconds)
        self.cpu[name].append(cpu)


def watched(config: Config, rounds: int, other: Callable[[], Any] = lambda: None) -> Turns:
    """Train until so many epochs are timed, after one that is not, in a folder that is gone then."""
    # the run is left before it ends
    config.epochs = rounds + 2
    turns = Turns(rounds, other)
    with tempfile.TemporaryDirectory() as folder, turns.progress, suppress(Enough):
        train(config, Run(Path(folder) / "run"), turns)
    for times in (turns.seconds, turns.cpu):
        for found in times.values():
            del found[0]
    return turns


def save_photos(root: Path, count: int, width: int, height: int) -> None:
    """`count` crops of each photo as JPEG in root/train, and a quarter as many in root/val."""
    import skimage.data

    generator = torch.Generator().manual_seed(0)
    for name in PHOTOS:
        photo = Image.fromarray(getattr(skimage.data, name)())
        for number in range(count + count // 4):
            folder = root / ("train" if number < count else "val") / name
            folder.mkdir(parents=True, exist_ok=True)
            # a crop is as large as this shape allows, but for a fifth
            share = 0.8 * min(photo.width / width, photo.height / height)
            w, h = int(share * width), int(share * height)
            left, top = (
                int(torch.randint(room + 1, (), generator=generator)) for room in (photo.width - w, photo.height - h)
            )
            crop = photo.crop((left, top, left + w, top + h)).resize((width, height), Image.Resampling.BICUBIC)
            crop.save(folder / f"{number}.jpg", quality=90)


@contextmanager
def digits(tiny: bool) -> Iterator[Config]:
    """The default of `torchops train lenet`: 1,438 digits of 28 x 28 pixels."""
    yield Config.asked("lenet", **({"examples": 10, "batch_size": 25} if tiny else {}))


@contextmanager
def photos(tiny: bool) -> Iterator[Config]:
    """`torchops train resnet --data FOLDER --size 64`: 400 JPEGs of 320 x 256 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        save_photos(Path(folder), *((4, 40, 32) if tiny else (100, 320, 256)))
        yield Config.asked("resnet", data=folder, size=32 if tiny else 64, **({"batch_size": 8} if tiny else {}))


@contextmanager
def large_photos(tiny: bool) -> Iterator[Config]:
    """The same with 200 JPEGs of 1000 x 800 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        save_photos(Path(folder), *((4, 100, 80) if tiny else (50, 1000, 800)))
        yield Config.asked("resnet", data=folder, size=32 if tiny else 64, **({"batch_size": 8} if tiny else {}))


@contextmanager
def pages(tiny: bool) -> Iterator[Config]:
    """The default of `torchops train unet` with a quarter of its pages an epoch: 128 of 64 x 64 pixels."""
    yield Config.asked("unet", crops=1 if tiny else 2, **({"size": 16, "width": 4, "depth": 1} if tiny else {}))


LOADS = {
    "lenet, digits": digits,
    "resnet18, photos": photos,
    "resnet18, large photos": large_photos,
    "unet, pages": pages,
}
WITH_WORKERS = ("lenet, digits", "resnet18, large photos")


def timed(name: str, rounds: int, tiny: bool = False) -> dict[str, Any]:
    """Seconds an epoch of both, and the ratios round by round, on the clock and of the CPU."""
    with LOADS[name](tiny) as config:
        data = data_for(config)
        theirs = Plain(Config(**vars(config)), data)
        turns = watched(config, rounds, theirs)
    size = min(config.batch_size, len(data.train))  # type: ignore[arg-type]
    assert turns.steps * size == theirs.images, "not as many images"
    ratios = [a / b for a, b in zip(turns.seconds["torchops"], turns.seconds["torch.nn"], strict=True)]
    of_cpu = [a / b for a, b in zip(turns.cpu["torchops"], turns.cpu["torch.nn"], strict=True)]
    return {
        "images": theirs.images,
        "seconds": {side: statistics.median(found) for side, found in turns.seconds.items()},
        "ratio": statistics.median(ratios),
        "quartiles": statistics.quantiles(ratios, n=4)[::2] if rounds > 1 else ratios * 2,
        "cpu_ratio": statistics.median(of_cpu),
        "rounds": rounds,
    }


def with_workers(name: str, rounds: int, tiny: bool = False) -> dict[str, Any]:
    """Images/s of epochs, the held-out images' time in them, by the number of workers; every round has all of them in turn."""
    speeds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    with LOADS[name](tiny) as config:
        size = min(config.batch_size, len(data_for(config).train))  # type: ignore[arg-type]
        for number in range(rounds):
            turn = number % len(WORKERS)
            for workers in WORKERS[turn:] + WORKERS[:turn]:
                config.workers = workers
                turns = watched(config, 1)
                speeds[workers].append(turns.steps * size / turns.seconds["torchops"][0])
    return {"images_per_second": {str(w): statistics.median(found) for w, found in speeds.items()}, "rounds": rounds}


#
# What is written.


METHOD = (
    "whole epochs of `torchops train`, data, changes, metrics, checks and checkpoints in them, against the loop that one "
    "writes with torch.nn: in one process, without workers, an epoch of one after an epoch of the other; ratios are medians of "
    "neighbours"
)
TIMES = (
    kept.Column("network, data"), kept.Column("threads", form="d"), kept.Column("torchops", "s", ".2f"),
    kept.Column("torch.nn", "s", ".2f"), kept.Column("torchops", "images/s", ".0f"), kept.Column("ratio", "x", ".2f"),
    kept.Column("quartiles", "x"), kept.Column("of CPU seconds", "x", ".2f"),
)  # fmt: skip


def tables(found: dict[str, Any]) -> list[kept.Table]:
    """Of both stages, as far as they were run."""
    made = []
    if "times" in found:
        rows: list[list[kept.Cell]] = []
        for row in found["times"].values():
            ours, theirs = (row["seconds"][side] for side in ("torchops", "torch.nn"))
            low, high = row["quartiles"]
            rows.append(
                [row["name"], row["threads"], ours, theirs, row["images"] / ours, row["ratio"], f"{low:.2f} to {high:.2f}",
                 row["cpu_ratio"]]
            )  # fmt: skip
        note = "Judging the held-out images is in the seconds and in images/s."
        made.append(kept.Table("epochs", "Epochs against a plain loop", TIMES, rows, note))
    if "workers" in found:
        columns = (kept.Column("images/s"), *(kept.Column(counted(w, "worker"), form=".0f") for w in WORKERS))
        rows = [[name, *row["images_per_second"].values()] for name, row in found["workers"].items()]
        made.append(kept.Table("workers", "Images/s by the number of workers", columns, rows))
    return made


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {'; '.join(LOADS)}; all by default")
    parser.add_argument("--stage", choices=STAGES, action="append", help="which, again for more; all by default")
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each that are timed")
    parser.add_argument("--threads", type=int, action="append", help="of torch, again for more; 1 and 2 by default")
    parser.add_argument("--tiny", action="store_true", help="a few small images, to see that it runs")
    parser.add_argument("--file", type=Path, help="what is added to; epochs.json of this machine and day by default")
    parser.add_argument("--table", action="store_true", help="print what is in the file, and run nothing")
    asked = parser.parse_args(given)
    if unknown := sorted({*asked.names} - {*LOADS}):
        parser.error(f"no load {', '.join(unknown)}; there are {'; '.join(LOADS)}")
    file = arguments.figures(parser, asked.file or kept.folder() / "epochs.json", asked.table)
    if asked.table:
        print("\n\n".join(map(kept.printed, kept.read(file).tables.values())))
        return
    at = commit()
    for stage in asked.stage or STAGES:
        for name in asked.names or LOADS:
            if stage == "workers" and name not in WITH_WORKERS:
                continue
            for count in asked.threads or ((1, 2) if stage == "times" else (1,)):
                with threads(count):
                    found = (timed if stage == "times" else with_workers)(name, asked.rounds, asked.tiny)
                row = {"name": name, "threads": count, **found, "commit": at}
                # another process may have added to the file
                results = kept.found(file)
                key = name if stage == "workers" else f"{name}, {count}"
                results[stage] = dict(sorted((results.get(stage, {}) | {key: row}).items()))
                told = kept.about("measured", "python -m bench.throughput", METHOD, threads="as the rows say")
                kept.write(file, told, tables(results), results)
                print(f"{stage} {key}: {found}", flush=True)


if __name__ == "__main__":
    main()
