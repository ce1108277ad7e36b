"""Whatever a student's file does, the process that has asked goes on, and what is said of it is understood."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchops.course.lesson import load
from torchops.course.server import Server
from torchops.course.words import shown

from .conftest import Servers

FOLDER = Path(__file__).parent / "lessons" / "03_pad"
HOST = "    C, H, W = x.shape\n"

HOSTILE = {
    "exits": ("import os; os._exit(3)", "exit", "The file ended the process"),
    "leaves": ("raise SystemExit(3)", "exit", "remove exit()"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "crash", "Python itself crashed"),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "crash", "Your progress is kept"),
    "hangs": ("while True: pass", "timeout", "Does the loop end?"),
    "hangs within C": ("import re; re.match('(a+)+$', 'a' * 50 + 'b')", "timeout", "What takes so long there?"),
    "takes no end": (
        "\n    while True:\n        try:\n            import time; time.sleep(9)\n        except BaseException: pass",
        "killed",
        "Does something not end?",
    ),
    "floods": ("\n    while True: print('x' * 1000)", "timeout", "lines more"),
    "asks": ("input('your name? ')", "exception", "EOFError"),
    "closes what it prints to": ("import os; os.close(1); os.close(2); os._exit(0)", "exit", "The file ended the process"),
    "recurses": ("pad(x, n, mode, value)", "exception", "RecursionError"),
}  # fmt: skip


def student(code: str) -> str:
    """The right padding, with code in its launcher."""
    return load(FOLDER).solution.replace(HOST, f"    {code}\n{HOST}")


def verdict(server: Server, file: Path, source: str) -> tuple[str, str]:
    file.write_text(source, encoding="utf-8")
    report = server.check(file, FOLDER)
    return report.verdict, shown(report, source)


@pytest.fixture(scope="module")
def hard() -> Iterator[Server]:
    """One that does not wait long."""
    with Server("standin", fork=True, limit=0.5, hard=3.0) as server:
        yield server


@pytest.mark.parametrize("name", HOSTILE)
def test_survives(hard: Server, name: str, tmp_path: Path) -> None:
    code, kind, phrase = HOSTILE[name]
    got, said = verdict(hard, tmp_path / "pad.py", student(code))
    assert got == kind, said
    assert phrase in said
    assert verdict(hard, tmp_path / "pad.py", load(FOLDER).solution)[0] == "ok"


def test_survives_without_fork(tmp_path: Path) -> None:
    with Server("standin", fork=False, limit=0.5, hard=10.0) as server:
        for name in ("crashes", "floods"):
            code, kind, phrase = HOSTILE[name]
            got, said = verdict(server, tmp_path / "pad.py", student(code))
            assert got == kind, said
            assert phrase in said


def test_names_the_line_of_a_crash(hard: Server, tmp_path: Path) -> None:
    source = student("import ctypes; ctypes.string_at(0)")
    _, said = verdict(hard, tmp_path / "pad.py", source)
    assert "ctypes.string_at(0)" in said


def test_shows_what_is_printed(hard: Server, tmp_path: Path) -> None:
    _, said = verdict(hard, tmp_path / "pad.py", student("print('shape', tuple(x.shape), '\\x1b[31mred\\x1b[0m')"))
    assert "printed:\n  shape (1, 5, 7) red" in said


def test_files_beside_it_are_found(hard: Server, tmp_path: Path) -> None:
    (tmp_path / "border.py").write_text("WIDTH = 1\n")
    assert verdict(hard, tmp_path / "pad.py", "from border import WIDTH\n" + load(FOLDER).solution)[0] == "ok"


def ends(pid: int) -> bool:
    """Whether a process ends soon; nobody may have asked yet how."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("then", ["ends", "does not end"])
def test_the_process_that_checks_is_killed(then: str, tmp_path: Path) -> None:
    """Nobody waits for what it has started, and that does not go on."""
    pid = tmp_path / "pid"
    code = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); os.kill(os.getppid(), 9)"
    if then == "does not end":
        code += f"\n    {HOSTILE['takes no end'][0].strip()}"
    with Server("standin", fork=True) as server:
        got, _ = verdict(server, tmp_path / "pad.py", student(code))
        assert got == "crash"
        assert ends(int(pid.read_text()))
        assert verdict(server, tmp_path / "pad.py", load(FOLDER).solution)[0] == "ok"


FILES = {
    "empty": (b"", "missing", "no function `pad`"),
    "of another alphabet": ("# é\n".encode("latin-1"), "syntax", "no UTF-8"),
    "of zeros": (b"x = 1\n\0\0", "syntax", "Python cannot read the file"),
    "indented": (b"def pad(x):\nreturn x\n", "syntax", "line 2"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(servers: Servers, name: str, tmp_path: Path) -> None:
    content, kind, phrase = FILES[name]
    file = tmp_path / "pad.py"
    file.write_bytes(content)
    report = servers("ttsem").check(file, FOLDER)
    assert report.verdict == kind
    assert phrase in shown(report, content.decode(errors="replace"))


@pytest.mark.parametrize("how", ["mark", "line ends"])
def test_editors_of_windows(servers: Servers, how: str, tmp_path: Path) -> None:
    solution = load(FOLDER).solution
    file = tmp_path / "pad.py"
    file.write_bytes(b"\xef\xbb\xbf" + solution.encode() if how == "mark" else solution.replace("\n", "\r\n").encode())
    assert servers("ttsem").check(file, FOLDER).verdict == "ok"


def test_no_file(servers: Servers, tmp_path: Path) -> None:
    for file in (tmp_path / "pad.py", tmp_path):
        report = servers("ttsem").check(file, FOLDER)
        assert report.verdict == "missing"
        assert "Has it been renamed, or moved?" in shown(report, "")


def test_folder_that_cannot_be_written_to(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "pad.py"
    file.write_text(load(FOLDER).solution)
    tmp_path.chmod(0o500)
    try:
        assert servers("ttsem").check(file, FOLDER).verdict == "ok"
        assert list(tmp_path.iterdir()) == [file]  # also where everything is allowed, nothing is left behind
    finally:
        tmp_path.chmod(0o700)


def test_two_saves_within_a_second(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "pad.py"
    solution = load(FOLDER).solution
    for source, kind in ((solution, "ok"), (solution.replace("& (h < H)", "& (h < 0)"), "values"), (solution, "ok")):
        assert verdict(servers("ttsem"), file, source)[0] == kind
        os.utime(file, (1e9, 1e9))


def test_rejects_a_step_that_is_not_there(servers: Servers) -> None:
    with pytest.raises(ValueError, match="`step` \\(=7\\): lesson 3 has steps 1"):
        servers("ttsem").check(FOLDER / "solution.py", FOLDER, "7")


def test_rejects_a_lesson_that_is_not_there(servers: Servers) -> None:
    with pytest.raises(KeyError, match="there is no lesson 'nothing'"):
        servers("ttsem").check(FOLDER / "solution.py", "nothing")


def test_rejects_a_machine_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="must be one of"), Server("abacus"):
        pass


def test_starts_with_the_python_that_asks(servers: Servers, tmp_path: Path) -> None:
    _, said = verdict(servers("ttsem"), tmp_path / "pad.py", student("import sys; print(sys.executable)"))
    assert sys.executable in said
