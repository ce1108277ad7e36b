"""Build what is to be released and try it: `python -m tests.release [--python 3.12 ...] [--extra NAME ...] [--folder PATH]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .artifacts import check_artifacts
from .environments import check_environments
from .pythons import check_python
from .report import Report
from .smoke import SMOKE


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument(
        "--python", action="append", default=[], metavar="3.NN", help="try the wheel under this Python instead"
    )
    parser.add_argument(
        "--extra", action="append", default=[], choices=SMOKE, help="try this extra alone; may be repeated"
    )
    parser.add_argument("--artifacts", action="store_true", help="build and look into what was built, install nothing")
    parser.add_argument(
        "--folder", type=Path, help="where to make the environments, 10 GB; a temporary folder by default"
    )
    asked = parser.parse_args(arguments)
    report = Report()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        wheel = check_artifacts(report, folder)
        if wheel is not None and not asked.artifacts:
            for version in asked.python:
                check_python(report, wheel, folder, version)
            if not asked.python:
                check_environments(report, wheel, folder, tuple(asked.extra))
        return report.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
