"""Networks trained from the shell. Needs the extra `models`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from torchops.models.options import Config
from torchops.models.runs import Run

from .console import App, app, bar, console, table
from .networks import failing, plain
from .options import with_options

train = App(help="Train a network; what comes of it is in a folder of its own.")
app.add_typer(train, name="train")


class _Screen:
    """A progress bar, and a line for every epoch."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        self.progress, self.epochs = progress, epochs
        self.bar = progress.add_task("", total=None)
        self.figure = ""

    def step(self, epoch: int, step: int, steps: int, loss: float, images_per_second: float) -> None:
        text = f"epoch {epoch}/{self.epochs}  loss {loss:.3f}{self.figure}  {images_per_second:.0f} images/s"
        self.progress.update(self.bar, total=steps, completed=step, description=text)

    def epoch(self, figures: dict[str, float]) -> None:
        held_out = {name: value for name, value in figures.items() if name.startswith("val_")}
        best = list(held_out)[-1]
        self.figure = f"  {best} {held_out[best]:.4f}"
        text = "  ".join(f"{name} {value:.4f}" for name, value in held_out.items())
        self.progress.console.print(
            f"epoch {figures['epoch']:>3.0f}  train_loss {figures['train_loss']:.4f}  {text}  {figures['seconds']:.1f} s",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, soft_wrap=True)


def run(net: str, path: Path | None, resume: Path | None, **asked: Any) -> Run:
    """Train, or go on; exit code 130 after Ctrl-C."""
    with failing():
        from torchops.models.training import Interrupted, train

        if resume is not None:
            run = Run(resume)
            config = run.config()
            if config.net != net:
                raise ValueError(f"--resume {resume}: is a run of {config.net}, not of {net}")
        else:
            config = Config.asked(net, **asked)
            run = Run(path or Path("runs") / f"{net}-{time.strftime('%Y%m%d-%H%M%S')}")
            run.check_unused()
        try:
            with bar() as progress:
                summary = train(config, run, _Screen(progress, config.epochs), resume=resume is not None)
        except (Interrupted, KeyboardInterrupt) as stopped:
            typer.echo(f"torchops: stopped ({stopped}): torchops train {net} --resume {run.path} goes on", err=True)
            raise typer.Exit(130) from None
        if summary:
            _print_summary(run, summary)
        return run


def _print_summary(run: Run, summary: dict[str, Any]) -> None:
    shown = table(str(run.path))
    shown.add_column("")
    shown.add_column("", justify="right")
    for name, value in summary["last"].items():
        if name.startswith("val_"):
            shown.add_row(f"{name}, last epoch", f"{value:.4f}")
    for name in summary:
        if name.startswith("best_"):
            shown.add_row(name, f"{summary[name]:.4f}" if isinstance(summary[name], float) else str(summary[name]))
    for name in ("iou", "threshold_iou", "recognised"):
        for label, value in summary.get(name, {}).items():
            shown.add_row(f"{name}, {label}", f"{value:.4f}")
    shown.add_row("seconds of training", f"{summary['last']['seconds']:.1f}")
    console.print(shown)
    pictures = sorted(path.name for path in run.path.glob("*.png"))
    console.print(f"in {run.path}: {', '.join(pictures)}", highlight=False, soft_wrap=True)


def _add(net: str, help: str) -> None:
    @train.command(net, help=help)
    @with_options(net)
    def command(path: Path | None, resume: Path | None, **asked: Any) -> None:
        run(net, path, resume, **{name: plain(value) for name, value in asked.items()})


_add("lenet", "LeNet on small images: handwritten digits by default.")
_add("resnet", "Fine-tune a ResNet on a folder of images for every class.")
_add("unet", "A U-Net on pages of handwritten digits, or on images with masks.")
_add("diffusion", "A diffusion model of small images; at the end it draws some.")
