"""torch.nn's layers against ours, from the shell. Needs the extra `models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import torchops
from torchops.files.names import printable
from torchops.models.checkpoints import NETS

from .console import app, choices, console, say, table
from .networks import CompileOption, DeviceOption, SeedOption, failing, plain
from .options import BackendOption

Compared = choices("Compared", tuple(NETS))


@app.command()
def compare(
    net: Annotated[Compared, typer.Argument(metavar="NET", help="The network to train.")],  # type: ignore[valid-type]
    out: Annotated[Path, typer.Option(help="The picture of losses, their difference and times.")] = Path("compare.png"),
    steps: Annotated[int, typer.Option(help="How many steps each of the two takes.", min=2)] = 100,
    batch_size: Annotated[int | None, typer.Option(help="How many images a step takes.", min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Height and width of the images.", min=8)] = None,
    seed: SeedOption = 0, backend: BackendOption = None, compile: CompileOption = False, device: DeviceOption = None,
) -> None:  # fmt: skip
    """Train a network twice from the same first weights: with torch.nn's layers and with torchops', a step of each in turn.

    Shows by how much the losses differ, and which is faster. Images are as many and as large as torchops train
    takes by default, but fewer for ResNet and diffusion, and smaller for ResNet.
    """
    with failing():
        from torchops.models.beside_torch import compare

        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        with torchops.use_backend(name):
            result = compare(
                plain(net),
                steps=steps,
                batch_size=batch_size,
                size=size,
                seed=seed,
                compile=compile,
                device=device,
                path=out,
            )
    shown = table(
        f"{plain(net)}, {steps} steps",
        caption=f"ms a step: medians of {steps} steps each, taken in turns\nthe curves: {printable(out)}",
    )
    for heading in ("layers", "first loss", "last loss", "ms a step"):
        shown.add_column(heading, justify="left" if heading == "layers" else "right")
    for layers in result.losses:
        losses = result.losses[layers]
        shown.add_row(layers, f"{losses[0]:.6f}", f"{losses[-1]:.6f}", f"{result.milliseconds(layers):.3f}")
    console.print(shown)
    say(f"losses differ by {result.difference:.1e} at most; {result.times}")
