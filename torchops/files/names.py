"""Names as they are shown: nothing in them is taken for a command."""

from __future__ import annotations


def printable(text: object) -> str:
    """Text with escapes in the place of what a terminal or an encoder would stumble over, as line ends and lone surrogates."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
