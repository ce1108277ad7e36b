"""Fuse a trained model for inference: batch norm into the weights, all else that can be into the convolutions' kernels.

tracing.py    a model as graphs of calls
calls.py      what a node of a graph calls, and how many kernels that takes
chains.py     a convolution, and all around it that its kernel can do as well
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import fx
from torch.nn import Module

from torchops.conversion import Selection, check_model, convert, selection, table
from torchops.overrides import COUNTERPARTS

from .calls import HOOKS, Calls, first_argument, has_hooks
from .chains import grow, start
from .tracing import trace

__all__ = ["Report", "fuse"]

_Wanted: TypeAlias = Callable[[str, Module], bool]


@dataclass
class Report:
    """What a fusion did; `print` it."""

    fused: dict[str, str] = field(default_factory=dict)
    """For every convolution, by its name in the fused model: what its kernel does."""
    kept: dict[str, str] = field(default_factory=dict)
    """For every module that could not be traced, or layer not taken over: why."""
    before: Counter[str] = field(default_factory=Counter)
    """Kernels of a forward of the model as torch.nn runs it, by op: one for each call but views, and one for the bias of a
    convolution. What a module does that was not traced is not among them."""
    after: Counter[str] = field(default_factory=Counter)
    """Kernels of a forward of the fused model, likewise; torchops's add the bias themselves."""

    def __str__(self) -> str:
        ops = sorted({*self.before, *self.after}, key=lambda op: (-self.before[op], op))
        kernels = [(op, str(self.before[op]), str(self.after[op])) for op in ops]
        kernels.append(("all", str(self.before.total()), str(self.after.total())))
        parts = [table(("name", "one kernel for"), list(self.fused.items()))]
        if self.kept:
            parts.append(
                table(("name", "kept, because"), [(name or "(model)", why) for name, why in self.kept.items()])
            )
        return "\n\n".join([*parts, table(("kernels of", "before", "after"), kernels)])


def fuse(
    model: Module, include: Selection = None, exclude: Selection = None, *, channels_last: bool = True
) -> tuple[Module, Report]:
    """A model for inference with as few kernels as can be, and what became of what.

    The layers are converted as by :func:`torchops.convert`. Then batch norm that follows a convolution is folded into its
    weights, and bias, the addition of another tensor (a residual) and an activation that follow move into its kernel, as do
    explicit pads before it: `nn.ReflectionPad2d`, `nn.ZeroPad2d`, `F.pad` and their like become its border. Of a bottleneck of
    a ResNet three kernels are left. Functions are seen as well as layers.

    `torch.fx` traces the model. Modules that it cannot follow, or that have hooks or optional arguments, keep their forward,
    and what they call is fused by itself; the report says which. As with any trace, what a forward decides by what is no
    tensor is decided for good.

    Args:
        model: any module, in eval mode. It is not changed.
        include: the layers to take over, as in :func:`torchops.convert`.
        exclude: layers to keep, likewise.
        channels_last: store the weights of convolutions so. Results of convolutions are channels_last then, whatever the
            input, and the kernels need no copy of the weight.

    Returns:
        The fused model, which shares Parameters that did not change with `model`, and a :class:`Report`. Its state_dict has
        the folded weights. Float32 results differ from the model's by rounding.

    Raises:
        TypeError: if an argument is of the wrong type, or the model cannot be copied.
        ValueError: if `model` or a module in it is in training mode, or a name is not in it.

    >>> import torch, torchops
    >>> from torch import nn
    >>> block = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)).eval()
    >>> fused, report = torchops.fuse(block)
    >>> print(report)
    name  one kernel for
    1     reflect pad + conv2d + batch_norm + relu
    <BLANKLINE>
    kernels of  before  after
    batch_norm  1       0
    bias        1       0
    conv2d      1       1
    max_pool2d  1       1
    pad         1       0
    relu        1       0
    all         6       2
    """
    check_model(model)
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"`model` must be in eval mode, but {name or 'it'!r} is in training mode: call model.eval()"
            )
    refused = selection(model, include, exclude)
    model, converted = convert(model, include, exclude)
    report = Report(kept={row.name: row.note for row in converted.kept if not row.note.startswith("torchops")})
    whole = {module: "it has hooks" for module in model.modules() if has_hooks(module)}
    wanted: _Wanted = lambda name, module: refused(name, module) is None  # noqa: E731
    fused = _fused(model, "", whole, report, wanted, channels_last, {})
    # a layer with a forward of its own is kept by convert, but its calls can be seen through
    report.kept = {name: why for name, why in report.kept.items() if name not in report.fused}
    return fused, report


