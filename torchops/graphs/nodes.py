"""Questions to the nodes of a functional graph of operators, in which every node has a fake value."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from torchops.compiler_internals import OpOverload, fake_mode_of, python_dispatcher, size_hint
from torchops.torch_internals import schema_of


def value(argument: Any) -> Any:
    """The fake value of a node; any other argument is its own value."""
    return argument.meta.get("val") if isinstance(argument, fx.Node) else argument


@contextlib.contextmanager
def faking(values: Iterable[Any]) -> Iterator[None]:
    """A block in which operators compute with values that are fake, as the given ones, and sizes that are symbolic."""
    with fake_mode_of(values) or contextlib.nullcontext(), python_dispatcher():
        yield


def operator_of(node: fx.Node) -> OpOverload | None:
    """The operator that a node calls, if it calls one."""
    return node.target if isinstance(node.target, OpOverload) else None


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operator by name, in the order of its schema, defaults included."""
    known = schema_of(node.target).arguments
    return {
        a.name: node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
        for i, a in enumerate(known)
    }


def writes(node: fx.Node) -> bool:
    """Whether a node may write to a tensor that exists already."""
    operator = operator_of(node)
    return operator is not None and bool(schema_of(operator).is_mutable)


def is_pure(node: fx.Node) -> bool:
    """Whether a node gives the same result whenever it is computed: it neither writes nor draws random numbers."""
    operator = operator_of(node)
    return operator is not None and not writes(node) and torch.Tag.nondeterministic_seeded not in operator.tags


def base_of(node: fx.Node) -> fx.Node | None:
    """What a node is a view of, or an element of views of; None if it has memory of its own."""
    if node.target is operator.getitem:
        made = cast(fx.Node, node.args[0])
        return made if base_of(made) is not None else None
    called = operator_of(node) if node.op == "call_function" else None
    if called is None or not any(a.alias_info is not None for a in schema_of(called).returns):
        return None
    aliased = next(a.name for a in schema_of(called).arguments if a.alias_info is not None)
    return arguments(node)[aliased]


def are_alike(a: Any, b: Any) -> bool:
    """Whether two operands of a sum, or one and the sum, have one shape, one dtype and one device."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    if a.dtype != b.dtype or a.device != b.device or a.dim() != b.dim():
        return False
    return all(_are_equal(m, n) for m, n in zip(a.shape, b.shape, strict=True))


def _are_equal(m: Any, n: Any) -> bool:
    """Whether two sizes of operands of one sum are the same: known to be, or so in the example, and neither is 1.

    Such a sum asks for it, and the graph is guarded by that already.
    """
    if statically_known_true(m == n):
        return True
    example = size_hint(m)
    return example is not None and example > 1 and example == size_hint(n) and bool(m == n)


def source_of(node: fx.Node) -> fx.Node:
    """The node that made the memory of a tensor."""
    while (base := base_of(node)) is not None:
        node = base
    return node


def has_own_memory(node: fx.Node) -> bool:
    """Whether a node is the result of a call that shares its memory with no tensor from before."""
    made = cast(fx.Node, node.args[0]) if node.target is operator.getitem else node
    return operator_of(made) is not None and base_of(made) is None


def have_one_layout(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are known to have the same strides."""
    return all(statically_known_true(m == n) for m, n in zip(a.stride(), b.stride(), strict=True))


def only_reader(node: fx.Node) -> fx.Node | None:
    """The call that reads a node, if it is one alone."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op == "call_function" else None


def modules(node: fx.Node) -> dict[str, Any]:
    """The modules that a call lies in, the outermost first: by name, the class, of which torch.export gives the name."""
    stack = node.meta.get("nn_module_stack") or {}
    return {_name(path): cls for path, cls in stack.values()}


def module_name(node: fx.Node) -> str:
    """The name of the module that makes the call, as `named_modules` has it; "" for the model itself."""
    return next(reversed(modules(node)), "")


def _name(path: str) -> str:
    """A module's name, of the path by which Dynamo reached it, as L['self'].layers[0].conv, or of torch.export's."""
    path = re.sub(r"^[LG]\['\w+'\]", "", path)
    path = re.sub(r"\[[\"']?([^\"'\]]*)[\"']?\]", r".\1", path)
    return ".".join(part for part in path.split(".") if part not in ("", "_modules"))
