"""The wheel under every Python that is named, with triton, and without it, as on macOS and Windows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from .environments import python_of
from .report import Report, run
from .smoke import ALONE

_VERSIONS = """
import platform, torch
from importlib import metadata
try:
    triton = metadata.version("triton")
except metadata.PackageNotFoundError:
    triton = "none"
print(f"Python {platform.python_version()}, torch {torch.__version__}, triton {triton}")
"""


def find(version: str) -> Path:
    """The interpreter of a version, as "3.12": on the path, or among those of pyenv; a path is taken as it is.

    Raises:
        FileNotFoundError: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    if re.fullmatch(r"3\.\d+", version):
        known = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    else:
        known = [shutil.which(version)]
    for candidate in known:
        # pyenv puts commands on the path that say which versions have them
        if candidate:
            done = subprocess.run(
                [candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True
            )
            if done.returncode == 0:
                return Path(done.stdout.strip())
    raise FileNotFoundError(f"no Python {version} on the path or in {pyenv}")


def check_python(report: Report, wheel: Path, folder: Path, version: str) -> None:
    """Install the wheel by the newest torch that this Python has; ask it; take triton away and ask it again."""
    env = folder / f"python-{version.replace('/', '_')}"

    def install() -> str:
        run(find(version), "-m", "venv", env)
        run(python_of(env), "-m", "pip", "install", "--quiet", wheel)
        return run(python_of(env), "-c", _VERSIONS, cwd=folder).strip()

    def works() -> str:
        said = run(python_of(env), "-c", ALONE, cwd=folder).strip()
        return f"{run(python_of(env), '-c', _VERSIONS, cwd=folder).strip()}: {said}"

    def without_triton() -> str:
        run(python_of(env), "-m", "pip", "uninstall", "--quiet", "--yes", "triton")
        return works()

    try:
        if report.ask(f"Python {version}: install the wheel", install):
            report.ask(f"Python {version} with triton", works)
            report.ask(f"Python {version} without triton", without_triton)
    finally:
        # five gigabytes each
        shutil.rmtree(env, ignore_errors=True)
