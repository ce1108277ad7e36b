"""The source distribution and the wheel: how they are built, and what has to be in them."""

from __future__ import annotations

import shutil
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from .report import Report, run, want

ROOT = Path(__file__).parent.parent.parent
DIST = ROOT / "dist"
EXTRAS = ("cli", "demo", "models", "timm", "tensorboard", "onnx", "course", "bench", "docs", "dev")
"""What torchops can be installed with."""
FOLDERS = {
    "torchops": "torchops",
    "torchops.kernels": "kernels",
    "torchops.models": "models",
    "torchops.course": "course",
}
_DATA = {".py", ".json", ".md", ".mplstyle", ".png", ".typed"}


def sources() -> dict[str, Path]:
    """Every file of the package, by its name in the wheel; the folders beside torchops/ are links in it."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*")):
            inside = file.relative_to(ROOT / folder)
            if file.is_file() and file.suffix in _DATA and "__pycache__" not in inside.parts:
                found["/".join((*package.split("."), *inside.parts))] = file
    return found


def needed(name: str) -> bool:
    """Whether a file of the package has to be in the wheel: code, tables and all of the course, but no page about the code."""
    return not name.endswith((".md", ".png")) or name.startswith("torchops/course/")


def build() -> tuple[Path, Path]:
    """Both artifacts, of the tree as it is, in dist/, which holds nothing else."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", DIST, ROOT)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", DIST, ROOT)
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return sdist, wheel


def members(sdist: Path) -> dict[str, tarfile.TarInfo]:
    """What lies in a source distribution, without the name of its folder."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2]: member for member in archive.getmembers()}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def check_wheel(wheel: Path) -> str:
    """Every file of the package once, as it lies in the tree; nothing else; no links."""
    with zipfile.ZipFile(wheel) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        want(len(infos) == len(archive.infolist()), "a name occurs twice")
        links = [name for name, info in infos.items() if (info.external_attr >> 28) == 0xA]
        want(not links, f"links: {links}")
        dist_info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
        package = {name for name in infos if not name.startswith(f"{dist_info}/")}
        known = sources()
        missing = sorted(name for name in known if needed(name) and name not in package)
        want(not missing, f"missing: {missing}")
        unknown = sorted(package - known.keys())
        want(not unknown, f"what is no file of the package: {unknown}")
        changed = [name for name in package if archive.read(name) != known[name].read_bytes()]
        want(not changed, f"other contents than in the tree: {changed}")
        own = {name.removeprefix(f"{dist_info}/") for name in infos.keys() - package}
        want(
            own == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"},
            f"dist-info holds {sorted(own)}",
        )
    want(wheel.name.endswith("-py3-none-any.whl"), wheel.name)
    return f"{len(infos)} files, {wheel.stat().st_size / 1e6:.2f} MB"


def check_sdist(sdist: Path) -> str:
    """What a wheel is built from, and no tests, benchmarks or documentation."""
    found = members(sdist)
    odd = [name for name, member in found.items() if not (member.isfile() or member.isdir())]
    want(not odd, f"links and devices: {odd}")
    unresolved = [file for name, file in sources().items() if needed(name) and str(file.relative_to(ROOT)) not in found]
    want(not unresolved, f"missing: {unresolved}")
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO"):
        want(name in found, f"{name} is missing")
    folders = {name.split("/")[0] for name in found if "/" in name}
    want(folders == {*FOLDERS.values(), "torchops.egg-info"}, f"folders: {sorted(folders)}")
    return f"{sum(member.isfile() for member in found.values())} files, {sdist.stat().st_size / 1e6:.2f} MB"


def check_metadata(wheel: Path) -> str:
    """Name, version, Python, licence, text and extras, as installers and PyPI's page read them."""
    said, version = metadata(wheel), (ROOT / "torchops" / "_version.py").read_text().split('"')[1]
    want((said["Name"], said["Version"]) == ("torchops", version), f"{said['Name']} {said['Version']}")
    want(said["Requires-Python"] == ">=3.10", said["Requires-Python"])
    want((said["License-Expression"], said["License-File"]) == ("MIT", "LICENSE"), str(said["License-Expression"]))
    want(said["Description-Content-Type"] == "text/markdown", said["Description-Content-Type"])
    # what follows the headers is README.md, whose links to files work in the repository alone
    want(said.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8"), "the text is not README.md")
    extras = set(said.get_all("Provides-Extra", []))
    want(set(EXTRAS) == extras, f"extras other than expected: {set(EXTRAS) ^ extras}")
    alone = [r for r in said.get_all("Requires-Dist", []) if "extra ==" not in r]
    want({r.split(">")[0].split("!")[0] for r in alone} == {"torch", "triton"}, f"asks for {alone}")
    return f"torchops {version}, {len(extras)} extras, asks for {' and '.join(sorted(alone))}"


def check_same(sdist: Path, wheel: Path, folder: Path) -> str:
    """A wheel built of the source distribution, far from the tree, has the same files with the same contents."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, tree)
    (other,) = folder.glob("*.whl")
    want(other.name == wheel.name, other.name)
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(other) as theirs:
        names = sorted(ours.namelist())
        want(names == sorted(theirs.namelist()), "other files")
        differ = [name for name in names if ours.read(name) != theirs.read(name)]
        want(not differ, f"other contents: {differ}")
    return f"{len(names)} files, byte by byte"


def check_twine(folder: Path, *artifacts: Path) -> str:
    """What PyPI would refuse, or show badly; twine is in an environment of its own, since nothing else needs it."""
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", "twine")
    run(folder / "bin" / "twine", "check", "--strict", *artifacts)
    return "no warnings"


def check_artifacts(report: Report, folder: Path) -> Path | None:
    """Build both, look into both; the wheel, or None if there is none to try."""
    built: list[Path] = []

    def builds() -> str:
        built.extend(build())
        return " and ".join(path.name for path in built)

    if not report.ask("build", builds):
        return None
    sdist, wheel = built
    report.ask("twine check --strict", lambda: check_twine(folder / "twine", sdist, wheel))
    report.ask("metadata", lambda: check_metadata(wheel))
    report.ask("contents of the wheel", lambda: check_wheel(wheel))
    report.ask("contents of the sdist", lambda: check_sdist(sdist))
    report.ask("a wheel from the sdist is the same", lambda: check_same(sdist, wheel, folder / "same"))
    return wheel
