"""The checker: what it knows of memory, of time, of what a file raises, and what it says it cannot tell."""

from __future__ import annotations

import contextlib
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from torchops.course.faults import Expired, Stopped, fault_of, line_in, time_limit
from torchops.course.lesson import Complaint, load
from torchops.course.memory import Memory
from torchops.course.report import Fault
from torchops.course.words import shown

from .conftest import Servers

FOLDER = Path(__file__).parent / "lessons" / "03_pad"


def base(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("make", [
    lambda: torch.empty(2, 3), lambda: torch.empty_like(torch.ones(2, 3)), lambda: torch.ones(5).new_empty(2, 3),
    lambda: torch.empty_strided((2, 3), (3, 1)), lambda: torch.ones(5).new_empty_strided((2, 3), (3, 1)),
], ids=["empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"])  # fmt: skip
def test_memory_is_blank(make) -> None:  # type: ignore[no-untyped-def]
    with Memory() as memory:
        made = make()
    assert made.isnan().all()
    unwritten = memory.unwritten(made)
    assert unwritten is not None
    assert unwritten.all()
    memory.stored(base(made), np.array([0, 4]), 4)
    assert memory.missing(base(made), np.arange(6), 4).tolist() == [1, 2, 3, 5]
    assert (~memory.unwritten(made)).nonzero().tolist() == [[0, 0], [1, 1]]
    assert memory.unwritten(made.T[1:]).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool, torch.float16, torch.bfloat16])
def test_memory_of_every_type(dtype: torch.dtype) -> None:
    with Memory() as memory:
        made = torch.empty(3, dtype=dtype)
    memory.stored(base(made), np.array([1]), made.element_size())
    assert memory.unwritten(made).tolist() == [True, False, True]


def test_what_torch_has_written_is_written() -> None:
    with Memory() as memory:
        filled, part, copied = torch.empty(3).fill_(1.0), torch.empty(3), torch.ones(3).clone()
        part[0] = 1.0
    for one in (filled, part, copied, torch.ones(3)):
        assert memory.unwritten(one) is None
        assert not memory.missing(base(one), np.arange(3), 4).size


def test_memory_is_blank_in_the_block_only() -> None:
    with Memory() as memory:
        torch.empty(3)
    assert memory.unwritten(torch.empty(3)) is None


@pytest.mark.parametrize("alarm", [True, False])
def test_time_is_over(alarm: bool) -> None:
    def endless() -> None:
        while True:
            pass

    with pytest.raises(Expired), time_limit(0.05, alarm=alarm):
        endless()


