"""Exported programs, fused for inference."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable

from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from torchops.graphs.chains import Rewriter
from torchops.graphs.convolutions import CONV2D, TRANSPOSED
from torchops.graphs.kernels import kernels
from torchops.graphs.layout import store_channels_last
from torchops.graphs.nodes import module_name, writes
from torchops.graphs.reports import Report

from .aten import functional


def fuse(
    program: ExportedProgram, *, channels_last: bool = True, refused: Callable[[fx.Node], str | None] = lambda node: None
) -> tuple[fx.GraphModule, Report]:  # fmt: skip
    """A module that computes what an exported program does, with as few kernels as can be, and what became of what.

    As `torch.compile(backend="torchops")` does for inference: convolutions, pools and nearest interpolation become torchops's,
    and pads, batch norm, numbers for each channel, sums and activations move into the kernels of the convolutions around which
    they stand. What depends on Parameters and buffers alone is computed here, once and for all.

    Args:
        program: of `torch.export.export`, of a model in eval mode. It is not changed.
        channels_last: store weights of convolutions so, and with them their results; what the module returns keeps its strides.
        refused: says of a node of the program why the convolution or pool that it calls is to stay ATen's; None if it is not.

    Returns:
        A `torch.fx.GraphModule`, to be called as the program's model was, and a report. It shares the Parameters that did not
        change, and refuses inputs for which the program was not exported. `torch.export.export` takes it, to save it;
        :func:`to_aten` and `torch._inductor.aoti_compile_and_package` take that in turn.

    Raises:
        TypeError: if `program` is no ExportedProgram.

    >>> import torch, torchops
    >>> from torchops.export import fuse
    >>> block = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).eval()
    >>> program = torch.export.export(block, (torch.rand(1, 3, 8, 8),))
    >>> fused, report = fuse(program)
    >>> report.fused
    {'0': 'conv2d + batch_norm + relu'}
    """
    module = functional(program, {}).module()
    assert isinstance(module, fx.GraphModule)
    report = Report(before=kernels(module.graph, fused_bias=False))
    written = {n for node in module.graph.nodes if writes(node) for n in node.all_input_nodes}
    known = {
        n: t
        for n in module.graph.nodes
        if n.op == "get_attr" and n not in written and isinstance(t := operator.attrgetter(n.target)(module), Tensor)
    }
    rewriter = Rewriter(module, set(known), refused, known)
    rewriter.run()
    report.fused, report.kept = rewriter.fused, rewriter.kept
    if channels_last:
        store_channels_last(rewriter)
    _fold(rewriter)
    report.after = kernels(module.graph, fused_bias=True)
    return module, report


def _fold(rewriter: Rewriter) -> None:
    """Put values in the place of what is computed of Parameters and buffers alone, and drop those that are no more needed."""
    module, graph = rewriter.gm, rewriter.graph
    for check in rewriter.checks:
        graph.erase_node(check)
    inner = {n for n in graph.nodes if n in rewriter.static and n.op == "call_function"}
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.target in (CONV2D, TRANSPOSED):
            owner = module_name(node).replace(".", "_") or "conv2d"
            names |= {t: f"{owner}_{which}" for t, which in zip(node.args[1:3], ("weight", "bias"), strict=True)}
    for node in [n for n in graph.nodes if n in inner and any(user not in inner for user in n.users)]:
        folded = rewriter.evaluated(node)
        assert folded is not None
        wanted = names.get(node, f"folded_{node.name}")
        name = next(n for i in itertools.count() if not hasattr(module, n := f"{wanted}_{i}" if i else wanted))
        module.register_parameter(name, nn.Parameter(folded.detach(), requires_grad=False))
        with graph.inserting_before(node):
            new = graph.get_attr(name)
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in inner)
    graph.eliminate_dead_code()
    needed = {str(n.target) for n in graph.nodes if n.op == "get_attr"}
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in needed:
            owner, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(owner), leaf)
    module.delete_all_unused_submodules()
    module.recompile()
