"""`python -m bench.trained`: pictures of what networks learn. It trains a U-Net, one minute, and a diffusion model, three.

    --pages RUN     of this run of `torchops train unet`, instead of training one
    --samples RUN   of this run of `torchops train diffusion`, likewise

The figures beside the pictures are those of such runs: `bench.look` trains the LeNet of its own picture.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch

from torchops.cli.train import run
from torchops.files import replacing
from torchops.models import Checkpoint, pictures
from torchops.models.options import Config
from torchops.models.setup import data_for

ASSETS = Path(__file__).parent.parent / "assets"
PAGES = 2
"""So many of the held-out pages are shown."""


@torch.no_grad()
def pages(trained: Path, file: Path = ASSETS / "pages.png") -> Path:
    """Held-out pages of digits, the truth, and what the U-Net of a run takes their pixels for."""
    net, data = Checkpoint.load(trained).model().eval(), data_for(Config.asked("unet"))
    images, truth = zip(*(data.val[i] for i in range(PAGES)), strict=True)
    guesses = net(torch.stack(images)).argmax(1)
    shown = [data.preprocess.undo(image) for image in images]
    return pictures.overlays(shown, truth, guesses.unbind(), data.labels, file)


def samples(trained: Path, file: Path = ASSETS / "samples.png") -> Path:
    """What a run of a diffusion model drew when it ended."""
    with replacing(file) as beside:
        shutil.copyfile(trained / "samples.png", beside)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.trained", description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=Path, metavar="RUN", help="a run of `torchops train unet`")
    parser.add_argument("--samples", type=Path, metavar="RUN", help="a run of `torchops train diffusion`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        unet = asked.pages or run("unet", Path(folder) / "unet", None).path
        print(f"written: {pages(unet)}")
        diffusion = asked.samples or run("diffusion", Path(folder) / "diffusion", None).path
        print(f"written: {samples(diffusion)}")


if __name__ == "__main__":
    main()
