"""What a node of a traced graph calls, by one name, whether it is a module, a function or a method of a tensor."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx
from torch.nn import Module
from torch.nn.utils import parametrize

from torchops import nn
from torchops.activations import ACTIVATIONS
from torchops.conversion.layers import plain_class
from torchops.torch_internals import HOOKS

OURS = ("torchops.nn", "torchops.conversion.fusion.convolutions")
"""Modules that hold classes of layers; those of torchops.models are networks, which are looked into."""
_LAYERS = {
    **{activation.layer: name for name, activation in ACTIVATIONS.items()},
    torch.nn.BatchNorm2d: "batch_norm", torch.nn.SyncBatchNorm: "batch_norm",
    torch.nn.Upsample: "interpolate", torch.nn.UpsamplingNearest2d: "interpolate",
    torch.nn.UpsamplingBilinear2d: "interpolate", nn.Upsample: "interpolate", nn.UpsamplingNearest2d: "interpolate",
}  # fmt: skip
PADS: dict[type[Module], str] = {
    torch.nn.ReflectionPad2d: "reflect", torch.nn.ReplicationPad2d: "replicate", torch.nn.CircularPad2d: "circular",
    torch.nn.ZeroPad2d: "constant", torch.nn.ConstantPad2d: "constant",
}  # fmt: skip
"""Layers that pad, and the mode of `F.pad`."""
_SHAPE_OF = ("ndim", "dim", "device", "is_cuda")
"""What code asks a result of a convolution that the input would answer alike."""
_NUMBERS = (*_SHAPE_OF, "size", "shape", "numel", "dtype")
_NO_KERNEL = {
    "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "expand", "expand_as", "narrow", "chunk",
    "split", "unbind", "detach", "getitem", "movedim", "assert", "assert_is_none", "t", "unflatten", "select",
}  # fmt: skip
"""Calls that launch no kernel: they return views, and hardly ever copies."""
_IDLE = (
    "identity",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "stochastic_depth",
)
"""Calls that return their input in eval mode."""


IN_PLACE = (
    "iadd",
    "isub",
    "imul",
    "itruediv",
    "ifloordiv",
    "ipow",
    "imod",
    "iand",
    "ior",
    "ixor",
    "ilshift",
    "irshift",
)
"""Functions of `operator` that write to their first argument."""
_FRESH = (
    "conv2d", "conv_transpose2d", "batch_norm", "linear", "max_pool2d", "avg_pool2d", "adaptive_max_pool2d",
    "adaptive_avg_pool2d", "interpolate", "cat",
)  # fmt: skip
"""Calls whose results have memory of their own."""
_MAYBE_COPIES = ("view", "reshape", "flatten", "contiguous", "ravel", "unflatten")
"""Calls that return views or copies, by the strides of what they are given."""
_STRIDES = ("as_strided", "stride", "is_contiguous", "view_as", "storage_offset", "untyped_storage")
_UNKNOWN = object()
"""An argument that is not known before the model runs."""


@dataclass
class Calls:
    """The calls of a graph."""

    graph: fx.Graph
    root: Module
    """The model that was traced."""
    probe: Module
    """The copy that was traced: it has the tensors that were met on the way."""
    kept: Iterable[str] = ()
    """Names of the modules that are not looked into."""
    layers: dict[str, Module] = field(default_factory=dict)
    """New layers, by the names of calls."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Why a batch norm that follows a convolution stays, by its name."""

    @functools.cached_property
    def exposed(self) -> set[int]:
        """The tensors, by identity, that anything but a convolution or a batch norm gets hold of: it may change them."""
        found: set[int] = set()
        for node in self.graph.nodes:
            if node.op == "get_attr" and not all(map(self._only_reads, node.users)):
                found.add(id(self.find(str(node.target))))
            elif self.name(node) == "" and (module := self.module(node)) is not None:
                found.update(id(t) for t in (*module.parameters(), *module.buffers()))
        for name in self.kept:
            module = self.root.get_submodule(name)
            found.update(id(t) for t in (*module.parameters(), *module.buffers()))
        return found

    def _only_reads(self, node: fx.Node) -> bool:
        name = self.name(node)
        return name in ("conv2d", "conv_transpose2d") or (
            name == "batch_norm" and argument(node, "training", False) is False
        )

    def is_exposed(self, *tensors: Any) -> bool:
        return any(id(t) in self.exposed for t in tensors)

    def find(self, target: str) -> Any:
        """The layer or the tensor of that name."""
        if target in self.layers:
            return self.layers[target]
        owner, _, name = target.rpartition(".")
        found = getattr(self.probe.get_submodule(owner), name)
        return self.root.get_submodule(target) if isinstance(found, Module) else found

    def add(self, layer: Module, name: str) -> str:
        """Have a new layer called by that name, or by the first like it that no other call needs."""
        needed = {str(node.target) for node in self.graph.nodes if node.op in ("call_module", "get_attr")} | {
            *self.layers
        }

        def free(candidate: str) -> bool:
            return not any(other == candidate or other.startswith(f"{candidate}.") for other in needed)

        while any(name.startswith(f"{other}.") for other in needed):
            # the name lies in a module that is called as a whole, and so the layer gets one outside that
            name = "_".join(name.rsplit(".", 1))
        target = next(c for i in itertools.count() if free(c := f"{name}_{i}" if i else name))
        self.layers[target] = layer
        return target

    def module(self, node: fx.Node) -> Module | None:
        return self.find(str(node.target)) if node.op == "call_module" and node.target else None

    def value(self, argument: Any) -> Any:
        """The value of an argument; a node that stands for a tensor of the model has that tensor as its value."""
        if not isinstance(argument, fx.Node):
            return argument
        return self.find(str(argument.target)) if argument.op == "get_attr" else _UNKNOWN

    def is_view(self, node: fx.Node) -> bool:
        """Whether a node is a `view` to other sizes, given one by one or as a sequence."""
        if node.op != "call_method" or node.target != "view" or node.kwargs:
            return False
        return not any(isinstance(a, torch.dtype) or _attribute(a) == "dtype" for a in node.args[1:])

    def needs_strides(self) -> str:
        """The call by which the results depend on strides, and the module that makes it; "" if none does.

        What is a view of one memory format is a copy of another, and of those two only the view sees what is written later.
        """
        layout = False
        for node in self.graph.nodes:
            name = self.name(node) if node.op.startswith("call") else "none"
            if self.does_nothing(node):
                continue
            layout = layout or name in _MAYBE_COPIES
            strided = name in _STRIDES or (name == "" and node.op == "call_function")
            strided = strided or (name == "view" and not self.is_view(node))
            written = layout and name != "none" and self.mutates(node) and not self.is_fresh(first_argument(node))
            if strided or written:
                return f"`{_described(node, self.module(node))}` in {owner(node) or 'the model'!r}"
        return ""

    def is_fresh(self, argument: Any) -> bool:
        """Whether an argument is a result in memory of its own, which one call alone reads: no other tensor is a view of it."""
        return isinstance(argument, fx.Node) and len(argument.users) == 1 and self.name(argument) in _FRESH

    def name(self, node: fx.Node) -> str:
        """The op, as torch.nn.functional calls it: "relu" for `nn.ReLU`, `F.relu_` and `x.relu()`; "" if it is none of torch's.

        A layer of a class that is not torch's or ours, or has hooks, is called by nobody's name.
        """
        if node.op == "call_method":
            return str(node.target).strip("_")
        if node.op == "call_function":
            target: Any = node.target
            home = getattr(target, "__module__", None) or "torch"
            if home == "_operator":
                name = target.__name__
                return name[1:] if mutates_left(node) else name
            if home in ("builtins", "math"):
                return str(target.__name__)
            is_torchs = home == "torch" or home.startswith(
                ("torch.nn.", "torch._C", "torch.functional", "torchops.functional")
            )
            return str(target.__name__).strip("_").removesuffix("_with_indices") if is_torchs else ""
        module = self.module(node)
        if module is None or has_hooks(module) or "forward" in vars(module):
            return ""
        cls = layer_class(module)
        if cls in _LAYERS:
            return _LAYERS[cls]
        if cls in PADS:
            return "pad"
        if is_frozen_norm(module):
            return "batch_norm"
        if not cls.__module__.startswith(("torch.nn.", *OURS)):
            return ""
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            return "conv2d" if isinstance(module, nn.Conv2d) else "conv_transpose2d"
        # this makes adaptive_avg_pool2d of AdaptiveAvgPool2d
        return re.sub(r"(?<=[a-z\d])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    def mutates(self, node: fx.Node) -> bool:
        """Whether a node may write to a tensor that exists already."""
        if self.does_nothing(node):
            return False
        module = self.module(node)
        if module is not None:
            return bool(getattr(module, "inplace", False)) or not self.name(node)
        if node.op == "call_method":
            target = str(node.target)
            return target.startswith(("__i", "__set")) if target.endswith("__") else target.endswith("_")
        if node.op != "call_function":
            return False
        name = getattr(node.target, "__name__", "")
        if not self.name(node) or name.endswith("_") or mutates_left(node) or name == "setitem" or "out" in node.kwargs:
            return True
        inplace = argument(node, "inplace", False)
        return inplace is not _UNKNOWN and bool(inplace)

    def does_nothing(self, node: fx.Node) -> bool:
        """Whether a node returns its input, as dropout does in eval mode."""
        home = getattr(node.target, "__module__", "")
        name = "stochastic_depth" if home == "torchvision.ops.stochastic_depth" else self.name(node)
        if name not in _IDLE:
            return False
        return node.op == "call_module" or argument(node, "training", True) is False

    def is_number(self, node: fx.Node) -> bool:
        """Whether the value of a node is no tensor: sizes, and what is computed of them."""
        if node.op == "placeholder":
            # an optional argument of the model is what its default is, and that is no tensor
            return bool(node.args)
        if node.op not in ("call_function", "call_method"):
            return False
        if _attribute(node) in _NUMBERS or self.name(node) in _NUMBERS:
            return True
        return bool(node.all_input_nodes) and all(map(self.is_number, node.all_input_nodes))

    def asks_only(self, node: fx.Node) -> bool:
        """Whether a node asks a tensor for what a convolution does not change."""
        return self.name(node) in _SHAPE_OF or _attribute(node) in _SHAPE_OF

    def kernels(self, fused_bias: bool) -> Counter[str]:
        """The kernels of an eager forward, by op: one for each call but views.

        Args:
            fused_bias: whether a convolution adds its bias itself. torch's does so in a kernel of its own.
        """
        counts: Counter[str] = Counter()
        for node in self.graph.nodes:
            if node.op not in ("call_module", "call_function", "call_method") or self.is_number(node):
                continue
            name = self.name(node)
            module = self.module(node)
            if name in ("getattr", *_NO_KERNEL) or self.does_nothing(node):
                continue
            counts[name or _described(node, module)] += 1
            if not fused_bias and name in ("conv2d", "conv_transpose2d"):
                bias = argument(node, "bias", None) if module is None else getattr(module, "bias", None)
                counts["bias"] += bias is not None
        return +counts


def layer_class(module: Module) -> type[Module]:
    """The class that says what a module computes. torch makes the class of a parametrized one: then it is the class of torchops
    whose forward runs, or else the one beneath."""
    if not parametrize.is_parametrized(module):
        return type(module)
    cls = plain_class(module)
    runs = next(c for c in cls.__mro__ if "forward" in vars(c))
    return runs if runs.__module__ in OURS else cls


def owner(node: fx.Node) -> str:
    """The name of the module that is called, or that calls the function."""
    stack: Any = node.meta.get("nn_module_stack", {"": ("", None)})
    return str(next(reversed(stack.values()))[0])


def is_frozen_norm(module: Module) -> bool:
    """Whether a module is torchvision's FrozenBatchNorm2d; torchvision need not be installed."""
    return (type(module).__module__, type(module).__name__) == ("torchvision.ops.misc", "FrozenBatchNorm2d")


def has_hooks(module: Module) -> bool:
    """Whether hooks watch the calls of a module."""
    return any(getattr(module, name) for name in HOOKS if name.endswith("hooks"))


def _described(node: fx.Node, module: Module | None) -> str:
    return str(getattr(node.target, "__name__", node.target)) if module is None else type(module).__name__


def _attribute(node: Any) -> str:
    """The attribute that a node reads, as x.shape; "" if none is."""
    reads = isinstance(node, fx.Node) and node.op == "call_function" and node.target is getattr
    return str(node.args[1]) if reads else ""


def mutates_left(node: fx.Node) -> bool:
    """Whether a node is `x += y` or its like."""
    return getattr(node.target, "__module__", "") == "_operator" and getattr(node.target, "__name__", "") in IN_PLACE


def first_argument(node: fx.Node) -> Any:
    """The tensor that a layer, a function or a method is about."""
    if node.args:
        return node.args[0]
    # a layer's forward may give its first argument any name
    return node.kwargs["input"] if "input" in node.kwargs else next(iter(node.kwargs.values()))


_conv = ("input", "weight", "bias", "stride", "padding")
_SIGNATURES: dict[Any, tuple[str, ...]] = {
    # builtins have no signature to look into
    F.conv2d: (*_conv, "dilation", "groups"),
    F.conv_transpose2d: (*_conv, "output_padding", "groups", "dilation"),
    F.gelu: ("input",),
    F.leaky_relu_: ("input", "negative_slope"),
    F.hardtanh_: ("input", "min_val", "max_val"),
    F.avg_pool2d: (
        "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override",
    ),
    F.max_pool2d: ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    F.adaptive_max_pool2d: ("input", "output_size", "return_indices"),
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
}  # fmt: skip


def argument(node: fx.Node, name: str, default: Any) -> Any:
    """An argument of a function, wherever it is given; `_UNKNOWN`, which equals no value, if there is no telling."""
    if name in node.kwargs:
        return node.kwargs[name]
    names = _SIGNATURES.get(node.target) if callable(node.target) else None
    if names is None:
        try:
            names = tuple(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            # a call with the tensor alone leaves everything else at its defaults
            return default if len(node.args) <= 1 else _UNKNOWN
    position = names.index(name) if name in names else len(node.args)
    return node.args[position] if position < len(node.args) else default
