"""A trained network at work on files: classes of an image, or of its pixels."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from torchops.conversion.fusion import fuse as fuse_network
from torchops.files import replacing
from torchops.files.images import MAX_PIXELS, ImageError

from .checkpoints import Checkpoint, CheckpointError
from .colours import palette
from .distributed import Processes
from .inputs import Input
from .pictures import coloured
from .trained import Prepare, probabilities

MOST = 5
MASK, OVERLAY = "-mask.png", "-overlay.png"
_DEEPEST = 65535
_OF_NO_CLASS = 255, 0, 255


@dataclass(frozen=True)
class Share:
    """How much of an image is of a class."""

    value: int | None
    """Of its pixels in masks; None of a whole image."""
    label: str
    share: float
    """Of the pixels; of a whole image, the probability."""


class Predictor:
    """A checkpoint, ready to be asked.

    Args:
        path: a checkpoint, or the folder of a run.
        device: "cpu", "cuda"; a GPU by default, if there is one.
        fuse: fold batch norm and activations into the convolutions with :func:`torchops.fuse`.
        compile: `torch.compile` the network.
        invert: turn images into their negatives first.
        max_pixels: the most pixels that an image may have.

    Raises:
        CheckpointError: if it is no checkpoint, or of a network that does not predict.
    """

    def __init__(
        self, path: Path, *, device: str | None = None, fuse: bool = True, compile: bool = False, invert: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:  # fmt: skip
        checkpoint = Checkpoint.load(path)
        if checkpoint.net == "diffusion":
            raise CheckpointError(f"{path}: a diffusion model draws images, it does not predict")
        self.device = Processes.choose(device)
        self.labels, self.segments, self.invert = checkpoint.labels, checkpoint.net == "unet", invert
        self.values = checkpoint.values or list(range(len(self.labels)))
        if self.segments and max(self.values) > _DEEPEST:
            raise CheckpointError(f"{path}: a mask of 16 bits has no value {max(self.values)}")
        given = {tuple(colour) for colour in checkpoint.colours}
        self.colours = palette(len(self.labels), checkpoint.colours if len(given) == len(self.labels) else ())
        self.prepare = Prepare(checkpoint.preprocess, max_pixels=max_pixels)
        net: nn.Module = checkpoint.model().to(self.device)
        if fuse:
            net, _ = fuse_network(net)
        self.net: nn.Module = torch.compile(net) if compile else net  # type: ignore[assignment]

    def scores(self, path: Path) -> tuple[Tensor, Tensor]:
        """An image file as the network sees it, (C, H, W), from 0 to 1, and probabilities: (classes,) or (classes, H, W).

        Raises:
            torchops.files.images.ImageError: if it cannot be read.
            ValueError, RuntimeError: if the network takes no such image.
            FloatingPointError: if the network has no scores for it.
        """
        image = self.prepare.pixels(path)
        image = 1 - image if self.invert else image
        return image, probabilities(self.net, self.prepare.batch(image))[0]

    def see(self, file: Input, folder: Path) -> list[Share]:
        """The five likeliest classes of an image, the likeliest first; or those of its pixels, whose mask and overlay are
        written to a folder, as :meth:`outputs` says.

        Raises:
            torchops.files.images.ImageError: if the image cannot be read or written, or the network has no scores for it.
            OSError: if nothing can be written.
        """
        try:
            image, p = self.scores(file.path)
        except (ValueError, RuntimeError, FloatingPointError, MemoryError) as error:
            raise ImageError(f"{file.path}: {str(error) or type(error).__name__}") from error
        if not self.segments:
            return self._classes(p)
        mask, overlay = self.outputs(file, folder)
        try:
            self._draw(image, p.argmax(0), mask, overlay)
        except OSError as error:
            # this is a matter of one image; a full disk is not
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ImageError(f"{file.path}: its overlay cannot be written: {error.strerror}") from error
        return self._shares(p.argmax(0))

    def outputs(self, file: Input, folder: Path) -> tuple[Path, ...]:
        """The mask and the overlay of an image, if its pixels have classes."""
        return (file.beside(folder, MASK), file.beside(folder, OVERLAY)) if self.segments else ()

    def _classes(self, p: Tensor) -> list[Share]:
        best = p.topk(min(MOST, len(p)))
        return [
            Share(None, self.labels[i], v) for v, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def _shares(self, classes: Tensor) -> list[Share]:
        counts = torch.bincount(classes.flatten(), minlength=len(self.labels)).tolist()
        of = zip(self.values, self.labels, counts, strict=True)
        return [Share(value, label, count / classes.numel()) for value, label, count in of if count]

    def _draw(self, image: Tensor, classes: Tensor, mask: Path, overlay: Path) -> None:
        """Write the classes of the pixels as a mask to train on, and the image under their colours.

        The mask has the values that the masks had which the network was trained on, and their colours as its palette; where
        a value is above 255, it is of 16 bits, and has no palette. Folders are made as they are needed.
        """
        os.makedirs(mask.parent, exist_ok=True)
        seen = (coloured(image, classes, len(self.labels), self.colours) * 255).round().to(torch.uint8)
        # its name is the longer one: where that cannot be, there is no mask either
        _save(Image.fromarray(seen.permute(1, 2, 0).contiguous().numpy()), overlay)
        values = torch.tensor(self.values)[classes].numpy()
        deep = max(self.values) > 255
        drawn = Image.fromarray(values.astype(np.uint16 if deep else np.uint8))
        if not deep:
            # a palette that is gray throughout would be read as levels
            colours = np.full((256, 3), _OF_NO_CLASS, np.uint8)
            colours[self.values] = self.colours
            drawn.putpalette(colours.tobytes())
        _save(drawn, mask)


def _save(image: Image.Image, path: Path) -> None:
    with replacing(path) as beside:
        image.save(beside)
