"""Images drawn by a trained diffusion model, from the shell. Needs the extra `models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import torchops
from torchops.files.targets import check_writable

from .console import app, bar, console, say, warn
from .networks import DeviceOption, failing
from .options import BackendOption


@app.command()
def draw(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    out: Annotated[
        Path, typer.Option(help="The folder for the images, seed-0.png and so on; or, as all.png, a file for all of them.")
    ] = Path("drawn"),
    count: Annotated[
        int | None, typer.Option(help="Number of images, of the seeds from 0 on; 16 by default.", min=1)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of the images, one for each, as 0,1,7; the same seed draws the same image.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Number of steps from noise to an image; 50 by default, or all that were trained."),
    ] = None,
    eta: Annotated[
        float,
        typer.Option(help="Share of fresh noise in a step: 0 for none (DDIM), 1 for all of it (DDPM, of many steps)."),
    ] = 0.0,
    batch: Annotated[int, typer.Option(help="Number of images that are drawn at once.", min=1)] = 64,
    backend: BackendOption = None, device: DeviceOption = None,
) -> None:  # fmt: skip
    """Draw images with a trained diffusion model, each by a seed of its own.

    The same seed gives the same image, whatever is drawn beside it, and on every device, but for rounding.
    """
    with failing():
        from torchops.models.sampling import Sampler, grid, save

        chosen = _seeds(seeds, count)
        together = out.suffix.lower() == ".png" and not out.is_dir()
        if together:
            check_writable(out)
        elif out.exists() and not out.is_dir():
            raise ValueError(f"`out` (={out}): is a file, not a folder, and does not end in .png")
        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        with torchops.use_backend(name), bar(disable=not console.is_terminal) as progress:
            drawn = Sampler(checkpoint, device=device).each(chosen, steps=steps, eta=eta, batch=batch)
            images = []
            try:
                for seed, image in progress.track(drawn, total=len(chosen), description=""):
                    if not together:
                        out.mkdir(parents=True, exist_ok=True)
                        save(image, out / f"seed-{seed}.png")
                    images.append(image)
            except KeyboardInterrupt:
                written = "nothing is" if together else f"{len(images)} of {len(chosen)} images are"
                warn(f"stopped: {written} written")
                raise typer.Exit(130) from None
        if together:
            save(grid(images), out)
            say(f"{out}: {_told(chosen)}, row by row")
        else:
            say(f"{out}: {_told(chosen)}, as seed-{chosen[0]}.png")


def _seeds(text: str | None, count: int | None) -> list[int]:
    from torchops.models.arguments import check_whole

    if text is None:
        return list(range(count or 16))
    if count is not None:
        raise ValueError(f"`count` (={count}): the `seeds` say how many images are drawn")
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"`seeds` must be whole numbers as 0,1,7, got {text!r}") from None
    for seed in found:
        check_whole(0, 2**63 - 1, seeds=seed)
    if twice := [seed for seed in found if found.count(seed) > 1]:
        raise ValueError(f"`seeds` must differ, got {twice[0]} twice")
    return found


def _told(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"an image of the seed {seeds[0]}"
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{len(seeds):,} images of the seeds {seeds[0]} to {seeds[-1]}"
    return f"{len(seeds):,} images of the seeds {', '.join(map(str, seeds))}"
