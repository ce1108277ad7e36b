"""What stands in a kernel's body: expressions, with Triton's meaning.

A value of Python's is one that is known when a kernel is compiled; a `Tensor` is known when a program runs.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .dtypes import BlockType, DType
from .program import Program
from .tensors import BINARY, UNARY, Tensor, as_tensor, subscript, truth
from .vocabulary import METHODS, WORDS, constexpr

if TYPE_CHECKING:
    from .function import JITFunction


class Unsupported(Exception):  # noqa: N818 (its words are Triton's)
    """Python that is not of the language."""


_CONSTANT: dict[str, Callable[..., Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv, "FloorDiv": operator.floordiv,
    "Mod": operator.mod, "Pow": operator.pow, "BitAnd": operator.and_, "BitOr": operator.or_, "BitXor": operator.xor,
    "LShift": operator.lshift, "RShift": operator.rshift, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge, "Eq": operator.eq, "NotEq": operator.ne, "Is": operator.is_, "IsNot": operator.is_not,
    "USub": operator.neg, "UAdd": operator.pos, "Not": operator.not_, "Invert": operator.invert,
}  # fmt: skip


class Expressions:
    """The expressions of one call of a kernel, or of a function that a kernel calls."""

    def __init__(self, function: JITFunction, scope: dict[str, Any], program: Program) -> None:
        self.function = function
        self.scope = scope
        self.program = program
        self.bare: dict[str, Any] = {}
        """Names that have been annotated, and not yet given."""

    def give(self, target: ast.expr, value: Any) -> None:
        """Give a value a name."""
        if isinstance(target, ast.Tuple):
            for one, part in zip(target.elts, value, strict=False):
                self.give(one, part)
        elif isinstance(target, ast.Name):
            known = self.bare.pop(target.id, None) is constexpr
            self.scope[target.id] = value if known else runtime(value)
        elif isinstance(target, ast.Attribute):
            raise NotImplementedError("Attribute assignment is not supported in triton")
        else:
            raise NotImplementedError("__setitem__ is not supported in triton")

    def value(self, node: ast.expr) -> Any:
        before = self.program.line
        self.program.line = node.lineno
        found = self.carry_out(node, _EXPRESSIONS)
        self.program.line = before
        return found

    def carry_out(self, node: ast.AST, methods: dict[Any, str]) -> Any:
        if type(node) not in methods:
            raise Unsupported(f"unsupported AST node type: {type(node).__name__}")
        return getattr(self, methods[type(node)])(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.scope:
            return self.scope[node.id]
        return self.function.look_up(node.id)

    def _named(self, node: ast.NamedExpr) -> Any:
        self.give(node.target, self.value(node.value))
        return self.scope[node.target.id]

    def _tuple(self, node: ast.Tuple | ast.List) -> Any:
        return tuple(self.value(one) for one in node.elts)

    def _binary(self, node: ast.BinOp) -> Any:
        return self.operated(node.op, self.value(node.left), self.value(node.right))

    def operated(self, op: ast.operator | ast.cmpop, left: Any, right: Any) -> Any:
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
        return self.operated(node.ops[0], left, right)

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

    def _conditional(self, node: ast.IfExp) -> Any:
        condition = self.value(node.test)
        if not isinstance(condition, Tensor):
            return self.value(node.body if chosen(condition) else node.orelse)
        if not self.program.compiling:
            return as_tensor(self.value(node.body if condition.data.any() else node.orelse))
        then, other = as_tensor(self.value(node.body)), as_tensor(self.value(node.orelse))
        assert then.type == other.type, (
            f"Ternary expression with dynamic condition has inconsistent types {then.type} and {other.type}"
        )
        if condition.shape:
            block = "x".join(map(str, condition.shape))
            raise ValueError(f"'scf.if' op operand #0 must be 1-bit signless integer, but got 'tensor<{block}xi1>'")
        return then

    def _subscript(self, node: ast.Subscript) -> Any:
        value, key = self.value(node.value), self.value(node.slice)
        return subscript(value, key) if isinstance(value, Tensor) else value[key]

    def _slice(self, node: ast.Slice) -> slice:
        return slice(*(None if one is None else self.value(one) for one in (node.lower, node.upper, node.step)))

    def _attribute(self, node: ast.Attribute) -> Any:
        value, name = self.value(node.value), node.attr
        if isinstance(value, Tensor):
            return _attribute_of(value, name)
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


_EXPRESSIONS = {
    ast.Constant: "_constant", ast.Name: "_name", ast.NamedExpr: "_named", ast.Tuple: "_tuple", ast.List: "_tuple",
    ast.BinOp: "_binary", ast.UnaryOp: "_unary", ast.Compare: "_compared", ast.BoolOp: "_boolean", ast.IfExp: "_conditional",
    ast.Subscript: "_subscript", ast.Slice: "_slice", ast.Attribute: "_attribute", ast.Call: "_call", ast.JoinedStr: "_text",
    ast.FormattedValue: "_formatted",
}  # fmt: skip


def runtime(value: Any) -> Any:
    """A value as it is once it has a name: numbers are no longer known when the kernel is compiled."""
    if isinstance(value, tuple):
        return tuple(runtime(one) for one in value)
    if value is None or isinstance(value, Tensor | DType | BlockType):
        return value
    return as_tensor(value)


def chosen(condition: Any) -> Any:
    """What an `if` takes that is known when the kernel is compiled."""
    if type(condition) not in (bool, int, type(None)):
        raise Unsupported(
            "`if` conditionals can only accept values of type {bool, int, NoneType}, "
            f"not objects of type {type(condition).__name__}"
        )
    return condition


def _attribute_of(value: Tensor, name: str) -> Any:
    if name in ("shape", "dtype", "type", "numel"):
        return getattr(value, name)
    if name == "T":
        return WORDS["trans"](value)
    if name not in METHODS:
        raise AttributeError(f"'tensor' object has no attribute '{name}'")
    return functools.partial(METHODS[name], value)
