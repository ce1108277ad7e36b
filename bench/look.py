"""`python -m bench.look`: the picture of a LeNet's inside in the README: trains one on digits, and shows it a 3."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from torchops.cli.train import run
from torchops.files import replacing
from torchops.models.data import digits
from torchops.models.looking import CAM, FIELDS, FILTERS, MAPS, Looker

FILE = Path(__file__).parent.parent / "assets" / "look.png"
DIGIT, WIDTH = 3, 840
"""The number of the image that is shown, and how wide the picture is."""


def picture(file: Path = FILE) -> Path:
    """Filters and receptive fields, feature maps, Grad-CAM."""
    images, _ = digits()
    with tempfile.TemporaryDirectory() as folder:
        net = run("lenet", Path(folder) / "lenet", None, epochs=8)
        ink = Path(folder) / "digit.png"
        Image.fromarray((images[DIGIT, 0] * 255).byte().numpy()).save(ink)
        looker = Looker(net.path, ink)
        looker.draw(Path(folder), looker.choose([]))
        drawn = {name: Image.open(Path(folder) / name).convert("RGB") for name in (FILTERS, MAPS, CAM, FIELDS)}
        rows = [_beside([drawn[FILTERS], drawn[FIELDS]]), drawn[MAPS], drawn[CAM]]
    sized = [row.resize((WIDTH, round(row.height * WIDTH / row.width)), Image.Resampling.LANCZOS) for row in rows]
    whole = Image.new("RGB", (WIDTH, sum(row.height for row in sized)), "white")
    top = 0
    for row in sized:
        whole.paste(row, (0, top))
        top += row.height
    with replacing(file) as beside:
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(beside, optimize=True)
    return file


def _beside(images: list[Image.Image]) -> Image.Image:
    """Images of one height next to each other."""
    height = max(image.height for image in images)
    sized = [image.resize((round(image.width * height / image.height), height)) for image in images]
    row = Image.new("RGB", (sum(image.width for image in sized), height), "white")
    left = 0
    for image in sized:
        row.paste(image, (left, 0))
        left += image.width
    return row


if __name__ == "__main__":
    print(f"written: {picture()}")
