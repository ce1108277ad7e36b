"""A trained network at work, from the shell. Needs the extra `models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import torchops

from .console import app, console, table
from .networks import CompileOption, DeviceOption, failing
from .options import BackendOption


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path("predictions"),
    invert: Annotated[bool, typer.Option("--invert", help="Ink on paper, where light on dark was trained.")] = False,
    fuse: Annotated[bool, typer.Option(help="Batch norm and activations into the convolutions.")] = True,
    backend: BackendOption = None, compile: CompileOption = False, device: DeviceOption = None,
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
