"""The command line, from its own help: the directive `commands` shows a command and all that are under it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import typer
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from torchops.cli import app as application

_MORE = re.compile(r"\s*\[([^\[\]]*)\]$")
_RANGES = (
    (re.compile(r"x>=([^<>]+)"), "at least {}"),
    (re.compile(r"x<=([^<>]+)"), "at most {}"),
    (re.compile(r"([^<>]+)<=x<=([^<>]+)"), "from {} to {}"),
)


class Commands(SphinxDirective):
    """`commands:: torchops train`; those named in `but` are on pages of their own."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"but": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        command: Any = typer.main.get_command(application)
        context = command.make_context("torchops", [], resilient_parsing=True)
        for name in self.arguments[0].split()[1:]:
            command, context = _under(command, context, name)
        return self._told(command, context, set(self.options.get("but", "").split()))

    def _told(self, command: Any, context: Any, left_out: set[str]) -> list[nodes.Node]:
        """A command, and a section for each one under it."""
        names: list[str] = getattr(command, "list_commands", lambda _: [])(context)
        text = [*_help(command, context), *(_table(command, context, names) if names else ())]
        told = self.parse_text_to_nodes("\n".join(text))
        for name in names:
            if name not in left_out:
                below, its_context = _under(command, context, name)
                path = its_context.command_path
                section = nodes.section("", nodes.title("", "", nodes.literal("", path)), names=[path])
                self.state.document.note_explicit_target(section)
                self.set_source_info(section)
                told.append(section)
                section += self._told(below, its_context, left_out)
        return told


def _under(command: Any, context: Any, name: str) -> tuple[Any, Any]:
    """The command of that name under another one, and its context."""
    below = command.get_command(context, name)
    if below is None:
        raise ValueError(f"`{context.command_path}` has no command {name!r}")
    return below, type(context)(below, info_name=name, parent=context, **below.context_settings)


def _help(command: Any, context: Any) -> Iterator[str]:
    """What a command does, and what it takes, as reStructuredText."""
    for paragraph in (command.help or "").split("\n\n"):
        yield from (_escaped(" ".join(paragraph.split())), "")
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    yield from (".. code-block:: text", "   :class: usage", "", f"   {usage}", "")
    yield from (f".. program:: {context.command_path}", "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            yield from _parameter(*record)


def _table(command: Any, context: Any, names: list[str]) -> Iterator[str]:
    """The commands under one, each with the first sentence of its help."""
    yield from ("", ".. list-table::", "   :class: names", "")
    for name in names:
        below, _ = _under(command, context, name)
        path = f"{context.command_path} {name}"
        first = " ".join((below.help or "").split("\n\n")[0].split())
        yield f"   * - :ref:`{path} <{path}>`"
        yield f"     - {_escaped(first)}"
    yield ""


def _parameter(declared: str, told: str) -> Iterator[str]:
    """An argument or an option: what it is called and takes, what it does, and between which limits."""
    more = _MORE.search(told)
    notes = [_note(note) for note in more[1].split("; ")] if more else []
    body = _escaped(told[: more.start()] if more else told)
    flags, _, takes = declared.partition(" <")
    flags = flags.replace(" / ", ", ")
    yield from (f".. option:: {flags}{f' <{takes}' if takes else ''}", "", f"   {body}", "")
    if notes:
        yield from (f"   {'; '.join(notes)}.", "")


def _note(note: str) -> str:
    """What stands in brackets behind a help: a default, limits, or that it is required."""
    kind, colon, value = note.partition(": ")
    if colon:
        return f"{kind.capitalize()}: ``{value}``"
    for pattern, words in _RANGES:
        if found := pattern.fullmatch(note):
            return words.format(*(f"``{number}``" for number in found.groups()))
    return note


def _escaped(text: str) -> str:
    """Text as reStructuredText, in which flags are code."""
    safe = re.sub(r"([\\`*_|])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--[a-z][\w-]*)", lambda found: f"``{found[1]}``", safe)


def setup(app: Sphinx) -> dict[str, Any]:
    """Make `commands` a directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
