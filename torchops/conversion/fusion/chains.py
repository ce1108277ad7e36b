"""A convolution in a graph, and all around it that its kernel can do as well.

    pad -> conv2d -> batch_norm -> add another tensor -> activation

Each part is optional. It is taken in only if nothing else reads what lies between, and if no call in between could write to a
tensor that is read: the fused call runs where the last of the chain ran.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn import Parameter
from torch.nn.utils.fusion import fuse_conv_bn_weights

from torchops import nn
from torchops.activations import ACTIVATIONS
from torchops.conversion.layers import refuses
from torchops.functional import arguments

from .calls import PADS, Calls, argument, first_argument, is_frozen_norm, layer_class, mutates_left, owner
from .convolutions import AddConv2d, NormedConv2d, NormedConvTranspose2d


@dataclass
class Chain:
    """A convolution and what it took in."""

    node: fx.Node
    op: str
    """"conv2d" or "conv_transpose2d"."""
    input: fx.Node
    weight: Tensor
    bias: Tensor | None
    geometry: dict[str, Any]
    """stride, padding, dilation, groups; of a transposed one also output_padding."""
    border: dict[str, Any] = field(default_factory=lambda: {"padding_mode": "zeros", "padding_value": 0.0})
    activation: str | None = None
    residual: fx.Node | None = None
    in_place: str = ""
    is_normed: bool = False
    is_frozen: bool = False
    """As of :class:`AddConv2d`."""
    nodes: list[fx.Node] = field(default_factory=list)
    """All calls that it stands for, in the order of the graph."""
    parts: list[str] = field(default_factory=list)
    """Their names."""

    @property
    def last(self) -> fx.Node:
        return self.nodes[-1]

    def module(self, channels_last: bool) -> torch.nn.Module:
        """A layer that does all that the chain does."""
        k = self.weight.shape[0] if self.op == "conv2d" else self.weight.shape[1] * self.geometry["groups"]
        c = self.weight.shape[1] * self.geometry["groups"] if self.op == "conv2d" else self.weight.shape[0]
        # the layer has no values at first: it is given those of the chain
        further: Any = {**self.geometry, "bias": self.bias is not None, "device": "meta"}
        kernel_size = self.weight.shape[2], self.weight.shape[3]
        layer: torch.nn.Module
        if self.op == "conv2d":
            adds = self.residual is not None or self.is_frozen
            cls = AddConv2d if adds else NormedConv2d if self.is_normed else nn.Conv2d
            layer = cls(c, k, kernel_size, **further, **self.border, activation=self.activation)
            if isinstance(layer, AddConv2d):
                layer.in_place, layer.is_normed, layer.is_frozen = self.in_place, self.is_normed, self.is_frozen
        else:
            transposed = NormedConvTranspose2d if self.is_normed else nn.ConvTranspose2d
            layer = transposed(c, k, kernel_size, **further)
            if isinstance(layer, NormedConvTranspose2d):
                layer.is_frozen = self.is_frozen
        layer.weight = _parameter(self.weight, channels_last)
        if self.bias is not None:
            layer.bias = _parameter(self.bias, False)
        return layer.eval()


def _parameter(t: Tensor, channels_last: bool) -> Parameter:
    if channels_last and not t.is_contiguous(memory_format=torch.channels_last):
        t = Parameter(t.detach().contiguous(memory_format=torch.channels_last), t.requires_grad)
    return t if isinstance(t, Parameter) else Parameter(t.detach(), t.requires_grad)


def start(calls: Calls, node: fx.Node) -> Chain | None:
    """The chain of a convolution alone; None if the node is none, or one whose weights are not known."""
    op = calls.name(node)
    if op not in ("conv2d", "conv_transpose2d"):
        return None
    module = calls.module(node)
    names = ("stride", "padding", "dilation", "groups") + (("output_padding",) if op == "conv_transpose2d" else ())
    if module is None:
        values = {name: argument(node, name, default) for name, default in zip(names, (1, 0, 1, 1, 0), strict=False)}
        weight, bias = (calls.value(argument(node, name, None)) for name in ("weight", "bias"))
        known = isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        fixed = len(node.all_input_nodes) == 2 + (bias is not None)
        further = {name: argument(node, name, None) for name in ("padding_mode", "activation", "residual")}
        padding_value = argument(node, "padding_value", 0.0)
        if not known or not fixed or further["residual"] is not None:
            return None
        x = argument(node, "input", None)
    elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and len(node.args) + len(node.kwargs) == 1:
        values = {name: getattr(module, name) for name in names}
        weight, bias, x = module.weight, module.bias, first_argument(node)
        further = {name: getattr(module, name, None) for name in ("padding_mode", "activation")}
        padding_value = getattr(module, "padding_value", 0.0)
    else:
        return None
    if (
        not isinstance(x, fx.Node)
        or not arguments.is_floating(weight)
        or calls.is_exposed(weight, bias, *_tensors_in(module))
    ):
        return None
    if values["padding"] == "valid":
        values["padding"] = 0
    border = {"padding_mode": further["padding_mode"] or "zeros", "padding_value": padding_value}
    return Chain(
        node, op, x, weight, bias, values, border, further["activation"], nodes=[node],
        # the layer may be of a model that was fused before
        is_normed=isinstance(module, (NormedConv2d, NormedConvTranspose2d)), is_frozen=getattr(module, "is_frozen", False),
        parts=[op] + ([further["activation"]] if further["activation"] else []),
    )  # fmt: skip


def _tensors_in(module: torch.nn.Module | None) -> tuple[Tensor, ...]:
    """The tensors that a layer holds; a parametrized one holds those that its weight is computed of."""
    return () if module is None else (*module.parameters(), *module.buffers())


def grow(calls: Calls, chain: Chain) -> None:
    """Take all into a chain that its kernel can do: what follows it, and a pad before it."""
    if chain.activation is None:
        while (reader := _reader(calls, chain.last)) and _take_norm(calls, chain, reader):
            pass
        if chain.op == "conv2d":
            if (reader := _reader(calls, chain.last)) is not None:
                _take_addition(calls, chain, reader)
            if (reader := _reader(calls, chain.last)) is not None:
                _take_activation(calls, chain, reader)
    if chain.op == "conv2d":
        _take_pad(calls, chain)


def _reader(calls: Calls, node: fx.Node) -> fx.Node | None:
    """The call that reads the values of a node, if it is one alone."""
    readers = [user for user in node.users if not calls.asks_only(user)]
    return readers[0] if len(readers) == 1 and readers[0].op != "output" else None


def _undisturbed(calls: Calls, chain: Chain, until: fx.Node) -> bool:
    """Whether no call between the chain's first and `until` writes to a tensor, but for those of the chain itself."""
    node = chain.nodes[0]
    while node is not until:
        if (
            node not in chain.nodes
            and node.op in ("call_module", "call_function", "call_method")
            and calls.mutates(node)
        ):
            return False
        node = node.next
    return True


