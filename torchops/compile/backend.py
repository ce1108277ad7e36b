"""The backend: what becomes of one graph of Dynamo's."""

from __future__ import annotations

import copy
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from torchops.compiler_internals import boxed, through_aot_autograd
from torchops.conversion.selection import Selection
from torchops.graphs.chains import Rewriter
from torchops.graphs.constants import ONCE, part
from torchops.graphs.kernels import kernels
from torchops.graphs.layout import store_channels_last
from torchops.graphs.nodes import value

from .inputs import Inputs
from .once import Once
from .options import Options, Rest
from .reports import GraphReport
from .rest import compiled, compiled_dynamo
from .swap import swap

_log = logging.getLogger("torchops.compile")


class Backend:
    """A backend of `torch.compile`: torchops's operators where it has them, fused for inference, and the rest as it was.

    `torch.compile(model, backend="torchops", options={...})` makes one of these options; an object of this class keeps
    reports besides.

    In a graph for training, calls of torch's functions that torchops has an operator for are swapped one for one, as by
    :class:`torchops.override`; gradients are torchops's. In a graph for inference, pads, batch norm, sums and activations also
    move into the kernels of the convolutions around which they stand. A graph is for inference if no gradient is asked for:
    under `torch.no_grad()`, or if nothing requires one. `model.eval()` alone does not make it so, and the report says that.

    What inference computes of Parameters and buffers alone, as folded batch norms, casts for autocast and parametrized weights,
    it computes once, and again when one of those was replaced or written to, or its optimizer made a step. Some writes are
    counted by nobody, and go unseen: those to `p.data`, as `p.data.mul_(2)`, through memory that NumPy shares, by
    `torch.distributed.broadcast` and `all_reduce`. After one, call :func:`torchops.forget`; or ask for
    `weights="in_graph"`. Tensors made in inference mode have no count, and are always computed with in the graph. Parameters
    are known by weak references, for which `torch.utils.swap_tensors` refuses to swap them until `torch.compiler.reset()`.
    With `rest="eager"` on a CPU copies of the weights of convolutions are kept besides, as :class:`torchops.nn.Conv2d` keeps
    them, but not with `weights="in_graph"`.

    Args:
        rest: who compiles what torchops does not: "inductor", "eager" for nobody, or a backend of `torch.compile`, a
            function of a graph and its inputs. On a CPU, where torchops calls ATen, Inductor is given ATen's operators.
        weights: "guarded" as above; "in_graph" to compute everything in every call.
        channels_last: store weights of convolutions so in inference, and with them their results; what the graph returns keeps
            its strides. None: if that is done once, and not in every call. torchops's kernels need no copy of such weights
            on a GPU, nor does Inductor on a CPU, where it asks for them.
        include: the modules in which calls are taken over, as in :func:`torchops.convert`: names, patterns, classes. Names are
            those that Dynamo sees: in the module that is compiled, or, after a break in its graph, in the one that goes on.
        exclude: modules to leave to torch, likewise.
        inductor: settings of Inductor's, as `torch.compile` takes them in `options`, for `rest="inductor"`.

    Attributes:
        reports: a :class:`GraphReport` for every graph, in the order in which they were compiled; `print` them. The latest
            thousand are kept. They are logged, too, by the logger "torchops.compile" at the level INFO.

    Raises:
        ValueError: if an option is not of its range.
        TypeError: if an option is of the wrong type.

    >>> import torch, torchops
    >>> block = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).eval()
    >>> backend = torchops.compile.Backend(rest="eager")
    >>> with torch.no_grad():
    ...     y = torch.compile(block, backend=backend)(torch.rand(1, 3, 8, 8))
    >>> print(backend.reports[0])
    graph 0, for inference
    <BLANKLINE>
    name  one kernel for
    0     conv2d + batch_norm + relu
    <BLANKLINE>
    kernels of  before  after
    batch_norm  1       0
    bias        1       0
    conv2d      1       1
    relu        1       0
    all         4       1
    """

    def __init__(
        self, rest: Rest = "inductor", weights: str = "guarded", channels_last: bool | None = None,
        include: Selection = None, exclude: Selection = None, inductor: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.options = Options(rest, weights, channels_last, include, exclude, dict(inductor or {}))
        self.reports: deque[GraphReport] = deque(maxlen=1000)
        self._numbers = itertools.count()

    def __call__(
        self, gm: fx.GraphModule, example_inputs: list[Any], mode: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> Callable[..., Any]:  # fmt: skip
        """Compile a graph, as `torch.compile` asks for it."""
        asked = self.options.with_more(mode, options)
        training = _can_train(gm, example_inputs)
        swapped, kept = swap(gm, asked.refused, inference=not training)
        report = GraphReport(number=next(self._numbers), training=training, swapped=swapped, kept=kept)
        if training:
            run = compiled_dynamo(asked, gm, example_inputs)
        else:
            infer = functools.partial(_infer, inputs=Inputs(gm), asked=asked, report=report)
            run = through_aot_autograd(gm, example_inputs, infer)
        self.reports.append(report)
        _log.info("%s", report)
        return run


def _can_train(gm: fx.GraphModule, example_inputs: list[Any]) -> bool:
    """Whether a gradient can be asked of a graph's results: an input requires one, and grad mode is on, at first or within."""
    turned_on = any(
        getattr(node.target, "__name__", "") == "_set_grad_enabled" and node.args[:1] == (True,)
        for module in gm.modules()
        if isinstance(module, fx.GraphModule)
        for node in module.graph.nodes
    )
    return (turned_on or torch.is_grad_enabled()) and any(
        isinstance(t, Tensor) and t.requires_grad for t in example_inputs
    )


def _infer(
    gm: fx.GraphModule, example_inputs: list[Any], *, inputs: Inputs, asked: Options, report: GraphReport
) -> Callable[..., Any]:  # fmt: skip
    """Compile the functional graph that AOTAutograd made of Dynamo's."""
    static = inputs.static([n for n in gm.graph.nodes if n.op == "placeholder"])
    report.before = kernels(gm.graph, fused_bias=False)
    in_float16 = any(isinstance(t := value(n), Tensor) and t.dtype == torch.float16 for n in gm.graph.nodes)
    # what is folded in float16 may have to be taken back, when weights change
    plain = copy.deepcopy(gm) if in_float16 else None
    # what is made in inference mode has no version by which a write to it could be seen
    guarded = {n: t for n, t in static.items() if asked.weights == "guarded" and not t.is_inference()}
    rewriter = Rewriter(gm, set(static), asked.refused, guarded)
    rewriter.run()
    report.fused = rewriter.fused
    report.kept |= rewriter.kept
    if bool(guarded) if asked.channels_last is None else asked.channels_last:
        store_channels_last(rewriter)
    once, of, gm, keep, checks = part(gm, guarded, rewriter.checks)
    report.after = kernels(gm.graph, fused_bias=True)
    given = [n for n in gm.graph.nodes if n.op == "placeholder"]
    constant = {n for n in given if n in guarded or n.name.startswith(ONCE)}
    stays = [n in static or n in constant for n in given]
    rest = compiled(asked, gm, list(map(value, given)), stays, constant)
    if once is None:
        return boxed(lambda args: rest(*args))
    holder = Once(once, checks)
    # the report must not keep the weights
    times = holder.computed
    report.recomputed = lambda: times.count

    def run(args: list[Any]) -> Any:
        more = holder([args[i] for i in of])
        if more is None:
            assert plain is not None
            return plain(*args)
        given = *more, *(args[i] for i in keep)
        args.clear()
        return rest(*given)

    return boxed(run)
