"""Names of files: as they are shown, and which of them are no user's own."""

from __future__ import annotations

HIDDEN = frozenset(
    {
        "__macosx", "__pycache__", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lost+found",
        "$recycle.bin", "system volume information",
    }
)  # fmt: skip
"""What systems put beside a user's files, in small letters."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not to be looked at: its name begins with a dot, or is one of `HIDDEN`."""
    return name.startswith(".") or name.lower() in HIDDEN


def printable(text: object) -> str:
    """Text with escapes in the place of what a terminal or an encoder would stumble over, as line ends and lone surrogates."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
