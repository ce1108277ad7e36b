"""`python -m bench.pictures [name ...]`: pictures that need no training, in assets/ and the lessons; five minutes.

`make pictures` asks for it. What needs more is drawn by its own command: `python -m bench.look` and `python -m bench.trained`
train the networks that they show. assets/README.md says what each picture shows, and where the photos in it come from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"


def _demo(name: str) -> None:
    from torchops.cli import demo_pictures

    getattr(demo_pictures, f"draw_{name}")(ASSETS / f"{name}.jpg")


def _lessons() -> None:
    from . import lessons
    from .drawing import write

    write(lessons.PICTURES)


def _explained() -> None:
    from . import explained
    from .drawing import write

    write(explained.PICTURES)


def _kernels() -> None:
    from . import picture

    picture.draw()


def _modelled() -> None:
    from . import model

    model.draw(ASSETS / "conv2d_model.png")


def _compiled() -> None:
    """What the newest file of `bench.compiled` in bench/results counted."""
    from torchops.files.plots import paint, save_drawing, style

    from .charts import kernels_left, of_table
    from .drawing import content

    files = sorted((Path(__file__).parent / "results").glob("*/compiled.json"), key=lambda file: file.parent.name[-10:])
    if not files:
        raise SystemExit("no bench/results/*/compiled.json: python -m bench.compiled makes one")
    tables = json.loads(files[-1].read_text())["tables"]
    with style():
        drawn = kernels_left(of_table(next(table for table in tables if table["name"] == "kernels")))
        save_drawing(paint(drawn), content(drawn), ASSETS / "compiled.png")


def _course() -> None:
    from torchops.course import draw, lesson

    from . import course

    for folder in lesson.folders():
        one = lesson.load(folder.name)
        if one.pictures:
            draw.draw(folder / "solution.py", one, folder)
    course.picture()


DRAWN: dict[str, Callable[[], None]] = {
    "edges": partial(_demo, "edges"), "filters": partial(_demo, "filters"), "pooling": partial(_demo, "pooling"),
    "conv2d": _lessons, "explained": _explained, "course": _course, "kernels": _kernels, "conv2d_model": _modelled,
    "compiled": _compiled,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(DRAWN)}; all by default")
    asked = parser.parse_args()
    unknown = sorted({*asked.names} - {*DRAWN})
    if unknown:
        parser.error(f"no picture {', '.join(unknown)}; there are {', '.join(DRAWN)}")
    for name in asked.names or DRAWN:
        DRAWN[name]()
        print(f"drawn: {name}", flush=True)


if __name__ == "__main__":
    main()
