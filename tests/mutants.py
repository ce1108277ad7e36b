"""Do the tests notice? `python -m tests.mutants [name ...]` makes the mistakes of `mistakes.py`, one at a time, in a copy of
the sources, and runs a tier on each. A mutant that no test notices is a hole in the tests: exit code 1.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .copies import copy_sources, run_tests
from .mistakes import MUTANTS, Edit, Mutant

_ROOMS = (
    "kernels",
    "models",
    "torchops/graphs",
    "torchops/compile",
    "torchops/ops/conv2d",
    "torchops/ops/cpu",
    "torchops/ops",
)
"""The folders in which code is broken."""


def mutate(folder: Path, edit: Edit) -> tuple[Path, str]:
    """The file of one of the rooms that holds what is edited, and its text with the edit made.

    Raises:
        LookupError: the expression occurs nowhere in the functions of this name, or more than once.
    """
    [pattern] = ast.parse(edit.old).body
    wanted: ast.AST = pattern.value if isinstance(pattern, ast.Expr) else pattern
    texts = {path: path.read_text() for room in _ROOMS for path in sorted((folder / room).rglob("*.py"))}
    # parsed where the name occurs: all files together take half a second
    functions = [
        (path, function)
        for path, text in texts.items()
        if edit.function in text
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef) and function.name == edit.function
    ]
    found = [
        (path, node)
        for path, function in functions
        for node in ast.walk(function)
        # which says nothing of lines, parentheses and spaces
        if ast.dump(node) == ast.dump(wanted)
    ]
    if len(found) != 1:
        where = ", ".join(f"{path.relative_to(folder)}:{function.lineno}" for path, function in functions) or "nowhere"
        raise LookupError(f"{edit.old!r} is found {len(found)} times in {edit.function}, which is defined {where}")
    [(path, node)] = found
    # positions count bytes; what replaces an expression binds as it did
    lines = texts[path].encode().splitlines(keepends=True)
    start, end = (
        sum(map(len, lines[: line - 1])) + column
        for line, column in ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
    )
    source, new = b"".join(lines), f"({edit.new})" if isinstance(node, ast.expr) else edit.new
    return path, (source[:start] + new.encode() + source[end:]).decode()


def run(mutant: Mutant) -> tuple[Mutant, str | None]:
    """Run the mutant's tier until a test fails; return the test, or None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_sources(copy)
        for edit in mutant.edits:
            try:
                path, text = mutate(copy, edit)
            except LookupError as e:
                raise SystemExit(f"mutant {mutant.name!r}: {e}") from None
            path.write_text(text)
        chosen = (f"tests/{mutant.file}", "-k", mutant.tests, "-x", "-rfE", "-p", "no:faulthandler")
        done = run_tests(copy, mutant.tier, *chosen)
    if done.returncode == 0:
        return mutant, None
    # what is held to a gate after its end is an error
    failed = re.search(r"^(?:FAILED|ERROR) \S*::(\S+)", done.stdout, re.M)
    if failed:
        return mutant, failed[1]
    if done.returncode < 0:
        return mutant, f"the process died of signal {-done.returncode}"
    raise SystemExit(f"mutant {mutant.name!r}: the tests could not run\n{done.stdout[-3000:]}")


def main(names: list[str]) -> int:
    chosen = [m for m in MUTANTS if not names or m.name in names]
    if len(chosen) < len(names):
        print(f"unknown mutant in {names}; known: {[m.name for m in MUTANTS]}")
        return 2
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(run, chosen))
    for mutant, test in results:
        print(f"{mutant.name:<20} {mutant.tier:<12} {f'caught by {test}' if test else 'ESCAPED'}")
    escaped = sum(test is None for _, test in results)
    print(f"\n{len(results) - escaped} passed, {escaped} failed")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
