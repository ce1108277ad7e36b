"""A kernel's body, carried out: Python's syntax with Triton's meaning.

A kernel is compiled first, which here is to run it once over nothing: every branch is taken, every loop run through once, memory
gives zeros. What does not fit is found then, whether a program would ever come there or not. A value of Python's in what follows is
one that is known when a kernel is compiled; a `Tensor` is known when it runs.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .dtypes import BlockType, DType, PointerType, wider
from .language import METHODS, WORDS, constexpr, range_, static_range
from .program import Program
from .tensors import BINARY, UNARY, Tensor, Undefined, as_tensor, cast, number, subscript, truth

if TYPE_CHECKING:
    from .function import Function


class Unsupported(Exception):  # noqa: N818 (its words are Triton's)
    """Python that is not of the language."""


class Returned(NamedTuple):
    value: Any


_CONSTANT: dict[str, Callable[..., Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv, "FloorDiv": operator.floordiv,
    "Mod": operator.mod, "Pow": operator.pow, "BitAnd": operator.and_, "BitOr": operator.or_, "BitXor": operator.xor,
    "LShift": operator.lshift, "RShift": operator.rshift, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge, "Eq": operator.eq, "NotEq": operator.ne, "Is": operator.is_, "IsNot": operator.is_not,
    "USub": operator.neg, "UAdd": operator.pos, "Not": operator.not_, "Invert": operator.invert,
}  # fmt: skip

_AMBIGUOUS = "Boolean value of Tensor with more than one value is ambiguous"
_RETURN_IN_LOOP = "Cannot have `return` statements inside `while` or `for` statements in triton."


class Frame:
    """One call of a kernel, or of a function that a kernel calls."""

    def __init__(self, function: Function, scope: dict[str, Any], program: Program) -> None:
        self.function = function
        self.scope = scope
        self.program = program
        self.loops = 0
        self.bare: dict[str, Any] = {}  # names that have been annotated, and not yet set

    # ---- statements

    def run(self, statements: Sequence[ast.stmt]) -> Returned | None:
        for one in statements:
            self._at(one)
            returned: Returned | None = _STATEMENTS.get(type(one), _unknown)(self, one)
            if isinstance(one, ast.Return) or (returned and not self.program.compiling):
                return returned
        return None

    def _at(self, node: ast.stmt | ast.expr) -> None:
        self.program.line = node.lineno

    def _assign(self, node: ast.Assign) -> None:
        assert len(node.targets) == 1
        self._set(node.targets[0], self.value(node.value))

    def _annotated(self, node: ast.AnnAssign) -> None:
        kind = self.value(node.annotation)
        assert isinstance(node.target, ast.Name)
        name = node.target.id
        if node.value is None:
            self.bare[name] = kind
        elif kind is not constexpr:
            self._set(node.target, self.value(node.value))
        elif name in self.scope:
            raise ValueError(f"{name} is already defined. constexpr cannot be reassigned.")
        else:
            self.scope[name] = self.value(node.value)

    def _augmented(self, node: ast.AugAssign) -> None:
        read = ast.copy_location(ast.Name(node.target.id, ast.Load()), node) if isinstance(node.target, ast.Name) else node.target
        old = self.value(read)
        self._set(node.target, self._operated(node.op, old, self.value(node.value)))

    def _set(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Tuple):
            for one, part in zip(target.elts, value, strict=False):
                self._set(one, part)
        elif isinstance(target, ast.Name):
            known = self.bare.pop(target.id, None) is constexpr
            self.scope[target.id] = value if known else _runtime(value)
        elif isinstance(target, ast.Attribute):
            raise NotImplementedError("Attribute assignment is not supported in triton")
        else:
            raise NotImplementedError("__setitem__ is not supported in triton")

    def _return(self, node: ast.Return) -> Returned:
        if self.loops:
            raise Unsupported(_RETURN_IN_LOOP)
        value = None if node.value is None else self.value(node.value)
        # where there are several, they return one type
        returned = Returned(_runtime(value) if self.function.returns > 1 else value)
        if self.program.compiling:
            self.function.check_returned(returned.value)
        return returned

    def _if(self, node: ast.If) -> Returned | None:
        condition = self.value(node.test)
        if not isinstance(condition, Tensor):
            return self.run(node.body if _chosen(condition) else node.orelse)
        if condition.numel != 1:
            raise Unsupported(_AMBIGUOUS)
        if self.loops and any(isinstance(one, ast.Return) for one in ast.walk(node)):
            raise Unsupported(_RETURN_IN_LOOP)
        if self.program.compiling:
            self._both(node)
            return None
        self.program.loops.append(node.lineno)
        returned = self.run(node.body if condition.data.any() else node.orelse)
        self.program.loops.pop()
        return returned

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
        self.loops += 1
        self.program.loops.append(node.lineno)
        if len(bounds) == 3 and bounds[2] == 0:
            raise Undefined("scf.for with a zero step")
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
        self.program.loops.append(node.lineno)
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

    # ---- expressions

    def value(self, node: ast.expr) -> Any:
        before = self.program.line
        self.program.line = node.lineno
        found = _EXPRESSIONS.get(type(node), _unknown)(self, node)
        self.program.line = before
        return found

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.scope:
            return self.scope[node.id]
        return self.function.look_up(node.id)

    def _named(self, node: ast.NamedExpr) -> Any:
        self._set(node.target, self.value(node.value))
        return self.scope[node.target.id]

    def _tuple(self, node: ast.Tuple | ast.List) -> Any:
        return tuple(self.value(one) for one in node.elts)

    def _binary(self, node: ast.BinOp) -> Any:
        return self._operated(node.op, self.value(node.left), self.value(node.right))

    def _operated(self, op: ast.operator | ast.cmpop, left: Any, right: Any) -> Any:
        name = type(op).__name__
        if not isinstance(left, Tensor) and not isinstance(right, Tensor):
            if name not in _CONSTANT:
                raise Unsupported(f"AST binary operator '{name}' is not (currently) implemented.")
            return _CONSTANT[name](left, right)
        if name == "Pow":
            raise AttributeError("'tensor' object has no attribute '__pow__'")
        if name not in BINARY:
            raise Unsupported(f"AST binary operator '{name}' is not (currently) implemented.")
        return BINARY[name](left, right)

    def _unary(self, node: ast.UnaryOp) -> Any:
        operand, name = self.value(node.operand), type(node.op).__name__
        return UNARY[name](operand) if isinstance(operand, Tensor) else _CONSTANT[name](operand)

    def _compared(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1:
            raise Unsupported("simultaneous multiple comparison is not supported")
        left, right = self.value(node.left), self.value(node.comparators[0])
        if isinstance(node.ops[0], ast.Is | ast.IsNot):
            return _CONSTANT[type(node.ops[0]).__name__](left, right)
        return self._operated(node.ops[0], left, right)

    def _boolean(self, node: ast.BoolOp) -> Any:
        both = isinstance(node.op, ast.And)
        found: list[Tensor] = []
        for one in node.values:
            value = self.value(one)
            if isinstance(value, Tensor):
                found.append(value)
            elif bool(value) is not both:  # it decides
                return value
        if not found:
            return value
        combine = BINARY["BitAnd" if both else "BitOr"]
        return functools.reduce(lambda a, b: combine(truth(a), truth(b)), found)

    def _chosen(self, node: ast.IfExp) -> Any:
        condition = self.value(node.test)
        if not isinstance(condition, Tensor):
            return self.value(node.body if _chosen(condition) else node.orelse)
        if not self.program.compiling:
            return as_tensor(self.value(node.body if condition.data.any() else node.orelse))
        then, other = as_tensor(self.value(node.body)), as_tensor(self.value(node.orelse))
        assert then.type == other.type, (
            f"Ternary expression with dynamic condition has inconsistent types {then.type} and {other.type}"
        )
        return then

    def _subscript(self, node: ast.Subscript) -> Any:
        value, key = self.value(node.value), self.value(node.slice)
        return subscript(value, key) if isinstance(value, Tensor) else value[key]

    def _slice(self, node: ast.Slice) -> slice:
        return slice(*(None if one is None else self.value(one) for one in (node.lower, node.upper, node.step)))

    def _attribute(self, node: ast.Attribute) -> Any:
        value, name = self.value(node.value), node.attr
        if isinstance(value, Tensor):
            return _of_tensor(value, name)
        if name == "value" and not isinstance(value, ModuleType):
            return value
        found = getattr(value, name)
        return found.value if isinstance(found, constexpr) else found

    def _call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        args: list[Any] = []
        for one in node.args:
            if isinstance(one, ast.Starred):
                args += self.value(one.value)
            else:
                args.append(self.value(one))
        more = {one.arg: self.value(one.value) for one in node.keywords if one.arg is not None}
        return self.function.call(function, args, more, self.program)

    def _text(self, node: ast.JoinedStr) -> str:
        return "".join(str(self.value(part)) for part in node.values)

    def _formatted(self, node: ast.FormattedValue) -> str:
        value = self.value(node.value)
        if isinstance(value, Tensor):
            raise Unsupported(
                "Cannot evaluate f-string containing non-constexpr conversion values, found conversion of type "
                f"{type(value)}"
            )
        return str(value)


def _unknown(frame: Frame, node: ast.AST) -> Any:
    raise Unsupported(f"unsupported AST node type: {type(node).__name__}")


_STATEMENTS: dict[type[ast.AST], Callable[[Frame, Any], Any]] = {
    ast.Assign: Frame._assign, ast.AnnAssign: Frame._annotated, ast.AugAssign: Frame._augmented, ast.Return: Frame._return,
    ast.If: Frame._if, ast.For: Frame._for, ast.While: Frame._while, ast.Expr: Frame._alone, ast.Pass: Frame._nothing,
    ast.Assert: Frame._asserted, ast.FunctionDef: Frame._nested,
}  # fmt: skip

_EXPRESSIONS: dict[type[ast.AST], Callable[[Frame, Any], Any]] = {
    ast.Constant: Frame._constant, ast.Name: Frame._name, ast.NamedExpr: Frame._named, ast.Tuple: Frame._tuple,
    ast.List: Frame._tuple, ast.BinOp: Frame._binary, ast.UnaryOp: Frame._unary, ast.Compare: Frame._compared,
    ast.BoolOp: Frame._boolean, ast.IfExp: Frame._chosen, ast.Subscript: Frame._subscript, ast.Slice: Frame._slice,
    ast.Attribute: Frame._attribute, ast.Call: Frame._call, ast.JoinedStr: Frame._text, ast.FormattedValue: Frame._formatted,
}  # fmt: skip


def _runtime(value: Any) -> Any:
    """A value as it is once it has a name: numbers are no longer known when the kernel is compiled."""
    if isinstance(value, tuple):
        return tuple(_runtime(one) for one in value)
    if value is None or isinstance(value, Tensor | DType | PointerType | BlockType):
        return value
    return as_tensor(value)


def _chosen(condition: Any) -> Any:
    if type(condition) not in (bool, int, type(None)):
        raise Unsupported(
            "`if` conditionals can only accept values of type {bool, int, NoneType}, "
            f"not objects of type {type(condition).__name__}"
        )
    return condition


def _bounds(given: tuple[Any, ...]) -> tuple[tuple[int, ...], DType]:
    """The bounds of a loop as Python's `range` takes them, and the type of its variable."""
    ends = [as_tensor(one) for one in given]
    three = [number(0, ends[0].dtype), *ends, number(1, ends[0].dtype)] if len(ends) == 1 else ends  # type: ignore[arg-type]
    if not all(one.dtype.is_int() for one in ends):
        types = ", ".join(str(one.dtype) for one in (*three, as_tensor(1))[:3])
        raise TypeError(f"For loop bounds and step must all be ints, are ({types})")
    for one, what in zip(three, ("lower bound", "upper bound", "step"), strict=False):
        if one.numel != 1:
            raise TypeError(f"For {what} must be a scalar, got {one.type}")
    dtype: DType = functools.reduce(wider, (one.dtype for one in ends))  # type: ignore[arg-type]
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


def _of_tensor(value: Tensor, name: str) -> Any:
    if name in ("shape", "dtype", "type", "numel"):
        return getattr(value, name)
    if name == "T":
        return WORDS["trans"](value)
    if name not in METHODS:
        raise AttributeError(f"'tensor' object has no attribute '{name}'")
    return functools.partial(METHODS[name], value)


__all__ = ["Frame", "Returned", "Unsupported", "np"]