def _take(calls: Calls, chain: Chain, node: fx.Node, part: str) -> bool:
    if "out" in node.kwargs or not _undisturbed(calls, chain, node):
        return False
    chain.nodes.append(node)
    chain.parts.append(part)
    return True


def _take_norm(calls: Calls, chain: Chain, node: fx.Node) -> bool:
    if calls.name(node) != "batch_norm" or (chain.op == "conv_transpose2d" and chain.geometry["groups"] != 1):
        return False
    module, names = calls.module(node), ("running_mean", "running_var", "weight", "bias", "eps")
    if module is None:
        found = {name: calls.value(argument(node, name, None)) for name in names}
        training = argument(node, "training", False)
    else:
        found = {name: getattr(module, name) for name in names}
        training = module.training
    mean, eps = found["running_mean"], found["eps"]
    if training is not False or not isinstance(mean, Tensor) or not isinstance(eps, float):
        return False
    tensors = [found[name] for name in names[:4]]
    channels = chain.weight.shape[0 if chain.op == "conv2d" else 1]
    if calls.is_exposed(*tensors, *_tensors_in(module)) or mean.numel() != channels:
        return False
    if not all(t is None or isinstance(t, Tensor) for t in tensors):
        return False
    is_frozen = module is not None and is_frozen_norm(module)
    if is_frozen and any(t.dtype != chain.weight.dtype for t in tensors if t is not None):
        calls.unfit[owner(node)] = f"it promotes results of {chain.weight.dtype}, for it is of another dtype"
        return False
    mean, variance, scale, shift = (cast(Any, None) if t is None else t.detach().double() for t in tensors)
    # weights are folded in float64, so that only the result is rounded
    bias = None if chain.bias is None else chain.bias.detach().double()
    transposed = chain.op == "conv_transpose2d"
    folded = fuse_conv_bn_weights(
        chain.weight.detach().double(), bias, mean, variance, eps, scale, shift, transpose=transposed
    )
    dtype, trains = chain.weight.dtype, chain.weight.requires_grad
    # this is how far a trained norm's results spread, which are rounded too; those of a pruned channel spread little
    spread = (variance / (variance + eps)).sqrt() * (1.0 if scale is None else scale.abs())
    if not _fits(folded[0].transpose(0, 1) if transposed else folded[0], folded[1], spread, dtype):
        name = owner(node) if module is not None else f"{owner(node)}.batch_norm".lstrip(".")
        calls.unfit[name] = f"folded into the weights, it would leave the range of {dtype}"
        return False
    if not _take(calls, chain, node, "batch_norm"):
        return False
    chain.is_normed, chain.is_frozen = True, chain.is_frozen or is_frozen
    chain.weight, chain.bias = (Parameter(t.detach().to(dtype), trains) for t in folded)
    return True


