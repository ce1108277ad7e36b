"""Which machine runs kernels here, and why; what the doctor says of this one and of others."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from torchops.course import doctor, machine
from torchops.course.doctor import Looked
from torchops.course.folder import DEFAULT, start
from torchops.course.machine import Lack, lacking, versions

from .conftest import Servers
from .students import another_triton, course

AGAIN = "pip install 'torchops[course]'"
Installed = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """As if these versions were installed, and no others of these names."""
    known = machine.version

    def use(**named: str | None) -> None:
        monkeypatch.setattr(machine, "version", lambda name: named.get(name, known(name)))

    return use


class TestMachine:
    def test_is_tritons_compiler_where_it_is(self) -> None:
        assert lacking() is None
        found = versions()
        assert machine.machine().name == f"triton {found['triton']}, ttsem {found['ttsem']}"

    def test_is_the_stand_in_where_it_is_asked_for(self) -> None:
        assert "stand-in" in machine.machine("standin").name

    def test_lacks_triton(self, installed: Installed) -> None:
        installed(triton=None)
        assert lacking() == Lack("triton is not installed", AGAIN)

    def test_lacks_ttsem(self, installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
        installed(ttsem=None)
        monkeypatch.setattr("sys.version_info", (3, 12, 1))
        assert lacking() == Lack("ttsem is not installed", AGAIN)
        monkeypatch.setattr("sys.version_info", (3, 11, 7))
        assert re.fullmatch(r"ttsem asks for Python 3\.12, and this is 3\.[\d.]+", lacking().why)  # type: ignore[union-attr]

    @pytest.mark.parametrize("triton", ["3.7.1", "3.9.0", "3.8.1"])
    def test_has_another_triton(self, triton: str, installed: Installed) -> None:
        installed(triton=triton)
        assert lacking() == Lack(f"ttsem 0.1.0 reads what triton 3.8.0 writes, and triton {triton} is installed", AGAIN)

    def test_has_a_build_of_the_same_triton(self, installed: Installed) -> None:
        installed(triton="3.8.0+git1234")
        assert lacking() is None

    @pytest.mark.parametrize(("platform", "name"), [("darwin", "Darwin"), ("win32", "Windows")])
    def test_has_no_wheels_of_triton(self, platform: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setattr("platform.system", lambda: name)
        assert lacking() == Lack(f"triton has no wheels for {name}", "")

    def test_has_a_triton_that_is_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "ttsem.sanitize", None)
        assert lacking().why.startswith("triton or ttsem cannot be imported: ")  # type: ignore[union-attr]

    def test_interprets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert lacking() == Lack("TRITON_INTERPRET is set, so that nothing is compiled", "unset TRITON_INTERPRET")

    def test_is_refused_where_it_cannot_run(self, installed: Installed) -> None:
        installed(triton="3.7.1")
        with pytest.raises(
            RuntimeError, match=r"`engine` \(=ttsem\): ttsem 0\.1\.0 reads what triton 3\.8\.0 writes.*pip install"
        ):
            machine.machine("ttsem")
        with pytest.raises(ValueError, match=r"`engine` \(=numpy\): must be one of ttsem, standin"):
            machine.machine("numpy")


class TestDoctor:
    def test_finds_nothing_wrong_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: Servers) -> None:
        monkeypatch.setattr(doctor, "Server", lambda: nullcontext(servers(None)))
        start(tmp_path / DEFAULT)
        told = course(tmp_path, "doctor")
        assert told.exit_code == 0, told.stdout
        lines = {line[:22].strip(): line[22:].strip() for line in told.stdout.splitlines()}
        assert lines["engine"] == "triton 3.8.0, ttsem 0.1.0"
        assert lines["folder"] == str(tmp_path / DEFAULT)
        assert re.fullmatch(r"right, [\d.]+ s, [\d.]+ s of it after the start", lines["solution of lesson 1"])

    def test_needs_no_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_solved", lambda lesson: [Looked("solution", "right")])
        told = course(tmp_path, "doctor")
        assert told.exit_code == 0
        assert "none here or above; torchops course start makes" in told.stdout

    def test_says_what_is_to_be_done(
        self, installed: Installed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        another_triton(tmp_path, monkeypatch)
        installed(matplotlib=None)
        monkeypatch.setattr(doctor, "version", machine.version)
        told = course(tmp_path, "doctor")
        assert told.exit_code == 1
        lines = [line.strip() for line in told.stdout.splitlines()]
        why = "ttsem 0.1.0 reads what triton 3.8.0 writes, and triton 3.7.1 is installed"
        for name, said in (
            ("matplotlib", "is not installed: torchops course draw needs it"),
            ("engine", f"the stand-in, because {why}"),
        ):
            assert lines[lines.index(f"{name:<22} {said}") + 1] == AGAIN
        assert "right, " in told.stdout

    def test_finds_a_solution_that_is_not_right(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: Servers
    ) -> None:
        monkeypatch.setattr(doctor, "Server", lambda: nullcontext(servers(None)))
        monkeypatch.setattr("torchops.course.lesson.Lesson.solution", "def brighten(:")
        told = course(tmp_path, "doctor")
        assert told.exit_code == 1
        assert re.search(
            r"solution of lesson 1 +not right, .* s of it after the start: Python cannot read the file", told.stdout
        )

    def test_finds_a_folder_that_takes_no_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_solved", lambda lesson: [Looked("solution", "right")])
        start(tmp_path / DEFAULT)
        (tmp_path / DEFAULT / ".progress.lock").unlink()
        (tmp_path / DEFAULT / ".progress.lock").mkdir()
        told = course(tmp_path, "doctor")
        assert told.exit_code == 1
        assert "make it writable" in told.stdout
