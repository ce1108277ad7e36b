"""`python -m tools.new_op NAME`: write the skeleton of an op, a small one that works, to be edited.

The files of templates/ become files of the project, with the name of the op for `new_op`; where the project lists its ops, the
new one is added. All of it is written, or nothing.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).parent / "templates"

REFERENCE = '''

def new_op(input: Tensor, scale: float = 2.0) -> Tensor:
    """Every element, times a number, (N, C, H, W)."""
    return input * scale
'''
CATALOG = "Op('new_op', functional.new_op, reference.new_op, _FLOAT_DTYPES, _IMAGES)"
CALL = '\n    "new_op": lambda: {"x": torch.randn(2, 3, 4, 5), "scale": 2.0}'
ROW = "\n| `torchops.new_op` | | | as `conv2d` | every order |"


class RefusedError(ValueError):
    """Why there can be no op of this name."""


def _after(source: str, node: ast.expr | ast.alias, text: str) -> str:
    """The source with a text behind a node."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    # positions count bytes
    lines = source.encode().splitlines(keepends=True)
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    return (b"".join(lines)[:end] + text.encode() + b"".join(lines)[end:]).decode()


def _in_table(source: str, name: str, element: str) -> str:
    """The source with a further element of the list, the dict or the dict of a tuple that this name stands for."""
    [value] = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and name in _bound(node)
    )
    table = value.generators[0].iter if isinstance(value, ast.DictComp) else value
    assert isinstance(table, (ast.List, ast.Tuple, ast.Dict))
    return _after(source, (table.values if isinstance(table, ast.Dict) else table.elts)[-1], f",{element}")


def _in_exports(source: str, module: str | None, table: str = "__all__", element: str = "'new_op'") -> str:
    """The source with the op in `from .module import ...` and in a table of what is imported."""
    [names] = (
        node.names
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and (node.module, node.level) == (module, 1)
    )
    return _in_table(_after(source, names[-1], ", new_op"), table, element)


def _in_functional(source: str) -> str:
    """The source with an import of the op's own module, and the op in `__all__`."""
    start = source.index("\nfrom .") + 1
    return _in_table(f"{source[:start]}from .new_op import new_op\n{source[start:]}", "__all__", "'new_op'")


def _in_page(source: str) -> str:
    *_, last = re.finditer(r"^\| `torchops\..*$", source, re.M)
    return source[: last.end()] + ROW + source[last.end() :]


EDITS: dict[str, Callable[[str], str]] = {
    "torchops/reference.py": lambda source: source + REFERENCE,
    "torchops/ops/__init__.py": lambda source: _in_exports(source, None),
    "torchops/graphs/aten/__init__.py": lambda source: _in_exports(source, None, "_FAMILIES", "new_op"),
    "torchops/functional/__init__.py": _in_functional,
    "torchops/__init__.py": lambda source: _in_exports(source, "functional"),
    "torchops/catalog.py": lambda source: _in_table(source, "OPS", CATALOG),
    "tests/test_raw_operators.py": lambda source: _in_table(source, "GOOD", CALL),
    "docs/reference/operators.md": _in_page,
}
"""The files that list the ops, and how each comes to list the new one."""


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement gives to something."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _check(name: str, templates: dict[str, str]) -> None:
    """Raise a RefusedError if no op can have this name."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or hasattr(builtins, name):
        raise RefusedError(f"NAME must be a lower-case identifier that Python does not use itself, got {name!r}")
    for path in (*(path.replace("new_op", name) for path in templates), f"torchops/{name}.py"):
        for taken in (ROOT / path, (ROOT / path).with_suffix("")):
            if taken.exists():
                raise RefusedError(f"NAME {name!r} is taken: there is {taken.relative_to(ROOT)}")
    sources = templates | {path: (ROOT / path).read_text() for path in EDITS if path.endswith(".py")}
    for path, source in sources.items():
        if any(name in _bound(node) for node in ast.parse(source).body):
            raise RefusedError(f"NAME {name!r} is taken: {path.replace('new_op', name)} calls something else by it")


def _laid_out(path: str, source: str) -> str:
    """The source as ruff formats it, imports and exports sorted."""
    for command in (("check", "--fix", "--select", "I,RUF022"), ("format",)):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", path, "-"],
            input=source, cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        source = done.stdout
    return source


def _write(files: dict[Path, str]) -> None:
    """Write all of them; where one cannot be written, all are as before."""
    before = {path: path.read_text() if path.exists() else None for path in files}
    try:
        for path, text in files.items():
            path.write_text(text)
    except BaseException:
        for path, old in before.items():
            if old is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(old)
        raise


def new_op(name: str) -> tuple[list[str], list[str]]:
    """Write the skeleton of an op.

    Returns:
        The files that are new, and those that list the op now, as paths from the root of the project.

    Raises:
        RefusedError: if no op can have this name. Nothing is written then.
    """
    templates = {str(path.relative_to(TEMPLATES)): path.read_text() for path in sorted(TEMPLATES.rglob("*.py"))}
    _check(name, templates)
    edited = {path: edit((ROOT / path).read_text()) for path, edit in EDITS.items()}
    named = {
        path.replace("new_op", name): text.replace("new_op", name).replace("NewOp", name.title().replace("_", ""))
        for path, text in (templates | edited).items()
    }
    _write({ROOT / path: _laid_out(path, text) if path.endswith(".py") else text for path, text in named.items()})
    return [path for path in named if path not in EDITS], list(EDITS)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("say which op: make new-op NAME=..., or python -m tools.new_op NAME")
        return 2
    try:
        created, edited = new_op(arguments[0])
    except RefusedError as error:
        print(error)
        return 2
    for what, paths in (("new", created), ("lists it", edited)):
        print("\n".join(f"{what:<9} {path}" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
