"""The wheel alone and with every extra, each in an environment of its own.

torch is 5 GB with what it asks for. One environment holds links to the torch and triton that these tests run with, and to what
they ask for, nothing else; every other one sees that one's packages by a line in a .pth file. It still is a clean install: the
first environment has what pip would have had to bring for the wheel without extras anyway, and whatever else the wheel or an
extra fails to ask for is found nowhere.
"""

from __future__ import annotations

import json
import statistics
import sysconfig
import time
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from .artifacts import ROOT
from .artifacts import metadata as metadata_of
from .report import Report, run, want
from .smoke import SMOKE, alone, check, with_kernels

CONSTRAINTS = ("--constraint", ROOT / "constraints.txt")
ROUNDS = 15
"""Imports of each kind that a median is of."""

_INSTALLED = """
import json
from importlib import metadata
print(json.dumps({d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}))
"""


def python_of(env: Path) -> Path:
    return env / "bin" / "python"


def site_packages(env: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(env)}))


def closure(*names: str) -> list[metadata.Distribution]:
    """The packages of this environment that are named, and all that they ask for here."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(name, frozenset({""})) for name in names]
    asked = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        found[name] = metadata.distribution(name)
        for requirement in map(Requirement, found[name].requires or []):
            marker = requirement.marker
            item = (requirement.name.lower().replace("_", "-"), frozenset({"", *requirement.extras}))
            if item not in asked and (not marker or any(marker.evaluate({"extra": extra}) for extra in extras)):
                asked.add(item)
                waiting.append(item)
    return list(found.values())


def base(env: Path) -> str:
    """An environment with torch and triton, and what they ask for, as links."""
    venv.create(env, with_pip=True)
    for distribution in closure("torch", "triton"):
        for name in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            link = site_packages(env) / name
            if not link.exists() and not name.endswith(".pth"):
                link.symlink_to(Path(str(distribution.locate_file(name))).resolve())
    found = json.loads(run(python_of(env), "-c", _INSTALLED, cwd=env))
    run(python_of(env), "-m", "pip", "check", cwd=env)
    want(
        not {"torchops", "numpy", "rich", "typer", "pillow", "psutil"} & found.keys(),
        f"more than torch: {sorted(found)}",
    )
    return f"torch {found['torch']}, triton {found['triton']}, {len(found)} packages"


def layer(env: Path, below: Path, wheel: Path, extra: str = "") -> str:
    """An environment with the wheel and an extra on top of another one; how many packages pip has brought."""
    venv.create(env, with_pip=True)
    (site_packages(env) / "below.pth").write_text(f"{site_packages(below)}\n", encoding="utf-8")
    there = len(list(site_packages(env).glob("*.dist-info")))
    what = f"torchops[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    run(python_of(env), "-m", "pip", "install", "--quiet", *CONSTRAINTS, what)
    # the first environment has been looked at for more than torch; what is wanted and missing is found here
    run(python_of(env), "-m", "pip", "check", cwd=env)
    brought = len(list(site_packages(env).glob("*.dist-info"))) - there
    return f"{brought} packages on top of torch"


def import_time(python: Path) -> str:
    """What `import torchops` adds to `import torch`: medians of fresh processes, in turn. It is told and held to nothing."""
    codes = {"torch": "import torch", "both": "import torch, torchops"}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    for code in codes.values():  # once, for the compiled files
        run(python, "-c", code, cwd=python.parent)
    for _ in range(ROUNDS):
        for name, code in codes.items():
            start = time.perf_counter()
            run(python, "-c", code, cwd=python.parent)
            seconds[name].append(time.perf_counter() - start)
    torch, both = (statistics.median(seconds[name]) for name in codes)
    return f"torch {torch:.2f} s, torch and torchops {both:.2f} s: {1000 * (both - torch):.0f} ms more"


def check_environments(report: Report, wheel: Path, folder: Path, only: tuple[str, ...] = ()) -> None:
    """The wheel alone, then with each extra that it has, or with those of `only`."""
    below, first = folder / "torch", folder / "alone"
    if not report.ask("an environment with torch alone", lambda: base(below)):
        return
    if report.ask("install the wheel", lambda: layer(first, below, wheel)):
        work = folder / "work"
        work.mkdir()
        report.ask("the wheel alone", lambda: alone(python_of(first), work))
        report.ask("import time", lambda: import_time(python_of(first)))
        report.ask("beside Hugging Face's kernels", lambda: with_kernels(python_of(first), work))
    extras = metadata_of(wheel).get_all("Provides-Extra", [])
    # what has no smoke test is not released
    for extra in sorted(set(extras) & set(only or extras)):
        check_extra(report, wheel, below, folder, extra)


def check_extra(report: Report, wheel: Path, below: Path, folder: Path, extra: str) -> None:
    env, work = folder / f"with-{extra}", folder / f"work-{extra}"
    work.mkdir()
    if not report.ask(f"install torchops[{extra}]", lambda: layer(env, below, wheel, extra)):
        return
    report.ask(f"smoke of {extra}", lambda: SMOKE[extra](python_of(env), work))
    if extra in ("demo", "bench"):  # `torchops check` of what has the most beside it
        report.ask(f"torchops check with {extra}", lambda: check(python_of(env), work))
