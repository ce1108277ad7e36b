"""Lock the development environment: every package at one version, with the sha256 of the file that is installed.

    python -m tools.lock [PYTHON ...]

For each Python, this one by default, it writes locks/dev-3.NN.txt, which `make` installs on Linux of x86_64: what the extras
`dev` and `docs` and locks/tests.in ask for, at the versions of constraints.txt. pip resolves it and downloads nothing but
metadata. Versions and hashes are those that PyPI publishes: no mirror and no folder of wheels that pip is set up with is asked.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PIP = "pip==26.3"
EXTRAS = ("dev", "docs")
HEADER = """\
# Written by `make lock`, for Python {version} on Linux of x86_64, with the hashes that PyPI tells. Change constraints.txt,
# locks/tests.in or pyproject.toml and write it again. locks/ttsem.txt goes with it.
"""


def from_pypi() -> dict[str, str]:
    """The environment in which pip asks PyPI, its default, and nothing else, whatever this machine is set up with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name == "PIP_CERT"}
    return {**kept, "PIP_CONFIG_FILE": os.devnull}


def lines(report: dict[str, Any]) -> list[str]:
    """What pip would install, by its report, a line a package; not torchops itself, which is what it is for.

    Raises:
        ValueError: a file has no sha256, or its name is not that of a package from an index.
    """
    found = []
    for item in report["install"]:
        name, version = item["metadata"]["name"].lower().replace("_", "-"), item["metadata"]["version"]
        if name == "torchops":
            continue
        sha256 = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", "")
        if item["is_direct"] or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"{name} {version} has no sha256 of an index: {item['download_info']}")
        found.append(f"{name}=={version} --hash=sha256:{sha256}")
    return sorted(found)


def lock(python: str) -> Path:
    """Write the lock of one Python; return its path."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = [name for name in EXTRAS if re.search(rf"^{name} = \[", project, re.MULTILINE)]
    with tempfile.TemporaryDirectory() as folder:
        env, report = Path(folder) / "env" / "bin" / "python", Path(folder) / "report.json"
        subprocess.run([python, "-m", "venv", env.parent.parent], check=True)
        subprocess.run([env, "-m", "pip", "install", "--quiet", PIP], check=True)
        options = (
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--constraint",
            "constraints.txt",
            f"--report={report}",
        )
        what = ("--requirement", "locks/tests.in", f".[{','.join(extras)}]")
        subprocess.run([env, "-m", "pip", "install", *options, *what], cwd=ROOT, env=from_pypi(), check=True)
        found = json.loads(report.read_text(encoding="utf-8"))
    version = found["environment"]["python_version"]
    target = ROOT / "locks" / f"dev-{version}.txt"
    target.write_text(HEADER.format(version=version) + "\n".join(lines(found)) + "\n", encoding="utf-8")
    return target


def main(pythons: list[str]) -> int:
    for python in pythons or [sys.executable]:
        print(lock(python).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
