"""What `make release` asks is noticed when it is wrong."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .release import artifacts, pythons
from .release.report import Report, run, want


def _wheel(folder: Path, **changes: bytes | None) -> Path:
    """A wheel as it should be, with other contents of some files; None leaves one out."""
    files = {name: file.read_bytes() for name, file in artifacts.sources().items() if artifacts.needed(name)}
    own = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
    files |= {f"torchops-0.2.0.dist-info/{name}": b"" for name in own}
    wheel = folder / "torchops-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, contents in {**files, **changes}.items():
            if contents is not None:
                archive.writestr(name, contents)
    return wheel


def test_a_whole_wheel_is_right(tmp_path: Path) -> None:
    assert "files" in artifacts.check_wheel(_wheel(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torchops/models/inside/fields.py": None}, "missing: .'torchops/models/inside/fields.py'"),
        ({"torchops/py.typed": None}, "missing: .'torchops/py.typed'"),
        ({"torchops/kernels/configs/H100.json": None}, "missing"),
        ({"torchops/course/lessons/01_pixels/page.md": None}, "missing"),
        ({"tests/test_package.py": b""}, "no file of the package: .'tests/test_package.py'"),
        ({"kernels/sobel.py": b""}, "no file of the package"),
        ({"torchops/nn.py": b"changed"}, "other contents"),
        ({"torchops-0.2.0.dist-info/licenses/LICENSE": None}, "dist-info holds .'METADATA'"),
    ],
)
def test_a_wheel_that_is_not_is_noticed(tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        artifacts.check_wheel(_wheel(tmp_path, **change))


def test_a_link_in_an_sdist_is_noticed(tmp_path: Path) -> None:
    sdist = tmp_path / "torchops-0.2.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        link = tarfile.TarInfo("torchops-0.2.0/torchops/kernels")
        link.type, link.linkname = tarfile.SYMTYPE, "../kernels"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("torchops-0.2.0/README.md"), io.BytesIO())
    with pytest.raises(AssertionError, match=r"links and devices: \['torchops/kernels'\]"):
        artifacts.check_sdist(sdist)


def test_a_report_goes_on_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    assert report.ask("right", lambda: "found")
    assert not report.ask("wrong", lambda: str(want(1 > 2, "one is less")))
    assert not report.ask("fails", lambda: run(sys.executable, "-c", "print('before'); raise SystemExit(3)"))
    assert report.close() == 1
    said = capsys.readouterr().out
    assert said.endswith("\n1 passed, 2 failed\n")
    for part in ("ok      right", "one is less", "exit code 3", "before"):
        assert part in said


def test_an_interpreter_is_found_by_its_version_or_its_path() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    for asked in (version, sys.executable):
        said = subprocess.run([pythons.find(asked), "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        assert said.stdout.strip() == version
    with pytest.raises(FileNotFoundError, match=r"no Python 2\.4 "):
        pythons.find("2.4")