@pytest.mark.parametrize("alarm", [True, False])
def test_time_is_over_again_where_nobody_has_heard(alarm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchops.course.faults.AGAIN", 0.05)

    def endless() -> None:
        with contextlib.suppress(Expired):
            while True:
                pass
        while True:
            pass

    with pytest.raises(Expired), time_limit(0.05, alarm=alarm):
        endless()


class Slow:
    """Nobody hears what is raised while it goes away."""

    def __del__(self) -> None:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass


class Gone:
    """Nobody hears what is raised when it is gone, either."""


@pytest.mark.parametrize("way", ["__del__", "weakref"])
@pytest.mark.parametrize("alarm", [True, False])
def test_time_is_over_where_exceptions_are_ignored(alarm: bool, way: str) -> None:
    def endless() -> None:
        if way == "__del__":
            Slow()
        kept: weakref.WeakKeyDictionary[Gone, int] = weakref.WeakKeyDictionary()
        while True:
            kept[Gone()] = 1

    with pytest.raises(Expired), time_limit(0.05, alarm=alarm):
        endless()


@pytest.mark.parametrize("alarm", [True, False])
def test_time_is_not_over(alarm: bool) -> None:
    with time_limit(0.05, alarm=alarm):
        pass
    time.sleep(0.1)


def raising(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (ValueError("no"), "exception", "ValueError: no"),
        (KeyError(), "exception", "KeyError"),
        (Complaint("Too slow."), "says", "Too slow."),
        (Expired(), "timeout", "5"),
        (SystemExit(3), "exit", ""),
        (Stopped(Fault("race", 7)), "race", ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults(error: BaseException, kind: str, detail: str) -> None:
    fault = fault_of(raising(error), Path(__file__), 5.0)
    assert (fault.kind, fault.detail) == (kind, detail)
    assert fault.line == (7 if kind == "race" else line_in(error, Path(__file__)))
    assert fault.line


def test_an_interrupt_is_none_of_a_students_faults() -> None:
    with pytest.raises(KeyboardInterrupt):
        fault_of(KeyboardInterrupt(), Path(__file__), 5.0)


def test_the_line_is_that_of_what_an_exception_comes_from() -> None:
    def wrapped() -> None:
        try:
            raise ValueError("no")
        except ValueError as error:
            raise RuntimeError("torch has caught it") from error

    with pytest.raises(RuntimeError) as caught:
        wrapped()
    line = line_in(caught.value, Path(__file__))
    assert Path(__file__).read_text().splitlines()[line - 1].strip() in (
        'raise RuntimeError("torch has caught it") from error',
        "wrapped()",
    )
    assert line_in(caught.value, Path("elsewhere.py")) == 0


CAUGHT = """    try:
        pad_kernel[grid](x, y, H, W, P, Q, *x.stride(), value, PAD=n, REFLECT=mode == "reflect", BLOCK=block)
    except Exception:
        y = torch.nn.functional.pad(x, (n,) * 4, value=value)
"""


def test_a_fault_that_a_file_hides_is_found(servers: Servers, tmp_path: Path) -> None:
    solution = load(FOLDER).solution.replace(", mask=q < Q", "")
    launch = next(line for line in solution.splitlines(keepends=True) if "pad_kernel[grid]" in line)
    file = tmp_path / "pad.py"
    file.write_text(solution.replace(launch, CAUGHT))
    assert servers("ttsem").check(file, FOLDER).verdict == "oob_write"


COPY = "[(1, 1)]({}, {}, 1, 1, 1, 1, 1, 1, 1, 0.0, PAD=0, REFLECT=False, BLOCK=16)"
LEGITIMATE = {
    "255 of an input": ("(x * 0 + 255).to(torch.uint8).contiguous()", ("z", "torch.zeros_like(z)")),
    "NaN of an input": ("x * float('nan')", ("z", "torch.zeros_like(z)")),
    "what another kernel has stored": ("torch.empty_like(x)", ("x", "z"), ("z", "torch.zeros_like(x)")),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_no_false_alarm_of_blank_memory(servers: Servers, name: str, tmp_path: Path) -> None:
    file = tmp_path / "pad.py"
    solution = load(FOLDER).solution
    made, *copies = LEGITIMATE[name]
    more = f"    z = {made}\n" + "".join(f"    pad_kernel{COPY.format(*copy)}\n" for copy in copies)
    file.write_text(solution.replace("    P, Q = y.shape[1:]\n", "    P, Q = y.shape[1:]\n" + more))
    report = servers("ttsem").check(file, FOLDER)
    assert report.verdict == "ok", shown(report, file.read_text())


def test_what_ttsem_cannot_execute_is_not_checked(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "pad.py"
    source = load(FOLDER).solution.replace(
        "    tl.store(y_ptr",
        '    x = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], tl.float32, True, 1)\n    tl.store(y_ptr',
    )
    file.write_text(source)
    report = servers("ttsem").check(file, FOLDER)
    assert report.verdict == "unchecked"
    assert "it may be right or wrong" in shown(report, source)


def test_what_a_later_step_checks_is_not_said_to_be_unchecked(servers: Servers, tmp_path: Path) -> None:
    lesson = load("pixels")
    file = tmp_path / "pixels.py"
    file.write_text(lesson.solution)
    server = servers("ttsem")
    assert "Not checked" not in shown(server.check(file, lesson.folder), lesson.solution)
    alone = shown(server.check(file, lesson.folder, step="1"), lesson.solution)
    assert "Not checked: offsets beyond 2^31 (step 1)." in alone


def test_too_many_accesses_are_said(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "pad.py"
    loop = "    for _ in range(150):\n        x += 0 * tl.sum(tl.load(x_ptr + tl.arange(0, 4096) % 32), 0)\n"
    source = load(FOLDER).solution.replace("    tl.store(y_ptr", loop + "    tl.store(y_ptr")
    file.write_text(source)
    report = servers("ttsem").check(file, FOLDER)
    assert "Not checked: loads of what nobody has written: a kernel makes more than 4,000,000 accesses" in shown(
        report, source
    )
