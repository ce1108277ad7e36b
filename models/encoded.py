"""U-Net on an encoder of timm: down by a network that may be trained already, up by a decoder of our own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchops.conversion import convert
from torchops.nn import AvgUnpool2d, Conv2d, ConvTranspose2d

from .arguments import check_images, check_whole
from .backbones import OnMeta, find, library_of, trained, untrained
from .unet import Block, Up
from .weights import fitted, shown

ENCODER = "encoder."
DECODER = ("up.", "merge.", "head.")
"""How the names of the tensors begin, the encoder's and the others."""
UNPOOLS = ("avg", "transpose")
FARTHEST = 1024
"""A network whose results look farther, in pixels, counts as one that looks at the whole image."""


class EncodedUNet(nn.Module):
    """Scores of every class for every pixel, of images of any size, by a U-Net whose encoder is a network of timm.

    The decoder doubles height and width as often as the encoder halves them, and at every level sees the encoder's features of
    that size, if it has any; at the image's own size those are the image.

    Args:
        classes: channels of the result.
        channels: of the images.
        encoder: "timm:NAME", a network whose features are 1/2, 1/4, 1/8, ... of the image, or some of these; its convolutions
            and pools become torchops's.
        weights: "DEFAULT" for the encoder's trained weights, which are downloaded once; None for none. Where `channels` are
            not three, those of the first convolution are summed for one, or repeated.
        width: channels of the decoder at the image's own size; each deeper level has twice as many.
        unpool: how the decoder doubles: "avg" spreads values over windows of two by two, "transpose" is a transposed
            convolution.

    Shape:
        (N, channels, H, W) to (N, classes, H, W), for every H and W; inside it is padded to a multiple of 2^depth: `depth` is
        how often the encoder halves.

    Raises:
        TypeError: if a number is no whole one, or `encoder` no text.
        ValueError: if a number is too small, timm has no such network or weights, its features are no powers of two smaller
            than the image, or of images of a fixed size; if `unpool` is "max", for which an encoder would have to say where
            its maxima were; when it is called, if the images have other channels.
        ModuleNotFoundError: without timm.
        ConnectionError: if the weights cannot be downloaded.

    Source: O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015;
        on trained encoders: V. Iglovikov, A. Shvets, TernausNet, 2018, and P. Iakubovskii, segmentation_models.pytorch, 2019.

    >>> import torch
    >>> from torchops.models import EncodedUNet
    >>> EncodedUNet(classes=2, channels=3, encoder="timm:resnet18")(torch.rand(1, 3, 50, 61)).shape
    torch.Size([1, 2, 50, 61])
    """

    padding_mode = "zeros"
    least = 1

    def __init__(
        self, classes: int, channels: int = 1, *, encoder: str, weights: str | None = None, width: int = 16,
        unpool: str = "avg",
    ) -> None:  # fmt: skip
        super().__init__()
        if unpool == "max":
            raise ValueError("`unpool` (=max): needs the places of the maxima, which an `encoder` does not say")
        if unpool not in UNPOOLS:
            raise ValueError(f"`unpool` must be one of {', '.join(UNPOOLS)}, got {shown(unpool)}")
        check_whole(classes=classes, channels=channels, width=width)
        if weights not in (None, "DEFAULT"):
            raise ValueError(f"`weights` must be a file, a run or DEFAULT, got {shown(weights)}")
        self.channels, self.name = channels, find(encoder, "encoder", ["timm"])[1]
        self.encoder = _features(self.name, channels)
        info: Any = self.encoder.feature_info
        self.reductions = [int(reduction) for reduction in info.reduction()]
        if self.reductions != [2**level for level in range(32) if 2**level in self.reductions]:
            shares = ", ".join(f"1/{reduction}" for reduction in self.reductions)
            raise ValueError(
                f"`encoder` (={encoder}): its features are {shares} of the image's height and width; those of a U-Net "
                "are 1/2, 1/4, 1/8, ..., or some of these"
            )
        self.depth = self.reductions[-1].bit_length() - 1
        # the image is what a decoder sees at its size, if the encoder has nothing else
        handed = {1: channels, **dict(zip(self.reductions, info.channels(), strict=True))}
        widths = [width * 2**level for level in reversed(range(self.depth))]
        inputs = [handed.pop(self.reductions[-1]), *widths]
        up = partial(Up, unpool=unpool, conv=Conv2d, conv_transpose=ConvTranspose2d, unpool_layer=AvgUnpool2d)
        block = partial(
            Block, embedding=0, dilation=1, padding_mode=self.padding_mode,
            conv=Conv2d, norm=nn.BatchNorm2d, activation=nn.ReLU,
        )  # fmt: skip
        # these run from the bottom up
        self.up = nn.ModuleList(up(a, b) for a, b in zip(inputs, widths, strict=False))
        self.merge = nn.ModuleList(
            block(c + handed.get(2**level, 0), c) for level, c in zip(reversed(range(self.depth)), widths, strict=True)
        )
        self.head = Conv2d(width, classes, 1)
        if not any(parameter.is_meta for parameter in self.parameters()):
            self._check_sizes(encoder, [inputs[0] if r == self.reductions[-1] else handed[r] for r in self.reductions])
        if weights is not None:
            self.take_encoder(trained("timm", self.name))

    def _check_sizes(self, encoder: str, channels: list[int]) -> None:
        """See that the encoder takes images of any size, and gives of them what it says."""
        side = self.reductions[-1]
        expected = [(1, c, side // r, 2 * side // r) for c, r in zip(channels, self.reductions, strict=True)]
        training = self.encoder.training
        try:
            with torch.no_grad():
                given = [tuple(f.shape) for f in self.encoder.eval()(torch.zeros(1, self.channels, side, 2 * side))]
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = shown(str(error).splitlines()[0]) if str(error) else type(error).__name__
            raise ValueError(
                f"`encoder` (={encoder}): takes no images of {side} x {2 * side} pixels: {reason}"
            ) from error
        finally:
            self.encoder.train(training)
        if given != expected:
            raise ValueError(f"`encoder` (={encoder}): gives features of {given}, not of {expected}")

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.channels)
        h, w = x.shape[-2:]
        multiple = 2**self.depth
        # this is written so that export sees a multiple: in n + -n % multiple it sees none
        right, below = (-(n // -multiple) * multiple - n for n in (w, h))
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        features = self.encoder(x)
        handed = {1: x, **dict(zip(self.reductions, features, strict=True))}
        x = features[-1]
        for level, up, merge in zip(reversed(range(self.depth)), self.up, self.merge, strict=True):
            x = up(x, None)
            x = merge(torch.cat((x, handed[2**level]), dim=1) if 2**level in handed else x)
        return F.pad(self.head(x), (0, -right, 0, -below))

    def take_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Load weights of the encoder's classifier into the encoder; its head is left out.

        Args:
            state: the weights, by the names of timm's classifier, of images in colour or with `channels`.

        Raises:
            ValueError: if they are those of another network. Nothing is loaded then.
        """
        own = self.encoder.state_dict()
        with OnMeta():
            whole = untrained("timm", self.name, 1).state_dict()
        # features that are named "stages_0.blocks" are those of "stages.0.blocks"
        flat = {name.replace(".", "_"): name for name in own}
        found = {}
        try:
            for name, tensor in state.items():
                if name not in whole:
                    raise ValueError(f"there is no {shown(name)} in it")
                if (ours := flat.get(name.replace(".", "_"))) is not None:
                    found[ours] = self._of_channels(tensor, own[ours])
            self.encoder.load_state_dict(fitted(own, found), strict=False)
        except ValueError as error:
            raise ValueError(f"these are weights of another network: {error}") from error

    def _of_channels(self, tensor: Tensor, own: Tensor) -> Tensor:
        """The weight of a first convolution for images of as many channels as there are; others as they are."""
        if tensor.dim() != 4 or tensor.shape[1] != 3 or own.shape[1:2] != (self.channels,):
            return tensor
        adapted: Tensor = library_of("timm").models.adapt_input_conv(self.channels, tensor)
        return adapted

    @cached_property
    def reach(self) -> int | None:
        """How many pixels a result looks beyond a square that begins and ends at multiples of 2^depth; None if it looks at the
        whole image, as with squeeze-and-excitation, or farther than `FARTHEST`, or if it cannot be told."""
        side = 32 * 2**self.depth
        while side <= 2 * FARTHEST:
            found = [_beyond(self, axis, side) for axis in (0, 1)]
            if None not in found:
                return max(pixels for pixels in found if pixels is not None)
            side *= 2
        return None


def _beyond(net: EncodedUNet, axis: int, side: int) -> int | None:
    """How many pixels the results of a window of 2^depth look beyond it, along one side of an image of this length; None if
    they look at its end, or elsewhere than layers say."""
    from .inside import effective_field, receptive_field

    window = 2**net.depth
    start, stop = side // 2, side // 2 + window
    x = torch.rand(
        1, net.channels, *((side, window) if axis == 0 else (window, side)), generator=torch.Generator().manual_seed(0)
    )
    units = [(place, 0) if axis == 0 else (0, place) for place in (start, stop - 1)]
    looked = effective_field(net, x, "head", units[0])[0].any(1 - axis).nonzero()
    if not looked.min() > 0:
        return None
    fields = [receptive_field(net, x, "head", unit) for unit in units]
    first, last = fields[0][axis], fields[1][axis] + fields[1][axis + 2]
    # a norm of the whole map, which fields leave aside, is seen in what is really looked at
    known = first <= looked.min() and looked.max() < fields[0][axis] + fields[0][axis + 2]
    return max(start - first, last - stop) if known and first > 0 and last < side else None


def _features(name: str, channels: int) -> nn.Module:
    """timm's network without its head, with torchops's layers; it gives a list of features, from the finest to the coarsest."""
    try:
        net: nn.Module = library_of("timm").create_model(name, features_only=True, pretrained=False, in_chans=channels)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        reason = shown(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise ValueError(f"`encoder` (=timm:{name}): timm does not give its features: {reason}") from error
    return convert(net, inplace=True)[0]
