"""What is found when small kernels run: the same by the stand-in as by the compiler and ttsem."""

from __future__ import annotations

import pytest
import torch

from .bench import FIRST, HEAD, Bench


@pytest.mark.parametrize(
    ("body", "kind", "buffer", "past", "before"),
    [
        ("tl.store(y_ptr + i, tl.load(x_ptr + i))", "oob_read", "x_ptr", 5, 0),
        ("tl.store(y_ptr + i, tl.load(x_ptr + i - 6, mask=i < 6))", "oob_read", "x_ptr", 0, 6),
        ("tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < 4))", "oob_read", "x_ptr", 1, 0),
        ("tl.store(y_ptr + 3 * i, 1.0)", "oob_write", "y_ptr", 5, 0),
        ("tl.atomic_add(y_ptr + 8, 1.0)", "oob_read", "y_ptr", 1, 0),
    ],
)
def test_accesses_outside(body: str, kind: str, buffer: str, past: int, before: int, bench: Bench) -> None:
    fault = bench.fault(body, [1.0, 2.0, 3.0])
    assert (fault.kind, fault.buffer, fault.past, fault.before, fault.line) == (kind, buffer, past, before, FIRST)


def test_a_view_may_read_what_lies_beside_it(bench: Bench) -> None:
    x = torch.arange(10.0)
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i - 1))", x[2:4]) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_lanes_of_a_store(bench: Bench) -> None:
    fault = bench.fault("tl.store(y_ptr + i // 2, i)")
    assert (fault.kind, fault.buffer, fault.element, fault.line) == ("lanes", "y_ptr", 0, FIRST)
    assert bench.values("tl.store(y_ptr + i // 2, i // 2)") == [0, 1, 2, 3, 0, 0, 0, 0]


PROGRAM = "p = tl.program_id(0)\n"


@pytest.mark.parametrize(
    ("body", "both_store", "element"),
    [
        ("tl.store(y_ptr + p // 2, p)", True, 0),
        ("tl.store(y_ptr + 1, tl.load(y_ptr + p) + p + 1)", True, 1),
        ("x = tl.load(y_ptr + p)\ntl.store(y_ptr + p + 1, x + 1)", False, 1),
        ("tl.atomic_add(y_ptr + 2, 1.0)\ntl.store(x_ptr + p * 0, tl.load(y_ptr + p) * 0)", False, 2),
        ("tl.atomic_add(y_ptr, 1.0)\ntl.store(y_ptr, 1.0, mask=p == 3)", False, 0),
    ],
)
def test_races(body: str, both_store: bool, element: int, bench: Bench) -> None:
    fault = bench.fault(PROGRAM + body, grid=(4,))
    assert (fault.kind, fault.buffer, fault.both_store, fault.element) == ("race", "y_ptr", both_store, element)
    assert len(set(fault.programs)) == 2
    # the same from the last program to the first, where a race stops nobody
    assert bench.run(PROGRAM + body, grid=(4,), order="backward").fault is None


@pytest.mark.parametrize(
    "body",
    [
        "tl.store(y_ptr, 1.0)",
        "tl.store(y_ptr, p)\ntl.store(y_ptr, 7.0)",
        "x = tl.load(y_ptr + p)\ntl.store(y_ptr, 0.0)",
        "tl.atomic_add(y_ptr, 1.0)",
        "x = tl.load(x_ptr)\ntl.store(y_ptr + p, x)",
    ],
)
def test_what_is_no_race(body: str, bench: Bench) -> None:
    assert bench.run(PROGRAM + body, grid=(4,)).fault is None


def test_updates_add_up(bench: Bench) -> None:
    assert bench.values("tl.atomic_add(y_ptr + i // 2, i)", grid=(3,)) == [3, 15, 27, 39, 0, 0, 0, 0]
    assert bench.values("tl.store(y_ptr + 1, tl.atomic_add(y_ptr, 2.0))")[:2] == [2, 0]
    assert bench.values("tl.atomic_add(y_ptr + i, 1.0, mask=i > 5)", grid=(2, 2)) == [0] * 6 + [4, 4]


def test_the_order_of_programs(bench: Bench) -> None:
    body = "p = tl.program_id(0) + 2 * tl.program_id(1)\ntl.store(y_ptr, p)"
    assert bench.values(body, grid=(2, 3), order="forward")[0] == 5
    assert bench.values(body, grid=(2, 3), order="backward")[0] == 0


def test_a_division_by_zero(bench: Bench) -> None:
    fault = bench.fault("tl.store(y_ptr + i, i // (n - 5))")
    assert (fault.kind, fault.line, fault.detail) == ("undefined", FIRST, "integer division by zero")
    assert bench.fault("tl.store(y_ptr + i, n % i)").kind == "undefined"


