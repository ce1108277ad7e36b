"""Large images, tile by tile: what a U-Net says of each tile is what it says of the whole image there.

A network sees more of a tile than is kept: the overlap, on all sides on which the image goes on. Two things make the result
that of the whole image. The overlap is at least the reach of the network, how far a pixel of the result looks. And tiles begin
at multiples of 2^depth, so that pooling windows lie as they do in the whole image. At the image's border the network
pads as it always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .arguments import check_whole
from .encoded import EncodedUNet
from .unet import UNet

LARGE, TILE = 1 << 22, 1024
"""Of images with more pixels than the first number a U-Net sees tiles of the second, where nothing else is asked for."""


@dataclass(frozen=True)
class Span:
    """A tile along one side of an image."""

    seen: Tensor
    """The pixels that the network sees, by their places in the image."""
    kept: slice
    """Those of them that the result is of."""
    place: slice
    """Where these lie in the image."""


def spans(length: int, tile: int, overlap: int, multiple: int, wraps: bool) -> Iterator[Span]:
    """Tiles along a side.

    Args:
        length: of the side, in pixels.
        tile, overlap: in pixels, multiples of `multiple`.
        multiple: what the network pads the side to a multiple of, by its last pixels.
        wraps: whether what follows the last pixel is the first.
    """
    padded = -(length // -multiple) * multiple
    for first in range(0, length, tile):
        # the last tile begins where it is as long as the others, which is what "reflect" may need
        start = max(0, min(first, padded - tile) - overlap)
        stop = min(length, first + tile + overlap)
        if wraps:
            around = tile + 2 * overlap < padded
            start, stop = (first - overlap, first + tile + overlap) if around else (0, length)
        seen = (torch.arange(start, stop) % padded).clamp(max=length - 1)
        end = min(first + tile, length)
        yield Span(seen, slice(first - start, end - start), slice(first, end))


@dataclass(frozen=True)
class Tiles:
    """How an image is cut up for a network."""

    tile: int
    """Height and width of what is kept of a tile, in pixels."""
    overlap: int
    """How much more the network sees on every side, in pixels."""
    multiple: int
    """What both are multiples of: 2^depth."""
    wraps: bool
    """Whether the network's padding is circular."""
    whole: int = 0
    """Images of up to so many pixels are seen whole."""

    @staticmethod
    def of_large(net: UNet) -> Tiles:
        """The tiles for large images alone, where none are asked for."""
        multiple = 2**net.depth
        tile = -(max(TILE, net.least) // -multiple) * multiple
        return replace(Tiles.of(net, tile), whole=LARGE)

    @staticmethod
    def of(net: UNet | EncodedUNet, tile: int, overlap: int | None = None) -> Tiles:
        """The tiles for a network.

        Args:
            net: whose norm says the same of a pixel whatever the others are, as batch norm does in eval mode.
            tile: height and width of a tile, in pixels.
            overlap: pixels; the network's reach by default, rounded up to a multiple of 2^depth. With less, borders of tiles
                may show, and a network that looks at the whole image, as squeeze-and-excitation does, says something else.

        Raises:
            TypeError: if a number is no whole one.
            ValueError: if a number is no multiple of 2^depth, the tile is too small for the network, or there is no overlap and
                the network looks at the whole image.
        """
        multiple = 2**net.depth
        check_whole(tile=tile)
        least = -(net.least // -multiple) * multiple
        if tile % multiple or tile < least:
            raise ValueError(
                f"`tile` (={tile}): must be a multiple of {multiple}, and {least} at least: the network pools "
                f"{multiple} x {multiple} pixels to one"
            )
        if overlap is None:
            if net.reach is None:
                raise ValueError(
                    f"`tile` (={tile}): the network looks at the whole image, of which a tile is not enough; with an "
                    "`overlap` it is asked all the same, and its masks differ"
                )
            overlap = -(net.reach // -multiple) * multiple
        check_whole(0, overlap=overlap)
        if overlap % multiple:
            raise ValueError(f"`overlap` (={overlap}): must be a multiple of {multiple}, as `tile`")
        return Tiles(tile, overlap, multiple, net.padding_mode == "circular")

    def classes(self, ask: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """The class of every pixel.

        Args:
            ask: from a part of the images, (N, C, h, w), to the classes of its pixels, (N, h, w).
            images: (N, C, H, W), of any dtype.

        Returns:
            (N, H, W), of the dtype that `ask` gives.
        """
        n, _, height, width = images.shape
        if height * width <= self.whole:
            return ask(images)
        result: Tensor | None = None
        for rows in spans(height, self.tile, self.overlap, self.multiple, self.wraps):
            across = images.index_select(2, rows.seen)
            for columns in spans(width, self.tile, self.overlap, self.multiple, self.wraps):
                classes = ask(across.index_select(3, columns.seen))
                if result is None:
                    result = classes.new_empty(n, height, width)
                result[:, rows.place, columns.place] = classes[:, rows.kept, columns.kept]
        assert result is not None
        return result
