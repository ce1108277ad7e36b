"""The `torchops` command, as far as it works without the extra `cli`: to say that it is missing."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that lacks a character shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        from torchops import cli
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich", "PIL", "numpy", "psutil"):
            raise
        print(f"torchops: the command line needs {missing}: pip install 'torchops[cli]'", file=sys.stderr)
        sys.exit(2)
    try:
        try:
            cli.app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        # the interpreter flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        # who reads the output, as head, may have seen enough
        if not isinstance(error, BrokenPipeError):
            print(f"torchops: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
