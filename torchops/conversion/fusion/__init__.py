"""Fuse a trained model for inference: batch norm into the weights, all else that can be into the convolutions' kernels.

tracing.py       a model as graphs of calls
recorder.py      how those are recorded without a word to other threads
places.py        what a forward may change besides tensors
state.py         whether it did
calls.py         what a node of the graph calls, and how many kernels that takes
chains.py        a convolution, and all around it that its kernel can do as well
convolutions.py  the layers that take more in than torchops.nn's do
fused.py         the module that is returned
program.py       the same with an example, by torchops.export
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import fx
from torch.nn import Module

from torchops.conversion import Selection, check_model, convert, selection
from torchops.graphs.reports import Report
from torchops.torch_internals import HOOKS

from .calls import Calls, first_argument, owner
from .chains import Chain, grow, pool, start
from .convolutions import NormedConv2d, NormedConvTranspose2d
from .fused import fused_module
from .tracing import trace

__all__ = ["Report", "fuse"]


def fuse(
    model: Module, include: Selection = None, exclude: Selection = None, *, args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None, dynamic_shapes: Any = None, channels_last: bool | None = None,
) -> tuple[Module, Report]:  # fmt: skip
    """A model for inference with as few kernels as can be, and what became of what.

    The layers are converted as by :func:`torchops.convert`. Then batch norm that follows a convolution is folded into its
    weights, and bias, the addition of another tensor (a residual) and an activation that follow move into its kernel, as do
    explicit pads before it: `nn.ReflectionPad2d`, `nn.ZeroPad2d`, `F.pad` and their like become its border. Of a bottleneck of
    a ResNet three kernels are left. Functions are seen as well as layers. A batch norm stays, and the report says so, if folded
    weights would leave the range of their dtype, as in float16 they may.

    With `args`, an example of the arguments of a call, the model is exported by `torch.export` and the program is fused
    (:func:`torchops.export.fuse`): shapes, dtypes and writes are known then. Sizes stay as free as the model leaves them; the
    fused model refuses others. A size of 1 in the example is taken for good: give two images where any number may come.

    Without an example `torch.fx` traces the model, which is deprecated: such a trace knows no shapes, dtypes or values. What a
    forward decides by anything but values (an optional argument, an `isinstance`, the time, a file) is decided for good: check
    the result on an input. What depends on values cannot be traced, and what depends on shapes or dtypes is asked of each call,
    or refused. Modules that the trace cannot follow, that have hooks or a replaced forward, are kept whole, and nothing in them
    is fused; the report says which, and why. If that is the model itself, fuse what it calls, as in
    `model.backbone, report = torchops.fuse(model.backbone)`. Kept whole are also modules whose forward does what a graph of
    calls does not record: it sets attributes, changes containers of its own or globals that its code names, or draws from
    Python's or NumPy's random numbers. Other threads may compute meanwhile, and fuse; but if one keeps drawing from the same
    generators, or changing the same globals, that is taken for the model's doing, and it is kept whole.

    Args:
        model: any module, in eval mode. It is not changed.
        include: the layers to take over, as in :func:`torchops.convert`.
        exclude: layers to keep, likewise.
        args: an example of the positional arguments of a call, a tuple; None to trace by torch.fx.
        kwargs: an example of its keyword arguments, beside `args`.
        dynamic_shapes: which sizes may change, as `torch.export.export` takes it; None for all that can.
        channels_last: store the weights of convolutions so. Results of convolutions are channels_last then, whatever the
            input, and the kernels need no copy of the weight. None: if all of the model can be traced, and its results do not
            depend on strides, as where a view is read after a write. True is refused where they may, but a module that is kept
            whole is not asked: it is given such tensors. With `args` results keep their strides, and None is True.

    Returns:
        The fused model, a `torch.fx.GraphModule`, and a :class:`torchops.graphs.reports.Report`. It is no instance of the
        model's class, but answers for its methods, properties and constants, and for the model's attributes that hold no
        module. It does not answer for special methods, nor for what the class overrides of `torch.nn.Module`, as `train`:
        those may be about layers that are no more. Its state_dict has the folded weights, and it shares the Parameters that
        did not change. Results differ from the model's by rounding. Sums have the dtype that torch gives them, and so has
        torchvision's FrozenBatchNorm2d, which stays if it is of another dtype than the convolution. A convolution that has
        taken in a batch norm raises a ValueError for images without a batch, as `nn.BatchNorm2d` does. On a CPU layers keep
        copies of their weights, as :class:`torchops.nn.Conv2d` says; a program that was made with `args` keeps none. A model
        that was fused with `args` is saved by `torch.export`, and cannot be pickled.

    Raises:
        TypeError: if an argument is of the wrong type, or the model cannot be copied.
        ValueError: if `model` or a module in it is in training mode, a name is not in it, the model cannot be exported with
            `args`, or, without them, `channels_last` is True for a model whose results may depend on strides.

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
    if args is None:
        if kwargs is not None or dynamic_shapes is not None:
            raise ValueError("`kwargs` and `dynamic_shapes` go with `args`, which is None")
        return _fuse_by_fx(model, include, exclude, channels_last)
    # what exports is imported where it is needed: it takes longer than all of torchops
    from .program import fuse_program

    return fuse_program(model, include, exclude, args, kwargs, dynamic_shapes, channels_last is not False)


