"""`make new-op`: what it writes passes as it is, and it writes all or nothing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tools.new_op import __main__ as tool

from .copies import copy_sources, run_python, run_tests

NAME = "brighten_twice"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with an op more."""
    folder = tmp_path_factory.mktemp("project")
    copy_sources(folder)
    done = run_python(folder, ["-m", "tools.new_op", NAME])
    assert done.returncode == 0, done.stdout
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "ruff", "format", "--no-cache", "--check", "."],
        ["-m", "ruff", "check", "--no-cache", "."],
        ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
    ],
    ids=["format", "check", "imports"],
)
def test_the_skeleton_passes_the_linters(project: Path, command: list[str]) -> None:
    done = run_python(project, command)
    assert done.returncode == 0, done.stdout


OF_ALL_OPS = ("catalog", "raw_operators", "bench_cases", "docs", "graphs_aten")
"""The files with tests that the new op has to be known to."""
OWN = "matches or gradcheck or vmap or fake or rejects or opcheck_empty or one_name or calls or rehearsed or examples"
OWN += " or samples or themselves or not_bound"


@pytest.mark.parametrize(
    ("tier", "files", "some"),
    [
        ("aten", (NAME, *OF_ALL_OPS), f"list_of_ops or is_here or has_one or ({NAME} and ({OWN}))"),
        ("interpreter", (NAME,), "matches or strides"),
        ("ir", (NAME,), "matches or rounds"),
        ("compile", (NAME,), "128 or allocates"),
    ],
    ids=["aten", "interpreter", "ir", "compile"],
)
def test_the_skeleton_passes_its_tests(project: Path, tier: str, files: tuple[str, ...], some: str) -> None:
    """Some of each tier, which is asked the whole of an op that is one."""
    if tier == "ir" and find_spec("ttsem") is None:
        pytest.skip("ttsem takes the pinned triton only")
    done = run_tests(project, tier, *(f"tests/test_{file}.py" for file in files), "-k", some)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("2x", r"lower-case identifier that Python does not use itself, got '2x'"),
        ("Blur", r"lower-case identifier .* got 'Blur'"),
        ("../blur", r"lower-case identifier .* got '\.\./blur'"),
        ("lambda", r"lower-case identifier .* got 'lambda'"),
        ("sum", r"lower-case identifier .* got 'sum'"),
        ("sobel", r"'sobel' is taken: there is bench/bench_sobel\.py"),
        ("planning", r"'planning' is taken: there is kernels/planning"),
        ("inspect", r"'inspect' is taken: there is torchops/inspect"),
        ("max_unpool2d", r"'max_unpool2d' is taken: there is kernels/max_unpool2d\.py"),
        ("pad", r"'pad' is taken: torchops/reference\.py calls something else by it"),
        ("triton", r"'triton' is taken: kernels/triton\.py calls something else by it"),
    ],
)
def test_refuses(name: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    monkeypatch.setattr(tool, "_write", None)
    with pytest.raises(tool.RefusedError, match=complaint):
        tool.new_op(name)


def test_writes_all_or_nothing(tmp_path: Path) -> None:
    listing, new, nowhere = tmp_path / "listing.py", tmp_path / "new.py", tmp_path / "no" / "folder.py"
    listing.write_text("before")
    with pytest.raises(FileNotFoundError):
        tool._write({listing: "after", new: "new", nowhere: "new"})
    assert listing.read_text() == "before"
    assert list(tmp_path.iterdir()) == [listing]


def test_says_which_files_it_has_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tool, "_write", lambda files: None)
    assert tool.main([NAME]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["new"] * 6 + ["lists"] * 8
    assert {line.split()[-1] for line in lines} >= {
        f"kernels/{NAME}.py",
        f"tests/test_{NAME}.py",
        "torchops/catalog.py",
    }
    assert tool.main([]) == tool.main(["a", "b"]) == 2
