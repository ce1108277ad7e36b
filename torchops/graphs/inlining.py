"""A node of a graph replaced by what a function does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from .nodes import faking, value

WHERE = ("nn_module_stack", "stack_trace", "source_fn_stack", "seq_nr")
"""What the graph knows of the code that a node stands for."""


def inline(gm: fx.GraphModule, node: fx.Node, function: Callable[..., Any]) -> None:
    """Replace a call by the operators that `function`, given the same arguments, calls.

    The function is run on fake tensors; symbolic sizes stay symbolic. If it raises, the graph is as it was.
    """
    graph, inputs = gm.graph, node.all_input_nodes

    def call(*values: Any) -> Any:
        known = dict(zip(inputs, values, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
        return function(*args, **kwargs)

    values = [value(n) for n in inputs]
    with torch.no_grad(), faking(values):
        traced = make_fx(call)(*values)
    copies: dict[fx.Node, fx.Node] = {}
    given = iter(inputs)
    result: Any = None
    with graph.inserting_before(node):
        for inner in traced.graph.nodes:
            if inner.op == "placeholder":
                copies[inner] = next(given)
            elif inner.op == "output":
                result = fx.node.map_arg(inner.args[0], copies.__getitem__)
            elif inner.op == "get_attr":
                name = next(n for i in itertools.count() if not hasattr(gm, n := f"_constant_{i}"))
                setattr(gm, name, getattr(traced, str(inner.target)))
                copies[inner] = graph.get_attr(name)
                copies[inner].meta = dict(inner.meta)
            else:
                copies[inner] = graph.node_copy(inner, copies.__getitem__)
                copies[inner].meta = {**inner.meta, **{k: node.meta[k] for k in WHERE if k in node.meta}}
    if isinstance(result, (tuple, list)):
        for user in list(node.users):
            user.replace_all_uses_with(result[cast(int, user.args[1])])
            graph.erase_node(user)
    else:
        node.replace_all_uses_with(result)
    graph.erase_node(node)
