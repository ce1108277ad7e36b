"""U-Net: down by pooling, up by unpooling, with the details handed over in between (Ronneberger et al., 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchops.nn import AvgPool2d, AvgUnpool2d, Conv2d, ConvTranspose2d, MaxPool2d, MaxUnpool2d

from .arguments import check_images, check_whole, check_wholes

Layer = Callable[..., nn.Module]
UNPOOLS = ("max", "avg", "transpose")
MOST_HALVINGS, MOST_DILATION, MOST_BLOCKS = 16, 256, 64


class Block(nn.Module):
    """Two times convolution, norm and activation; an embedding, if any, is added between the two."""

    def __init__(
        self, inputs: int, outputs: int, embedding: int, dilation: int, padding_mode: str,
        conv: Layer, norm: Layer, activation: Layer,
    ) -> None:  # fmt: skip
        super().__init__()

        def layers(inputs: int) -> nn.Sequential:
            # the norm behind a convolution has a bias of its own
            border = {"padding": dilation, "dilation": dilation, "padding_mode": padding_mode, "bias": False}
            return nn.Sequential(conv(inputs, outputs, 3, **border), norm(outputs), activation())

        self.first, self.second = layers(inputs), layers(outputs)
        self.embed = nn.Linear(embedding, outputs) if embedding else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        x = self.first(x)
        if self.embed is not None:
            x = x + self.embed(embedding)[:, :, None, None]
        return self.second(x)


class Up(nn.Module):
    """Twice the size and fewer channels: what the encoder's pool did, undone."""

    def __init__(
        self, inputs: int, channels: int, unpool: str, conv: Layer, conv_transpose: Layer, unpool_layer: Layer
    ) -> None:
        super().__init__()
        self.indexed = unpool == "max"
        if unpool == "transpose":
            self.thin: nn.Module = nn.Identity()
            self.unpool = conv_transpose(inputs, channels, 2, stride=2)
        else:
            # unpooling takes as many channels as were pooled; they are thinned before it, on a quarter of the pixels
            self.thin = conv(inputs, channels, 1)
            self.unpool = unpool_layer(2)

    def forward(self, x: Tensor, indices: Tensor | None) -> Tensor:
        x = self.thin(x)
        return self.unpool(x, indices) if self.indexed else self.unpool(x)


