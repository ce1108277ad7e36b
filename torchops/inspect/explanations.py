"""Which implementation and block sizes a call takes, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torchops import catalog
from torchops.backend import Choice, choose
from torchops.torch_internals import schema_of, tree_leaves

from .reports import Total
from .times import model

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch
    from torchops.kernels.planning.model import Model
    from torchops.recording import Spec


@dataclass(frozen=True)
class Explanation:
    """What a call does, or every call of a module; `print` it."""

    op: str
    """The function or, of a call inside a module, the operator `torch.ops.torchops.<op>`; of a module, its class."""
    implementation: str
    """"triton" or "aten"."""
    reason: str
    launches: tuple[tuple[str, int, Any], ...]
    """(kernel, programs, block sizes) of every launch of the forward; empty for ATen."""
    modelled: tuple[tuple[float, str] | None, ...]
    """(microseconds, what bounds them) of every launch, modelled before compilation; None in Triton's interpreter."""
    passes: tuple[str, ...] = ()
    """The pass of every launch."""
    bytes_moved: tuple[int, ...] = ()
    """DRAM traffic of every launch, counted: halos once per program."""
    inputs: tuple[tuple[str, Spec], ...] = ()
    """Name, and shape, strides and dtype, of every tensor that a call is given; none of a module."""
    name: str = ""
    """Name of the module that makes the call, as in its `named_modules`, after the class of the outermost."""
    calls: tuple[Explanation, ...] = ()
    """The calls of a module, in their order. Its launches are theirs."""

    @property
    def total(self) -> Total:
        times = None if None in self.modelled else sum(m[0] for m in self.modelled if m)
        return Total(len(self.launches), times, sum(self.bytes_moved))

    def _lines(self) -> Iterator[str]:
        """Yield a line that says what the call is given, and one for each launch."""
        yield ", ".join(f"{name} {spec}" for name, spec in self.inputs)
        launches = zip(self.passes, self.launches, self.bytes_moved, self.modelled, strict=True)
        for of, (kernel, programs, config), moved, modelled in launches:
            time = f", modelled {modelled[0]:.1f} us, bound by {modelled[1]}" if modelled else ""
            yield f"  {of}, {kernel}: {programs} programs of {config}, {moved / 1e6:.1f} MB moved{time}"

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.implementation}, because {self.reason}"]
        for call in self.calls:
            given, *launches = call._lines()
            lines += [f"  {call.name}, {call.op} of {given}", *(f"  {line}" for line in launches)]
        if self.launches and not self.calls:
            given, *launches = self._lines()
            lines += [f"  of {given}", *launches]
        if len(self.launches) > 1:
            lines.append(f"  total: {self.total}")
        return "\n".join(lines)


