"""A trained diffusion model at work: images, each by its own seed, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from torchops.files import replacing

from .arguments import check_whole
from .checkpoints import Checkpoint, CheckpointError
from .data import Preprocess
from .diffusion import Diffusion
from .distributed import Processes

STEPS = 50
"""Evaluations of the network for an image, where nothing else is asked for and it has as many."""
_LARGE = 64
"""Height and width in pixels that small images are brought to in a grid, at least by half."""


class Sampler:
    """A diffusion model, ready to draw.

    Args:
        path: a checkpoint, or the folder of a run.
        device: "cpu", "cuda"; a GPU by default, if there is one.

    Raises:
        CheckpointError: if it is no checkpoint, or of another network.
    """

    def __init__(self, path: Path, *, device: str | None = None) -> None:
        checkpoint = Checkpoint.load(path)
        net = checkpoint.model()
        if not isinstance(net, Diffusion):
            raise CheckpointError(f"{path}: {checkpoint.net} draws no images, only diffusion does")
        self.net, self.undo = net.to(Processes.choose(device)), Preprocess(**checkpoint.preprocess).undo

    def each(
        self, seeds: Sequence[int], *, steps: int | None = None, eta: float = 0.0, batch: int = 64
    ) -> Iterator[tuple[int, Tensor]]:
        """Seeds with their images, values from 0 to 1, (C, H, W), on the CPU; an image depends on its seed alone.

        Args:
            seeds: one for every image, from 0 to 2^63 - 1.
            steps: evaluations of the network; `STEPS` by default, or all that it has.
            eta: of :meth:`torchops.models.Diffusion.sample`.
            batch: so many images are drawn at once; they differ in their last bits from those drawn alone.

        Raises:
            TypeError, ValueError: as :meth:`torchops.models.Diffusion.sample`.
            FloatingPointError: if the network says what is no number.
        """
        for seed in seeds:
            check_whole(0, 2**63 - 1, seeds=seed)
        steps = min(STEPS, self.net.steps) if steps is None else steps
        for start in range(0, len(seeds), batch):
            own = seeds[start : start + batch]
            images = self.undo(self.net.sample(steps=steps, eta=eta, seeds=own).cpu())
            if not images.isfinite().all():
                raise FloatingPointError("the network draws what is no number: it has diverged")
            yield from zip(own, images, strict=True)


def save(image: Tensor, path: Path) -> None:
    """Write an image (C, H, W), values from 0 to 1, of one channel or three, as 8 bits.

    Raises:
        OSError: if it cannot be written; what was there is there still.
    """
    levels = (image * 255).round().to(torch.uint8)
    with replacing(path) as beside:
        Image.fromarray((levels[0] if len(levels) == 1 else levels.permute(1, 2, 0)).numpy()).save(beside, "PNG")


def grid(images: Sequence[Tensor]) -> Tensor:
    """Images (C, H, W) beside and below each other, in order, on white; small ones enlarged by a whole factor: (3, H, W)."""
    factor = max(1, _LARGE // images[0].shape[-1])
    large = [x.repeat_interleave(factor, -1).repeat_interleave(factor, -2) for x in images]
    columns = next(n for n in range(1, len(large) + 1) if n * n >= len(large))
    return make_grid(large, columns, padding=2, pad_value=1.0)


__all__ = ["STEPS", "Sampler", "grid", "save"]
