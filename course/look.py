"""What a GPU would make of a student's kernels: registers, spills, and the instructions that move and multiply.

No GPU is needed. The launches of a step are caught, their kernels compiled for an H100, and their machine code is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from .lesson import Case, Lesson, Step, load
from .source import holes_before, holes_outside, read
from .source import load as load_source

ARCH, WARP = "sm_90", 32
SECONDS = 60.0
"""How long the compiler may take for all kernels of a lesson."""

MEANS = {
    "registers": "of a thread, of 255 at most. Few leave room for more programs at a time.",
    "spills": "instructions that put a value into memory or fetch it back, since all registers are taken. Best are none.",
    "loads": "instructions that load from memory, and the bits of each. One of 128 fetches four floats at once.",
    "stores": "instructions that store to memory, and the bits of each.",
    "matrix": "instructions of the matrix units (tl.dot), which multiply whole tiles.",
    "shared": "bytes of fast memory that the threads of a program share; tiles for tl.dot lie there.",
}
"""What the columns say, each in a sentence."""


@dataclass(frozen=True)
class Row:
    """A kernel, compiled for one launch."""

    step: str
    kernel: str
    case: str
    registers: int
    spills: int
    loads: dict[int, int]
    """How many instructions load so many bits."""
    stores: dict[int, int]
    matrix: int
    shared: int


class NotChecked(Exception):  # noqa: N818 (it is what is said of a kernel)
    """Nothing could be looked at; the message says why."""


def look(file: Path, lesson: Lesson, seconds: float = SECONDS) -> list[Row]:
    """Compile the kernels that the steps of a lesson launch, in a process of its own.

    Steps that are not filled in are left out.

    Raises:
        NotChecked: if there is no Triton here, if the file does not get as far as a launch, or if it takes too long.
    """
    if PathFinder.find_spec("triton") is None:  # whatever stands in for it
        raise NotChecked("not checked: there is no Triton here. It has wheels for Linux; the other commands need none.")
    if not any(step.look for step in lesson.steps):
        raise NotChecked(f"lesson {lesson.number} has nothing to look at")
    command = [sys.executable, "-m", __spec__.name, str(file.resolve()), lesson.folder.name]
    compiler = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    compiler["PYTHONPATH"] = os.pathsep.join(os.path.abspath(one) for one in sys.path)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=compiler)
    except subprocess.TimeoutExpired:
        raise NotChecked(f"not checked: Triton was not done after {seconds:g} s. Are the blocks very large?") from None
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise NotChecked(f"not checked: the compiling process ended ({last})") from None
    if isinstance(answer, str):
        raise NotChecked(f"not checked: {answer}")
    if not answer:
        raise NotChecked("not checked: no step that launches a kernel is filled in yet")
    return [Row(**{**row, **{side: _numbers(row[side]) for side in ("loads", "stores")}}) for row in answer]


def shown(rows: Sequence[Row]) -> str:
    """A table, and what its columns mean."""
    head = ("kernel", "inputs", "registers", "spills", "loads (bits)", "stores (bits)", "matrix", "shared")
    lines = [head, *(_line(row) for row in rows)]
    wide = [max(len(line[n]) for line in lines) for n in range(len(head))]
    right = (2, 3, 6, 7)
    table = [
        "  ".join(text.rjust(wide[n]) if n in right else text.ljust(wide[n]) for n, text in enumerate(line)).rstrip()
        for line in lines
    ]
    return "\n".join([*table, "", *(f"{name}: {means}" for name, means in MEANS.items())])


def _line(row: Row) -> tuple[str, ...]:
    loads, stores = (
        ", ".join(f"{n} x {bits}" for bits, n in side.items()) or "none" for side in (row.loads, row.stores)
    )
    numbers = (row.registers, row.spills, row.matrix, row.shared)
    registers, spills, matrix, shared = map(str, numbers)
    return row.kernel, row.case, registers, spills, loads, stores, matrix, shared


def _numbers(side: dict[str, int]) -> dict[int, int]:
    return {int(bits): n for bits, n in side.items()}


def rows(file: Path, lesson: Lesson) -> Iterator[Row]:
    """The kernels of a file, compiled in this process: a :class:`Row` for each that a case launches, the same ones once."""
    from torchops.inspect.machine_code import LOAD, MATRIX, STORE, machine_code, widths

    if lesson.prepare is not None:
        lesson.prepare()
    source = read(file)
    if holes_outside(source):
        return
    loaded = load_source(file, source)
    for step in lesson.steps:
        if holes_before(source, step, lesson.steps):
            continue
        for case in step.look:
            seen = set()
            for compiled in launched(loaded, step, case):
                if compiled.hash in seen:
                    continue
                seen.add(compiled.hash)
                code = machine_code(compiled)
                ops = [instruction.opcode for instruction in code.instructions]
                yield Row(
                    step.name, compiled.name, case.name, code.registers, code.spills, widths(ops, LOAD), widths(ops, STORE),
                    sum(bool(MATRIX.match(op)) for op in ops), compiled.metadata.shared,
                )  # fmt: skip


def launched(loaded: Any, step: Step, case: Case) -> list[Any]:
    """The kernels that a step launches, compiled and not run.

    Raises:
        NotChecked: if it gets no further.
    """
    from torchops.inspect.machine_code import stand_in_driver

    found: list[Any] = []
    more = {} if case.block is None else {"block": case.block}
    call = step.call or (lambda function, *inputs, **block: function(*inputs, **block))
    if not hasattr(loaded, step.function):
        raise NotChecked(f"the file has no function `{step.function}`")
    try:
        with stand_in_driver(ARCH, WARP), _compiling(found):
            call(getattr(loaded, step.function), *case.inputs(), **more)
    except Exception as error:  # whatever a student's file raises, and Triton's compiler
        raise NotChecked(
            f"step {step.name} does not get as far as machine code ({_last(error)}): check it first"
        ) from error
    return found


def _last(error: BaseException) -> str:
    """The last line of what an exception says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


@contextmanager
def _compiling(found: list[Any]) -> Iterator[None]:
    """In the block, launches of kernels are compiled, and kept in place of being run."""
    from triton.runtime.jit import JITFunction

    run = JITFunction.run

    def caught(self: Any, *args: Any, grid: Any, warmup: bool, **more: Any) -> Any:
        found.append(run(self, *args, grid=grid, warmup=True, **more))
        return found[-1]

    JITFunction.run = caught
    try:
        yield
    finally:
        JITFunction.run = run


def main() -> None:
    """What :func:`look` starts: rows, or a sentence, as JSON in the last line."""
    file, name = sys.argv[1:]
    answer: Any
    try:
        answer = [asdict(row) for row in rows(Path(file), load(name))]
    except NotChecked as error:
        answer = str(error)
    except Exception as error:  # whatever a student's file raises
        answer = f"{Path(file).name} cannot be run ({_last(error)}): check it first"
    print(f"\n{json.dumps(answer)}")


if __name__ == "__main__":
    main()
