"""Compiling what torchops does not: by Inductor, by nobody, or by a backend of the user's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from torchops.backend import get_backend
from torchops.compiler_internals import context_of_its_own, inductor, mark_static
from torchops.graphs.aten import ATEN
from torchops.graphs.nodes import faking
from torchops.ops.conv2d import conv2d, conv2d_of_constant
from torchops.ops.registration import plain_call

from .options import Options

_Runnable = Callable[..., Any]


def compiled_dynamo(asked: Options, gm: fx.GraphModule, example_inputs: list[Any]) -> _Runnable:
    """What runs a graph of Dynamo's, for training."""
    return _compiler(asked)(gm, example_inputs)


def compiled(
    asked: Options, gm: fx.GraphModule, example_inputs: list[Any], static: Sequence[bool], constant: Collection[fx.Node]
) -> _Runnable:
    """What runs a functional graph, for inference.

    Args:
        asked: the options.
        gm: a graph of ATen's and torchops's operators.
        example_inputs: fake tensors and symbolic sizes.
        static: which inputs stay where they are from call to call, so that a CUDA graph need not copy them.
        constant: inputs to which writes are seen, and are rare.
    """
    on_cpu = all(t.is_cpu for t in example_inputs if isinstance(t, Tensor))
    if asked.rest == "inductor" and on_cpu and get_backend() != "triton":
        # Inductor fuses around ATen's operators. They are lowered before Inductor and not by its own table, which is no part of
        # the key of AOTAutograd's cache
        with faking(example_inputs):
            gm = make_fx(gm, decomposition_table=dict(ATEN))(*example_inputs)
    elif asked.rest == "eager":
        _call_plainly(gm, constant)
    placeholders = (n for n in gm.graph.nodes if n.op == "placeholder")
    for node, stays in zip(placeholders, static, strict=True):
        if stays:
            mark_static(node)
    with context_of_its_own(example_inputs):
        return _compiler(asked)(gm, example_inputs)


def _compiler(asked: Options) -> Callable[[fx.GraphModule, list[Any]], _Runnable]:
    if callable(asked.rest):
        return asked.rest
    if asked.rest == "eager":
        return lambda gm, example_inputs: gm.forward
    return functools.partial(inductor, settings=asked.inductor)


def _call_plainly(gm: fx.GraphModule, constant: Collection[fx.Node]) -> None:
    """Call torchops's functions in place of its operators: the dispatcher costs as much as a small convolution."""
    for node in gm.graph.nodes:
        found = plain_call(node.target) if node.op == "call_function" else None
        if found is not None:
            node.target, pack = found
            node.args = pack(node.args)
            if node.target is conv2d and node.args[1] in constant:
                node.target = conv2d_of_constant
    gm.recompile()