def _fuse_by_fx(
    model: Module, include: Selection, exclude: Selection, channels_last: bool | None
) -> tuple[Module, Report]:
    """What :func:`fuse` does with a model of which it has no example."""
    refused = selection(model, include, exclude)
    model, converted = convert(model, include, exclude)
    report = Report(kept={row.name: row.note for row in converted.kept if not row.note.startswith("torchops")})
    graph, probe, kept = trace(model)
    report.kept |= kept
    if graph is None:
        return model, _untouched(model, report.kept)
    calls = Calls(graph, model, probe, kept)
    report.before = calls.kernels(fused_bias=False)
    strided = calls.needs_strides()
    if channels_last and strided:
        raise ValueError(
            f"`channels_last` must not be True for a model whose results may depend on strides, as by {strided}: leave it "
            'None; torchops.fuse(model, args=...) with an example, or torch.compile(model, backend="torchops"), knows them'
        )
    if channels_last is None:
        # a module that was not looked into may rely on strides too
        channels_last = not kept and not strided
    report.fused = _rewrite(calls, refused, channels_last)
    report.after = calls.kernels(fused_bias=True)
    report.kept |= calls.unfit
    # a layer with a forward of its own is kept by convert, but its calls can be seen through
    report.kept = {name: why for name, why in report.kept.items() if name not in report.fused}
    targets = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    try:
        fused = fused_module(model, {target: calls.find(target) for target in targets}, graph)
    except SyntaxError:
        # torch.fx writes a forward in Python that has the names of modules, some of which Python keeps for itself
        return model, _untouched(model, {**report.kept, "": "names of its modules cannot be written in Python"})
    # hooks see what goes in and out of the model, which is as it was
    vars(fused).update((name, hooks) for name, hooks in vars(model).items() if name in HOOKS)
    return fused, report


def _untouched(model: Module, kept: dict[str, str]) -> Report:
    """The report on a model that was not looked into: whatever it runs, it runs as before."""
    kernels = Counter({type(model).__name__: 1})
    return Report(kept=kept, before=kernels, after=kernels.copy())


def _rewrite(calls: Calls, refused: Callable[[str, Module], str | None], channels_last: bool) -> dict[str, str]:
    """Replace every convolution of a graph by a layer that does all it can. Return what each does, by name."""
    graph = calls.graph
    for node in list(graph.nodes):
        if calls.does_nothing(node):
            node.replace_all_uses_with(first_argument(node))
            graph.erase_node(node)
    fused: dict[str, str] = {}
    taken: set[fx.Node] = set()
    # this goes from the end: of two convolutions that meet in a sum, the later takes the other's result as its residual
    for node in reversed(list(graph.nodes)):
        place = owner(node)
        if node in taken or (node.op == "call_function" and refused(place, calls.root.get_submodule(place))):
            continue
        if (found := pool(node)) is not None:
            with graph.inserting_before(node):
                call = graph.call_module("", (), found[1])
            call.target = calls.add(found[0], place or calls.name(node))
            node.replace_all_uses_with(call)
            graph.erase_node(node)
        elif (chain := start(calls, node)) is not None:
            grow(calls, chain)
            taken.update(chain.nodes)
            name = _fold_up(calls, chain, place or "conv2d", channels_last)
            fused[name] = " + ".join(chain.parts)
    if channels_last:
        for node in graph.nodes:
            # torch.nn's layers gave these views contiguous tensors, of which none is sure now: they may have to copy
            if calls.is_view(node) and not any(calls.mutates(user) for user in node.users):
                node.target = "reshape"
    return dict(reversed(fused.items()))


def _fold_up(calls: Calls, chain: Chain, name: str, channels_last: bool) -> str:
    """Put the one layer of a chain in the place of its last call; return its name."""
    graph = calls.graph
    tensors = [t for node in chain.nodes for t in node.all_input_nodes if t.op == "get_attr"]
    for node in chain.nodes[:-1]:
        for question in [user for user in node.users if calls.asks_only(user)]:
            question.replace_input_with(node, chain.input)
    with graph.inserting_before(chain.last):
        call = graph.call_module("", (chain.input,), {"residual": chain.residual} if chain.residual else {})
    chain.last.replace_all_uses_with(call)
    for node in (*reversed(chain.nodes), *dict.fromkeys(tensors)):
        if not node.users:
            graph.erase_node(node)
    layer = chain.module(channels_last)
    call.target = target = calls.add(layer, name)
    if isinstance(layer, (NormedConv2d, NormedConvTranspose2d)):
        layer.called = target
    return target