def _fused(
    module: Module, path: str, whole: dict[Module, str], report: Report, wanted: _Wanted, channels_last: bool,
    done: dict[Module, Module],
) -> Module:  # fmt: skip
    """The module with all fused in it that can be; `path` is its name in the model."""
    if module in done:
        return done[module]
    graph = trace(module, whole)
    if isinstance(graph, fx.Graph):
        calls = Calls(graph, module)
        report.before += calls.kernels(fused_bias=False)
        report.fused |= {
            _joined(path, name): parts for name, parts in _rewrite(calls, path, wanted, channels_last).items()
        }
        report.after += calls.kernels(fused_bias=True)
        module, original = fx.GraphModule(module, graph, type(module).__name__), module
        # they see what goes in and out, which is as it was
        vars(module).update((name, hooks) for name, hooks in vars(original).items() if name in HOOKS)
        done[original] = module
        inner = _outermost(module, whole)
    else:
        if graph:
            report.kept[path] = graph
        done[module] = module
        scripted = isinstance(module, torch.jit.ScriptModule)
        inner = [] if scripted else [(name, child) for name, child in module._modules.items() if child is not None]
    for name, child in inner:
        module.set_submodule(name, _fused(child, _joined(path, name), whole, report, wanted, channels_last, done))
    return module


def _outermost(module: Module, whole: Container[Module]) -> list[tuple[str, Module]]:
    """The modules of `whole` that no other one of them holds, by all their names."""
    found: list[tuple[str, Module]] = []
    for name, child in module.named_modules(remove_duplicate=False):
        if child in whole and not any(name.startswith(f"{outer}.") for outer, _ in found):
            found.append((name, child))
    return found


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}".strip(".")


def _rewrite(calls: Calls, path: str, wanted: _Wanted, channels_last: bool) -> dict[str, str]:
    """Replace every convolution of a graph by a layer that does all it can. Return what each does, by name."""
    graph = calls.graph
    for node in list(graph.nodes):
        if calls.does_nothing(node):
            node.replace_all_uses_with(first_argument(node))
            graph.erase_node(node)
    fused: dict[str, str] = {}
    taken: set[fx.Node] = set()
    # from the end: of two that meet in a sum, the later one takes the other's result as its residual
    for node in reversed(list(graph.nodes)):
        if node in taken:
            continue
        owner = next(reversed(node.meta.get("nn_module_stack", {"": ("", None)}).values()))[0]
        if node.op == "call_function" and wanted(_joined(path, owner), calls.root.get_submodule(owner)):
            node.target = COUNTERPARTS.get(node.target, node.target)
        chain = start(calls, node)
        if chain is None:
            continue
        grow(calls, chain)
        with graph.inserting_before(chain.last):
            call = graph.call_module("", (chain.input,), {"residual": chain.residual} if chain.residual else {})
        chain.last.replace_all_uses_with(call)
        taken.update(chain.nodes)
        for old in reversed(chain.nodes):
            for question in list(old.users):
                question.replace_input_with(old, chain.input)
            tensors = old.all_input_nodes
            graph.erase_node(old)
            for tensor in tensors:
                if tensor.op == "get_attr" and not tensor.users:
                    graph.erase_node(tensor)
        call.target = _free_name(graph, owner or "conv2d")
        calls.root.set_submodule(call.target, chain.module(channels_last))
        fused[call.target] = " + ".join(chain.parts)
    return dict(reversed(fused.items()))


def _free_name(graph: fx.Graph, name: str) -> str:
    """The name, or the first like it, that no other call of the graph needs."""
    taken = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}

    def free(candidate: str) -> bool:
        return not any(other == candidate or other.startswith(f"{candidate}.") for other in taken)

    return next(candidate for i in itertools.count() if free(candidate := f"{name}_{i}" if i else name))
