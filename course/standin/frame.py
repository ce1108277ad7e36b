"""A kernel's body, carried out: Python's statements, with Triton's meaning.

A kernel is compiled first, which here is to run it once over nothing: every branch is taken, every loop gone through once, and
memory gives zeros. So what does not fit is found whether a program would ever come there or not.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .dtypes import DType, wider
from .expressions import Expressions, Unsupported, chosen, runtime
from .program import Program, Undefined
from .tensors import Tensor, as_tensor, cast, number
from .vocabulary import constexpr, range_, static_range

if TYPE_CHECKING:
    from .function import JITFunction


class Returned(NamedTuple):
    value: Any


_AMBIGUOUS = "Boolean value of Tensor with more than one value is ambiguous"
_RETURN_IN_LOOP = "Cannot have `return` statements inside `while` or `for` statements in triton."


class Frame(Expressions):
    """One call of a kernel, or of a function that a kernel calls."""

    def __init__(self, function: JITFunction, scope: dict[str, Any], program: Program) -> None:
        super().__init__(function, scope, program)
        self.loops = 0
        """How many loops it is in."""

    def run(self, statements: Sequence[ast.stmt]) -> Returned | None:
        for one in statements:
            self._at(one)
            returned: Returned | None = self.carry_out(one, _STATEMENTS)
            if isinstance(one, ast.Return) or (returned and not self.program.compiling):
                return returned
        return None

    def _at(self, node: ast.stmt | ast.expr) -> None:
        self.program.line = node.lineno

    def _assign(self, node: ast.Assign) -> None:
        assert len(node.targets) == 1
        self.give(node.targets[0], self.value(node.value))

    def _annotated(self, node: ast.AnnAssign) -> None:
        kind = self.value(node.annotation)
        assert isinstance(node.target, ast.Name)
        name = node.target.id
        if node.value is None:
            self.bare[name] = kind
        elif kind is not constexpr:
            self.give(node.target, self.value(node.value))
        elif name in self.scope:
            raise ValueError(f"{name} is already defined. constexpr cannot be reassigned.")
        else:
            self.scope[name] = self.value(node.value)

    def _augmented(self, node: ast.AugAssign) -> None:
        read = (
            ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            if isinstance(node.target, ast.Name)
            else node.target
        )
        old = self.value(read)
        self.give(node.target, self.operated(node.op, old, self.value(node.value)))

    def _return(self, node: ast.Return) -> Returned:
        if self.loops:
            raise Unsupported(_RETURN_IN_LOOP)
        value = None if node.value is None else self.value(node.value)
        # where there are several, they return one type
        returned = Returned(runtime(value) if self.function.returns > 1 else value)
        if self.program.compiling:
            self.function.check_returned(returned.value)
        return returned

    def _if(self, node: ast.If) -> Returned | None:
        condition = self.value(node.test)
        if not isinstance(condition, Tensor):
            return self.run(node.body if chosen(condition) else node.orelse)
        if condition.numel != 1:
            raise Unsupported(_AMBIGUOUS)
        if self.loops and any(isinstance(one, ast.Return) for one in ast.walk(node)):
            raise Unsupported(_RETURN_IN_LOOP)
        if self.program.compiling:
            self._both(node)
            return None
        return self.run(node.body if condition.data.any() else node.orelse)

    def _both(self, node: ast.If) -> None:
        """Both branches, which leave names of the same types; a name that only one of them gives ends with it."""
        before = self.scope
        branches = []
        for body in (node.body, node.orelse):
            self.scope = dict(before)
            self.run(body)
            branches.append(self.scope)
        self._at(node)
        then, other = branches
        self.scope = dict(before)
        for name in then:
            if name not in other or then[name] is other[name]:
                continue
            if name in before:
                for block, branch in (("then", then), ("else", other)):
                    assert _type(branch[name]) == _type(before[name]), (
                        f"initial value for `{name}` is of type {_printed(before[name])}, "
                        f"but the {block} block redefines it as {_printed(branch[name])}"
                    )
            else:
                types = _type(then[name]), _type(other[name])
                assert types[0] == types[1], (
                    f"Mismatched type for {name} between then block ({types[0]}) and else block ({types[1]})"
                )
            self.scope[name] = then[name]

    def _for(self, node: ast.For) -> Returned | None:
        call: Any = node.iter
        kind = self.value(call.func)
        args = [self.value(one) for one in call.args]
        more = {one.arg: self.value(one.value) for one in call.keywords}
        target: Any = node.target
        if kind is static_range:
            for i in static_range(*args, **more).range:
                self.scope[target.id] = i
                returned = self.run(node.body)
                if returned and not self.program.compiling:
                    return returned
            return None
        if kind not in (range, range_):
            raise RuntimeError("Only `range` and `static_range` iterators are currently supported")
        bounds, dtype = _bounds(range_(*args, **more).bounds)
        self.scope[target.id] = number(0, dtype)
        if self.program.compiling:
            self._once(node, ignored=target.id)
            return None
        if bounds[2:] == (0,):
            raise Undefined("scf.for with a zero step")
        self.loops += 1
        self.program.loops.append((node.lineno, False))
        for i in range(*bounds):
            self.scope[target.id] = number(i, dtype)
            self.run(node.body)
        self.program.loops.pop()
        self.loops -= 1
        return None

    def _while(self, node: ast.While) -> None:
        if self.program.compiling:
            self._once(node)
            return
        self.loops += 1
        self.program.loops.append((node.lineno, True))
        while self.value(node.test).data.any():
            self.run(node.body)
        self.program.loops.pop()
        self.loops -= 1

    def _once(self, node: ast.For | ast.While, ignored: str = "") -> None:
        """A loop's body, which leaves names with the types that they had; a name that is first given in it ends with it."""
        before = dict(self.scope)
        self.loops += 1
        self.run(node.body)
        if isinstance(node, ast.While):
            self._condition(node)
        self.loops -= 1
        self._at(node)
        for name, was in before.items():
            now = self.scope[name]
            if name == ignored or now is was:
                continue
            assert _kind(now) == _kind(was), (
                f"Loop carried variable {name} changed type, was {_kind(was)} but is now {_kind(now)}"
            )
            assert _type(now) == _type(was), (
                f"Loop-carried variable {name} has initial type {_type(was)} but is re-assigned to {_type(now)} in loop! "
                "Please make sure that the type stays consistent."
            )
        self.scope = {name: self.scope[name] for name in before}

    def _condition(self, node: ast.While) -> None:
        condition = self.value(node.test)
        if not isinstance(condition, Tensor):
            raise AttributeError("'constexpr' object has no attribute 'handle'")
        if condition.shape:
            raise Unsupported(_AMBIGUOUS)

    def _alone(self, node: ast.Expr) -> None:
        self.value(node.value)

    def _nothing(self, node: ast.Pass) -> None:
        """It does nothing."""

    def _asserted(self, node: ast.Assert) -> None:
        self.value(node.test)

    def _nested(self, node: ast.FunctionDef) -> None:
        raise Unsupported(
            "nested function definitions are not allowed inside a @triton.jit kernel. "
            "Move the helper function to module level and decorate it with @triton.jit."
        )