def _fits(weight: Tensor, bias: Tensor, spread: Tensor, dtype: torch.dtype) -> bool:
    """Whether folded weights, in float64, can be had in the dtype: none overflows, and a channel's are not rounded by more than
    weights are, unless its results spread so little that this is lost beside others of about 1."""
    weights, rounded = weight.detach().flatten(1), weight.detach().flatten(1).to(dtype)
    finite = rounded.isfinite().all() and bias.to(dtype).isfinite().all()
    error, size = (rounded.double() - weights).norm(dim=1), weights.norm(dim=1)
    return bool(finite and (error * spread.clamp(max=1.0) <= torch.finfo(dtype).eps * size).all())


def _take_addition(calls: Calls, chain: Chain, node: fx.Node) -> None:
    if calls.name(node) != "add" or len(node.args) != 2 or node.kwargs:
        return
    left, right = node.args
    other = right if left is chain.last else left
    if (
        not isinstance(other, fx.Node)
        or other is chain.last
        or chain.last not in (left, right)
        or calls.is_number(other)
    ):
        return
    writes = mutates_left(node) or (node.op == "call_method" and node.target == "add_")
    if writes and other is left and not calls.is_fresh(other):
        # another call may read the sum where the other tensor was
        return
    if _take(calls, chain, node, "add"):
        chain.residual = other
        chain.in_place = "" if not writes else "residual" if left is other else "conv"


def _take_activation(calls: Calls, chain: Chain, node: fx.Node) -> None:
    name, module = calls.name(node), calls.module(node)
    if (
        name == "hardtanh"
        and _setting(node, module, "min_val", -1.0) == 0
        and _setting(node, module, "max_val", 1.0) == 6
    ):
        name = "relu6"
    plain = name in ACTIVATIONS and first_argument(node) is chain.last
    plain = plain and all(_setting(node, module, *item) == item[1] for item in ACTIVATIONS[name].settings.items())
    # calls that ask the sum for its shape would ask the convolution instead, and the sum may have more dimensions
    asked = chain.residual is not None and any(map(calls.asks_only, chain.last.users))
    if plain and not asked and _take(calls, chain, node, name):
        chain.activation = name


