"""The kernels that a graph launches when it is run operator by operator."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, fx

from torchops.torch_internals import schema_of

from .convolutions import CONV2D, TRANSPOSED
from .nodes import arguments, operator_of, value

_aten = torch.ops.aten
_VIEWS = {
    "view", "reshape", "_unsafe_view", "unsqueeze", "expand", "permute", "transpose", "slice", "select", "t", "squeeze",
    "split", "split_with_sizes", "alias", "detach", "unbind", "unfold", "as_strided", "lift_fresh", "lift_fresh_copy",
    "chunk", "flatten", "movedim", "expand_as",
}  # fmt: skip
_NAMES = {
    "convolution": "conv2d", "_native_batch_norm_legit_no_training": "batch_norm", "max_pool2d_with_indices": "max_pool2d",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d", "conv2d_input_grad": "conv_transpose2d", "addmm": "linear",
}  # fmt: skip
_ATENS = (_aten.convolution.default, _aten.conv2d.default, _aten.conv2d.padding, _aten.conv_transpose2d.input)


def kernels(graph: fx.Graph, fused_bias: bool) -> Counter[str]:
    """One for each call but views, by op, and one for the bias of a convolution of ATen's, which is added by a kernel of its
    own.

    Args:
        fused_bias: whether torchops's convolutions add theirs by themselves; if not, they are counted as ATen's.
    """
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        operator = operator_of(node) if node.op == "call_function" else None
        if operator is None or operator.namespace not in ("aten", "torchops") or not _makes_tensors(node):
            continue
        name = str(schema_of(operator).name).split("::")[1]
        if name in _VIEWS:
            continue
        if operator in _ATENS or (operator in (CONV2D, TRANSPOSED) and not fused_bias):
            counts["bias"] += arguments(node)["bias"] is not None
        if operator is _aten.convolution.default and arguments(node)["transposed"]:
            name = "conv_transpose2d"
        counts[_NAMES.get(name, name)] += 1
    return +counts


def _makes_tensors(node: fx.Node) -> bool:
    result = value(node)
    return any(isinstance(t, Tensor) for t in (result if isinstance(result, (tuple, list)) else (result,)))