def explain(op: Callable[..., Any] | str | nn.Module, *args: Any, **kwargs: Any) -> Explanation:
    """Say which implementation and which block sizes a call would take, and why. Nothing is computed.

    Times of launches are modelled before anything is compiled. Of convolutions the instructions are estimated, as they are when
    block sizes are picked; of other kernels they are left out. They are counted once a kernel is compiled: see
    :func:`torchops.inspect.inspect`.

    Args:
        op: a function of torchops, or its name; or a module that calls some, as a layer of `torchops.nn` or a model after
            `torchops.convert` or `torchops.fuse`, or inside `torchops.override`. The forward of a module is explained, in the
            mode (train, eval) it is in, and without gradients.
        args, kwargs: the arguments of the call, or of the module's forward. The first tensor's device is where it runs.

    Raises:
        TypeError: if the function does not take such arguments.
        ValueError: if `op` is not known, or is a module that calls no operator of torchops; or the arguments are wrong.
        RuntimeError: if the backend in force cannot serve them; of a module, also if it does not take them, asks for values on
            its way, or is asked about under autocast.

    >>> import torch, torchops
    >>> print(torchops.explain(torchops.sobel, torch.rand(1, 3, 64, 64)))
    sobel: aten, because the backend is auto, and ATen serves cpu tensors
    >>> layers = torch.nn.Sequential(torchops.nn.Conv2d(3, 8, 3, bias=False), torch.nn.ReLU())
    >>> print(torchops.explain(layers, torch.rand(1, 3, 64, 64)))
    Sequential: aten, because the backend is auto, and ATen serves cpu tensors
      Sequential.0, conv2d of x 1x3x64x64 float32 contiguous, weight 8x3x3x3 float32 contiguous
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", type(op).__name__)
    if name not in catalog.OPS and not isinstance(op, nn.Module):
        raise ValueError(f"`op` must be one of {', '.join(catalog.OPS)}, or a torch.nn.Module, got {name!r}")
    # a module may take tensors in lists and dictionaries
    given = tree_leaves((args, kwargs)) if isinstance(op, nn.Module) else (*args, *kwargs.values())
    tensors = [a for a in given if isinstance(a, Tensor)]
    if not tensors:
        raise ValueError("`args` must hold the tensors of the call, got none")
    choice = choose(tensors[0].device)
    if isinstance(op, nn.Module):
        return _explain_module(op, args, kwargs, choice, tensors[0])
    function = catalog.OPS[name].function
    # this is imported when it is needed, so that `import torchops` is quick
    from torchops.recording import Spec

    arguments = signature(function).bind(*args, **kwargs).arguments
    inputs = [(key, Spec.of(a)) for key, a in arguments.items() if isinstance(a, Tensor)]
    if choice.implementation == "aten":
        return _explanation(name, choice, inputs, [])
    from torchops.kernels.launch import record, target_device

    with record(target_device(tensors[0])) as launches, torch.no_grad():
        function(*args, **kwargs)
    return _explanation(name, choice, inputs, launches)


def _explanation(
    op: str, choice: Choice, inputs: Iterable[tuple[str, Spec]], launches: list[Launch], name: str = ""
) -> Explanation:
    """The explanation of the forward of one call."""
    models = [_model_before_compilation(launch) for launch in launches]
    return Explanation(
        op,
        choice.implementation,
        choice.reason,
        tuple((launch.name, launch.programs, launch.config) for launch in launches),
        tuple((m.us, m.bound) if m else None for m in models),
        ("forward",) * len(launches),
        tuple(launch.cost.bytes_moved for launch in launches),
        tuple(inputs),
        name,
    )


def _model_before_compilation(launch: Launch) -> Model | None:
    from torchops.kernels.planning.hardware import INTERPRETER

    return None if launch.device is INTERPRETER else model(launch)


def _explain_module(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], choice: Choice, x: Tensor
) -> Explanation:
    from torchops.recording import Spec, module_calls

    if x.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(x.device.type):
        raise RuntimeError(
            "a module is explained on tensors without values, which autocast does not see: leave autocast, and give a module "
            "and inputs of the dtype that it would cast them to"
        )
    name = type(module).__name__
    with torch.no_grad():
        calls = module_calls(name, module, *args, kwargs=kwargs, backend=choice.implementation)
    if not calls:
        raise ValueError(
            f"`op`, a {name}, calls no operator of torchops: use torchops.convert or torchops.fuse, or ask inside "
            "torchops.override"
        )
    found = []
    for call in calls:
        arguments = schema_of(getattr(torch.ops.torchops, call.operator).default).arguments
        inputs = [(a.name, given) for a, given in zip(arguments, call.args, strict=False) if isinstance(given, Spec)]
        launches: list[Launch] = []
        if choice.implementation == "triton":
            from torchops.kernels.launch import target_device

            launches = call.launches(target_device(x))
        # the name of the module comes before the call's number and operator
        found.append(_explanation(call.operator, choice, inputs, launches, call.name.rsplit(".", 2)[0]))
    launches_of, modelled, passes, moved = (
        tuple(one for e in found for one in getattr(e, key))
        for key in ("launches", "modelled", "passes", "bytes_moved")
    )
    return Explanation(
        name, choice.implementation, choice.reason, launches_of, modelled, passes, moved, calls=tuple(found)
    )