def _reach(depth: int, dilations: Sequence[int]) -> int:
    """How many pixels a result looks beyond a square that begins and ends at multiples of 2^depth."""
    margin = 0
    for _ in range(depth):
        # the two convolutions of a merge see two pixels more; they look at whole windows of a level below
        margin = -((margin + 2) // -2)
    margin += sum(2 * dilation for dilation in dilations)
    for _ in range(depth):
        # on the way down, windows of two pixels, and two convolutions again
        margin = 2 * margin + 2
    return margin


class UNet(nn.Module):
    """Scores of every class for every pixel, of images of any size.

    Args:
        classes: channels of the result.
        channels: of the images.
        width: channels of the first level; each further one has twice as many.
        depth: how often the image is halved, 16 times at most.
        unpool: how the decoder doubles: "avg" spreads values over the windows of an average pool, "max" puts them back where
            the encoder's max pool found its maxima, "transpose" is a transposed convolution after a max pool.
        dilations: of the blocks at the bottom; (1, 2, 4) sees seven times as far as (1,) at the same resolution. 64 blocks at
            most, dilated by 256 at most.
        padding_mode: border of every 3x3 convolution, as :class:`torchops.nn.Conv2d`. "reflect" needs the bottom to be larger
            than the largest dilation.
        embedding: features of an embedding that every block adds, or 0.
        norm, activation: classes; `norm` is called with the channels.
        conv, conv_transpose, max_pool, max_unpool, avg_pool, avg_unpool: classes of the layers; torch.nn's will do where
            it has one.

    Shape:
        (N, channels, H, W) to (N, classes, H, W), for every H and W that `padding_mode` allows; inside it is padded to a
        multiple of 2^depth. `embedding` is (N, embedding). `torch.export` takes named H and W, `torch.export.Dim`, of more than
        2^depth: torch exports images of one pixel, as the bottom would have, by themselves.

    Raises:
        TypeError: if a number is no whole one.
        ValueError: if `unpool` is unknown, or a number too small or too large; when it is called, if the images have other
            channels, or are too small for `padding_mode`.

    Source: O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015;
        unpooling by indices: V. Badrinarayanan et al., SegNet, TPAMI 2017.

    >>> import torch
    >>> from torchops.models import UNet
    >>> UNet(classes=2, width=8, depth=2)(torch.rand(1, 1, 50, 61)).shape
    torch.Size([1, 2, 50, 61])
    """

    def __init__(
        self,
        classes: int,
        channels: int = 1,
        *,
        width: int = 16,
        depth: int = 3,
        unpool: str = "avg",
        dilations: Sequence[int] = (1,),
        padding_mode: str = "zeros",
        embedding: int = 0,
        norm: Layer = nn.BatchNorm2d,
        activation: Layer = nn.ReLU,
        conv: Layer = Conv2d,
        conv_transpose: Layer = ConvTranspose2d,
        max_pool: Layer = MaxPool2d,
        max_unpool: Layer = MaxUnpool2d,
        avg_pool: Layer = AvgPool2d,
        avg_unpool: Layer = AvgUnpool2d,
    ) -> None:
        super().__init__()
        if unpool not in UNPOOLS:
            raise ValueError(f"`unpool` must be one of {', '.join(UNPOOLS)}, got {unpool!r}")
        check_whole(classes=classes, channels=channels, width=width)
        check_whole(1, MOST_HALVINGS, depth=depth)
        check_whole(0, embedding=embedding)
        check_wholes("dilations", dilations, range(1, MOST_BLOCKS + 1), MOST_DILATION)

        def block(inputs: int, outputs: int, dilation: int = 1) -> Block:
            return Block(inputs, outputs, embedding, dilation, padding_mode, conv, norm, activation)

        widths = [width * 2**level for level in range(depth)]
        self.down = nn.ModuleList(block(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        pool = avg_pool(2) if unpool == "avg" else max_pool(2, return_indices=True) if unpool == "max" else max_pool(2)
        self.pool, self.indexed = pool, unpool == "max"
        # reflected are fewer pixels than there are, around go all: this many does the bottom need, which is 2^-depth as large
        needed = {"reflect": max(dilations) + 1, "circular": max(dilations)}.get(padding_mode, 1)
        self.channels, self.least, self.embedding = channels, (needed - 1) * 2**depth + 1, embedding
        self.depth, self.padding_mode, self.reach = depth, padding_mode, _reach(depth, dilations)
        bottom = 2 * widths[-1]
        inputs = [widths[-1]] + [bottom] * (len(dilations) - 1)
        self.bottom = nn.ModuleList(block(c, bottom, d) for c, d in zip(inputs, dilations, strict=True))
        unpool_layer = avg_unpool if unpool == "avg" else max_unpool
        # these run from the bottom up
        self.up = nn.ModuleList(Up(2 * c, c, unpool, conv, conv_transpose, unpool_layer) for c in reversed(widths))
        self.merge = nn.ModuleList(block(2 * c, c) for c in reversed(widths))
        self.head = conv(width, classes, 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        check_images(x, self.channels, least=self.least)
        if self.embedding and embedding is None:
            raise ValueError(f"`embedding` must be (N, {self.embedding}), got None")
        h, w = x.shape[-2:]
        multiple = 2 ** len(self.down)
        # this is written so that export sees a multiple, which pools halve evenly: in n + -n % multiple it sees none
        right, below = (-(n // -multiple) * multiple - n for n in (w, h))
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        skips: list[tuple[Tensor, Tensor | None]] = []
        for block in self.down:
            x = block(x, embedding)
            skip, indices = x, None
            if self.indexed:
                x, indices = self.pool(x)
            else:
                x = self.pool(x)
            skips.append((skip, indices))
        for block in self.bottom:
            x = block(x, embedding)
        for up, merge in zip(self.up, self.merge, strict=True):
            skip, indices = skips.pop()
            x = merge(torch.cat((up(x, indices), skip), dim=1), embedding)
        # a slice would be a view, contiguous for some sizes: export would take those of the example's kind alone
        return F.pad(self.head(x), (0, -right, 0, -below))
