"""Lock the development environment: every package at one version, with the sha256 of each of its files.

    python -m tools.lock [PYTHON ...]

For each Python, this one by default, it writes locks/dev-3.NN.txt, which `make` installs on Linux: what the extras `dev` and
`docs` and locks/tests.in ask for, at the versions of constraints.txt. The hashes are those that PyPI publishes: neither a
mirror nor a folder of wheels that pip is set up with is asked. It takes five minutes the first time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOLS = ("pip==26.3", "pip-tools==7.6.2", "setuptools>=77")
EXTRAS = ("dev", "docs")
PYPI = "https://pypi.org/simple"
HEADER = """\
# Written by `make lock`, for Python {version} on Linux: every file that pip may install has a hash here, as PyPI tells it.
# Change constraints.txt, locks/tests.in or pyproject.toml and write it again. locks/ttsem.txt goes with it.
"""


def from_pypi() -> dict[str, str]:
    """The environment in which pip asks PyPI and nothing else, whatever this machine is set up with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name == "PIP_CERT"}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": PYPI}


def tidy(compiled: str) -> str:
    """What pip-compile wrote, without its remarks and without torchops itself, which the extras name and nobody downloads."""
    blocks = re.split(r"^(?=\S)", compiled, flags=re.MULTILINE)
    return "".join(b for b in blocks if not b.startswith("#") and re.split(r"[ =\[]", b)[0] not in ("", "torchops"))


def lock(python: str) -> Path:
    """Write the lock of one Python; return its path."""
    said = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    version = said.stdout.strip()
    target = ROOT / "locks" / f"dev-{version}.txt"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = [f"--extra={name}" for name in EXTRAS if re.search(rf"^{name} = \[", project, re.MULTILINE)]
    with tempfile.TemporaryDirectory() as folder:
        env = Path(folder) / "env"
        subprocess.run([python, "-m", "venv", env], check=True)
        subprocess.run([env / "bin" / "python", "-m", "pip", "install", "--quiet", *TOOLS], check=True)
        written = Path(folder) / "lock.txt"
        if target.exists():
            # versions that nothing asks to change stay
            written.write_text(target.read_text(encoding="utf-8"), encoding="utf-8")
        options = ("--quiet", "--generate-hashes", "--allow-unsafe", "--no-annotate", "--no-header", "--strip-extras")
        compiled = [env / "bin" / "pip-compile", *options, "--no-emit-index-url", *extras]
        sources = ["--constraint=constraints.txt", f"--output-file={written}", "pyproject.toml", "locks/tests.in"]
        subprocess.run([*compiled, *sources], cwd=ROOT, env=from_pypi(), check=True)
        text = tidy(written.read_text(encoding="utf-8"))
    target.write_text(HEADER.format(version=version) + text, encoding="utf-8")
    return target


def main(pythons: list[str]) -> int:
    for python in pythons or [sys.executable]:
        print(lock(python).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
