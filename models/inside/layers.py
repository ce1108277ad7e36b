"""The layers of a network that give maps, and their outputs while it runs."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchops.models.trained import evaluating

Inputs = Tensor | Sequence[Tensor]
"""An image (N, C, H, W), or all arguments of a network, of which that is the first."""
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_POOL = re.compile("(?!Adaptive).*(Unp|P)ool")


@dataclass(frozen=True)
class Layer:
    """A module whose output is a map."""

    name: str
    """As in `named_modules`, as "layer1.0.conv1"."""
    kind: str
    """Its class."""
    shape: tuple[int, ...]
    """Of its last output: (N, C, H, W)."""
    convolutions: int
    """How many there are in it; 1 for a convolution."""
    pools: bool
    """Whether it is a pool, or there is one in it."""


def layers(net: nn.Module, x: Inputs) -> list[Layer]:
    """The modules in `net` that give maps, in the order in which they do.

    Args:
        net: any network; it is asked in eval mode, and left as it was.
        x: an image (N, C, H, W), or all arguments of the network.
    """
    with torch.no_grad(), recorded(net, {name for name, _ in net.named_modules() if name}) as outputs:
        net(*arguments(net, x))
    found = []
    for name, output in outputs.items():
        module = net.get_submodule(name)
        if output.dim() == 4:
            convolutions = sum(isinstance(m, _CONVOLUTIONS) for m in module.modules())
            pools = any(_POOL.match(type(m).__name__) for m in module.modules())
            found.append(Layer(name, type(module).__name__, tuple(output.shape), convolutions, pools))
    return found


def stages(found: Sequence[Layer]) -> list[Layer]:
    """One layer for every resolution on the image's way, as conv1's ReLU and layer1 to layer4 of a ResNet.

    Of the layers in a row whose maps have one size, it is the one that holds most convolutions, and no pool; where norms and
    activations stand right behind it, the last of them.

    Args:
        found: what :func:`layers` gives.
    """
    last = max((n for n, layer in enumerate(found) if max(layer.shape[2:]) > 1), default=0)
    # maps of one pixel that larger ones follow are those of squeeze-and-excitation
    kept = [n for n, layer in enumerate(found) if n > last or max(layer.shape[2:]) > 1]
    holders = [n for n in kept if found[n].convolutions and not found[n].pools]
    chosen = []
    for _, group in itertools.groupby(holders, lambda n: found[n].shape[2:]):
        row = list(group)
        most = max(found[n].convolutions for n in row)
        at = max(n for n in row if found[n].convolutions == most)
        while at + 1 < len(found) and _stands_behind(found[at + 1], found[at]):
            at += 1
        chosen.append(found[at])
    return chosen


def _stands_behind(layer: Layer, other: Layer) -> bool:
    """Whether it is a norm or an activation of what comes before it."""
    beside = layer.name.rpartition(".")[0] == other.name.rpartition(".")[0]
    return beside and layer.shape == other.shape and not layer.convolutions and not layer.pools


def named(found: Sequence[Layer], name: str) -> Layer:
    """The layer of a name.

    Raises:
        ValueError: if there is none; it says which are close.
    """
    for layer in found:
        if layer.name == name:
            return layer
    close = difflib.get_close_matches(name, [layer.name for layer in found], 3, 0.4)
    said = f"; close are {', '.join(close)}" if close else ""
    raise ValueError(f"`layer` (={name or repr(name)}): is no layer that gives maps{said}; `layers` lists them")


def arguments(net: nn.Module, x: Inputs) -> list[Tensor]:
    """Those of the network on its device; the ones of floating point in its dtype."""
    given = [x] if isinstance(x, Tensor) else list(x)
    tensors = itertools.chain(net.parameters(), net.buffers())
    first = next((t for t in tensors if t.is_floating_point()), given[0])
    return [t.detach().to(first.device, first.dtype if t.is_floating_point() else t.dtype) for t in given]


@contextlib.contextmanager
def recorded(net: nn.Module, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of layers that are tensors, by name, as they come; the network is in eval mode meanwhile.

    Of a layer that is called more than once it is the last output. What follows goes on with a copy, so that it stays as it
    was where an activation works in place.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return None
            outputs.pop(name, None)
            outputs[name] = output
            return output.clone()

        return hook

    with evaluating(net), contextlib.ExitStack() as hooks:
        for name in names:
            hooks.callback(net.get_submodule(name).register_forward_hook(keep(name)).remove)
        yield outputs


def output_of(outputs: dict[str, Tensor], net: nn.Module, x: Inputs, name: str) -> Tensor:
    """The maps of a layer among those that were recorded.

    Raises:
        ValueError: if it gives none.
    """
    if name not in outputs or outputs[name].dim() != 4:
        named(layers(net, x), name)
        raise ValueError(f"`layer` (={name}): gives no maps")
    return outputs[name]
