"""The demo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from torchops.inspect import check

from .console import app, console, fail, say, table
from .ops import print_check
from .train import run


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures; made if it does not exist.")] = Path("out"),
) -> None:
    """Check this machine, draw a real photo's edges, convolve it, pool one, time Sobel, train a LeNet and a U-Net on digits."""
    try:
        from . import demo_pictures
    except ModuleNotFoundError as error:
        fail(f"the demo needs {error.name}: pip install 'torchops[demo]'")
    rows = check.check_all()
    print_check(rows)
    try:
        out.mkdir(parents=True, exist_ok=True)
        picture = demo_pictures.draw_edges(out / "edges.png")
        filters = demo_pictures.draw_filters(out / "filters.png")
        pooling = demo_pictures.draw_pooling(out / "pooling.png")
    except (OSError, RuntimeError) as error:
        fail(error)
    shown = table(
        "Sobel of a 4K frame, one channel",
        caption=(
            "ms: medians of the rounds; torchops takes: the median of its time over theirs, round by round; "
            "below 1x, it is faster"
        ),
    )
    for heading in ("", "dtype", "threads", "ms", "torchops takes"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for timing in demo_pictures.time_sobel(console):
        share = "" if timing.ratio is None else f"{timing.ratio:.2f}x"
        shown.add_row(timing.provider, timing.dtype, str(timing.threads), f"{timing.milliseconds:.1f}", share)
    console.print(shown)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    say("LeNet on handwritten digits")
    letters = run("lenet", out / f"lenet-{stamp}", None, epochs=8)
    say("U-Net on pages of handwritten digits")
    pages = run("unet", out / f"unet-{stamp}", None, epochs=12)
    say(f"what LeNet got wrong: {letters.path / 'mistakes.png'}")
    say(f"digits on a page, as the U-Net sees them: {pages.path / 'overlays.png'}")
    say(f"the photo and its edges: {picture}")
    say(f"the photo convolved: {filters}")
    say(f"a photo pooled and unpooled: {pooling}")
    say(
        "more: torchops train lenet, torchops sobel IN OUT, torchops explain conv2d, torchops inspect conv2d, make bench"
    )
    say("write such kernels yourself: torchops course start, then torchops course watch")
    if any(row.verdict.startswith("FAILED") for row in rows):
        raise typer.Exit(1)
