"""What a graph computes of Parameters and buffers alone, parted from the rest."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx

from .folding import fit
from .nodes import base_of, is_pure, source_of, value

ONCE = "once_"
"""How the names of inputs of the rest begin that are computed once."""


class Parted(NamedTuple):
    """A graph in two."""

    once: fx.GraphModule | None
    """Computes tensors of those inputs whose numbers are `of`; None if there is nothing to be computed of them alone."""
    of: list[int]
    rest: fx.GraphModule
    """Takes those tensors, but for the `checks` at their end, and then the inputs whose numbers are `keep`."""
    keep: list[int]
    checks: int


def depends_on(node: fx.Node, static: Collection[fx.Node]) -> bool:
    """Whether a call makes tensors of static nodes alone, and always the same ones."""
    if node.op != "call_function" or not node.all_input_nodes or not isinstance(value(node), (Tensor, tuple, list)):
        return False
    is_constant = is_pure(node) or node.target in (operator.getitem, fit)
    return is_constant and all(n in static for n in node.all_input_nodes)


def _output(graph: fx.Graph) -> fx.Node:
    return next(n for n in reversed(graph.nodes) if n.op == "output")


def _copy_results(graph: fx.Graph) -> None:
    """Copy what would be returned of the memory that is computed once: whoever gets it may write to it."""
    for source in dict.fromkeys(map(source_of, _output(graph).all_input_nodes)):
        if source.op != "placeholder" or not source.name.startswith(ONCE):
            continue
        with graph.inserting_before(next(n for n in graph.nodes if n.op != "placeholder")):
            new = graph.call_function(torch.ops.aten.clone.default, (source,))
        new.meta = dict(source.meta)
        # what else is returned may be a view of the same memory, and stays one
        for user in [user for user in source.users if user is not new]:
            user.replace_input_with(source, new)


def part(gm: fx.GraphModule, static: Collection[fx.Node], checks: Sequence[fx.Node] = ()) -> Parted:
    """Part what depends on static inputs alone from a graph, which becomes `rest`.

    Args:
        gm: a functional graph.
        static: those inputs.
        checks: nodes that depend on them whose values whoever runs the graph wants to see; they come last.
    """
    graph = gm.graph
    inputs = [n for n in graph.nodes if n.op == "placeholder"]
    known = set(static)
    for node in graph.nodes:
        if depends_on(node, known):
            known.add(node)
    inner = known - set(inputs)
    for node in _output(graph).all_input_nodes:
        # of results that share memory the views stay in the rest, which returns views of one copy
        while node in inner and (base := base_of(node)) is not None:
            inner.discard(node)
            node = base
    wanted = [n for n in graph.nodes if n in inner and any(user not in inner for user in n.users)]
    if not wanted:
        return Parted(None, [], gm, list(range(len(inputs))), 0)
    read = {i for n in inner for i in n.all_input_nodes}
    of = [i for i, n in enumerate(inputs) if n in read]
    once = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in (*(inputs[i] for i in of), *(n for n in graph.nodes if n in inner)):
        copies[node] = once.node_copy(node, copies.__getitem__)
    once.output(tuple(copies[n] for n in (*wanted, *checks)))
    with graph.inserting_before(inputs[0]):
        for node in wanted:
            new = graph.placeholder(f"{ONCE}{node.name}")
            new.meta = dict(node.meta)
            node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in inner)
    for node in checks:
        graph.erase_node(node)
    _copy_results(graph)
    # what only the checks need goes, too
    graph.eliminate_dead_code()
    keep = []
    for i, node in enumerate(inputs):
        if node.users or node not in known:
            keep.append(i)
        else:
            graph.erase_node(node)
    gm.recompile()
    return Parted(fx.GraphModule(gm, once), of, gm, keep, len(checks))
