"""The memory format of a graph's convolutions."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from .chains import Rewriter
from .convolutions import CONV2D
from .nodes import arguments, faking, operator_of, source_of, value

_aten = torch.ops.aten
_BY_STRIDES = (
    _aten.as_strided.default, _aten.as_strided_copy.default, _aten.as_strided_scatter.default, _aten.view.dtype,
    _aten.view_as_complex.default, _aten.view_as_real.default, _aten.sym_stride.int,
)  # fmt: skip


def store_channels_last(rewriter: Rewriter) -> None:
    """Store weights of convolutions channels_last, and so their results; what the graph returns keeps its strides.

    Nothing is changed if the graph may read memory by its strides, if it returns tensors of other strides than those of a
    memory format, or two that share memory, if sizes depend on values, or if it has one convolution alone, whose result would
    only be copied back.
    """
    graph = rewriter.graph
    nodes = list(graph.nodes)
    output = nodes[-1]
    promised = [(n, _format(value(n))) for n in output.args[0]]
    stored = [n for n in nodes if n.target is CONV2D and n.args[1] in rewriter.static]
    made = [source_of(n) for n, _ in promised if isinstance(n, fx.Node) and isinstance(value(n), Tensor)]
    if len(stored) < 2 or not all(map(_heeds_values_alone, nodes)) or any(form is None for _, form in promised):
        return
    if len(set(made)) < len(made) or any(isinstance(t := value(n), Tensor) and free_unbacked_symbols(t) for n in nodes):
        # of sizes that depend on values no format can be told
        return
    for node in nodes:
        if node in stored:
            with graph.inserting_before(node):
                weight = rewriter.call(_aten.clone.default, node.args[1], memory_format=torch.channels_last)
            node.args = (node.args[0], weight, *node.args[2:])
        elif node.target in (_aten.view.default, _aten._unsafe_view.default):
            # some of these have to copy now
            node.target = _aten.reshape.default
    values = [value(n) for n in graph.nodes]
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(value(node), (Tensor, tuple, list)):
            _take_format_of_input(node)
            with faking(values):
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
                node.meta["val"] = node.target(*args, **kwargs)
    results = []
    for node, form in promised:
        if isinstance(node, fx.Node) and isinstance(form, torch.memory_format) and _format(value(node)) != form:
            with graph.inserting_before(output):
                node = rewriter.call(_aten.clone.default, node, memory_format=form)
        results.append(node)
    output.args = (tuple(results),)
    graph.eliminate_dead_code()
    rewriter.gm.recompile()


def _heeds_values_alone(node: fx.Node) -> bool:
    """Whether the values of a call's results are known to depend on the values of its tensors alone, not on their strides.

    A user's operator may read memory as it lies, and random numbers are drawn in the order of memory.
    """
    if node.op == "call_module":
        # it guards the sizes of the inputs of a program
        return all(n.op == "placeholder" for n in node.all_input_nodes)
    if node.op != "call_function" or not any(isinstance(value(n), Tensor) for n in node.all_input_nodes):
        return True
    called = operator_of(node)
    if called is None:
        return node.target is operator.getitem
    if torch.Tag.nondeterministic_seeded in called.tags or called in _BY_STRIDES:
        return False
    return called.namespace in ("aten", "prims", "torchops")


def _take_format_of_input(node: fx.Node) -> None:
    """Have an operator of torchops that is told the format of its result take that of its input, as its function does."""
    called = operator_of(node)
    if called is None or called.namespace != "torchops" or "channels_last" not in (asked := arguments(node)):
        return
    given = next(iter(asked.values()))
    node.args = tuple({**asked, "channels_last": _format(value(given)) == torch.channels_last}.values())


def _format(t: object) -> torch.memory_format | str | None:
    """The memory format of a result; "any" if it is no tensor; None if its strides are those of no format."""
    if not isinstance(t, Tensor):
        return "any"
    if t.is_contiguous():
        return torch.contiguous_format
    if t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return None
