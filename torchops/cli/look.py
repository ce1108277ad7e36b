"""A look into a trained network, from the shell. Needs the extra `models`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import torchops
from torchops.files.images import MAX_PIXELS
from torchops.files.names import printable

from .console import app, console, say, table
from .networks import DeviceOption, failing
from .options import BackendOption, help_of

if TYPE_CHECKING:
    from torchops.models.inside import Layer
    from torchops.models.looking import Looker


@app.command()
def look(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    out: Annotated[Path, typer.Option(help="The folder for the pictures.")] = Path("look"),
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A layer to look at, may be given several times; by default one for every resolution."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="List the layers, and draw nothing.")] = False,
    class_name: Annotated[
        str | None, typer.Option("--class", help="The class that Grad-CAM looks for; the likeliest by default.")
    ] = None,
    time: Annotated[
        int | None,
        typer.Option(
            help="How much noise a diffusion model is shown the image in: a time from 0, least; half of them by default.",
            min=0,
        ),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Turn the image into its negative: dark on light, where light on dark was trained.")
    ] = False,
    max_pixels: Annotated[int, typer.Option(help=help_of("max_pixels"), min=1)] = MAX_PIXELS,
    backend: BackendOption = None, device: DeviceOption = None,
) -> None:  # fmt: skip
    """Draw what happens inside a trained network: its filters, what its layers make of an image, where it finds a class
    (Grad-CAM), and what its units see.

    The last layer of those named is the one of Grad-CAM.
    """
    with failing():
        from torchops.models.inputs import Input, check_apart
        from torchops.models.looking import PICTURES, Looker

        if out.exists() and not out.is_dir():
            raise ValueError(f"`out` (={out}): is a file, not a folder")
        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        with torchops.use_backend(name):
            looker = Looker(checkpoint, image, device=device, invert=invert, max_pixels=max_pixels, time=time)
            chosen = looker.choose(layer or [])
            if layers:
                _list(looker, chosen)
                return
            check_apart([Input(image, Path(image.name))], [[out / file for file in PICTURES]])
            for path, said in looker.draw(out, chosen, class_name):
                say(f"{path}: {printable(said)}")
            if not looker.labels:
                say("a diffusion model has no classes, and no Grad-CAM")


def _list(looker: Looker, chosen: Sequence[Layer]) -> None:
    shown = table("", caption="*: looked at by default")
    for heading in ("", "layer", "class"):
        shown.add_column(heading)
    shown.add_column("output", justify="right", no_wrap=True)
    for one in looker.layers:
        size = " x ".join(map(str, one.shape[1:]))
        shown.add_row("*" if one in chosen else "", printable(one.name), printable(one.kind), size)
    console.print(shown)
