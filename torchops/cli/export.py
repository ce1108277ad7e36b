"""A trained network for other runtimes, from the shell: ONNX, a program in ATen's operators alone, a package for C++."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from torchops.files.targets import check_writable

from .console import app, fail, say
from .networks import FUSE_HELP, failing

SUFFIXES = ".onnx", ".pt2"


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The file to write, which is replaced if it exists: .onnx, which needs the extra onnx, or .pt2, for "
            "torch.export.load.",
        ),
    ],
    fuse: Annotated[bool, typer.Option(help=FUSE_HELP)] = True,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic/--static", help="Take any number of images, of a U-Net any height and width; or those of the example."
        ),
    ] = True,
    batch: Annotated[int, typer.Option(help="How many images the example has; with --static, every call.", min=1)] = 2,
    size: Annotated[
        int | None, typer.Option(help="Height and width of the example's images; those of the training by default.", min=8)
    ] = None,
    aoti: Annotated[
        bool,
        typer.Option("--aoti", help="Compile OUT, a .pt2, for C++ on CPUs as this one: needs a C++ compiler, takes a minute."),
    ] = False,
) -> None:  # fmt: skip
    """Write a trained network for machines without torchops, and compare what the file computes with what torchops does."""
    with failing():
        _check_target(out, aoti)
        if dynamic and batch == 1:
            raise ValueError("--batch must be 2 or more, or --static: what is traced with one image is for one image")
        args, shapes, network = _example(checkpoint, batch, size, fuse, dynamic)
        if out.suffix == ".onnx":
            said = _write_onnx(network, args, shapes, out)
        else:
            said = _write_program(network, args, shapes, out, aoti)
        say(f"{out}: {said}")


def _check_target(out: Path, aoti: bool) -> None:
    """Refuse a file that cannot be written, before anything takes time."""
    check_writable(out, SUFFIXES)
    if aoti and out.suffix != ".pt2":
        raise ValueError(f"{out}: `aoti` writes a .pt2")


def _example(
    path: Path, batch: int, size: int | None, fuse: bool, dynamic: bool
) -> tuple[tuple[Tensor, ...], Any, torch.nn.Module]:
    """An example of the network's arguments, which of their sizes are open, and the network."""
    from torchops.conversion.fusion import fuse as fuse_network
    from torchops.models import Checkpoint
    from torchops.models.data import Preprocess

    checkpoint = Checkpoint.load(path)
    preprocess = Preprocess(**checkpoint.preprocess)
    network = checkpoint.model()
    depth = getattr(network, "depth", 0)
    if fuse:
        network, _ = fuse_network(network)
    size = size or preprocess.size or checkpoint.options.get("size") or 64
    images = torch.rand(batch, preprocess.channels, size, size, generator=torch.Generator().manual_seed(0))
    args: tuple[Tensor, ...] = (preprocess.normalize(images),)
    open_sizes = {0: torch.export.Dim("batch", min=1)}
    shapes: tuple[Any, ...] = (open_sizes,)
    if checkpoint.net == "unet":
        # the bottom has more pixels than one, and than a border reads
        least = 2**depth * max(checkpoint.options.get("dilations", (1,))) + 1
        shapes = (open_sizes | {d: torch.export.Dim(name, min=least) for d, name in ((2, "height"), (3, "width"))},)
    elif checkpoint.net == "diffusion":
        args, shapes = (*args, torch.zeros(batch, dtype=torch.int64)), (open_sizes, open_sizes)
    try:
        with torch.no_grad():
            network(*args)
    except RuntimeError as error:
        # tracing would say more, of its own insides
        raise ValueError(
            f"--size {size}: {checkpoint.net} takes no such images: {str(error).splitlines()[0]}"
        ) from error
    return args, shapes if dynamic else None, network


def _times(size: Any) -> str:
    return "x".join(map(str, size))


def _write_onnx(network: torch.nn.Module, args: tuple[Tensor, ...], shapes: Any, out: Path) -> str:
    from torchops.export import write_onnx

    try:
        written = write_onnx(network, args, out, dynamic_shapes=shapes)
    except ModuleNotFoundError as error:
        fail(f"{out}: {error}")
    sizes = ", ".join(_times(inputs[0]) for inputs in written.sizes)
    return (
        f"{written.nodes} operators of ONNX, opset {written.opset}; onnxruntime differs from torch by "
        f"{written.difference:.1e} at most, for inputs of {sizes}"
    )


@torch.no_grad()
def _write_program(network: torch.nn.Module, args: tuple[Tensor, ...], shapes: Any, out: Path, aoti: bool) -> str:
    from torchops.compiler_internals import compile_package, load_package
    from torchops.export import to_aten
    from torchops.files import replacing

    program = to_aten(torch.export.export(network, args, dynamic_shapes=shapes))
    with replacing(out) as beside:
        if aoti:
            compile_package(program, str(beside))
            made = load_package(str(beside))
        else:
            with warnings.catch_warnings():
                # torch saves a channels_last weight as it is, and warns
                warnings.filterwarnings("ignore", "No complete tensor found in the group")
                torch.export.save(program, beside)
            made = torch.export.load(beside).module()
        difference = float((made(*args) - network(*args)).abs().max())
    kind = "machine code" if aoti else f"a program of {len(program.graph.nodes)} nodes"
    return f"{kind}, without torchops; differs from torchops by {difference:.1e} at most, for inputs of {_times(args[0].shape)}"
