"""A look into a trained network at work on a file: pictures of its filters, maps, Grad-CAM and receptive fields."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchops.files.images import MAX_PIXELS, ImageError

from .checkpoints import Checkpoint
from .diffusion import Diffusion
from .distributed import Processes
from .inside import (
    Layer,
    effective_field,
    feature_maps,
    first_filters,
    grad_cam,
    layers,
    named,
    placement,
    receptive_field,
    stages,
)
from .inside.drawing import Seen, draw_cam, draw_fields, draw_filters, draw_maps
from .pictures import label
from .trained import Prepare, probabilities

FILTERS, MAPS, CAM, FIELDS = PICTURES = "filters.png", "features.png", "cam.png", "receptive.png"
MOST_NAMED = 12
"""Classes that are told where one does not exist, the closest first."""
_HEADS = {"lenet": "classifier"}
"""Layers whose output are the scores, of networks that end in a softmax."""


class Looker:
    """A trained network, and the image that it is shown.

    Args:
        path: a checkpoint, or the folder of a run.
        image: an image file.
        device: "cpu", "cuda"; a GPU by default, if there is one.
        invert: turn the image into its negative first.
        max_pixels: the most pixels that the image may have.
        time: at which a diffusion model is shown the image, with as much noise as then; half of its steps by default.

    Raises:
        CheckpointError: if it is no checkpoint.
        ImageError: if the image cannot be read, or the network takes none such.
        ValueError: if the time is none of the network's, or it has none.
    """

    def __init__(
        self, path: Path, image: Path, *, device: str | None = None, invert: bool = False, max_pixels: int = MAX_PIXELS,
        time: int | None = None,
    ) -> None:  # fmt: skip
        checkpoint = Checkpoint.load(path)
        self.kind = checkpoint.net
        self.labels = [] if self.kind == "diffusion" else checkpoint.labels
        self.net = checkpoint.model().to(Processes.choose(device))
        prepare = Prepare(checkpoint.preprocess, max_pixels=max_pixels)
        pixels = prepare.pixels(image)
        self.image = 1 - pixels if invert else pixels
        self.inputs = [prepare.batch(self.image)]
        if time is not None and not isinstance(self.net, Diffusion):
            raise ValueError(f"`time` (={time}): {self.kind} has no times, only diffusion has")
        self.when = ""
        if isinstance(self.net, Diffusion):
            self.inputs = _at(self.net, self.inputs[0], time)
            self.when = f" at time {int(self.inputs[1])} of {self.net.steps}"
        try:
            self.layers = layers(self.net, self.inputs)
        except (ValueError, RuntimeError) as error:
            raise ImageError(f"{image}: {error}") from error

    def choose(self, names: Sequence[str]) -> list[Layer]:
        """The layers of these names, in the order of the network; without names those of :func:`stages`.

        Raises:
            ValueError: if one does not exist.
        """
        wanted = [named(self.layers, name) for name in names] or stages(self.layers)
        return [layer for layer in self.layers if layer in wanted]

    def draw(self, folder: Path, chosen: Sequence[Layer], class_name: str | None = None) -> list[tuple[Path, str]]:
        """Write the pictures to a folder, which is made; and say of each what is in it.

        Args:
            folder: where to.
            chosen: the layers.
            class_name: whose Grad-CAM is drawn; of the likeliest class by default.

        Raises:
            ValueError: if there is no such class.
            FloatingPointError: if the network's scores are not finite.
            OSError: if a picture cannot be written; what was there is there still.
        """
        if class_name is not None and not self.labels:
            raise ValueError(f"`class_name` (={class_name}): {self.kind} has no classes")
        if class_name is not None and class_name not in self.labels:
            close = difflib.get_close_matches(class_name, self.labels, MOST_NAMED, 0)
            raise ValueError(f"`class_name` (={class_name}) must be a class of the network, as {', '.join(close)}")
        names = [layer.name for layer in chosen]
        first, weight = first_filters(self.net, self.layers)
        maps = {name: map_[0] for name, map_ in feature_maps(self.net, self.inputs, names).items()}
        seen = [self._seen(name) for name in names]
        os.makedirs(folder, exist_ok=True)
        made = {CAM: self._cam(chosen, class_name, folder / CAM)} if self.labels else {}
        draw_filters(weight, first, folder / FILTERS)
        draw_maps(maps, folder / MAPS)
        draw_fields(self.image, seen, folder / FIELDS)
        made[FILTERS] = f"the filters of {first}"
        made[MAPS] = f"feature maps of {', '.join(names)}{self.when}"
        made[FIELDS] = "what the unit in the centre of each of these layers can see, and what it looks at"
        return [(folder / file, made[file]) for file in PICTURES if file in made]

    def _seen(self, name: str) -> Seen:
        field = receptive_field(self.net, self.inputs, name)
        return Seen(name, field, effective_field(self.net, self.inputs, name)[0])

    def _cam(self, chosen: Sequence[Layer], class_name: str | None, path: Path) -> str:
        """Draw where the class is found, and say so."""
        p = probabilities(self.net, self.inputs[0])[0]
        index = self.labels.index(class_name) if class_name is not None else _likeliest(p)
        # a map of one pixel says nothing of where
        layer = next((one for one in reversed(chosen) if max(one.shape[2:]) > 1), chosen[-1])
        of_pixels = p.dim() == 3
        share = float((p.argmax(0) == index).float().mean()) if of_pixels else float(p[index])

        def score(scores: Tensor) -> Tensor:
            if not of_pixels:
                return scores[0, index]
            there = scores[0].argmax(0) == index
            return scores[0, index][there].sum() if there.any() else scores[0, index].sum()

        cam = grad_cam(self.net, self.inputs, score, layer.name, head=_HEADS.get(self.kind))[0]
        place = placement(self.net, self.inputs, layer.name, (layer.shape[2], layer.shape[3]))
        size = " x ".join(map(str, layer.shape[2:]))
        what = f"Grad-CAM: {label(layer.name)}, {size}"
        title = f"{label(self.labels[index], 40)}, {share:.1%} {'of the pixels' if of_pixels else 'sure'}"
        draw_cam(self.image, cam, place, title, what, path)
        nothing = "" if cam.any() else "; nothing in it speaks for the class"
        return f"Grad-CAM of {self.labels[index]} in {layer.name}{nothing}"


def _likeliest(p: Tensor) -> int:
    """The class of an image, or that of most pixels; the background, which is the first of more than two, only if there is
    nothing else."""
    if p.dim() == 1:
        return int(p.argmax())
    counts = torch.bincount(p.argmax(0).flatten(), minlength=len(p))
    return 1 + int(counts[1:].argmax()) if len(p) > 2 and counts[1:].any() else int(counts.argmax())


def _at(net: Diffusion, x: Tensor, time: int | None) -> list[Tensor]:
    """The image in the noise of a time, the same noise every time, and the time."""
    time = net.steps // 2 if time is None else time
    if time >= net.steps:
        raise ValueError(f"`time` must lie within 0 and {net.steps - 1}, got {time}")
    t = torch.tensor([time])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    signal, scale = net.signal[time].cpu(), net.noise[time].cpu()
    return [signal * x + scale * noise, t]
