"""Fusing a model of which there is an example: as a program of torch.export, which knows shapes, dtypes and writes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.export import Dim, ShapesCollection
from torch.nn import Module

from torchops import export
from torchops.conversion import Selection, convert, selection
from torchops.graphs.nodes import module_name
from torchops.graphs.reports import Report
from torchops.torch_internals import tree_leaves

from .fused import fused_module


def fuse_program(
    model: Module, include: Selection, exclude: Selection, args: tuple[Any, ...], kwargs: dict[str, Any] | None,
    dynamic_shapes: Any, channels_last: bool,
) -> tuple[Module, Report]:  # fmt: skip
    """What :func:`torchops.fuse` does with a model of which it has an example."""
    if not isinstance(args, tuple):
        raise TypeError(f"`args` must be a tuple of the arguments of a call, got {type(args).__name__}")
    refused = selection(model, include, exclude)
    converted, conversion = convert(model, include, exclude)
    layers = dict(converted.named_modules(remove_duplicate=False))

    def refused_node(node: fx.Node) -> str | None:
        name = module_name(node)
        return refused(name, layers[name]) if name in layers else None

    if dynamic_shapes is None:
        dynamic_shapes = _any_sizes(converted, args, kwargs)
    try:
        with torch.no_grad():
            program = torch.export.export(converted, args, kwargs, dynamic_shapes=dynamic_shapes)
    except Exception as error:
        why = str(error).strip().splitlines()
        raise ValueError(
            f"`model` cannot be exported with these `args` and `dynamic_shapes`: {type(error).__name__}: "
            f'{why[0] if why else ""}; torch.compile(model, backend="torchops") breaks its graph where torch.export fails'
        ) from error
    module, report = export.fuse(program, channels_last=channels_last, refused=refused_node)
    kept = {row.name: row.note for row in conversion.kept if not row.note.startswith("torchops")}
    report.kept = {name: why for name, why in (kept | report.kept).items() if name not in report.fused}
    return fused_module(model, module, module.graph), report


def _any_sizes(model: Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
    """Sizes as free as the model leaves them."""
    shapes = ShapesCollection()
    for t in tree_leaves((args, kwargs or {})):
        if isinstance(t, Tensor):
            shapes[t] = dict.fromkeys(range(t.dim()), Dim.AUTO)
    return shapes.dynamic_shapes(model, args, kwargs)
