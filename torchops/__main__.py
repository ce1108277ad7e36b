"""The `torchops` command, as far as it works without the extra `cli`: to say that it is missing."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from torchops import cli
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich", "PIL", "numpy", "psutil"):
            raise
        print(f"torchops: the command line needs {missing}: pip install 'torchops[cli]'", file=sys.stderr)
        sys.exit(2)
    cli.app()


if __name__ == "__main__":
    main()
