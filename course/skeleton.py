"""The student's file, made of a solution: what is marked is left out.

A mark is a comment `#: 1a what to think of` at the end of a statement's last line. Left out, and replaced by `...`, are the value of an
assignment, what is returned, the last argument of a call, or the whole body of a function whose head is marked.
"""

from __future__ import annotations

import ast
import re

from .lesson import Lesson, folders, load

MARK = re.compile(r"#: (\d+[a-z]?)(?: (.*))?$")
HOLE = re.compile(r"# TODO (\d+)([a-z]?)")


def exercise(lesson: Lesson) -> str:
    """The student's file of a lesson."""
    head = f"""Lesson {lesson.number}, {lesson.name}. Fill in what is marked TODO, in order; page.md says what it is about.

    torchops course check {lesson.number}      (or watch: it checks whenever you save)
"""
    body = skeleton(lesson.solution)
    docstring = ast.parse(body).body[0]
    return f'"""{head}"""\n' + "\n".join(body.splitlines()[docstring.end_lineno :]) + "\n"


def skeleton(solution: str) -> str:
    """A solution without what is marked.

    Raises:
        ValueError: if a mark stands at what cannot be left out.
    """
    lines = solution.splitlines()
    marked = {n: found for n, line in enumerate(lines, 1) if (found := MARK.search(line))}
    statements = [node for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.stmt)]
    for n in sorted(marked, reverse=True):
        name, question = marked[n].groups()
        todo = f"# TODO {name}" + (f": {question}" if question else "")
        here = [node for node in statements if _mark_line(node) == n]
        if not here:
            raise ValueError(f"line {n}: `{marked[n][0]}` stands at the end of no statement")
        hole = _hole(min(here, key=lambda node: node.end_lineno - node.lineno if node.end_lineno else 0), n)
        first, start, last, end = hole
        head, tail = lines[first - 1][:start], lines[last - 1][end:]
        tail = tail[: tail.index("#:")].rstrip() if "#:" in tail else tail
        lines[first - 1 : max(last, n)] = [f"{head}...{tail}  {todo}"]
        if first > n:  # the head of a function keeps its line
            lines[n - 1] = lines[n - 1][: lines[n - 1].index("#:")].rstrip()
    return "\n".join(lines) + "\n"


def _mark_line(node: ast.stmt) -> int | None:
    if isinstance(node, ast.FunctionDef):
        return node.body[0].lineno - 1
    return None if isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.ClassDef) else node.end_lineno


def _hole(node: ast.stmt, n: int) -> tuple[int, int, int, int]:
    """What is left out: first line, column, last line, column behind it."""
    if isinstance(node, ast.FunctionDef):
        body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
        return body[0].lineno, body[0].col_offset, body[-1].end_lineno or 0, body[-1].end_col_offset or 0
    value = getattr(node, "value", None)
    if isinstance(node, ast.Expr) and isinstance(value, ast.Call):
        value = value.keywords[-1].value if value.keywords else value.args[-1]
    if value is None:
        raise ValueError(f"line {n}: there is nothing to be left out")
    return value.lineno, value.col_offset, value.end_lineno, value.end_col_offset


if __name__ == "__main__":
    for folder in folders():
        (folder / "exercise.py").write_text(exercise(load(folder.name)), encoding="utf-8")