_STATEMENTS = {
    ast.Assign: "_assign", ast.AnnAssign: "_annotated", ast.AugAssign: "_augmented", ast.Return: "_return", ast.If: "_if",
    ast.For: "_for", ast.While: "_while", ast.Expr: "_alone", ast.Pass: "_nothing", ast.Assert: "_asserted",
    ast.FunctionDef: "_nested",
}  # fmt: skip


def _bounds(given: tuple[Any, ...]) -> tuple[tuple[int, ...], DType]:
    """The bounds of a loop as Python's `range` takes them, and the type of its variable."""
    ends = [as_tensor(one) for one in given]
    three = [number(0, ends[0].dtype), *ends, number(1, ends[0].dtype)] if len(ends) == 1 else ends
    if not all(one.dtype.is_int() for one in ends):
        types = ", ".join(str(one.dtype) for one in (*three, as_tensor(1))[:3])
        raise TypeError(f"For loop bounds and step must all be ints, are ({types})")
    for one, what in zip(three, ("lower bound", "upper bound", "step"), strict=False):
        if one.numel != 1:
            raise TypeError(f"For {what} must be a scalar, got {one.type}")
    dtype: DType = functools.reduce(wider, (one.dtype for one in ends))
    return tuple(int(cast(one, dtype).data) for one in ends), dtype


def _kind(value: Any) -> str:
    name = "tensor" if isinstance(value, Tensor) else "tuple" if isinstance(value, tuple) else "constexpr"
    return f"<class 'triton.language.core.{name}'>"


def _type(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.type
    return tuple(map(_type, value)) if isinstance(value, tuple) else value


def _printed(value: Any) -> str:
    return str(value) if isinstance(value, Tensor | tuple) else f"constexpr[{value}]"