def _setting(node: fx.Node, module: torch.nn.Module | None, name: str, default: Any) -> Any:
    return argument(node, name, default) if module is None else getattr(module, name)


def _take_pad(calls: Calls, chain: Chain) -> None:
    node = chain.input
    if (
        calls.name(node) != "pad"
        or _reader(calls, node) is not chain.node
        or isinstance(chain.geometry["padding"], str)
    ):
        return
    module = calls.module(node)
    if module is None:
        pad, mode = argument(node, "pad", ()), argument(node, "mode", "constant")
        value = argument(node, "value", None) or 0.0
    else:
        pad, value = module.padding, getattr(module, "value", 0.0)
        mode = PADS[layer_class(module)]
    if (
        not isinstance(pad, (tuple, list))
        or len(pad) not in (2, 4)
        or any(not isinstance(n, int) or n < 0 for n in pad)
    ):
        return
    if not isinstance(value, (int, float)):
        return
    left, right, top, bottom = (*pad, 0, 0) if len(pad) == 2 else pad
    inner = arguments.conv_padding(chain.geometry["padding"])
    sides = inner if len(inner) == 4 else (inner[1], inner[1], inner[0], inner[0])
    zeros = mode == "constant" and value == 0.0
    if any(sides) and not (zeros and chain.border["padding_mode"] == "zeros"):
        return
    chain.nodes.insert(0, node)
    if not _undisturbed(calls, chain, chain.last):
        del chain.nodes[0]
        return
    chain.parts.insert(0, f"{'zero' if zeros else mode} pad")
    chain.input = first_argument(node)
    padding = tuple(p + q for p, q in zip((left, right, top, bottom), sides, strict=True))
    chain.geometry = {**chain.geometry, "padding": padding}
    chain.border = {"padding_mode": "zeros" if zeros else mode, "padding_value": 0.0 if zeros else float(value)}


_POOLS: dict[Any, tuple[type[torch.nn.Module], tuple[str, ...], dict[str, Any]]] = {
    F.max_pool2d: (nn.MaxPool2d, ("input",), {}),
    F.max_pool2d_with_indices: (nn.MaxPool2d, ("input",), {"return_indices": True}),
    F.avg_pool2d: (nn.AvgPool2d, ("input",), {}),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("input",), {}),
    F.adaptive_max_pool2d: (nn.AdaptiveMaxPool2d, ("input",), {}),
    F.adaptive_max_pool2d_with_indices: (nn.AdaptiveMaxPool2d, ("input",), {"return_indices": True}),
    F.max_unpool2d: (nn.MaxUnpool2d, ("input", "indices", "output_size"), {}),
    F.interpolate: (nn.Upsample, ("input",), {}),
}
"""torch's functions, our layers, what those are called with, and how they are made."""
_LEFT_OUT = object()


def pool(node: fx.Node) -> tuple[torch.nn.Module, dict[str, Any]] | None:
    """Our layer for a function that pools, and what to call it with. A layer can be pickled, a call of ours cannot."""
    if node.op != "call_function" or node.target not in _POOLS:
        return None
    cls, called_with, further = _POOLS[node.target]
    made_of = [name for name in inspect.signature(cls).parameters if name not in ("return_indices", "dilation", "self")]
    made_of += ["dilation"] if cls is nn.MaxPool2d else []
    given = {name: value for name in made_of if (value := argument(node, name, _LEFT_OUT)) is not _LEFT_OUT}
    tensors = {name: value for name in called_with if (value := argument(node, name, None)) is not None}
    known = [value for value in tensors.values() if isinstance(value, fx.Node)]
    # a call may give its windows as values that a trace does not know
    if made_of[0] not in given or not set(node.all_input_nodes) <= set(known):
        return None
    layer = cls(**given, **further).eval()
    if isinstance(layer, nn.Upsample) and (refuses(layer) or argument(node, "antialias", False) is not False):
        return None
    return layer, tensors
