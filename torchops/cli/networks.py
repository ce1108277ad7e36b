"""The networks from the shell: train one, use it, compare torch.nn's layers with ours. Needs the extra `models`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

import torchops
from torchops.models.checkpoints import NETS
from torchops.models.options import Config
from torchops.models.runs import Run

from .console import Commands, app, bar, choices, console, fail, table
from .options import BackendOption, help_of, with_options

Compared = choices("Compared", tuple(NETS))

train = typer.Typer(
    cls=Commands, help="Train a network; what comes of it is in a folder of its own.", no_args_is_help=True
)
app.add_typer(train, name="train")

_Seed = Annotated[int, typer.Option(help=help_of("seed"))]
_Compile = Annotated[bool, typer.Option("--compile", help=help_of("compile"))]
_Device = Annotated[str | None, typer.Option(help=help_of("device"))]


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


@contextmanager
def failing() -> Iterator[None]:
    """One line for what a user can get wrong."""
    try:
        from torchops.files.images import ImageError
        from torchops.models import CheckpointError
        from torchops.models.data import DataError
    except ModuleNotFoundError as error:
        fail(f"networks need {error.name}: pip install 'torchops[models]'")
    try:
        yield
    except typer.Exit:  # this is a RuntimeError, too
        raise
    except ModuleNotFoundError as error:
        fail(f"networks need {error.name}: pip install 'torchops[models]'")
    except (CheckpointError, DataError, ImageError, ValueError, OSError, FloatingPointError, RuntimeError) as error:
        fail(error)


def _plain(value: Any) -> Any:
    """What a configuration file can hold."""
    return str(value) if isinstance(value, Path) else getattr(value, "value", value)


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
        run(net, path, resume, **{name: _plain(value) for name, value in asked.items()})


_add("lenet", "LeNet on small images: handwritten digits by default.")
_add("resnet", "Fine-tune a ResNet on a folder of images for every class.")
_add("unet", "A U-Net on pages of handwritten digits, or on images with masks.")
_add("diffusion", "A diffusion model of small images; at the end it draws some.")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path("predictions"),
    invert: Annotated[bool, typer.Option("--invert", help="Ink on paper, where light on dark was trained.")] = False,
    fuse: Annotated[bool, typer.Option(help="Batch norm and activations into the convolutions.")] = True,
    backend: BackendOption = None, compile: _Compile = False, device: _Device = None,
) -> None:  # fmt: skip
    """What a trained network says of images: five classes with their probabilities, or a mask and an overlay."""
    with failing():
        from torchops.models.predict import Predictor

        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        with torchops.use_backend(name):
            predictor = Predictor(checkpoint, device=device, fuse=fuse, compile=compile)
            if predictor.segments:
                out.mkdir(parents=True, exist_ok=True)
            for image in images:
                if predictor.segments:
                    files, shares = predictor.segment(image, out, invert=invert)
                    rows = [(label, share) for label, share in shares if share > 0]
                    title = f"{image}: {', '.join(map(str, files))}"
                else:
                    rows, title = predictor.classify(image, invert=invert), str(image)
                console.print(title, highlight=False, soft_wrap=True)
                shown = table("")
                shown.add_column("class")
                shown.add_column("pixels" if predictor.segments else "probability", justify="right")
                for label, share in rows:
                    shown.add_row(label, f"{share:.2%}")
                console.print(shown)


@app.command()
def compare(
    net: Annotated[Compared, typer.Argument(help="The network.")],  # type: ignore[valid-type]
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("compare.png"),
    steps: Annotated[int, typer.Option(help="Of each of the two.", min=2)] = 100,
    batch_size: Annotated[int | None, typer.Option(help="Images a step; as in training by default.", min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Height and width; as in training by default.", min=8)] = None,
    seed: _Seed = 0, backend: BackendOption = None, compile: _Compile = False, device: _Device = None,
) -> None:  # fmt: skip
    """Train a network twice from one seed, step by step in turn: with torch.nn's layers and with torchops's."""
    with failing():
        from torchops.models.beside_torch import compare

        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        with torchops.use_backend(name):
            result = compare(
                _plain(net),
                steps=steps,
                batch_size=batch_size,
                size=size,
                seed=seed,
                compile=compile,
                device=device,
                path=out,
            )
    shown = table(f"{_plain(net)}, {steps} steps", caption=f"the curves: {out}")
    for heading in ("layers", "first loss", "last loss", "ms a step"):
        shown.add_column(heading, justify="left" if heading == "layers" else "right")
    for layers in result.losses:
        losses = result.losses[layers]
        shown.add_row(layers, f"{losses[0]:.6f}", f"{losses[-1]:.6f}", f"{1e3 * result.median(layers):.1f}")
    console.print(shown)
    console.print(
        f"losses differ by {result.difference:.1e} at most; torchops takes {result.ratio:.3f}x of the time",
        highlight=False,
    )
