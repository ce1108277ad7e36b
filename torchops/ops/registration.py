"""What the op families share: registering an operator, and picking its implementation."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchops.backend import choose, get_backend, use_backend
from torchops.torch_internals import (
    AFTER_AUTOGRAD,
    SingleLevelFunction,
    any_requires_grad,
    are_transforms_active,
    below_autograd,
    count_function_modes,
    device_in_keys,
    forward_mode,
    in_any_autocast,
    in_forward_mode,
    is_profiling,
    key,
    key_set,
    keys_in_force,
    keys_of,
    plugged_in_device,
    schema_of,
    single_level_functions,
    without_autocast,
    without_keys,
)


def uses_triton(x: Tensor) -> bool:
    """Whether the Triton kernels serve x, by the backend in force."""
    # this is the common case, which needs no words of a reason
    if not x.is_cuda and get_backend() == "auto":
        return False
    return choose(x.device).implementation == "triton"


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _lowered(args: tuple[Any, ...], device_type: str) -> tuple[Any, ...]:
    """args as autocast casts them: floating point gets the dtype in force, but float64 stays as it is."""
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(
        a.to(dtype)
        if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != torch.float64 and a.device.type == device_type
        else a
        for a in args
    )


# this is computed once, at import: Dynamo of torch 2.11 cannot trace `is_autocast_available`
_OTHERS = "xpu", "mps", "mtia", "maia", "hpu", "ipu", "xla", plugged_in_device()
_KNOW_AUTOCAST = frozenset(name for name in ("cpu", "cuda", *_OTHERS) if torch.amp.is_autocast_available(name))


def in_autocast(device_type: str) -> bool:
    """Whether autocast is on there; some devices, "meta" for one, know none."""
    return device_type in _KNOW_AUTOCAST and torch.is_autocast_enabled(device_type)


_LIBRARY = torch.library.Library("torchops", "FRAGMENT")


def _register_autocast(operator: Any, device_type: str) -> None:
    """Register as `torch.library.register_autocast` does, but cast to the dtype in force instead of one for good."""
    name = "Autocast" + device_in_keys(device_type)
    keys = key_set(name)

    def kernel(*args: Any) -> Any:
        lowered = _lowered(args, device_type)
        with without_keys(keys):
            return operator(*lowered)

    # tracing looks up the former, the dispatcher the latter
    operator.py_impl(key(name))(kernel)
    _LIBRARY.impl(operator, kernel, name)


_PLAIN = frozenset((Tensor, torch.nn.Parameter, type(None)))
_AT_REST = [key_set("BackendSelect", "ADInplaceOrView"), key_set("BackendSelect")]
"""The keys of a thread in which nothing is in force, outside of inference mode and inside."""
_DENSE = [
    key_set(device, f"Autocast{device}", *more)
    for device in ("CPU", "CUDA")
    for more in ((f"Autograd{device}", "ADInplaceOrView"), ())
]
"""The keys of a tensor that is memory and nothing else, on each device, made outside of inference mode and inside."""


def _is_watched(args: tuple[Any, ...]) -> bool:
    """Whether the dispatcher has more to do than to find the gradient and the implementation.

    A mode, a tracer, a transform and a batched gradient are keys of the thread, the profiler is a flag. A tensor that is not a
    plain one has a type of its own, or keys: it is the negative of its memory, or zeros without any, or a wrapper. ATen's calls
    heed the keys of the others as they do those of the first; a kernel gets addresses.
    """
    if keys_in_force() not in _AT_REST or is_profiling():
        return True
    first = args[0]
    if keys_of(first) not in _DENSE:
        return True
    by_address = uses_triton(first)
    for a in args:
        if type(a) not in _PLAIN:
            # tensors come first, so that the first other argument ends them
            return isinstance(a, Tensor)
        if by_address and a is not None and keys_of(a) not in _DENSE:
            return True
    return False


def _in_its_dtypes(grad: Callable[..., Any]) -> Callable[..., Any]:
    """grad, whatever autocast is on when it runs: a backward computes in the dtypes of its forward."""

    @functools.wraps(grad)
    def call(*args: Any) -> Any:
        if not in_any_autocast():
            return grad(*args)
        with without_autocast():
            return grad(*args)

    return call


def _noting_the_backend(setup: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(setup)
    def call(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.backend = get_backend()
        setup(ctx, inputs, output)

    return call


def _on_its_backend(grad: Callable[..., Any]) -> Callable[..., Any]:
    """grad, on the backend that its forward noted, whatever block it runs in and in what thread."""

    @functools.wraps(grad)
    def call(ctx: Any, *args: Any) -> Any:
        # a graph is not tied to a backend
        if torch.compiler.is_compiling() or ctx.backend == get_backend():
            return grad(ctx, *args)
        with use_backend(ctx.backend):
            return grad(ctx, *args)

    return call


class Packed:
    """Where an operator's flat arguments hold a geometry, which its functions take as one.

    Args:
        kind: the NamedTuple; its fields are arguments of the operator in its order, the last of them perhaps left out.
        first: position of its first field among the arguments.
        fields: how many of them are arguments.
    """

    def __init__(self, kind: Callable[..., tuple[Any, ...]], first: int, fields: int) -> None:
        self.kind, self.first, self.end, self.fields = kind, first, first + fields, fields

    def pack(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The operator's arguments as its functions take them."""
        found = (tuple(a) if isinstance(a, list) else a for a in args[self.first : self.end])
        return *args[: self.first], self.kind(*found), *args[self.end :]

    def unpack(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The operator's flat arguments, from those that its functions take."""
        return *args[: self.first], *args[self.first][: self.fields], *args[self.first + 1 :]

    def packing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, called with the operator's arguments."""
        return lambda *args: function(*self.pack(args))


class _Here(threading.local):
    implementing = False


_here = _Here()


def is_implementing() -> bool:
    """Whether this thread is inside an operator: what that calls is none of a caller's business, as inside ATen's."""
    return _here.implementing


def _known_as_implementing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        # nobody asks `is_implementing` where no function mode is in force
        if not count_function_modes():
            return function(*args)
        outer, _here.implementing = _here.implementing, True
        try:
            return function(*args)
        finally:
            _here.implementing = outer

    return call


def _tensors(op: Any) -> int:
    """How many arguments of an operator are tensors; they come first."""
    return sum("Tensor" in str(a.type) for a in schema_of(op).arguments)


class Derivative(NamedTuple):
    """How an operator is differentiated, in both modes."""

    setup: Callable[..., None]
    """`setup_context` of a `torch.autograd.Function`."""
    grad: Callable[..., tuple[Any, ...]]
    """`backward` of one, but that it returns the gradients of tensors only."""
    jvp: Callable[..., Any]
    """The tangents of its results, from the tuple of its arguments, its results, and the tangent of each tensor among its
    arguments; None for none."""


def _register_gradient(op: Any, pack: Callable[[Sequence[Any]], Sequence[Any]], derivative: Derivative) -> None:
    """Register as `torch.library.register_autograd` does, which knows neither forward mode nor the transforms of `torch.func`.

    The dispatcher brings a call here once for every level of transforms; `redispatch` goes to the next one.
    """
    setup, grad, jvp = derivative
    tensors = _tensors(op)
    # arguments that are no tensors have no gradients, nor have the two beside the operator's
    none = (None,) * (len(schema_of(op).arguments) - tensors + 2)

    def forward(ctx: Any, *args: Any) -> Any:
        *inputs, keys, below = args
        with below_autograd(), below():
            output = op.redispatch(keys & AFTER_AUTOGRAD, *inputs)
        setup(ctx, pack(inputs), output)
        # only the tangents need these, which are computed at once or not at all
        ctx.save_for_forward(*inputs[:tensors], *((output,) if isinstance(output, Tensor) else output))
        ctx.others = inputs[tensors:]
        return output

    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return *grad(ctx, *grads), *none

    def tangent(ctx: Any, *tangents: Any) -> Any:
        inputs, outputs = ctx.saved_tensors[:tensors], ctx.saved_tensors[tensors:]
        args = pack((*inputs, *ctx.others))
        return jvp(args, outputs if len(outputs) > 1 else outputs[0], *tangents[:tensors])

    function = type(
        op.overloadpacket.__name__,
        (SingleLevelFunction,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward), "jvp": staticmethod(tangent)},
    )

    def kernel(keys: Any, *args: Any) -> Any:
        if are_transforms_active():
            with single_level_functions():
                return function.apply(*args, keys, _recording)  # type: ignore[attr-defined]
        if in_forward_mode() or (torch.is_grad_enabled() and any_requires_grad(*args)):
            return function.apply(*args, keys, contextlib.nullcontext)  # type: ignore[attr-defined]
        with below_autograd():
            return op.redispatch(keys & AFTER_AUTOGRAD, *args)

    _LIBRARY.impl(op, kernel, "Autograd", with_keyset=True)


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Record gradients of the outer transforms inside a Function, which turns that off for its own level."""
    with torch.enable_grad(), forward_mode(True):
        yield


def _after(check: Callable[..., None], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        check(*args)
        return function(*args)

    return call


def register(
    name: str,
    schema: str,
    *,
    check: Callable[..., None],
    impl: Callable[..., Any],
    fake: Callable[..., Any],
    derivative: Derivative,
    vmap: Callable[..., tuple[Any, Any]],
    packed: Packed | None = None,
    autocast: bool = False,
    composed: Callable[..., bool] = lambda *args: False,
) -> Callable[..., Any]:
    """Register `torchops::<name>` for all devices and return the function to call it by.

    That function is the registered operator for all that traces, transforms or watches. For plain eager calls, for which two
    trips through the dispatcher would take several times as long as all else that a small op does in Python, it is the same
    formulas as an `autograd.Function`.

    Args:
        schema: its arguments and results; tensors come first, at least one.
        check: refuses arguments that `impl` could not trust. The function that is returned leaves it out: its callers have
            checked more.
        impl: computes it; looks at the backend in force.
        fake: uninitialised outputs of the right size, strides, dtype and device.
        derivative: how it is differentiated; in the dtypes and on the backend of the forward, whatever is in force later.
        vmap: rule for a mapped dimension, as in `torch.library.register_vmap`; it takes the operator's own arguments.
        packed: which of the operator's arguments all other functions, and the one that is returned, take as one.
        autocast: run in the low precision under `torch.autocast`, as ATen's convolutions do.
        composed: whether for these arguments `impl` is made of calls that autograd can follow. A plain eager call then leaves
            the gradient to them: a Python function in the graph costs more than a small convolution.
    """
    qualified = f"torchops::{name}"
    impl = _known_as_implementing(impl)
    setup = _noting_the_backend(derivative.setup)
    grad = _known_as_implementing(_in_its_dtypes(_on_its_backend(derivative.grad)))
    jvp = _known_as_implementing(_in_its_dtypes(derivative.jvp))
    checked_impl, checked_fake = _after(check, impl), _after(check, fake)
    if packed is not None:
        checked_impl, checked_fake = packed.packing(checked_impl), packed.packing(checked_fake)
    torch.library.define(qualified, schema)
    torch.library.impl(qualified, "default", checked_impl)
    IMPLEMENTATIONS[name] = checked_impl
    torch.library.register_fake(qualified, checked_fake)
    torch.library.register_vmap(qualified, vmap)
    operator = getattr(torch.ops.torchops, name).default
    _register_gradient(operator, tuple if packed is None else packed.pack, Derivative(setup, grad, jvp))
    if autocast:
        for device_type in ("cpu", "cuda"):
            _register_autocast(operator, device_type)

    def forward(ctx: Any, *args: Any) -> Any:
        output = impl(*args)
        setup(ctx, args, output)
        return output

    tensors, count = _tensors(operator), len(schema_of(operator).arguments)
    none = (None,) * (count - tensors - (0 if packed is None else packed.fields - 1))

    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return *grad(ctx, *grads), *none

    # this Function has no `setup_context`, for which `apply` would look up the signature of `forward` at every call
    eager = type(
        name, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling() or in_forward_mode() or _is_watched(args):
            return operator(*args) if packed is None else operator(*packed.unpack(args))
        if autocast and in_any_autocast() and in_autocast(args[0].device.type):
            return operator(*args) if packed is None else operator(*packed.unpack(args))
        if torch.is_grad_enabled() and any_requires_grad(*args) and not composed(*args):
            return eager.apply(*args)  # type: ignore[attr-defined]
        return impl(*args)

    _CALLS[name] = call
    return call


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}
"""The functions that the dispatcher ends up calling, by the name of the operator."""
_CALLS: dict[str, Callable[..., Any]] = {}
"""What `register` has returned, by the name of the operator."""


def registered(name: str) -> Callable[..., Any]:
    """What `register` returns for an operator, to be called once it has: for gradients, which are registered with it."""
    return lambda *args: _CALLS[name](*args)


def linear(name: str) -> Callable[..., Tensor]:
    """The tangent of an op that is linear in its first tensor, the only one that can have a tangent: the op, applied to it."""

    def tangent(args: tuple[Any, ...], output: Tensor, t: Tensor, *none: None) -> Tensor:
        y: Tensor = _CALLS[name](t, *args[1:])
        return y

    return tangent


def each_image(name: str, tensors: int) -> Callable[..., tuple[Any, Any]]:
    """The vmap rule of an op that treats every (C, H, W) image alike: the mapped dimension joins the batch.

    Args:
        name: of the op; its first `tensors` arguments are its only tensors, each with a leading batch dimension.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        batched = [
            x.unsqueeze(0).expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(args[:tensors], in_dims, strict=False)
        ]
        out = getattr(torch.ops.torchops, name)(*(x.flatten(0, 1) for x in batched), *args[tensors:])
        if isinstance(out, Tensor):
            return out.unflatten(0, batched[0].shape[:2]), 0
        return tuple(t.unflatten(0, batched[0].shape[:2]) for t in out), tuple(0 for _ in out)

    return rule
