"""`python -m bench.look`: the picture of a LeNet's inside: trains one on digits, a minute, and shows it a 3."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from torchops.cli.train import run
from torchops.files import replacing
from torchops.files.hues import PAPER
from torchops.models.data import digits
from torchops.models.looking import CAM, FIELDS, FILTERS, MAPS, Looker

FILE = Path(__file__).parent.parent / "assets" / "look.png"
DIGIT, WIDE = 3, 960
"""The number of the image that is shown, and how wide the picture is."""


def picture(file: Path = FILE) -> Path:
    """Filters, receptive fields, feature maps, Grad-CAM, below each other."""
    images, _ = digits()
    with tempfile.TemporaryDirectory() as folder:
        net = run("lenet", Path(folder) / "lenet", None, epochs=8)
        ink = Path(folder) / "digit.png"
        Image.fromarray((images[DIGIT, 0] * 255).byte().numpy()).save(ink)
        looker = Looker(net.path, ink)
        looker.draw(Path(folder), looker.choose([]))
        rows = [Image.open(Path(folder) / name).convert("RGB") for name in (FILTERS, FIELDS, MAPS, CAM)]
    whole = Image.new("RGB", (WIDE, sum(row.height for row in rows)), PAPER)
    top = 0
    for row in rows:
        whole.paste(row, ((WIDE - row.width) // 2, top))
        top += row.height
    with replacing(file) as beside:
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(beside, optimize=True)
    return file


if __name__ == "__main__":
    print(f"written: {picture()}")
