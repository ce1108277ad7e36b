"""Filters of the first convolution, feature maps, and Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .layers import Inputs, Layer, arguments, output_of, recorded


def first_filters(net: nn.Module, found: Sequence[Layer]) -> tuple[str, Tensor]:
    """The name and the weight (K, C, R, S) of the convolution that comes first, float32, on the CPU.

    Args:
        net: the network.
        found: what :func:`layers` gives.

    Raises:
        ValueError: if there is none.
    """
    for layer in found:
        module = net.get_submodule(layer.name)
        if isinstance(module, nn.Conv2d):
            return layer.name, module.weight.detach().float().cpu()
    raise ValueError("the network has no convolution")


def feature_maps(net: nn.Module, x: Inputs, layers: Sequence[str]) -> dict[str, Tensor]:
    """What layers make of an image.

    Args:
        net: any network; it is asked in eval mode, and left as it was.
        x: an image (N, C, H, W), or all arguments of the network.
        layers: their names, as in `named_modules`.

    Returns:
        By name the maps (N, C, H, W), float32, on the CPU.

    Raises:
        ValueError: if a layer does not exist, or gives no maps; it says which are close.

    >>> import torch
    >>> from torchops.models import LeNet
    >>> from torchops.models.inside import feature_maps
    >>> feature_maps(LeNet(), torch.rand(1, 1, 28, 28), ["features.1"])["features.1"].shape
    torch.Size([1, 20, 24, 24])
    """
    with torch.no_grad(), recorded(net, _known(net, layers)) as outputs:
        net(*arguments(net, x))
    return {name: output_of(outputs, net, x, name).float().cpu() for name in layers}


def grad_cam(
    net: nn.Module, x: Inputs, target: int | Callable[[Tensor], Tensor], layer: str, *, head: str | None = None
) -> Tensor:
    """Where a layer holds what speaks for a class: ReLU(sum_k a_k A_k), a_k the mean over the pixels of d score / d A_k.

    Args:
        net: any network; it is asked in eval mode, and left as it was.
        x: an image (N, C, H, W), or all arguments of the network.
        target: the class, whose score is scores[:, target], summed up over the pixels if it has some; or a function of the
            scores that gives one number.
        layer: the name of the one whose maps A are looked at.
        head: the layer whose output are the scores; by default they are the network's. They should be logits: where a
            network ends in a softmax, those before it.

    Returns:
        (N, h, w), of the layer's size, float32, on the CPU; no value is below 0.

    Raises:
        ValueError: if a layer does not exist, gives no maps, or the score does not depend on it.

    Source: R. Selvaraju et al., Grad-CAM, ICCV 2017; of segmentation: K. Vinogradova et al., AAAI 2020.

    >>> import torch
    >>> from torchops.models import LeNet
    >>> from torchops.models.inside import grad_cam
    >>> grad_cam(LeNet(), torch.rand(1, 1, 28, 28), 7, "features.4", head="classifier").shape
    torch.Size([1, 8, 8])
    """
    names = {layer} | ({head} if head else set())
    with torch.enable_grad(), recorded(net, _known(net, names)) as outputs:
        given = arguments(net, x)
        # maps have gradients where the weights are frozen, too
        given[0].requires_grad_()
        scores = net(*given)
    maps = output_of(outputs, net, x, layer)
    scores = outputs[head] if head else scores
    score = target(scores) if callable(target) else scores[:, target].sum()
    gradient = torch.autograd.grad(score, maps, allow_unused=True)[0] if score.requires_grad else None
    if gradient is None:
        raise ValueError(f"`layer` (={layer}): the score does not depend on it")
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    return cam.detach().float().cpu()


def _known(net: nn.Module, names: Sequence[str] | set[str]) -> set[str]:
    """Those that are modules; the others are told when their outputs are asked for."""
    return set(names) & {name for name, _ in net.named_modules() if name}
