"""Importing: quick, quiet, without triton and without anything heavy. And the package: what is in it, what it asks for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import torchops
from tools import lock
from tools.lock import EXTRAS

from .release.smoke import SMOKE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "locks").glob("dev-*.txt"))
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_that_torch_does_not() -> None:
    code = """
import sys, torch
before = set(sys.modules)
import torchops
new = set(sys.modules) - before
print(sorted({name.partition(".")[0] for name in new} | {name for name in new if name.startswith("torchops.course")}))
"""
    found = eval(_python(code))
    heavy = {"triton", "numpy", "matplotlib", "rich", "typer", "PIL", "cv2", "kornia", "psutil", "skimage"}
    assert "torchops" in found
    assert not heavy & set(found)
    assert not [name for name in found if name.startswith("torchops.")]


def test_works_without_triton() -> None:
    code = """
import sys
sys.modules["triton"] = None  # as if it were not installed
import torch, torchops
x = torch.rand(1, 3, 8, 8, requires_grad=True)
torchops.sobel(x).sum().backward()
print(x.grad.shape)
"""
    assert _python(code) == "torch.Size([1, 3, 8, 8])"


@pytest.mark.parametrize("missing", ["typer", "rich", "PIL", "numpy", "psutil"])
def test_command_says_which_extra_is_missing(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from torchops.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"torchops: the command line needs {missing}: pip install 'torchops[cli]'\n")
    assert "Traceback" not in done.stderr


def test_kernels_models_and_the_course_are_ours_under_their_long_names_only() -> None:
    import torchops.course
    import torchops.kernels.sobel
    import torchops.models

    assert torchops.course.__name__ == "torchops.course"
    assert torchops.kernels.sobel.__name__ == "torchops.kernels.sobel"
    assert torchops.models.__name__ == "torchops.models"


def test_every_package_of_the_tree_is_built() -> None:
    """A folder that pyproject.toml does not name is in the tree and not in the wheel."""
    settings = _PROJECT["tool"]["setuptools"]
    found = {
        ".".join((package, *file.parent.relative_to(ROOT / folder).parts))
        for package, folder in settings["package-dir"].items()
        for file in (ROOT / folder).rglob("__init__.py")
        if not file.parent.is_symlink()
    }
    assert found == set(settings["packages"])


def test_a_version_and_its_day_are_the_first_of_the_changelog() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if not heading.startswith("[Unreleased]")]
    assert re.fullmatch(rf"\[{re.escape(torchops.__version__)}\] - \d{{4}}-\d\d-\d\d", released[0])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f"[{citation['version']}] - {citation['date-released']}" == released[0]


def test_every_extra_is_tried_before_a_release() -> None:
    assert set(_PROJECT["project"]["optional-dependencies"]) <= set(SMOKE)


def _pins(file: Path) -> dict[str, str]:
    """The versions of a file of constraints or of a lock, without what is for other Pythons."""
    lines = (line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    required = [Requirement(line.split(" --hash")[0].rstrip(" \\")) for line in lines if "==" in line]
    python = {"python_version": re.sub(r".*dev-|\.txt", "", file.name)} if file.parent.name == "locks" else {}
    return {
        r.name.replace("_", "-").lower(): str(r.specifier)[2:]
        for r in required
        if not r.marker or r.marker.evaluate(python)
    }


def _asked(extra: str) -> dict[str, Requirement]:
    """What an extra asks for, extras that it names included."""
    found: dict[str, Requirement] = {}
    for line in _PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == "torchops":
            for other in requirement.extras:
                found |= _asked(other)
        else:
            found[requirement.name.replace("_", "-").lower()] = requirement
    return found


def asked(*extras: str) -> dict[str, Requirement]:
    """What torchops and its extras ask for, by name: those that are named, or all."""
    alone = {r.name: r for r in map(Requirement, _PROJECT["project"]["dependencies"])}
    found = (_asked(extra) for extra in extras or _PROJECT["project"]["optional-dependencies"])
    return dict(pair for part in (alone, *found) for pair in part.items())


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.stem)
def test_a_lock_has_what_the_development_environment_asks_for(file: Path) -> None:
    locked, pinned = _pins(file), _pins(ROOT / "constraints.txt")
    wanted = asked(*(extra for extra in EXTRAS if extra in _PROJECT["project"]["optional-dependencies"]))
    assert wanted.keys() <= locked.keys(), "make lock"
    assert [name for name, r in wanted.items() if not r.specifier.contains(locked[name])] == []
    assert {name: locked[name] for name in locked.keys() & pinned.keys()} == {
        name: version for name, version in pinned.items() if name in locked
    }


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.stem)
def test_a_lock_has_hashes_and_names_no_place(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-zA-Z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    assert [block for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", block)] == []
    assert not re.search(r"://|file:|--index|--find-links|--trusted", text)


def test_torch_and_triton_are_to_be_had_for_the_pythons_that_are_named() -> None:
    named = {line.rsplit(" ", 1)[1] for line in _PROJECT["project"]["classifiers"] if "Python :: 3." in line}
    assert named == {"3.10", "3.11", "3.12", "3.13"}
    assert _PROJECT["project"]["requires-python"] == f">={min(named, key=lambda v: int(v[2:]))}"


def test_a_lock_is_written_of_what_pip_would_install() -> None:
    def item(name: str, *, direct: bool = False, **hashes: str) -> dict[str, object]:
        return {
            "metadata": {"name": name, "version": "1.0"},
            "download_info": {"archive_info": {"hashes": hashes}},
            "is_direct": direct,
        }

    sha256 = "0a" * 32
    found = lock.lines({"install": [item("Typing_extensions", sha256=sha256), item("torchops", direct=True)]})
    assert found == [f"typing-extensions==1.0 --hash=sha256:{sha256}"]
    for wrong in (item("numpy"), item("numpy", md5=sha256), item("numpy", direct=True, sha256=sha256)):
        with pytest.raises(ValueError, match=r"numpy 1\.0 has no sha256 of an index"):
            lock.lines({"install": [wrong]})


def test_a_lock_is_asked_of_pypi_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"):
        monkeypatch.setenv(name, "/somewhere")
    asked_with = {name: value for name, value in lock.from_pypi().items() if name.startswith("PIP_")}
    assert asked_with == {"PIP_CERT": "/somewhere", "PIP_CONFIG_FILE": "/dev/null"}
