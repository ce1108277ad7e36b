"""A trained network at work on files: classes of an image, or of its pixels."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from torchops.conversion.fusion import fuse as fuse_network
from torchops.files import replacing
from torchops.files.images import MAX_PIXELS, ImageError, Picture

from .checkpoints import Checkpoint, CheckpointError
from .colours import palette
from .distributed import Processes
from .inputs import Input
from .pictures import coloured
from .trained import Prepare, probabilities, tiles_for

MOST = 5
MASK, OVERLAY = "-mask.png", "-overlay.png"
_DEEPEST = 65535
_OF_NO_CLASS = 255, 0, 255
_STRIP = 64
"""So many rows of an image are drawn at a time."""


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
        tile, overlap: in pixels, for a U-Net: it sees images tile by tile, in memory that does not grow with them, and says the
            same; see :meth:`torchops.models.tiles.Tiles.of`. By default, tiles of 1024 pixels of images of more than 4 million.

    Raises:
        CheckpointError: if it is no checkpoint, or of a network that does not predict.
        ValueError: if there is a tile, and it does not fit the network.
    """

    def __init__(
        self, path: Path, *, device: str | None = None, fuse: bool = True, compile: bool = False, invert: bool = False,
        max_pixels: int = MAX_PIXELS, tile: int | None = None, overlap: int | None = None,
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
        self.prepare, self.max_pixels = Prepare(checkpoint.preprocess, max_pixels=max_pixels), max_pixels
        net: nn.Module = checkpoint.model().to(self.device)
        self.tiles = tiles_for(net, tile, overlap)
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
        ((_, seen),) = self.each([file], folder)
        if isinstance(seen, ImageError):
            raise seen
        return seen

    def each(
        self, files: Sequence[Input], folder: Path, *, batch: int = 1
    ) -> Iterator[tuple[Input, list[Share] | ImageError]]:
        """Every image with what :meth:`see` gives for it, or with why there is nothing; in order.

        Args:
            files: the images.
            folder: for masks and overlays.
            batch: so many images in a row go through the network together, if they have one size. Probabilities differ in their
                last bits from those of one image alone.

        Raises:
            OSError: if nothing can be written.
        """
        together: list[tuple[Input, Picture | ImageError]] = []
        kinds: list[tuple[object, ...]] = []
        for file in files:
            read = self._read(file)
            if isinstance(read, Picture):
                kind = read.pixels.shape, read.pixels.dtype, read.white
                if kinds and kind != kinds[0]:
                    yield from self._together(together, folder)
                    together, kinds = [], []
                kinds.append(kind)
            together.append((file, read))
            # what is broken waits only for images before it
            if len(kinds) in (0, batch):
                yield from self._together(together, folder)
                together, kinds = [], []
        yield from self._together(together, folder)

    def _read(self, file: Input) -> Picture | ImageError:
        """An image as it is stored, or of the size that the network takes."""
        preprocess = self.prepare.preprocess
        try:
            picture = preprocess.picture(file.path, max_pixels=self.max_pixels)
            return picture if preprocess.size is None else Picture(preprocess.resize(picture.scaled()), 1.0)
        except ImageError as error:
            return error
        except (ValueError, RuntimeError, MemoryError) as error:
            return _reason(file, error)

    def _together(
        self, read: Sequence[tuple[Input, Picture | ImageError]], folder: Path
    ) -> Iterator[tuple[Input, list[Share] | ImageError]]:
        """Images of one size, and others that could not be read, with what is seen in them."""
        pictures = [picture for _, picture in read if isinstance(picture, Picture)]
        answers = iter(self._answers(pictures))
        for file, picture in read:
            if isinstance(picture, ImageError):
                yield file, picture
                continue
            answer = next(answers)
            if not isinstance(answer, Tensor):
                yield file, _reason(file, answer)
            elif not self.segments:
                yield file, self._classes(answer)
            else:
                try:
                    self._draw(picture, answer, *self.outputs(file, folder))
                except OSError as error:
                    # this is a matter of one image; a full disk is not
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    yield file, ImageError(f"{file.path}: its overlay cannot be written: {error.strerror}")
                else:
                    yield file, self._shares(answer)

    def _answers(self, pictures: Sequence[Picture]) -> Sequence[Tensor | Exception]:
        """For each of some images of one size: probabilities, (classes,), or the classes of its pixels, (H, W); or why not."""
        try:
            return self._ask(pictures) if pictures else []
        except (ValueError, RuntimeError, FloatingPointError, MemoryError) as error:
            # one that the network has nothing to say of does not cost the others
            return [error] if len(pictures) == 1 else [self._answers([picture])[0] for picture in pictures]

    def _ask(self, pictures: Sequence[Picture]) -> list[Tensor]:
        white = pictures[0].white
        small = torch.uint8 if len(self.labels) <= 256 else torch.int32

        def ask(pixels: Tensor) -> Tensor:
            p = probabilities(self.net, self.prepare.preprocess.normalize(self._values(pixels, white)))
            return p.argmax(1).to(small) if self.segments else p

        stored = torch.stack([picture.pixels for picture in pictures])
        return list(ask(stored) if self.tiles is None else self.tiles.classes(ask, stored))

    def _values(self, pixels: Tensor, white: float) -> Tensor:
        """What is stored, as values from 0 to 1 of the network's channels."""
        values = self.prepare.preprocess.resize(pixels.float() / white)
        return 1 - values if self.invert else values

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

    def _draw(self, picture: Picture, classes: Tensor, mask: Path, overlay: Path) -> None:
        """Write the classes of the pixels as a mask to train on, and the image under their colours.

        The mask has the values that the masks had which the network was trained on, and their colours as its palette; where
        a value is above 255, it is of 16 bits, and has no palette. Folders are made as they are needed.
        """
        os.makedirs(mask.parent, exist_ok=True)
        deep = max(self.values) > 255
        values = np.array(self.values, np.uint16 if deep else np.uint8)
        drawn = np.empty(classes.shape, values.dtype)
        seen = Image.new("RGB", (classes.shape[1], classes.shape[0]))
        # a strip at a time: what it is drawn with takes many times the memory of what is drawn
        for top in range(0, len(classes), _STRIP):
            rows = slice(top, top + _STRIP)
            of, image = classes[rows].long(), self._values(picture.pixels[:, rows], picture.white)
            strip = (coloured(image, of, len(self.labels), self.colours) * 255).round().to(torch.uint8)
            seen.paste(Image.fromarray(strip.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()), (0, top))
            drawn[rows] = values[of.numpy()]
        # its name is the longer one: where that cannot be, there is no mask either
        _save(seen, overlay)
        stored = Image.fromarray(drawn)
        if not deep:
            # a palette that is gray throughout would be read as levels
            colours = np.full((256, 3), _OF_NO_CLASS, np.uint8)
            colours[self.values] = self.colours
            stored.putpalette(colours.tobytes())
        _save(stored, mask)


def _reason(file: Input, error: Exception) -> ImageError:
    return ImageError(f"{file.path}: {str(error) or type(error).__name__}")


def _save(image: Image.Image, path: Path) -> None:
    with replacing(path) as beside:
        image.save(beside)
