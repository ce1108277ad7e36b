"""Docstrings, before Sphinx reads sections of Google's style in them.

Options of training say what they mean in their declarations, and not in docstrings. And what stands before a colon in the first
line of an attribute's docstring is part of a sentence, and no type.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sphinx.application import Sphinx

from torchops.models.checkpoints import NETS


def _add_options(app: Sphinx, what: str, name: str, obj: Any, settings: Any, lines: list[str]) -> None:
    """Add the fields that are options to the docstring of their class, as arguments."""
    if what != "class" or not dataclasses.is_dataclass(obj):
        return
    options = [f for f in dataclasses.fields(obj) if "options" in f.metadata]
    if not options:
        return
    lines += ["", "Args:"]
    for field in options:
        by_net = field.metadata["options"]
        shown = [net for net in NETS if by_net[net].shown]
        told = by_net[shown[0]].help
        if len(shown) < len(NETS):
            told += f" For {', '.join(shown)}."
        lines.append(f"    {field.name}: {told}")
    lines.append("")


def _keep_sentence(app: Sphinx, what: str, name: str, obj: Any, settings: Any, lines: list[str]) -> None:
    """Begin with an empty comment, behind which no type is looked for."""
    # data stand in summaries, where a comment would be all that is shown
    if what in ("attribute", "property") and lines:
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Take part in reading docstrings, before sections of Google's style are read."""
    app.connect("autodoc-process-docstring", _add_options, priority=400)
    app.connect("autodoc-process-docstring", _keep_sentence, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