def test_loads_of_what_nobody_has_written(bench: Bench) -> None:
    made = bench.module(HEAD + "    tl.store(y_ptr + i, tl.load(x_ptr + i), mask=i < n)\n")

    def call(n: int) -> None:
        x, y = torch.empty(8), torch.empty(8)
        x[:] = 1
        made.kernel[(1,)](x, y, n, BLOCK=8)
        made.kernel[(1,)](y, x, 5, BLOCK=8)

    assert bench.tried(lambda: call(8)).fault is None
    fault = bench.tried(lambda: call(3)).fault
    assert fault is not None
    assert (fault.kind, fault.buffer, fault.element, fault.line) == ("uninitialised", "x_ptr", 3, FIRST)


def test_loops_that_do_not_end(bench: Bench) -> None:
    made = bench.module(HEAD + "    while n > 0:\n        tl.store(y_ptr, n)\n")
    ran = bench.tried(lambda: made.kernel[(1,)](torch.zeros(8), torch.zeros(8), 5, BLOCK=8), 0.5)
    assert ran.fault is not None
    assert (ran.fault.kind, ran.fault.line) == ("timeout", FIRST)


def test_what_launches_leave(bench: Bench) -> None:
    body = PROGRAM + 'x = tl.load(x_ptr + i, mask=i < 3, other=0)\ntl.store(y_ptr + p, tl.sum(x, 0))\nprint("p", p)'
    ran = bench.run(body, [1.0, 2.0, 3.0], grid=(2,))
    (launch,) = ran.launches
    assert (launch.kernel, launch.grid) == ("kernel", (2, 1, 1))
    assert launch.accesses is not None
    found = [
        (a.program, a.buffer, a.stores, a.loads, a.elements.tolist(), a.line - FIRST, a.itemsize)
        for a in launch.accesses
    ]
    assert found == [
        ((0, 0, 0), "x_ptr", False, True, [0, 1, 2], 1, 4),
        ((0, 0, 0), "y_ptr", True, False, [0], 2, 4),
        ((1, 0, 0), "x_ptr", False, True, [0, 1, 2], 1, 4),
        ((1, 0, 0), "y_ptr", True, False, [1], 2, 4),
    ]
    after = launch.buffers["y_ptr"].values
    assert after is not None
    assert after.tolist() == [6, 6, 0, 0, 0, 0, 0, 0]
    assert ran.printed == ("(0, 0, 0)  p: 0", "(1, 0, 0)  p: 1")


FAR = """
@triton.jit
def far_kernel(x_ptr, n, WIDE: tl.constexpr):
    p = tl.program_id(0)
    if WIDE:
        p = p.to(tl.int64)
    tl.store(x_ptr + p * n + tl.arange(0, 8), 1.0)


def fill(x, wide):
    far_kernel[(x.shape[0],)](x, x.shape[1], WIDE=wide)
    return x
"""


def test_offsets_beyond_two_billion(bench: Bench) -> None:
    made = bench.module(HEAD.partition("@triton.jit")[0] + FAR)
    x = torch.empty(3000, 1000**2, device="meta")
    assert bench.machine.far(lambda: made.fill(x, True), bench.file) is None
    fault = bench.machine.far(lambda: made.fill(x, False), bench.file)
    assert fault is not None
    assert (fault.kind, fault.buffer, fault.programs) == ("far", "x_ptr", ((2999, 0, 0),))
    assert fault.element == 2999 * 1000**2 - 2**32
    assert bench.machine.far(lambda: made.fill(x[:2000], False), bench.file) is None
    nothing = bench.machine.far(lambda: x, bench.file)
    assert nothing is not None
    assert nothing.kind == "unchecked"


def test_python_calls_no_kernel(bench: Bench) -> None:
    made = bench.module(HEAD + "    tl.store(y_ptr, 1.0)\n")
    y = torch.zeros(8)
    for call, words in (
        (lambda: made.kernel(y, y, 5, 8), "Cannot call @triton.jit'd outside of the scope of a kernel"),
        (lambda: made.tl.arange(0, 8), "Did you forget to add @triton.jit ?"),
        (lambda: made.kernel[(1,)](y, y, 5, BLOCK=8, BLOK=8), "Keyword argument BLOK was specified but unrecognised"),
        (lambda: made.kernel[(1,)](y, y, BLOCK=8), "missing"),
    ):
        fault = bench.tried(call).fault
        assert fault is not None
        assert fault.kind == "exception"
        assert words in fault.detail
