"""LeNet: two convolutions, two pools, two fully connected layers, for handwritten characters (LeCun et al., 1998)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchops.nn import Conv2d, MaxPool2d

from .arguments import check_images, check_whole, check_wholes

Layer = Callable[..., nn.Module]


class LeNet(nn.Module):
    """Log-probabilities of the class of a small image, for `torch.nn.NLLLoss`.

    Args:
        classes: how many.
        channels: of the images, 1 or 3.
        size: height and width of the images in pixels; 16 at least.
        widths: channels of the two convolutions.
        hidden: features between the two fully connected layers.
        norm: where a batch norm stands: "before" the activation, "after" it, or None for none.
        conv: class of the convolutions; `torch.nn.Conv2d` will do.
        pool: class of the pools: `MaxPool2d`, `AvgPool2d` or `MinPool2d`, of torchops.nn or torch.nn.

    Shape:
        (N, channels, size, size) to (N, classes).

    Raises:
        TypeError: if a number is no whole one.
        ValueError: if `size` is too small, or `norm` is none of the three; when it is called, if the images are others than
            those that it was made for.

    Source: Y. LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86(11), 1998; the widths are
        those of Caffe's LeNet.

    >>> import torch
    >>> from torchops.models import LeNet
    >>> LeNet()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        *,
        widths: tuple[int, int] = (20, 50),
        hidden: int = 500,
        norm: str | None = None,
        conv: Layer = Conv2d,
        pool: Layer = MaxPool2d,
    ) -> None:
        super().__init__()
        check_whole(classes=classes, channels=channels, hidden=hidden)
        check_whole(0, size=size)
        check_wholes("widths", widths, range(2, 3))
        if size < 16:
            raise ValueError(f"`size` must be 16 or more, got {size}")
        if norm not in (None, "before", "after"):
            raise ValueError(f"`norm` must be None, 'before' or 'after', got {norm!r}")

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            activation: list[nn.Module] = [nn.ReLU()]
            if norm is not None:
                activation.insert(0 if norm == "before" else 1, nn.BatchNorm2d(outputs))
            # a norm right behind the convolution has a bias of its own
            return [conv(inputs, outputs, 5, bias=norm != "before"), *activation, pool(2)]

        self.channels, self.size = channels, size
        side = ((size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(*block(channels, widths[0]), *block(widths[0], widths[1]))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[1] * side * side, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        # TorchScript, which takes a network of torch.nn's layers, cannot ask
        if not torch.jit.is_scripting():
            check_images(x, self.channels, self.size)
        return torch.log_softmax(self.classifier(self.features(x)), dim=1)
