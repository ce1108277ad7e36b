"""The text of a student's file: how it is read, and what of it is not filled in."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .lesson import Step
from .skeleton import HOLE


def read(file: Path) -> str:
    """The text of a Python file, whatever its line ends and byte order mark.

    Raises:
        OSError: if it cannot be read.
        SyntaxError: if its bytes are no text.
    """
    data = file.read_bytes()
    try:
        return importlib.util.decode_source(data)
    except (SyntaxError, UnicodeDecodeError):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            said = SyntaxError(f"byte {data[error.start]:#x} is no UTF-8; save the file as UTF-8")
            said.lineno = data[: error.start].count(b"\n") + 1
            raise said from None
        raise


def load(file: Path, text: str, name: str = "exercise") -> ModuleType:
    """The file as a module. It is compiled from its text: Python's own cache takes two saves within a second for one.

    Raises:
        BaseException: whatever its code raises.
    """
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    exec(compile(text, str(file), "exec"), made.__dict__)
    return made


def holes(text: str) -> list[tuple[int, str]]:
    """Lines that are not filled in, and the steps that they belong to; "" where no comment says."""
    lines = text.splitlines()
    return [(n, mark[1] if (mark := HOLE.search(lines[n - 1])) else "") for n in sorted(_ellipses(ast.parse(text)))]


def holes_of(text: str, step: Step) -> list[int]:
    """Lines that a step needs and that are not filled in: those that are marked with it, and those without a mark in its
    function, in what that uses, and outside of functions."""
    tree = ast.parse(text)
    used = {line for node in _used(tree, step.function) for line in _ellipses(node)}
    return [n for n, name in holes(text) if name == step.name or (not name and n in used)]


def used(text: str, function: str) -> str:
    """The code that a function needs, without comments."""
    return "\n".join(map(ast.unparse, _used(ast.parse(text), function)))


def holes_before(text: str, step: Step, steps: tuple[Step, ...]) -> list[int]:
    """Lines that a step of a lesson needs, and those that an earlier one does whose function is the same."""
    until = steps[: steps.index(step) + 1]
    return sorted({line for one in until if one.function == step.function for line in holes_of(text, one)})


def holes_outside(text: str) -> list[int]:
    """Lines outside of functions that are not filled in; nothing can be loaded before they are."""
    return sorted(line for node in _outside(ast.parse(text)) for line in _ellipses(node))


_DEFINITION = (ast.FunctionDef, ast.ClassDef)


def _outside(tree: ast.Module) -> Iterator[ast.stmt]:
    return (node for node in tree.body if not isinstance(node, _DEFINITION))


def _used(tree: ast.Module, function: str) -> Iterator[ast.stmt]:
    """The definition of a function, and those that it names, and so on; and what stands outside of all."""
    definitions = {node.name: node for node in tree.body if isinstance(node, _DEFINITION)}
    found: set[str] = set()
    asked = [function, *(name for node in _outside(tree) for name in _names(node))]
    while asked:
        name = asked.pop()
        if name in definitions and name not in found:
            found.add(name)
            asked += _names(definitions[name])
    yield from _outside(tree)
    yield from (definitions[name] for name in sorted(found))


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _ellipses(tree: ast.AST) -> set[int]:
    """The lines of `...`, but for those within brackets: x[..., 0] is no hole."""
    slices = (node.slice for node in ast.walk(tree) if isinstance(node, ast.Subscript))
    inside = {id(part) for found in slices for part in ast.walk(found)}
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value is ... and id(node) not in inside
    }
