"""What the extra `models` installs, and who says so where it is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(what: str) -> Iterator[None]:
    """Around imports of what the extra installs: if a module is missing, say what needs it and what to install.

    Raises:
        ModuleNotFoundError: if a module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(f"{what} needs {missing}: pip install 'torchops[models]'", name=missing) from error
