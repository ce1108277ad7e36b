"""What a trained network knows besides its weights: its classes, how an image becomes its input, and what it says of one."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .extra import needs

if TYPE_CHECKING:
    from .data import Preprocess
    from .tiles import Tiles


class Prepare:
    """An image as a network takes it: the channels, size and normalisation that it was trained with.

    Args:
        fields: of :class:`torchops.models.data.Preprocess`, as a checkpoint has them.
        max_pixels: the most pixels that a file may have; None for the readers' own limit.

    Raises:
        ModuleNotFoundError: where it is called, without the extra `models`.
    """

    def __init__(self, fields: Mapping[str, Any], *, max_pixels: int | None = None) -> None:
        self.fields, self.max_pixels = dict(fields), max_pixels

    def __repr__(self) -> str:
        return f"Prepare({', '.join(f'{name}={value!r}' for name, value in self.fields.items())})"

    @property
    def preprocess(self) -> Preprocess:
        with needs("`prepare`"):
            from .data import Preprocess

        return Preprocess(**self.fields)

    def pixels(self, image: Any) -> Tensor:
        """Values from 0 to 1 of the network's channels and size, to be looked at: (C, H, W).

        Args:
            image: a path; a Pillow image; a tensor (C, H, W) or (H, W), or a NumPy array (H, W) or (H, W, C), of uint8, or of
                floating point from 0 to 1, C = 1 or 3.

        Raises:
            TypeError: if `image` is none of these.
            ValueError: if its shape or its values cannot be an image's.
            torchops.files.images.ImageError: if a file cannot be read.
        """
        preprocess = self.preprocess
        return preprocess.resize(_values(image, preprocess, self.max_pixels))

    def batch(self, pixels: Tensor) -> Tensor:
        """Pixels, normalised, as a batch of one: (C, H, W) to (1, C, H, W)."""
        return self.preprocess.normalize(pixels).unsqueeze(0)

    def __call__(self, image: Any) -> Tensor:
        """An image, as :meth:`pixels` takes it, to a batch of one, float32: (1, C, H, W)."""
        return self.batch(self.pixels(image))


def _values(image: Any, preprocess: Preprocess, max_pixels: int | None) -> Tensor:
    """(C, H, W), float32 from 0 to 1."""
    import numpy as np
    from PIL import Image

    from torchops.files.images import MAX_PIXELS

    if isinstance(image, (str, Path)):
        return preprocess.read(image, max_pixels=max_pixels or MAX_PIXELS)
    if isinstance(image, Image.Image):
        return _drawn(image, preprocess)
    if isinstance(image, np.ndarray):
        if image.dtype not in (np.uint8, np.float16, np.float32, np.float64):
            raise TypeError(f"`image` must be of uint8 or floating point, got {image.dtype}")
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)) or image.size == 0:
            raise ValueError(f"`image` must be (H, W) or (H, W, C), C = 1 or 3, got {image.shape}")
        # a copy: from_numpy refuses strides that are negative, as of a flipped image, and warns of memory it may not write to
        return _scaled(torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1))
    if not isinstance(image, Tensor):
        raise TypeError(
            f"`image` must be a path, a Pillow image, a tensor or a NumPy array, got {type(image).__name__}"
        )
    if (image.dtype != torch.uint8 and not image.is_floating_point()) or image.layout != torch.strided:
        raise TypeError(f"`image` must be dense, of uint8 or floating point, got {image.dtype}, {image.layout}")
    if image.dim() not in (2, 3) or (image.dim() == 3 and image.shape[0] not in (1, 3)) or image.numel() == 0:
        raise ValueError(f"`image` must be (H, W) or (C, H, W), C = 1 or 3, got {tuple(image.shape)}")
    return _scaled(image if image.dim() == 3 else image.unsqueeze(0))


def _scaled(image: Tensor) -> Tensor:
    """uint8 to values from 0 to 1; others are refused if they are not."""
    values = image.detach().cpu().float()
    if image.dtype == torch.uint8:
        return values / 255
    least, most = values.aminmax()
    if not (least >= 0 and most <= 1):
        raise ValueError(
            f"`image` must have values from 0 to 1, or be uint8, got {float(least):.3g} to {float(most):.3g}"
        )
    return values


def _drawn(image: Any, preprocess: Preprocess) -> Tensor:
    """A Pillow image, as files are read."""
    from torchops.files.images import image_errors, picture_of, upright

    with image_errors(Path("`image`")):
        picture = picture_of(upright(image), gray=preprocess.channels == 1, background=preprocess.background)
    return picture.scaled()


def probabilities(net: nn.Module, batch: Tensor) -> Tensor:
    """Of the classes, by a network that says logits or log-probabilities: (N, classes, ...), float32, on the CPU.

    Args:
        net: is asked in eval mode, on its device and in its dtype, and left in the modes that it was in.
        batch: what :class:`Prepare` gives.

    Raises:
        FloatingPointError: if some are not finite.
    """
    tensors = itertools.chain(net.parameters(), net.buffers())
    first = next((t for t in tensors if t.is_floating_point()), batch)
    with torch.no_grad(), evaluating(net):
        p: Tensor = net(batch.to(first.device, first.dtype)).float().softmax(1).cpu()
    if not p.isfinite().all():
        raise FloatingPointError("the network's scores are not finite: it has diverged, or overflows in its dtype")
    return p


def likeliest(labels: tuple[str, ...], p: Tensor) -> dict[str, float]:
    """The probabilities (classes,) by label, the likeliest first."""
    order = p.argsort(descending=True, stable=True).tolist()
    return {labels[i]: float(p[i]) for i in order}


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    training = [module for module in net.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def tiles_for(net: nn.Module, tile: int | None, overlap: int | None = None) -> Tiles | None:
    """How a network sees images: a U-Net by tiles as :meth:`torchops.models.tiles.Tiles.of` says, or as `of_large` where there
    is no tile; others whole, by None.

    Raises:
        TypeError, ValueError: as that; ValueError, too, if the network is no U-Net, or there is an overlap and no tile.
    """
    from .encoded import EncodedUNet
    from .tiles import Tiles
    from .unet import UNet

    if tile is None:
        if overlap is not None:
            raise ValueError(f"`overlap` (={overlap}): is that of tiles, and needs `tile`")
        # an encoder looks so far that tiles would take longer
        return Tiles.of_large(net) if isinstance(net, UNet) else None
    if not isinstance(net, UNet | EncodedUNet):
        raise ValueError(f"`tile` (={tile}): is for a U-Net, which says the class of every pixel")
    return Tiles.of(net, tile, overlap)


class Predict:
    """What a network says of one image.

    Args:
        net: the network.
        prepare: how an image becomes its input.
        labels: of its classes, in the order of its outputs.
        kind: "lenet", "resnet", "classifier", "unet" or "diffusion".
    """

    def __init__(self, net: nn.Module, prepare: Prepare, labels: tuple[str, ...], kind: str) -> None:
        self.net, self.prepare, self.labels, self.kind = net, prepare, labels, kind

    def __call__(
        self, image: Any, *, tile: int | None = None, overlap: int | None = None
    ) -> dict[str, float] | Tensor:  # fmt: skip
        """Probabilities by label, the likeliest first; of a U-Net the index of the class of every pixel, (H, W), int64.

        Args:
            image: as :meth:`Prepare.pixels` takes it.
            tile, overlap: in pixels, for a U-Net, which sees the image tile by tile, and says the same; see
                :meth:`torchops.models.tiles.Tiles.of`. By default, tiles of 1024 pixels of images of more than 4 million.

        Raises:
            TypeError, ValueError, torchops.files.images.ImageError: as :meth:`Prepare.pixels` and :func:`tiles_for`; TypeError
                of a diffusion model, too.
            FloatingPointError: if the network's scores are not finite.
        """
        if self.kind == "diffusion":
            raise TypeError("a diffusion model draws images by `sample`, it does not predict")
        tiles = tiles_for(self.net, tile, overlap)
        if self.kind != "unet":
            return likeliest(self.labels, probabilities(self.net, self.prepare(image))[0])
        batch = self.prepare(image)

        def ask(part: Tensor) -> Tensor:
            return probabilities(self.net, part).argmax(1)

        return (ask(batch) if tiles is None else tiles.classes(ask, batch))[0]


def furnish(net: nn.Module, kind: str, labels: list[str], fields: Mapping[str, Any]) -> None:
    """Give a network `classes`, `prepare` and `predict`: plain attributes, of which its state_dict knows nothing."""
    net.classes = tuple(labels)  # type: ignore[assignment]
    net.prepare = Prepare(fields)  # type: ignore[assignment]
    net.predict = Predict(net, net.prepare, net.classes, kind)  # type: ignore[assignment,arg-type]
