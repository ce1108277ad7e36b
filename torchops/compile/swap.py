"""Calls in Dynamo's graph, one for one: torch's functions become torchops's, and neither writes nor aliases matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from torchops import functional
from torchops.compiler_internals import is_transformed
from torchops.conversion.overrides import COUNTERPARTS
from torchops.functional.arguments import is_floating, is_plain
from torchops.graphs import upsampling
from torchops.graphs.chains import free_name
from torchops.graphs.nodes import have_one_layout, module_name
from torchops.graphs.padding import merged
from torchops.torch_internals import nn_builtins

_PADS = (F.pad, nn_builtins.pad)


def swap(
    gm: fx.GraphModule, refused: Callable[[fx.Node], str | None], inference: bool
) -> tuple[Counter[str], dict[str, str]]:
    """Call torchops's functions where torch's were called, in place, in the graphs inside the graph too.

    Args:
        gm: a graph of Dynamo's, which may write to tensors.
        refused: what to leave to torch.
        inference: whether no gradient will be asked for.

    Returns:
        How often each function was swapped, and what was kept, with the reason.
    """
    swapped: Counter[str] = Counter()
    kept: dict[str, str] = {}
    for graph in [module for module in gm.modules() if isinstance(module, fx.GraphModule)]:
        for node in list(graph.graph.nodes):
            ours = COUNTERPARTS.get(node.target) if node.op == "call_function" else None
            if ours is None:
                continue
            why = refused(node) or _obstacle(node, ours)
            if why is None:
                node.target = ours
                swapped[ours.__name__.removeprefix("_").removesuffix("_with_indices")] += 1
                if ours is functional.conv2d:
                    _take_pad(node)
            elif node.target is F.interpolate and inference:
                node.target = upsampling.interpolate
            else:
                kept[free_name(module_name(node) or node.name, kept)] = why
        graph.recompile()
    return swapped, kept


def _value(argument: Any) -> Any:
    return argument.meta.get("example_value") if isinstance(argument, fx.Node) else argument


def _obstacle(node: fx.Node, ours: Callable[..., Any]) -> str | None:
    """Why a call has to stay torch's: torchops has none for its tensors, or refuses its arguments."""
    first = _value(node.args[0] if node.args else node.kwargs.get("input"))
    tensors = [t for n in node.all_input_nodes if isinstance(t := _value(n), Tensor)]
    if not isinstance(first, Tensor):
        return "its input is no tensor that the graph tells of"
    if any(map(is_transformed, tensors)):
        return "it is inside a transform of torch.func"
    if not is_floating(first):
        return f"its input is {first.dtype}, of layout {first.layout}, {type(first).__name__}"
    if not all(map(is_plain, tensors)):
        return "a tensor of it is of a class of its own"
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), _value)
    try:
        with torch.no_grad():
            ours(*args, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        # torch raises its own error, or computes what ours will not
        return str(error)
    return None


def _take_pad(node: fx.Node) -> None:
    """Let a convolution do a pad that comes right before it and that nothing else reads: nothing can be written in between."""
    pad = node.args[0] if node.args else None
    if not isinstance(pad, fx.Node) or pad.target not in _PADS or len(pad.users) != 1 or not _is_next(pad, node):
        return
    given = dict(zip(("input", "pad", "mode", "value"), pad.args, strict=False)) | pad.kwargs
    x = given.get("input")
    if not isinstance(x, fx.Node) or _value(x).dim() not in (3, 4):
        return
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    asked = dict(zip(names, node.args, strict=False)) | node.kwargs
    mode = str(given.get("mode", "constant"))
    taken = merged(given.get("pad"), mode, given.get("value"), asked.get("padding", 0))
    if taken is None:
        return
    padding, mode, number = taken
    merged_call = {**asked, "input": x, "padding": padding, "padding_mode": mode, "padding_value": number}
    with torch.no_grad():
        result = functional.conv2d(**fx.node.map_arg(merged_call, _value))
    if not have_one_layout(result, _value(node)):
        # a pad may have another memory format than its input, which a view of the result may rely on
        return
    node.args, node.kwargs = (), merged_call
    # dead code is not looked for: to torch.fx, `x.mul_(2)` is dead
    pad.graph.erase_node(pad)


def _is_next(pad: fx.Node, node: fx.Node) -> bool:
    between = pad.next
    while between.op in ("placeholder", "get_attr"):
        between = between.next
    return between is node
