"""The student's file, made of a solution: what is marked is left out.

A mark is a comment `#: 1a what to think of` at the end of a statement, or of a function's head. Left out, and replaced by
`...`, are the value of an assignment, what is returned, the last argument of a call, or the body of a function whose head is
marked: its docstring and the comments before its first statement stay.

    python -m torchops.course.skeleton      # writes exercise.py of every lesson
"""

from __future__ import annotations

import ast
import re

from .lesson import Lesson, folders, load

MARK = re.compile(r"#: (\d+[a-z]?)(?: (.*))?$")
HOLE = re.compile(r"# TODO (\d+)([a-z]?)")


def exercise(lesson: Lesson) -> str:
    """The student's file of a lesson.

    Raises:
        ValueError: if the solution has no docstring, which is replaced, or a mark stands at what cannot be left out.
    """
    head = f"""Lesson {lesson.number}, {lesson.name}. Fill in what is marked TODO, in order; page.md says what it is about.

    torchops course check {lesson.number}      (or watch: it checks whenever you save)
"""
    body = skeleton(lesson.solution)
    tree = ast.parse(body)
    if ast.get_docstring(tree) is None:
        raise ValueError(f"solution.py of lesson {lesson.number} begins with no docstring")
    return f'"""{head}"""\n' + "\n".join(body.splitlines()[tree.body[0].end_lineno :]) + "\n"


def skeleton(solution: str, only: int | None = None) -> str:
    """A solution without what is marked.

    Args:
        solution: with its marks.
        only: the line of the only mark that counts; all do if not given.

    Raises:
        ValueError: if a mark stands at what cannot be left out.
    """
    lines = solution.splitlines()
    marked = {n: found for n, line in enumerate(lines, 1) if (found := MARK.search(line)) and only in (None, n)}
    statements = [node for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.stmt)]
    for n in sorted(marked, reverse=True):
        name, question = marked[n].groups()
        todo = f"# TODO {name}" + (f": {question}" if question else "")
        heads = [node for node in statements if isinstance(node, ast.FunctionDef) and n in _head(node)]
        ends = [node for node in statements if not isinstance(node, _COMPOUND) and node.end_lineno == n]
        lines[n - 1] = lines[n - 1][: marked[n].start()].rstrip()
        if heads:
            node = heads[-1]
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            lines[body[0].lineno - 1 : body[-1].end_lineno] = [f"{' ' * body[0].col_offset}...  {todo}"]
        elif ends:
            (first, start), (last, end) = _value(ends[-1], lines, n)
            lines[first - 1 : last] = [f"{lines[first - 1][:start]}...{lines[last - 1][end:]}"]
            lines[first - 1 + n - last] += f"  {todo}"
        else:
            raise ValueError(f"line {n}: `{marked[n][0]}` stands at the end of no statement and of no function's head")
    return "\n".join(lines) + "\n"


_COMPOUND = (ast.FunctionDef, ast.ClassDef, ast.If, ast.For, ast.While, ast.With, ast.Try)


def _head(node: ast.FunctionDef) -> range:
    """The lines of a function's head."""
    return range(node.lineno, node.body[0].lineno)


def _value(node: ast.stmt, lines: list[str], n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where what is left out begins and ends, with the parentheses around it: lines from 1, columns from 0."""

    def place(row: int | None, column: int | None) -> tuple[int, int]:
        """Python counts columns in bytes."""
        assert row is not None
        return row, len(lines[row - 1].encode()[:column].decode())

    end = place(node.end_lineno, node.end_col_offset)
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
        before = node.targets[-1] if isinstance(node, ast.Assign) else node.target
        if isinstance(node, ast.AnnAssign):
            before = node.annotation
        row, column = place(before.end_lineno, before.end_col_offset)
        return (row, lines[row - 1].index("=", column) + 2), end
    if isinstance(node, ast.Return) and node.value is not None:
        return place(node.lineno, node.col_offset + len("return ")), end
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and (node.value.args or node.value.keywords):
        call = node.value
        value = call.keywords[-1].value if call.keywords else call.args[-1]
        return place(value.lineno, value.col_offset), place(value.end_lineno, value.end_col_offset)
    raise ValueError(f"line {n}: nothing of `{lines[n - 1].strip()}` can be left out")


def main() -> None:
    for folder in folders():
        (folder / "exercise.py").write_text(exercise(load(folder.name)), encoding="utf-8")


if __name__ == "__main__":
    main()
