"""The networks from the shell: train one, use it, compare torch.nn's layers with ours. Needs the extra `models`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import torchops

from .console import Backend, Commands, app, choices, console, fail, table

if TYPE_CHECKING:
    from torchops.models.runs import Run

PoolName = choices("PoolName", ("max", "avg", "min"))
Norm = choices("Norm", ("none", "before", "after"))
Unpool = choices("Unpool", ("max", "avg", "transpose"))
DatasetName = choices("DatasetName", ("digits", "mnist", "fashion-mnist", "usps"))
Layers = choices("Layers", ("torchops", "torch"))
Border = choices("Border", ("zeros", "reflect", "replicate", "circular"))
Compared = choices("Compared", ("lenet", "resnet", "unet", "diffusion"))

train = typer.Typer(
    cls=Commands, help="Train a network; what comes of it is in a folder of its own.", no_args_is_help=True
)
app.add_typer(train, name="train")

_Out = Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/NET-TIME by default.")]
_Data = Annotated[Path | None, typer.Option(help="A folder with a folder of images for every class.")]
_Dataset = Annotated[DatasetName, typer.Option(help="A set by its name, if there is no --data.")]  # type: ignore[valid-type]
_Root = Annotated[Path, typer.Option(help="Where torchvision keeps the files of its sets, or puts them.")]
_Examples = Annotated[int | None, typer.Option(help="To train on, of each class; all by default.")]
_Augment = Annotated[bool, typer.Option(help="Change images at random while training.")]
_SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")]
_Epochs = Annotated[int, typer.Option(help="How often the training images are gone through.")]
_Batch = Annotated[int, typer.Option(help="Images a step, of all processes together.")]
_Lr = Annotated[
    float, typer.Option(help="The largest rate; it rises for a twentieth of the steps, then falls as a cosine.")
]
_Seed = Annotated[int, typer.Option(help="Of weights, order, changes and noise.")]
_Patience = Annotated[int | None, typer.Option(help="Stop after so many epochs without a better figure.")]
_Backend = Annotated[
    Backend | None,  # type: ignore[valid-type]
    typer.Option(help="Which implementation runs; by default TORCHOPS_BACKEND's, or auto."),
]
_Compile = Annotated[bool, typer.Option("--compile", help="torch.compile the network.")]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; a GPU by default, if there is one.")]
_Workers = Annotated[int, typer.Option(help="Processes that read images.")]
_Amp = Annotated[bool | None, typer.Option("--amp/--no-amp", help="Autocast; by default on a GPU.")]
_ChannelsLast = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--no-channels-last", help="Memory format; by default for ResNet, U-Net and on a GPU."
    ),
]
_Layers = Annotated[Layers, typer.Option(help="Whose convolutions and pools.")]  # type: ignore[valid-type]
_Resume = Annotated[Path | None, typer.Option(help="Go on with the run in this folder, as it was asked for then.")]
_Weights = Annotated[Path | None, typer.Option(help="Checkpoint or run to start from.")]
_Unpool = Annotated[Unpool, typer.Option(help="How the decoder doubles.")]  # type: ignore[valid-type]


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
def _failing() -> Iterator[None]:
    """One line for what a user can get wrong."""
    try:
        from torchops.images import ImageError
        from torchops.models import CheckpointError
        from torchops.models.data import DataError
    except ModuleNotFoundError as error:
        fail(f"networks need {error.name}: pip install 'torchops[models]'")
    try:
        yield
    except typer.Exit:  # a RuntimeError, too
        raise
    except ModuleNotFoundError as error:
        fail(f"networks need {error.name}: pip install 'torchops[models]'")
    except (CheckpointError, DataError, ImageError, ValueError, OSError, FloatingPointError, RuntimeError) as error:
        fail(error)


def _plain(value: Any) -> Any:
    """What a configuration file can hold."""
    return str(value) if isinstance(value, Path) else getattr(value, "value", value)


def run(net: str, out: Path | None, resume: Path | None, options: dict[str, Any], **settings: Any) -> Run:
    """Train, or go on; exit code 130 after Ctrl-C."""
    with _failing():
        from torchops.models.runs import Config, Run
        from torchops.models.training import Interrupted, train

        if resume is not None:
            run = Run(resume)
            config = run.config()
            if config.net != net:
                raise ValueError(f"--resume {resume}: is a run of {config.net}, not of {net}")
        else:
            config = Config(
                net, {k: _plain(v) for k, v in options.items()}, **{k: _plain(v) for k, v in settings.items()}
            )
            run = Run(out or Path("runs") / f"{net}-{time.strftime('%Y%m%d-%H%M%S')}")
            run.check_unused()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with Progress(*columns, console=console, transient=True) as progress:
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


@train.command()
def lenet(
    data: _Data = None, dataset: _Dataset = DatasetName["digits"], root: _Root = Path("data"), path: _Out = None,
    pool: Annotated[PoolName, typer.Option(help="Of both pools.")] = PoolName["max"],  # type: ignore[valid-type]
    norm: Annotated[Norm, typer.Option(help="Batch norm before or after the activation.")] = Norm["none"],  # type: ignore[valid-type]
    channels: Annotated[int, typer.Option(help="1: luminance; 3: colour.")] = 1,
    size: Annotated[int, typer.Option(help="Height and width that images are brought to.")] = 28,
    examples: _Examples = None, augment: _Augment = True, skip_corrupt: _SkipCorrupt = False, weights: _Weights = None,
    epochs: _Epochs = 20, batch_size: _Batch = 64, lr: _Lr = 2e-3, seed: _Seed = 0, patience: _Patience = None,
    layers: _Layers = Layers["torchops"], backend: _Backend = None, compile: _Compile = False, amp: _Amp = None,
    channels_last: _ChannelsLast = None, device: _Device = None, workers: _Workers = 0, resume: _Resume = None,
) -> None:  # fmt: skip
    """LeNet on small images: handwritten digits by default."""
    options = {"pool": pool, "norm": None if _plain(norm) == "none" else norm, "channels": channels}
    run(
        "lenet", path, resume, options, data=data, dataset=dataset, root=root, size=size, examples=examples,
        augment=augment, skip_corrupt=skip_corrupt, weights=weights, epochs=epochs, batch_size=batch_size, lr=lr,
        seed=seed, patience=patience, layers=layers, backend=backend, compile=compile, amp=amp,
        channels_last=channels_last, device=device, workers=workers,
    )  # fmt: skip


@train.command()
def resnet(
    data: _Data = None, dataset: _Dataset = DatasetName["digits"], root: _Root = Path("data"), path: _Out = None,
    depth: Annotated[int, typer.Option(help="18, 34, 50, 101 or 152.")] = 18,
    size: Annotated[int, typer.Option(help="Height and width that images are brought to.")] = 224,
    weights: Annotated[
        str | None,
        typer.Option(help="To start from: a file, a run, or torchvision's weights by name, as DEFAULT; none if left out."),
    ] = None,
    freeze: Annotated[int, typer.Option(help="Epochs in which only the head is trained.")] = 0,
    layer_decay: Annotated[float, typer.Option(help="Rate of a stage over that of the next one.")] = 1.0,
    examples: _Examples = None, augment: _Augment = True, skip_corrupt: _SkipCorrupt = False,
    epochs: _Epochs = 10, batch_size: _Batch = 32, lr: _Lr = 1e-3, seed: _Seed = 0, patience: _Patience = None,
    layers: _Layers = Layers["torchops"], backend: _Backend = None, compile: _Compile = False, amp: _Amp = None,
    channels_last: _ChannelsLast = None, device: _Device = None, workers: _Workers = 0, resume: _Resume = None,
) -> None:  # fmt: skip
    """Fine-tune a ResNet on a folder of images for every class."""
    run(
        "resnet", path, resume, {"depth": depth}, data=data, dataset=dataset, root=root, size=size, examples=examples,
        augment=augment, skip_corrupt=skip_corrupt, weights=weights, epochs=epochs, batch_size=batch_size, lr=lr,
        freeze=freeze, layer_decay=layer_decay, seed=seed, patience=patience, layers=layers, backend=backend,
        compile=compile, amp=amp, channels_last=channels_last, device=device, workers=workers,
    )  # fmt: skip


@train.command()
def unet(
    data: Annotated[
        Path | None, typer.Option(help="A folder with folders `images` and `masks`; pages of digits if left out.")
    ] = None,
    path: _Out = None,
    channels: Annotated[int, typer.Option(help="1: luminance; 3: colour.")] = 1,
    width: Annotated[int, typer.Option(help="Channels of the first level.")] = 16,
    depth: Annotated[int, typer.Option(help="How often the image is halved.")] = 3,
    unpool: _Unpool = Unpool["avg"],
    dilations: Annotated[str, typer.Option(help="Of the blocks at the bottom, as 1,2,4.")] = "1",
    padding_mode: Annotated[Border, typer.Option(help="Border of the convolutions.")] = Border["zeros"],  # type: ignore[valid-type]
    size: Annotated[int, typer.Option(help="Height and width of pages, or of the crops to train on.")] = 64,
    crops: Annotated[int, typer.Option(help="Of each image in an epoch; 64 times as many pages.")] = 8,
    weights: _Weights = None,
    epochs: _Epochs = 20, batch_size: _Batch = 16, lr: _Lr = 3e-3, seed: _Seed = 0, patience: _Patience = None,
    layers: _Layers = Layers["torchops"], backend: _Backend = None, compile: _Compile = False, amp: _Amp = None,
    channels_last: _ChannelsLast = None, device: _Device = None, workers: _Workers = 0, resume: _Resume = None,
) -> None:  # fmt: skip
    """A U-Net on pages of handwritten digits, or on images with masks."""
    try:
        spread = [int(part) for part in dilations.split(",")]
    except ValueError:
        fail(f"--dilations must be numbers as 1,2,4, got {dilations!r}")
    options = {
        "channels": channels, "width": width, "depth": depth, "unpool": unpool, "dilations": spread,
        "padding_mode": padding_mode,
    }  # fmt: skip
    run(
        "unet", path, resume, options, data=data, size=size, crops=crops, weights=weights, epochs=epochs,
        batch_size=batch_size, lr=lr, seed=seed, patience=patience, layers=layers, backend=backend, compile=compile,
        amp=amp, channels_last=channels_last, device=device, workers=workers,
    )  # fmt: skip


@train.command()
def diffusion(
    data: _Data = None, dataset: _Dataset = DatasetName["digits"], root: _Root = Path("data"), path: _Out = None,
    channels: Annotated[int, typer.Option(help="1: luminance; 3: colour.")] = 1,
    size: Annotated[int, typer.Option(help="Height and width of the images; a multiple of 2^depth.")] = 8,
    steps: Annotated[int, typer.Option(help="From noise to image.")] = 500,
    width: Annotated[int, typer.Option(help="Channels of the first level.")] = 32,
    depth: Annotated[int, typer.Option(help="How often the image is halved.")] = 2,
    unpool: _Unpool = Unpool["avg"],
    ema: Annotated[float, typer.Option(help="Share that the average of the weights keeps in a step.")] = 0.995,
    judge: Annotated[Path | None, typer.Option(help="Checkpoint of a classifier, to say what it takes samples for.")] = None,
    weights: _Weights = None, skip_corrupt: _SkipCorrupt = False,
    epochs: _Epochs = 300, batch_size: _Batch = 128, lr: _Lr = 2e-3, seed: _Seed = 0, patience: _Patience = None,
    layers: _Layers = Layers["torchops"], backend: _Backend = None, compile: _Compile = False, amp: _Amp = None,
    channels_last: _ChannelsLast = None, device: _Device = None, workers: _Workers = 0, resume: _Resume = None,
) -> None:  # fmt: skip
    """A diffusion model of small images; at the end it draws some."""
    options = {"channels": channels, "steps": steps, "width": width, "depth": depth, "unpool": unpool}
    run(
        "diffusion", path, resume, options, data=data, dataset=dataset, root=root, size=size, ema=ema, judge=judge,
        weights=weights, augment=False, skip_corrupt=skip_corrupt, epochs=epochs, batch_size=batch_size, lr=lr,
        seed=seed, patience=patience, layers=layers, backend=backend, compile=compile, amp=amp,
        channels_last=channels_last, device=device, workers=workers,
    )  # fmt: skip


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path("predictions"),
    invert: Annotated[bool, typer.Option("--invert", help="Ink on paper, where light on dark was trained.")] = False,
    fuse: Annotated[bool, typer.Option(help="Batch norm and activations into the convolutions.")] = True,
    backend: _Backend = None, compile: _Compile = False, device: _Device = None,
) -> None:  # fmt: skip
    """What a trained network says of images: five classes with their probabilities, or a mask and an overlay."""
    with _failing():
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
    seed: _Seed = 0, backend: _Backend = None, compile: _Compile = False, device: _Device = None,
) -> None:  # fmt: skip
    """Train a network twice from one seed, step by step in turn: with torch.nn's layers and with torchops's."""
    with _failing():
        from torchops.models.compare import compare

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
