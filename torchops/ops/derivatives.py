"""Derivatives of operators: what an op says of its own, and how the dispatcher comes to know them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchops.backend import get_backend, use_backend
from torchops.torch_internals import (
    AFTER_AUTOGRAD,
    SingleLevelFunction,
    any_requires_grad,
    are_transforms_active,
    below_autograd,
    forward_mode,
    in_any_autocast,
    in_forward_mode,
    schema_of,
    single_level_functions,
    without_autocast,
)


class Derivative(NamedTuple):
    """How an operator is differentiated, in both modes."""

    setup: Callable[..., None]
    """`setup_context` of a `torch.autograd.Function`."""
    grad: Callable[..., tuple[Any, ...]]
    """`backward` of one, but that it returns the gradients of tensors only."""
    jvp: Callable[..., Any]
    """The tangents of its results, from the tuple of its arguments, its results, and the tangent of each tensor among its
    arguments; None for none."""

    def as_its_forward(self) -> Derivative:
        """The same, in the dtypes and on the backend of the forward, whatever is in force when a gradient is computed."""
        setup, grad, jvp = self
        return Derivative(_noting_the_backend(setup), _in_its_dtypes(_on_its_backend(grad)), _in_its_dtypes(jvp))


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


def count_tensors(op: Any) -> int:
    """How many arguments of an operator are tensors; they come first."""
    return sum("Tensor" in str(a.type) for a in schema_of(op).arguments)


def register_gradient(
    library: torch.library.Library, op: Any, pack: Callable[[Sequence[Any]], Sequence[Any]], derivative: Derivative
) -> None:
    """Register as `torch.library.register_autograd` does, which knows neither forward mode nor the transforms of `torch.func`.

    The dispatcher brings a call here once for every level of transforms; `redispatch` goes to the next one.
    """
    setup, grad, jvp = derivative
    tensors = count_tensors(op)
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

    library.impl(op, kernel, "Autograd", with_keyset=True)


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Record gradients of the outer transforms inside a Function, which turns that off for its own level."""
    with torch.enable_grad(), forward_mode(True):
        yield
