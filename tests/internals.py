"""Questions to torch's private names, one at least for each that a module of torchops gathers."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from types import ModuleType


class Questions:
    """The questions to a module's names, and what is said there of each name."""

    def __init__(self, module: ModuleType) -> None:
        self.asked: dict[str, Callable[[], None]] = {}
        self.said = _documented(module)

    def about(self, *names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
        def note(question: Callable[[], None]) -> Callable[[], None]:
            self.asked.update(dict.fromkeys(names, question))
            return question

        return note


def _documented(module: ModuleType) -> dict[str, str]:
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            said = following.value if isinstance(following, ast.Expr) else None
            found[ast.unparse(target)] = str(said.value) if isinstance(said, ast.Constant) else ""
    return found
