"""Networks trained from the shell. Needs the extra `models`."""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress

from torchops.files.names import printable
from torchops.models.options import HERE, Config
from torchops.models.runs import Row, Run

from .console import App, Failed, app, bar, console, say, table, warn
from .networks import failing, plain
from .options import with_options

if TYPE_CHECKING:
    from torchops.models.data import Found

train = App(help="Train a network; what comes of it is in a folder of its own.")
app.add_typer(train, name="train")


MOST = 20
"""Figures of more classes are in files, not on the screen."""


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


class Screen:
    """What was found, a progress bar, and a line for every epoch.

    Args:
        progress: the bar.
        epochs: so many will be trained.
        all_of_it: whether all classes and all files that are left out are shown, however many there are.
    """

    def __init__(self, progress: Progress, epochs: int, *, all_of_it: bool = False) -> None:
        self.progress, self.epochs = progress, epochs
        self.most: dict[str, Any] = {"most": None} if all_of_it else {}
        self.bar = progress.add_task("", total=None)
        self.figure = ""

    def found(self, found: Found) -> None:
        headings, rows = found.table(**self.most)
        if found.images:
            shown = table("")
            for heading in headings:
                shown.add_column(heading, justify="left" if heading == headings[0] else "right")
            for row in rows:
                shown.add_row(*row)
            console.print(shown)
        for sentence in found.sentences(**self.most):
            self.note(sentence)

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None:
        text = f"epoch {epoch}/{self.epochs}  loss {loss:.3f}{self.figure}  {images_per_second:.0f} images/s"
        self.progress.update(self.bar, total=steps, completed=step, description=text)

    def epoch(self, figures: Row) -> None:
        held_out = {name: value for name, value in figures.items() if name.startswith("val_")}
        last = list(held_out)[-1]
        self.figure = f"  {last} {_figure(held_out[last])}"
        text = "  ".join(f"{name} {_figure(value)}" for name, value in held_out.items())
        seconds = figures["seconds"] or 0.0
        self.note(
            f"epoch {figures['epoch']:>3.0f}  train_loss {_figure(figures['train_loss'])}  {text}  {seconds:.1f} s"
        )

    def note(self, text: str) -> None:
        say(text)


def run(
    net: str, path: Path | None, resume: Path | None, *, list: bool = False, given: Collection[str] = (), **asked: Any
) -> Run:
    """Train, or go on; exit code 130 after Ctrl-C, 1 where the loss is none any more.

    Args:
        net: the network.
        path, resume: the folder of a new run, or of one to go on with.
        list: only say what there is to train on.
        given: the options that were given; beside `resume` the others are the run's own.
        **asked: options of the network and of :class:`Config`.
    """
    with failing():
        from torchops.models.training import Diverged, Elsewhere, Interrupted, Processes, look, train

        run = Run(resume or path or Path("runs") / f"{net}-{time.strftime('%Y%m%d-%H%M%S')}")
        # of several processes that stop as one, one says so
        first = os.environ.get("RANK", "0") == "0"
        try:
            with Processes.joined() as processes, bar() as progress:
                with processes.as_one():
                    config = Config.asked(
                        net, **{name: asked[name] for name in asked if resume is None or name in given}
                    )
                    # the run is the first process's, and may lie on another machine
                    if resume is not None and processes.first:
                        config = _of_run(run, config, path, [name for name in given if name in asked])
                    elif not list and processes.first:
                        run.check_unused()
                if resume is not None:
                    own = {name: getattr(config, name) for name in HERE if name in given}
                    config = dataclasses.replace(processes.from_first(config), **own)
                    with processes.as_one():
                        _check_there(config, alone=processes.world == 1)
                screen = Screen(progress, config.epochs, all_of_it=list)
                if list:
                    look(config, screen, processes=processes)
                    return run
                summary = train(config, run, screen, resume=resume is not None, processes=processes)
        except (Interrupted, KeyboardInterrupt) as stopped:
            if first:
                where = f" ({stopped})" if str(stopped) else ""
                goes_on = f"torchops train {net} --resume {shlex.quote(str(run.path))} goes on"
                warn(f"stopped{where}: {goes_on if run.last.exists() else 'nothing was saved'}")
            raise typer.Exit(130) from None
        except Diverged as error:
            if first:
                raise Failed(error) from error
            raise typer.Exit(Failed.code) from None
        except Elsewhere as error:
            # one process of each machine says so
            if error.far and os.environ.get("LOCAL_RANK", "0") == "0":
                raise Failed(error) from error
            raise typer.Exit(Failed.code) from None
        if summary:
            _print_summary(run, summary)
        return run


def _of_run(run: Run, asked: Config, path: Path | None, given: Collection[str]) -> Config:
    """The configuration of a run that goes on."""
    before = run.config()
    if before.net != asked.net:
        raise ValueError(f"`resume` (={run.path}): is a run of {before.net}, not of {asked.net}")
    if path is not None and path.absolute() != run.path.absolute():
        raise ValueError(f"`path` (={path}): a run goes on in its own folder, which `resume` names")
    return before.changed(asked, given)


def _check_there(config: Config, *, alone: bool) -> None:
    if config.data is not None and not os.path.isabs(config.data) and not os.path.lexists(config.data):
        here = "" if alone else ", or name the folder on this machine"
        raise ValueError(
            f"`data` (={config.data}): no such folder here; start from the folder that the run was started in{here}"
        )


def _print_summary(run: Run, summary: dict[str, Any]) -> None:
    shown = table(printable(run.path))
    shown.show_header = False
    shown.add_column("")
    shown.add_column("", justify="right")
    for name, value in summary["last"].items():
        if name.startswith("val_"):
            shown.add_row(f"{name}, last epoch", _figure(value))
    for name, value in summary.items():
        if name.startswith(("best_", "test_", "macro_")):
            shown.add_row(name, str(value) if isinstance(value, int) else _figure(value))
    for label, value in summary.get("recognised", {}).items():
        shown.add_row(printable(f"recognised, {label}"), _figure(value))
    shown.add_row("seconds of training", f"{summary['last']['seconds']:.1f}")
    console.print(shown)
    _print_classes({n: summary[n] for n in ("precision", "recall", "f1", "iou", "threshold_iou") if n in summary})
    say(f"in {run.path}: {', '.join(file.name for file in run.pictures())}")


def _print_classes(figures: dict[str, dict[str, float | None]]) -> None:
    """A table of the figures of every class, if there are few; by name and then by class."""
    labels = list(next(iter(figures.values()), {}))
    if len(labels) > MOST:
        say(f"figures of all {len(labels)} classes: summary.json; which was taken for which: confusion.csv")
    elif labels:
        shown = table("")
        shown.add_column("class")
        for name in figures:
            shown.add_column(name, justify="right")
        for label in labels:
            shown.add_row(printable(label), *(_figure(values[label]) for values in figures.values()))
        console.print(shown)


def _add(net: str, help: str) -> None:
    @train.command(net, help=help)
    @with_options(net)
    def command(path: Path | None, resume: Path | None, **asked: Any) -> None:
        run(net, path, resume, **{name: plain(value) for name, value in asked.items()})


_add("lenet", "LeNet on small images: handwritten digits by default.")
_add("resnet", "Fine-tune a ResNet on a folder of images for every class.")
_add("classifier", "Fine-tune any classifier of torchvision or timm on a folder of images for every class.")
_add("unet", "A U-Net on pages of handwritten digits, or on images with masks.")
_add("diffusion", "A diffusion model of small images; at the end it draws some.")
