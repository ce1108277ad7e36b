"""Commands as a user meets them, for tests."""

from __future__ import annotations

import re

from typer.testing import CliRunner, Result

from torchops.cli import app


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def refused(result: Result, match: str) -> None:
    """Exit code 2, and one line on standard error."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert re.search(match, line), line
