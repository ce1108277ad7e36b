"""The memory format of a graph's convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .chains import Rewriter
from .convolutions import CONV2D
from .nodes import faking, value

_aten = torch.ops.aten


def store_channels_last(rewriter: Rewriter) -> bool:
    """Store weights of convolutions channels_last, and so their results; what the graph returns keeps its strides.

    Return whether that was done: not if the graph reads memory by strides, or returns tensors of other strides than those of a
    memory format.
    """
    graph = rewriter.graph
    nodes = list(graph.nodes)
    output = nodes[-1]
    promised = [(n, _format(value(n))) for n in output.args[0]]
    if any(n.target is _aten.as_strided.default for n in nodes) or any(form is None for _, form in promised):
        return False
    for node in nodes:
        if node.target is CONV2D and node.args[1] in rewriter.static:
            with graph.inserting_before(node):
                weight = rewriter.call(_aten.clone.default, node.args[1], memory_format=torch.channels_last)
            node.args = (node.args[0], weight, *node.args[2:])
        elif node.target in (_aten.view.default, _aten._unsafe_view.default):
            # some of these have to copy now
            node.target = _aten.reshape.default
    values = [value(n) for n in graph.nodes]
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(value(node), (Tensor, tuple, list)):
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
    return True


def _format(t: object) -> torch.memory_format | str | None:
    """The memory format of a result; "any" if it is no tensor; None if its strides are those of no format."""
    if not isinstance(t, Tensor):
        return "any"
    if t.is_contiguous():
        return torch.contiguous_format
    if t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return None
