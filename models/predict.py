"""A trained network at work: classes of an image, or of its pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from torchops.conversion.fusion import fuse as fuse_network
from torchops.files import replacing
from torchops.files.images import check_target, write_image

from .checkpoints import Checkpoint, CheckpointError
from .data import Preprocess, read
from .distributed import Processes
from .pictures import coloured

MOST = 5


class Predictor:
    """A checkpoint, ready to be asked.

    Args:
        path: a checkpoint, or the folder of a run.
        device: "cpu", "cuda"; a GPU by default, if there is one.
        fuse: fold batch norm and activations into the convolutions with :func:`torchops.fuse`.
        compile: `torch.compile` the network.

    Raises:
        CheckpointError: if it is no checkpoint, or of a network that does not predict.
    """

    def __init__(self, path: Path, *, device: str | None = None, fuse: bool = True, compile: bool = False) -> None:
        checkpoint = Checkpoint.load(path)
        if checkpoint.net == "diffusion":
            raise CheckpointError(f"{path}: a diffusion model draws images, it does not predict")
        self.device = Processes.choose(device)
        self.labels, self.segments = checkpoint.labels, checkpoint.net == "unet"
        self.preprocess = Preprocess(**checkpoint.preprocess)
        net: nn.Module = checkpoint.model().to(self.device)
        if fuse:
            net, _ = fuse_network(net)
        self.net = torch.compile(net) if compile else net

    @torch.no_grad()
    def _scores(self, path: Path, invert: bool) -> tuple[Tensor, Tensor]:
        image = self.preprocess.resize(read(path, gray=self.preprocess.channels == 1))
        image = 1 - image if invert else image
        return image, self.net(self.preprocess.normalize(image)[None].to(self.device)).float().softmax(1)[0].cpu()

    def classify(self, path: Path, *, invert: bool = False) -> list[tuple[str, float]]:
        """The five likeliest classes of an image file, with their probabilities."""
        _, p = self._scores(path, invert)
        best = p.topk(min(MOST, len(p)))
        return [(self.labels[i], float(v)) for v, i in zip(best.values, best.indices.tolist(), strict=True)]

    def segment(
        self, path: Path, folder: Path, *, invert: bool = False
    ) -> tuple[tuple[Path, Path], list[tuple[str, float]]]:
        """Write the class of every pixel, as an 8-bit PNG of indices, and the image under their colours.

        Returns:
            The two files, and the share of the pixels of every class.
        """
        mask_file, overlay_file = folder / f"{path.stem}-mask.png", folder / f"{path.stem}-overlay.png"
        for file in (mask_file, overlay_file):
            check_target(file)
        image, p = self._scores(path, invert)
        classes = p.argmax(0)
        with replacing(mask_file) as beside:
            Image.fromarray(classes.to(torch.uint8).numpy()).save(beside)
        write_image(overlay_file, coloured(image, classes, len(self.labels)), 1.0)
        shares = torch.bincount(classes.flatten(), minlength=len(self.labels)) / classes.numel()
        return (mask_file, overlay_file), list(zip(self.labels, shares.tolist(), strict=True))
