"""Convolutions in a functional graph, and all around them that their kernels can do as well.

    pad -> conv2d -> batch_norm, or a product and a sum with one number per channel -> add another tensor -> activation

Each part is optional. Nothing writes in such a graph and every view is spelled out, so that what has one reader may be computed
by it. torch.compile hands such a graph to an inference compiler, and `ExportedProgram.run_decompositions({})` holds one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx

from torchops.activations import ACTIVATIONS
from torchops.torch_internals import without_modes

from .constants import depends_on
from .convolutions import CONV2D, TRANSPOSED, Convolution, parts_of
from .counterparts import COUNTERPARTS
from .folding import fit, wide
from .inlining import WHERE, inline
from .nodes import are_alike, arguments, faking, has_own_memory, have_one_layout, module_name, only_reader, value
from .padding import merged, pad_of

_aten = torch.ops.aten
_NORMS = (_aten._native_batch_norm_legit_no_training.default, _aten.batch_norm.default)
_ACTIVATIONS: Mapping[Any, str] = {getattr(_aten, name).default: name for name in ACTIVATIONS}
_COPIES = (_aten.clone.default, _aten.alias.default, _aten.detach.default)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Refused = Callable[[fx.Node], "str | None"]
"""Why the convolution or pool of a node is not to be taken over; None if it is."""


class Rewriter:
    """Rewrites a graph, in place.

    Args:
        gm: a functional graph of ATen's and torchops's operators.
        static: its inputs that are Parameters and buffers of the model, which nothing in the graph writes to.
        refused: what to leave to ATen.
        known: the values of static inputs, as far as they are there; without them nothing is folded in float16.
    """

    def __init__(
        self, gm: fx.GraphModule, static: set[fx.Node], refused: Refused = lambda node: None,
        known: Mapping[fx.Node, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.gm, self.graph, self.refused = gm, gm.graph, refused
        self._values = [value(n) for n in self.graph.nodes if n.op in ("placeholder", "get_attr")]
        self.fused: dict[str, str] = {}
        self.kept: dict[str, str] = {}
        self.checks: list[fx.Node] = []
        """Whether what was folded in float16 is in its range: tensors of one bool."""
        self.known = dict(known or {})
        self.static = set(static)
        """What depends on Parameters and buffers alone."""
        for node in self.graph.nodes:
            self._note(node)

    def _note(self, node: fx.Node) -> None:
        if depends_on(node, self.static):
            self.static.add(node)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A new node, with its fake value."""
        node = self.graph.call_function(target, args, kwargs)
        with faking(self._values):
            node.meta["val"] = target(*fx.node.map_arg(args, value), **fx.node.map_arg(kwargs, value))
        self._note(node)
        return node

    def run(self) -> None:
        """Take over ATen's convolutions and pools, and fuse."""
        self._take_over()
        self._drop_copies()
        self.graph.eliminate_dead_code()
        # this goes from the end: of two convolutions that meet in a sum, the later takes the other's result as its residual
        convolutions = [n for n in self.graph.nodes if n.target in (CONV2D, TRANSPOSED) and self.refused(n) is None]
        names = [self._grow(node) for node in reversed(convolutions)]
        self.graph.eliminate_dead_code()
        for name, parts in reversed(names):
            self.fused[free_name(name, self.fused)] = " + ".join(parts)
        self._say_what_stays()
        self.graph.lint()
        self.gm.recompile()

    def _take_over(self) -> None:
        for node in list(self.graph.nodes):
            ours = COUNTERPARTS.get(node.target)
            if ours is None or self.refused(node) is not None or _unserved(node) is not None:
                continue
            try:
                inline(self.gm, node, ours)
            except (TypeError, ValueError, RuntimeError) as error:
                # the last is torch's, of sizes that depend on values
                self._keep(node, str(error).strip().splitlines()[0])
        for node in self.graph.nodes:
            self._note(node)
        for node in list(self.graph.nodes):
            if node.target is CONV2D and self.refused(node) is None:
                self._take_pad(node)

    def _drop_copies(self) -> None:
        """Do without copies of what nothing else reads, as a dropout may leave them."""
        for node in list(self.graph.nodes):
            if node.target not in _COPIES:
                continue
            copied = node.args[0]
            if len(copied.users) == 1 and has_own_memory(copied) and have_one_layout(value(copied), value(node)):
                node.replace_all_uses_with(copied)
                self.graph.erase_node(node)

    def _keep(self, node: fx.Node, why: str) -> None:
        self.kept[free_name(module_name(node) or node.name, self.kept)] = why

    def _take_pad(self, node: fx.Node) -> None:
        conv = Convolution(node)
        found = pad_of(conv.arguments["x"])
        if found is None or len(conv.arguments["x"].users) != 1:
            return
        x, sides, mode, number = found
        taken = merged(sides, mode, number, conv.arguments["padding"], conv.arguments["padding_mode"])
        if taken is not None:
            padding, mode, number = taken
            changed = conv.with_arguments(x=x, padding=list(padding), padding_mode=mode, padding_value=number)
            with faking(self._values):
                # a pad may have another memory format than its input, which a view of the result may rely on
                result = node.target(*fx.node.map_arg(changed, value))  # type: ignore[operator]
            if have_one_layout(result, value(node)):
                self._replace(node, node.target, changed)

    def _replace(self, node: fx.Node, target: Any, args: tuple[Any, ...]) -> fx.Node:
        with self.graph.inserting_before(node):
            new = self.call(target, *args)
        new.meta.update((key, node.meta[key]) for key in WHERE if key in node.meta)
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)
        return new

    #
    # What follows a convolution.

    def _grow(self, node: fx.Node) -> tuple[str, list[str]]:
        """Let a convolution take in what follows; return its name, and all that it does."""
        name = module_name(node) or "conv2d"
        conv = Convolution(node)
        parts = parts_of(conv)
        while conv.is_plain and (reader := self._reader(conv)) is not None:
            taken = self._norm(conv, reader) or self._affine(conv, reader)
            if taken is None:
                break
            conv, part = taken
            parts.append(part)
        if conv.is_plain and not conv.is_transposed and (reader := self._reader(conv)) is not None:
            conv, before = self._addition(conv, reader), conv
            parts += [] if conv is before else ["add"]
        if conv.arguments.get("activation") == "none" and (reader := self._reader(conv)) is not None:
            activation = _activation(reader, conv.node)
            if activation is not None and value(reader).dtype == value(conv.node).dtype:
                self._at(reader, conv, activation=activation)
                parts.append(activation)
        return name, parts

    def _reader(self, conv: Convolution) -> fx.Node | None:
        """The call that reads a convolution, if it is one alone; whoever asks for a symbolic size of it asks its inputs."""
        for question in [user for user in conv.node.users if user.target is _aten.sym_size.int]:
            with self.graph.inserting_before(question):
                size = self._size(conv, cast(int, question.args[1]))
            if size is not None:
                question.replace_all_uses_with(size)
                self.graph.erase_node(question)
        return only_reader(conv.node)

    def _size(self, conv: Convolution, dim: int) -> fx.Node | None:
        """A node for a size of a convolution, of its inputs; None if there is none."""
        weight, shape = conv.arguments["weight"], value(conv.arguments["weight"]).shape
        x = conv.arguments["dy" if conv.is_transposed else "x"]
        if dim == 0:
            return self.call(_aten.sym_size.int, x, 0)
        if conv.is_transposed:
            # its channels are no symbol, and it was told the rest
            size = conv.arguments["size"][dim - 2] if dim > 1 else None
            return size if isinstance(size, fx.Node) else None
        if dim == 1:
            return self.call(_aten.sym_size.int, weight, 0)
        if not isinstance(shape[dim], int):
            return None
        left, right, top, bottom = conv.arguments["padding"]
        more = top + bottom if dim == 2 else left + right
        reach = conv.arguments["dilation"][dim - 2] * (shape[dim] - 1) + 1
        free = self.call(operator.add, self.call(_aten.sym_size.int, x, dim), more - reach)
        return self.call(operator.add, self.call(operator.floordiv, free, conv.arguments["stride"][dim - 2]), 1)

    def _at(self, last: fx.Node, conv: Convolution, **changed: Any) -> Convolution:
        """The convolution, with some arguments changed, in the place of the last call of its chain."""
        where = {key: conv.node.meta[key] for key in WHERE if key in conv.node.meta}
        new = self._replace(last, conv.node.target, conv.with_arguments(**changed))
        new.meta.update(where)
        if not conv.node.users:
            self.graph.erase_node(conv.node)
        return Convolution(new)

    def _norm(self, conv: Convolution, reader: fx.Node) -> tuple[Convolution, str] | None:
        if reader.target not in _NORMS:
            return None
        asked = arguments(reader)
        gamma, beta, mean, variance = (
            asked[name] for name in ("weight", "bias", *(n for n in asked if n.startswith("running_")))
        )
        if asked["input"] is not conv.node or asked.get("training", False) or mean is None or variance is None:
            return None
        if not self.static.issuperset(
            n for n in (conv.arguments["weight"], gamma, beta, mean, variance) if n is not None
        ):
            # to fold what is new in every call takes more kernels than a batch norm
            return None
        result = reader
        if reader.target is _NORMS[0]:
            # of its three results two are empty, but may be asked for
            first = [n for n in reader.users if n.target is operator.getitem and n.args[1] == 0]
            others = [n for n in reader.users if n not in first]
            if len(first) != 1 or any(n.target is not operator.getitem or n.users for n in others):
                return None
            result = first[0]
        if value(result).dtype != value(conv.node).dtype:
            return None
        dtype = wide(value(variance).dtype)
        with self.graph.inserting_before(reader):
            spread = self.call(_aten.add.Scalar, self._to(variance, dtype), asked["eps"])
            scale = self.call(_aten.rsqrt.default, spread)
            if gamma is not None:
                scale = self.call(_aten.mul.Tensor, scale, self._to(gamma, dtype))
            shift = self.call(_aten.neg.default, self.call(_aten.mul.Tensor, self._to(mean, dtype), scale))
            if beta is not None:
                shift = self.call(_aten.add.Tensor, shift, self._to(beta, dtype))
            # this is how far results spread, which are rounded too
            spread = self.call(_aten.mul.Tensor, scale, self.call(_aten.sqrt.default, self._to(variance, dtype)))
            folded = self._folded(conv, scale, shift, spread)
        if folded is None:
            dtype_name = value(conv.node).dtype
            self._keep(
                reader, f"folded into the weights, it would leave the range of {dtype_name}, for all that is known"
            )
            return None
        return self._at(result, conv, **folded), "batch_norm"

    def _affine(self, conv: Convolution, reader: fx.Node) -> tuple[Convolution, str] | None:
        """A product or a sum with one number per channel that is computed of Parameters alone: a frozen batch norm, a layer
        scale."""
        if reader.target not in (_aten.mul.Tensor, _aten.add.Tensor) or reader.kwargs or len(reader.args) != 2:
            return None
        other = reader.args[1] if reader.args[0] is conv.node else reader.args[0]
        if other is conv.node or other not in self.static or conv.arguments["weight"] not in self.static:
            return None
        assert isinstance(other, fx.Node)
        number, k = value(other), conv.channels
        if tuple(number.shape) not in ((1, k, 1, 1), (k, 1, 1)) or not are_alike(value(reader), value(conv.node)):
            return None
        product = reader.target is _aten.mul.Tensor
        with self.graph.inserting_before(reader):
            flat = self._to(self.call(_aten.reshape.default, other, [k]), wide(number.dtype))
            spread = self.call(_aten.abs.default, flat)
            folded = self._folded(conv, flat, None, spread) if product else self._folded(conv, None, flat, spread)
        return None if folded is None else (self._at(reader, conv, **folded), "scale" if product else "shift")

    def _folded(
        self, conv: Convolution, scale: fx.Node | None, shift: fx.Node | None, spread: fx.Node
    ) -> dict[str, fx.Node] | None:
        """Weight and bias with a scale and a shift for each channel; None where float16 may not hold them."""
        weight, bias, dtype = conv.arguments["weight"], conv.arguments["bias"], value(conv.node).dtype
        full = value(scale if scale is not None else shift).dtype
        b = None if bias is None else self._to(_before_cast(bias), full)
        w = None
        shape, numbers = conv.per_channel()
        if scale is not None:
            w = self.call(_aten.reshape.default, self._to(_before_cast(weight), full), shape)
            w = self.call(_aten.mul.Tensor, w, self.call(_aten.reshape.default, scale, numbers))
            b = None if b is None else self.call(_aten.mul.Tensor, b, scale)
        if shift is not None:
            b = shift if b is None else self.call(_aten.add.Tensor, b, shift)
        if dtype == torch.float16:
            # a shift alone may leave its range as well
            checked = self.call(_aten.reshape.default, self._to(weight, full), shape) if w is None else w
            if not self._fits(conv, checked, b, spread):
                return None
        if w is not None:
            weight = self._to(self.call(_aten.reshape.default, w, list(value(weight).shape)), dtype)
        return {"weight": weight, "bias": None if b is None else self._to(b, dtype)}

    def _fits(self, conv: Convolution, weight: fx.Node, bias: fx.Node | None, spread: fx.Node) -> bool:
        """Whether folded weights are known to be in the range of float16; what is found is asked again when they change."""
        by_channel = weight
        if conv.is_transposed:
            by_channel = self.call(_aten.permute.default, weight, [0, 2, 1, 3, 4])
            by_channel = self.call(_aten.reshape.default, by_channel, [conv.channels, -1])
        check = self.call(fit, by_channel, bias, spread, torch.float16)
        found = self.evaluated(check)
        with without_modes():
            fits = found is not None and bool(found)
        if not fits:
            # a check is not dead code to torch.fx
            self.graph.erase_node(check)
            return False
        self.checks.append(check)
        return True

    def evaluated(self, node: fx.Node) -> Tensor | None:
        """The value of what depends on known values alone."""
        if node in self.known:
            return self.known[node]
        if node not in self.static or node.op != "call_function":
            return None
        inputs = {n: self.evaluated(n) for n in node.all_input_nodes}
        if any(t is None for t in inputs.values()):
            return None
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), inputs.__getitem__)
        with torch.no_grad(), without_modes():
            self.known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return self.known[node]

    def _to(self, node: fx.Node, dtype: torch.dtype) -> fx.Node:
        return node if value(node).dtype == dtype else self.call(_aten._to_copy.default, node, dtype=dtype)

    def _addition(self, conv: Convolution, reader: fx.Node) -> Convolution:
        """The convolution with another tensor added; the same one if it is not to be had so."""
        if reader.target is not _aten.add.Tensor or reader.kwargs or len(reader.args) != 2:
            return conv
        left, right = reader.args
        other = right if left is conv.node else left
        if other is conv.node or not isinstance(other, fx.Node):
            return conv
        if not are_alike(value(other), value(conv.node)) or not are_alike(value(reader), value(conv.node)):
            return conv
        return self._at(reader, conv, residual=other)

    def _say_what_stays(self) -> None:
        """Note convolutions, pools and batch norms that are not torchops's, with the reason."""
        noted = set(self.kept)
        for node in self.graph.nodes:
            if node.target in COUNTERPARTS:
                why = self.refused(node) or _unserved(node)
            elif node.target in _NORMS:
                before = arguments(node)["input"]
                ours = before.target in (CONV2D, TRANSPOSED)
                why = "the convolution's result is read elsewhere, too" if ours and len(before.users) > 1 else None
            elif node.target is _aten.max_unpool2d.default:
                why = "ATen's operator does not tell the windows, which torchops's needs"
            else:
                continue
            if why is not None and (module_name(node) or node.name) not in noted:
                self._keep(node, why)


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or the first like it that is not taken: a layer may be called more than once."""
    candidates = (f"{name}_{i}" if i else name for i in range(len(taken) + 1))
    return next(candidate for candidate in candidates if candidate not in taken)


def _before_cast(node: fx.Node) -> fx.Node:
    """What was cast to fewer bits, as it was before."""
    cast = node.target is _aten._to_copy.default and set(node.kwargs) <= {"dtype"}
    return node.args[0] if cast else node  # type: ignore[return-value]


def _activation(node: fx.Node, of: fx.Node) -> str | None:
    """The activation that a call applies to a node, with the settings that ours has."""
    if node.op != "call_function" or not node.args or node.args[0] is not of:
        return None
    if node.target is _aten.hardtanh.default:
        asked = arguments(node)
        return "relu6" if (asked["min_val"], asked["max_val"]) == (0, 6) else None
    name = _ACTIVATIONS.get(node.target)
    if name is None:
        return None
    asked = arguments(node)
    return name if all(asked[k] == v for k, v in ACTIVATIONS[name].settings.items()) else None


def _unserved(node: fx.Node) -> str | None:
    """Why torchops has no operator for a call, by its tensors; None if it has one."""
    tensors = [t for n in node.all_input_nodes if isinstance(t := value(n), Tensor)]
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) != 1 or not dtypes <= set(_FLOATS):
        return f"its tensors are {', '.join(sorted(map(str, dtypes)))}"
    if any(n.dim() not in (1, 3, 4) for n in tensors) or tensors[0].dim() == 1:
        return f"its input has {tensors[0].dim()} dimensions"
    return None
