"""A trained network at work, from the shell. Needs the extra `models`."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

import torchops
from torchops.files import replacing
from torchops.files.images import MAX_PIXELS, ImageError
from torchops.files.names import printable
from torchops.files.targets import check_writable

from .console import Failed, app, bar, console, fail, say, table, warn
from .networks import FUSE_HELP, CompileOption, DeviceOption, failing
from .options import BackendOption, help_of

if TYPE_CHECKING:
    from torchops.models.inputs import Input
    from torchops.models.predict import Predictor, Share


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or a checkpoint.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Image files, and folders, which are searched for images.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for masks and overlays.")] = Path("predictions"),
    table_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write image, class and probability, or share of the pixels, to this file, too."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the same to this file, as a list of images with their classes.")
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Number of images in a row that go through the network together, if they have one size.", min=1)
    ] = 1,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Height and width of the tiles, in pixels, in which a U-Net sees images: the masks are the same, and memory "
            "does not grow with the image, but for itself and its mask. 1024 by default where an image has more than 4 million "
            "pixels; one as large as the image sees it whole."
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="How far a tile looks beyond its border, in pixels; as far as the network does by default. Less is faster, "
            "and borders of tiles may show in the mask."
        ),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Turn images into negatives: dark on light, where light on dark was trained.")
    ] = False,
    max_pixels: Annotated[int, typer.Option(help=help_of("max_pixels"), min=1)] = MAX_PIXELS,
    fuse: Annotated[bool, typer.Option(help=FUSE_HELP)] = True,
    backend: BackendOption = None, compile: CompileOption = False, device: DeviceOption = None,
) -> None:  # fmt: skip
    """Say what a trained network sees in images: the five likeliest classes, or a mask and an overlay of each.

    Masks have the values of those that the network was trained on. Masks and overlays lie in --out as their images do in the
    folder that these have in common. An image that cannot be read is told, and left out: the exit code is 1 then, or 2 if
    no other was named.
    """
    with failing():
        from torchops.models.inputs import check_apart, inputs
        from torchops.models.predict import Predictor

        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        with torchops.use_backend(name):
            predictor = Predictor(
                checkpoint, device=device, fuse=fuse, compile=compile, invert=invert, max_pixels=max_pixels, tile=tile,
                overlap=overlap,
            )  # fmt: skip
            files = inputs(images, leave_out=out)
            tables = [file for file in (table_file, json_file) if file is not None]
            outputs = [predictor.outputs(file, out) for file in files]
            for file in tables:
                _check(file, files, outputs)
            if len(tables) != len({os.path.realpath(file) for file in tables}):
                raise ValueError(f"--json {printable(json_file)}: is the file of --csv, too")
            if predictor.segments:
                check_apart(files, outputs)
                if out.exists() and not out.is_dir():
                    raise ValueError(f"`out` (={out}): is a file, not a folder")
            alone = len(images) == 1 and files[0].path == images[0]
            found = _each(predictor, files, out, batch=batch, alone=alone)
        if table_file is not None and found:
            _write(table_file, found)
        if json_file is not None and found:
            _write_json(json_file, found)
        if len(found) < len(files):
            raise Failed(f"{len(files) - len(found)} of {len(files)} images could not be predicted")


def _check(table_file: Path, files: list[Input], outputs: Sequence[Sequence[Path]]) -> None:
    """See that a table can be written, and takes the place of no image, mask or overlay."""
    check_writable(table_file)
    place = os.path.realpath(table_file)
    if any(place == os.path.realpath(file.path) for file in files):
        raise ValueError(f"{printable(table_file)}: is one of the images")
    if any(place == os.path.realpath(path) for paths in outputs for path in paths):
        raise ValueError(f"{printable(table_file)}: is where a mask or an overlay is to be")


def _each(
    predictor: Predictor, files: list[Input], out: Path, *, batch: int, alone: bool
) -> dict[Path, list[Share]]:  # fmt: skip
    """What is seen in every image, printed as it comes; an image that cannot be read is told, or refused if it is `alone`."""
    found: dict[Path, list[Share]] = {}
    names, labels = _columns(file.path for file in files), _columns(predictor.labels)
    try:
        with bar(disable=len(files) == 1 or not console.is_terminal) as progress:
            task = progress.add_task("", total=len(files))
            for file, seen in predictor.each(files, out, batch=batch):
                progress.advance(task)
                if isinstance(seen, ImageError):
                    told = str(seen).replace(str(file.path), printable(file.path))
                    if alone:
                        fail(told)
                    warn(told)
                    continue
                found[file.path] = seen
                if len(files) == 1:
                    _print(file.path, predictor.outputs(file, out), seen)
                    continue
                if predictor.segments:
                    parts = [f"{s.value}: {printable(s.label)} {s.share:.2%}" for s in seen]
                else:
                    parts = [f"{_filled(s.label, labels)} {s.share:>7.2%}" for s in seen]
                say("  ".join((_filled(file.path, names), *parts)))
    except KeyboardInterrupt:
        warn(f"stopped after {len(found)} of {len(files)} images")
        raise typer.Exit(130) from None
    if predictor.segments and len(files) > 1 and found:
        say(f"value: class, share of the pixels; masks of these values, and overlays, are in {out}")
    return found


def _columns(texts: Iterable[object]) -> int:
    """How wide the texts are; one that is far wider than most may stand out."""
    widths = sorted(cell_len(printable(text)) for text in texts)
    return max(width for width in widths if width <= 2 * widths[len(widths) // 2])


def _filled(text: object, columns: int) -> str:
    shown = printable(text)
    return shown + " " * (columns - cell_len(shown))


def _print(path: Path, made: tuple[Path, ...], seen: list[Share]) -> None:
    """One image, as a table."""
    say(f"{path}: {', '.join(map(str, made))}" if made else path)
    shown = table("")
    if made:
        shown.add_column("value", justify="right")
    shown.add_column("class")
    shown.add_column("pixels" if made else "probability", justify="right", no_wrap=True)
    for s in seen:
        cells = [printable(s.label), f"{s.share:.2%}"]
        shown.add_row(*([str(s.value), *cells] if made else cells))
    console.print(shown)


def _write(path: Path, found: dict[Path, list[Share]]) -> None:
    """Rows of an image, the value of masks, the class and its share; names are quoted, and stand as they are."""
    masks = any(s.value is not None for seen in found.values() for s in seen)
    # names that are no text come out as the bytes that they were
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        rows.writerow(["image", *(["value"] if masks else []), "class", "share" if masks else "probability"])
        for image, seen in found.items():
            for s in seen:
                rows.writerow([str(image), *([s.value] if masks else []), s.label, s.share])


def _write_json(path: Path, found: dict[Path, list[Share]]) -> None:
    """A list of images, each with its classes as they are in the rows of CSV."""
    content = []
    for image, seen in found.items():
        classes: list[dict[str, object]] = [
            {"class": s.label, "probability": s.share} if s.value is None
            else {"value": s.value, "class": s.label, "share": s.share}
            for s in seen
        ]  # fmt: skip
        content.append({"image": str(image), "classes": classes})
    # names that are no text come out as escapes, which Python reads back
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
