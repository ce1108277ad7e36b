"""Programs in ATen's operators alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx
from torch.export import ExportedProgram

from torchops.graphs.aten import ATEN


def to_aten(program: ExportedProgram) -> ExportedProgram:
    """The program without torchops's operators, in ATen's alone: it loads and runs where torchops is not installed.

    That is what `torch.onnx.export` takes, and `torch._inductor.aoti_compile_and_package`, whose packages run in C++. Sizes and
    strides of all results are those of the program; numbers are those of torchops's ATen path up to the order of sums, and
    float16 and bfloat16 are rounded once where that rounds once. On a CPU, the program is for CPUs that take these dtypes as
    the one at hand does: it leaves them to oneDNN, or computes in float32.

    Args:
        program: of `torch.export.export`, of any sizes, static or dynamic.

    Returns:
        A new program, functional, with the parameters, the buffers, the signature and the dynamic sizes of `program`. It can be
        differentiated, by ATen's formulas; not by torchops's, which give the same bits every run on a GPU. A batch norm in
        training mode cannot, after this as after any `run_decompositions`: torch writes its statistics before they are read.

    Raises:
        TypeError: if `program` is no ExportedProgram.
        RuntimeError: if an operator of torchops is left, in a part of the program that torch does not decompose.

    Not for a GPU, where torchops's kernels are the faster: `torch.export.save` keeps its operators as they are.

    >>> import torch, torchops
    >>> from torchops.export import to_aten
    >>> program = torch.export.export(torchops.nn.Conv2d(1, 2, 3, activation="relu"), (torch.rand(1, 1, 5, 5),))
    >>> [node.target.name() for node in to_aten(program).graph.nodes if node.op == "call_function"]
    ['aten::convolution', 'aten::relu']
    """
    return decomposed(program, ATEN)


def functional(program: ExportedProgram, table: Mapping[Any, Callable[..., Any]]) -> ExportedProgram:
    """The program without writes, and with this table for its operators.

    Raises:
        TypeError: if it is no program.
    """
    if not isinstance(program, ExportedProgram):
        raise TypeError(f"`program` must be a torch.export.ExportedProgram, got {type(program).__name__}")
    with warnings.catch_warnings():
        # torch 2.11 warns of what it does itself
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        return program.run_decompositions(dict(table))


def decomposed(program: ExportedProgram, table: Mapping[Any, Callable[..., Any]]) -> ExportedProgram:
    """The program with this table for torchops's operators; none is left."""
    made = functional(program, table)
    left = {
        str(node.target)
        for module in made.graph_module.modules()
        if isinstance(module, fx.GraphModule)
        for node in module.graph.nodes
        if node.op == "call_function" and getattr(node.target, "namespace", None) == "torchops"
    }
    if left:
        raise RuntimeError(f"`program` still calls {', '.join(sorted(left))}, in a part that torch does not decompose")
    return made
