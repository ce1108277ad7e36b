"""Registering an operator, from the functions of its file, and ready rules for it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchops.torch_internals import (
    any_requires_grad,
    count_function_modes,
    in_any_autocast,
    in_forward_mode,
    schema_of,
)

from .autocast import in_autocast, register_autocast
from .derivatives import Derivative, count_tensors, register_gradient
from .packing import Packed
from .shortcut import is_watched

_LIBRARY = torch.library.Library("torchops", "FRAGMENT")


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
    setup, grad, jvp = derivative.as_its_forward()
    grad, jvp = _known_as_implementing(grad), _known_as_implementing(jvp)
    checked_impl, checked_fake = _after(check, impl), _after(check, fake)
    if packed is not None:
        checked_impl, checked_fake = packed.packing(checked_impl), packed.packing(checked_fake)
    torch.library.define(qualified, schema)
    torch.library.impl(qualified, "default", checked_impl)
    IMPLEMENTATIONS[name] = checked_impl
    torch.library.register_fake(qualified, checked_fake)
    torch.library.register_vmap(qualified, vmap)
    operator = getattr(torch.ops.torchops, name).default
    pack = tuple if packed is None else packed.pack
    register_gradient(_LIBRARY, operator, pack, Derivative(setup, grad, jvp))
    if autocast:
        for device_type in ("cpu", "cuda"):
            register_autocast(_LIBRARY, operator, device_type)

    def forward(ctx: Any, *args: Any) -> Any:
        output = impl(*args)
        setup(ctx, args, output)
        return output

    tensors, count = count_tensors(operator), len(schema_of(operator).arguments)
    none = (None,) * (count - tensors - (0 if packed is None else packed.fields - 1))

    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return *grad(ctx, *grads), *none

    # this Function has no `setup_context`, for which `apply` would look up the signature of `forward` at every call
    eager = type(
        name, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling() or in_forward_mode() or is_watched(args):
            return operator(*args) if packed is None else operator(*packed.unpack(args))
        if autocast and in_any_autocast() and in_autocast(args[0].device.type):
            return operator(*args) if packed is None else operator(*packed.unpack(args))
        if torch.is_grad_enabled() and any_requires_grad(*args) and not composed(*args):
            return eager.apply(*args)  # type: ignore[attr-defined]
        return impl(*args)

    _CALLS[name] = call
    _PLAIN[operator] = call, pack
    return call


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}
"""The functions that the dispatcher ends up calling, by the name of the operator."""
_CALLS: dict[str, Callable[..., Any]] = {}
"""What `register` has returned, by the name of the operator."""
_PLAIN: dict[Any, tuple[Callable[..., Any], Callable[..., tuple[Any, ...]]]] = {}


def plain_call(operator: Any) -> tuple[Callable[..., Any], Callable[..., tuple[Any, ...]]] | None:
    """What `register` has returned for an operator, and what makes its arguments of the operator's; None if it is not ours."""
    return _PLAIN.get(operator)


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
