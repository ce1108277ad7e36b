"""torch.nn's layers against ours, from the shell. Needs the extra `models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import torchops
from torchops.models.checkpoints import NETS

from .console import app, choices, console, table
from .networks import CompileOption, DeviceOption, SeedOption, failing, plain
from .options import BackendOption

Compared = choices("Compared", tuple(NETS))


@app.command()
def compare(
    net: Annotated[Compared, typer.Argument(help="The network.")],  # type: ignore[valid-type]
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("compare.png"),
    steps: Annotated[int, typer.Option(help="Of each of the two.", min=2)] = 100,
    batch_size: Annotated[int | None, typer.Option(help="Images a step; as in training by default.", min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Height and width; as in training by default.", min=8)] = None,
    seed: SeedOption = 0, backend: BackendOption = None, compile: CompileOption = False, device: DeviceOption = None,
) -> None:  # fmt: skip
    """Train a network twice from one seed, step by step in turn: with torch.nn's layers and with torchops's."""
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
    shown = table(f"{plain(net)}, {steps} steps", caption=f"the curves: {out}")
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
