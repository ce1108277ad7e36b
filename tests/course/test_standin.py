"""What Triton makes of a kernel, in small: the stand-in and the compiler itself agree on it, and on what stands here."""

from __future__ import annotations

import textwrap

import pytest
import torch

from torchops.course.advice import tidied

from .bench import FIRST, HEAD, INF, INT, LONG, NAN, Bench, of, zeros


def test_division_cuts_towards_zero(bench: Bench) -> None:
    x = of(torch.int32, -7, -6, -1, 0, 1, 6, 7, 8)
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) // 4)", x, out=INT) == [-1, -1, 0, 0, 0, 1, 1, 2]
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) % 4)", x, out=INT) == [-3, -2, -1, 0, 1, 2, 3, 0]


def test_division_of_constants_is_pythons(bench: Bench) -> None:
    assert bench.values("tl.store(y_ptr + i, (1 - BLOCK) // 4 + 0 * i)", out=INT) == [-2] * 8
    assert bench.values("tl.store(y_ptr + i, (n - BLOCK) // 4 + 0 * i)", n=1, out=INT) == [-2] * 8
    assert bench.values("m = 1 - BLOCK\ntl.store(y_ptr + i, m // 4 + 0 * i)", out=INT) == [-1] * 8


def test_integers_wrap(bench: Bench) -> None:
    x = of(torch.int32, *[2**31 - 1] * 8)
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) + 1)", x, out=LONG) == [-(2**31)] * 8
    assert bench.values("tl.store(y_ptr + i, i * 65536 * 65536)", out=LONG) == [0] * 8
    assert bench.values("tl.store(y_ptr + i, i.to(tl.int64) * 65536 * 65536)", out=LONG)[1] == 2**32
    assert bench.values("tl.store(y_ptr + i, n * n + 0 * i)", n=2**16, out=LONG) == [0] * 8
    assert bench.values("tl.store(y_ptr + i, n + i)", n=2**40, out=LONG)[1] == 2**40 + 1
    assert (
        bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) * 2)", of(torch.uint8, *[200] * 8), out=INT) == [144] * 8
    )


def test_sums_have_room(bench: Bench) -> None:
    x = of(torch.int8, *[100] * 8)
    assert bench.values("tl.store(y_ptr + i, tl.sum(tl.load(x_ptr + i), 0) + 0 * i)", x, out=INT) == [800] * 8
    assert bench.values("tl.store(y_ptr + i, tl.sum(i > 2, 0).to(tl.int32) + 0 * i)", out=INT) == [5] * 8
    half = of(torch.float16, 2048, *[1] * 7)
    # by pairs: 2048 + 1 is 2048 in half precision, 1 + 1 is 2
    assert bench.values("tl.store(y_ptr, tl.sum(tl.load(x_ptr + i), 0))", half)[0] == 2054


def test_half_precision_stays_half(bench: Bench) -> None:
    x = of(torch.float16, *[2048] * 8)
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) + 1)", x) == [2048] * 8
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) + 0.5 * n)", x, n=2.0) == [2049] * 8
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) / 3)", x)[0] == pytest.approx(2048 / 3, rel=1e-6)
    # a comparison is in float32, where 0.1 is another number
    tenth = of(torch.float16, *[0.1] * 8)
    assert bench.values("tl.store(y_ptr + i, (tl.load(x_ptr + i) == 0.1).to(tl.int32))", tenth, out=INT) == [0] * 8


def test_bfloat16_has_eight_bits(bench: Bench) -> None:
    x = of(torch.bfloat16, *[256] * 8)
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) + 1)", x) == [256] * 8
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i) + 3)", x) == [260] * 8
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i).to(tl.float32) + 1)", x) == [257] * 8
    assert bench.values("tl.store(y_ptr + i, 257.0 + 0.0 * i)", out=zeros(torch.bfloat16)) == [256] * 8
    assert bench.values("tl.store(y_ptr, tl.max(tl.load(x_ptr + i), 0))", x)[0] == 256


def test_casts(bench: Bench) -> None:
    x = [-1.5, 1.5, 2.5, 0.0, 300.0, -0.5, 0.5, 7.9]
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i).to(tl.int32))", x, out=INT) == [
        -1,
        1,
        2,
        0,
        300,
        0,
        0,
        7,
    ]
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i).to(tl.uint8))", x, out=INT)[4] == 44
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i).to(tl.int1))", x) == [1, 1, 1, 0, 1, 1, 1, 1]
    assert bench.values("tl.store(y_ptr + i, (i > 3))") == [0] * 4 + [1] * 4
    assert bench.values("tl.store(y_ptr + i, i.to(tl.float32).to(tl.int32, bitcast=True))", out=INT)[1] == 0x3F800000


def test_elementwise_functions(bench: Bench) -> None:
    x = [NAN, 1.0, -2.0, 4.0, INF, 0.25, 9.0, -1.0]
    assert bench.values("tl.store(y_ptr + i, tl.maximum(tl.load(x_ptr + i), 0))", x) == [0, 1, 0, 4, INF, 0.25, 9, 0]
    assert bench.values("tl.store(y_ptr + i, min(tl.load(x_ptr + i), 2.0))", x)[1:4] == [1, -2, 2]
    assert bench.values("tl.store(y_ptr + i, tl.abs(tl.load(x_ptr + i)))", x)[2] == 2
    assert bench.values("tl.store(y_ptr + i, tl.sqrt(tl.load(x_ptr + i)))", x)[3] == 2
    assert bench.values("tl.store(y_ptr + i, tl.sigmoid(tl.load(x_ptr + i)))", [0.0] * 8) == [0.5] * 8
    assert bench.values("tl.store(y_ptr + i, tl.exp(tl.load(x_ptr + i)))", [0.0] * 8) == [1] * 8
    assert bench.values("tl.store(y_ptr + i, tl.where(i < n, i, 1.5))") == [0, 1, 2, 3, 4, 1.5, 1.5, 1.5]
    assert bench.values("tl.store(y_ptr + i, tl.cdiv(n, 2) + tl.cdiv(BLOCK, 3) + ~i)", out=INT)[0] == 3 + 3 - 1


def test_masks(bench: Bench) -> None:
    x = [1.0, 2.0, 3.0]
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < 3))", x) == [1, 2, 3] + [-999] * 5
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < 3))", x, zeros=True) == [
        1,
        2,
        3,
        0,
        0,
        0,
        0,
        0,
    ]
    assert bench.values("tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < 3, other=-9))", x)[3:] == [-9] * 5
    assert bench.values("tl.store(y_ptr + i, 7.0, mask=(i > 1) & (i < 4))") == [0, 0, 7, 7, 0, 0, 0, 0]
    assert bench.values("tl.store(y_ptr + n, tl.load(x_ptr + 1))", x)[5] == 2


def test_blocks_of_two_dimensions(bench: Bench) -> None:
    x = torch.arange(16.0).view(4, 4)
    block = "j = tl.arange(0, 4)\nx = tl.load(x_ptr + j[:, None] * 4 + j[None, :])\n"
    square = zeros(torch.float32, 16)
    store = "tl.store(y_ptr + j[:, None] * 4 + j[None, :], {})"
    assert bench.values(block + store.format("tl.trans(x)"), x, out=square) == x.t().flatten().tolist()
    assert bench.values(block + store.format("x.T + j"), x, out=square) == (x.t() + torch.arange(4)).flatten().tolist()
    assert bench.values(block + "tl.store(y_ptr + j, tl.sum(x, axis=1))", x)[:4] == [6, 22, 38, 54]
    assert bench.values(block + "tl.store(y_ptr + j, tl.max(x, axis=0))", x)[:4] == [12, 13, 14, 15]
    assert bench.values(block + "tl.store(y_ptr, tl.sum(x))", x)[0] == 120
    assert bench.values(block + "tl.store(y_ptr + j, tl.argmax(-x, 1))", x, out=INT)[:4] == [0] * 4
    assert bench.values(block + store.format("x - tl.max(x, 1, keep_dims=True)"), x, out=square)[:4] == [-3, -2, -1, 0]


def test_products(bench: Bench) -> None:
    x = torch.randint(-4, 5, (16, 16)).float()
    block = """
        j = tl.arange(0, 16)
        at = j[:, None] * 16 + j[None, :]
        x = tl.load(x_ptr + at)
    """
    block = textwrap.dedent(block)
    square = zeros(torch.float32, 256)
    plain = 'tl.store(y_ptr + at, tl.dot(x, x, tl.full((16, 16), 1.0, tl.float32), input_precision="ieee"))'
    assert bench.values(block + plain, x, out=square) == (x @ x + 1).flatten().tolist()
    # without "ieee" a matrix unit drops bits: of 1 + 2^-12 there is 1 left
    fine = torch.eye(16) * (1 + 2**-12)
    assert bench.values(block + "tl.store(y_ptr + at, tl.dot(x, x))", fine, out=square)[0] == 1
    half = "x = x.to(tl.float16)\ntl.store(y_ptr + at, tl.dot(x, x))"
    assert bench.values(block + half, x, out=square) == (x @ x).flatten().tolist()


def test_statements(bench: Bench) -> None:
    loop = """
        total = 0
        for k in range(n):
            total += k
        for k in tl.static_range(2):
            total += k * 100
        while total % 7 != 0:
            total += 1
        if total > 100:
            total = total * 2
        else:
            total -= 1
        tl.store(y_ptr, total)
    """
    assert bench.values(loop, out=INT)[0] == 224
    assert bench.values("for k in range(7, 0, -3):\n    tl.store(y_ptr + k, k)", out=INT) == [0, 1, 0, 0, 4, 0, 0, 7]
    assert bench.values("if n > 3:\n    return\ntl.store(y_ptr, 1.0)")[0] == 0
    assert bench.values("s, d = two(i, n)\ntl.store(y_ptr + i, s * d)", out=INT)[7] == 24
    assert bench.values("tl.store(y_ptr, sign(n))", n=-5, out=INT)[0] == -1
    assert bench.values("tl.store(y_ptr, 2 if n > 3 and not n > 5 else 3)", out=INT)[0] == 2
    assert bench.values("m: tl.constexpr = BLOCK // 2\ntl.store(y_ptr + tl.arange(0, m), 1.0)") == [1] * 4 + [0] * 4
    # an argument that is 1 is known when the kernel is compiled
    assert bench.values("tl.store(y_ptr + tl.arange(0, n), 1.0)", n=1)[:2] == [1, 0]


def test_arguments(bench: Bench) -> None:
    made = bench.module(
        HEAD.rpartition("@triton.jit")[0]
        + """
@triton.jit
def kernel(x_ptr, none_ptr, y_ptr, sizes, factor, flag, BLOCK: tl.constexpr = 4):
    H, W = sizes
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i * W, mask=i < H, other=0).to(y_ptr.dtype.element_ty)
    if none_ptr is None:
        x += 1
    if flag:
        x = x * factor
    tl.store(y_ptr + i, x, mask=i < tl.num_programs(0))
"""
    )
    x = torch.arange(12.0).view(3, 4)[:, 1:]
    y = torch.full((8,), -1.0)

    def call() -> None:
        made.kernel[lambda meta: (meta["BLOCK"],)](x, None, y[2:], (3, 4), 0.5, True, num_warps=4)

    assert bench.tried(call).fault is None
    assert y.tolist() == [-1, -1, 1, 3, 5, 0.5, -1, -1]


MISFITS = (
    ("j = tl.arange(0, n)", "arange", "arange's arguments must be of type tl.constexpr"),
    ("m = BLOCK * 2\nj = tl.arange(0, m)", "arange", "arange's arguments must be of type tl.constexpr"),
    ("j = tl.arange(0, BLOCK - 2)", "arange", "arange's range must be a power of 2"),
    ("z = tl.zeros((BLOCK, 3), tl.float32)", "zeros", "Shape element 1 must be a power of 2"),
    ("if n > 100:\n    x = missing + 1", "missing", "missing is not defined"),
    ("for k in range(0):\n    x = i + missing", "missing", "missing is not defined"),
    ("x = i + LENGTH", "LENGTH", "Cannot access global variable LENGTH from within @jit'ed function."),
    ("for k in range(n):\n    x = k\ntl.store(y_ptr, x)", "store", "x is not defined"),
    (
        "a = 0\nfor k in range(n):\n    a += tl.load(x_ptr + k)",
        "for",
        "Loop-carried variable a has initial type int32 but is re-assigned to fp32",
    ),
    (
        "a = 0.0\nwhile n < 9:\n    a += i",
        "while",
        "Loop-carried variable a has initial type fp32 but is re-assigned to <['8'], fp32>",
    ),
    (
        "if n > 3:\n    a = 1\nelse:\n    a = 1.0",
        "if",
        "Mismatched type for a between then block (int32) and else block (fp32)",
    ),
    (
        "a = i\nif n > 3:\n    a = i * 1.0",
        "if",
        "initial value for `a` is of type int32[constexpr[8]], but the then block redefines it as fp32[constexpr[8]]",
    ),
    ("mask = 0 <= i < n", "mask", "simultaneous multiple comparison is not supported"),
    ("x = i ** 2", "**", "'tensor' object has no attribute '__pow__'"),
    ("x = i[0]", "i[0]", "unsupported tensor index: "),
    ("y_ptr[i] = 1", "y_ptr", "__setitem__ is not supported in triton"),
    ("x = i.double()", "double", "'tensor' object has no attribute 'double'"),
    ("if i < n:\n    x = 1", "if", "Boolean value of Tensor with more than one value is ambiguous"),
    ("x = i + tl.arange(0, 4)", "x", "Cannot make_shape_compatible: incompatible dimensions at index 0: 8 and 4"),
    ("for k in range(n):\n    break", "break", "unsupported AST node type: Break"),
    (
        "for k in range(n):\n    if k > 2:\n        return",
        "if",
        "Cannot have `return` statements inside `while` or `for` statements in triton.",
    ),
    ("x = i and n", "and", "Cannot bitcast data-type of size 32 to data-type of size 1"),
    ("x = tl.exp(i)", "exp", "Expected dtype ['fp32', 'fp64'] but got int32"),
    ("x = tl.load(x_ptr + i, other=0)", "load", "`other` cannot be provided without `mask`"),
    ("x = tl.load(x_ptr + i, msk=i < n)", "load", "load() got an unexpected keyword argument 'msk'"),
    ("x = tl.load(x_ptr, mask=i < n)", "load", "Mask argument cannot be block type if pointer argument is not a block"),
    ("tl.store(y_ptr, i)", "store", "Value argument cannot be block type if pointer argument is not a block"),
    ("tl.store(y_ptr + i, i, mask=i)", "store", "Mask must have boolean scalar type"),
    ("x = tl.load(i)", "load", "Unsupported ptr type <['8'], int32> in `tl.load`"),
    ("x = x_ptr + y_ptr", "x_ptr", "cannot add pointers together"),
    ("x = x_ptr * 2", "x_ptr", "invalid operands of type pointer<fp32> and tl.int32"),
    ("z = tl.zeros((4, 4), tl.float32)\nx = tl.dot(z, z)", "dot", "Input shapes should have M >= 1, N >= 1 and K >= 8"),
    ("x = torch.zeros(8)", "torch", "Unsupported function referenced: <built-in method zeros"),
    ("x = two(i)", "two", "missing a required argument: 'b'"),
    ("x = tl.zeros((8,), tl.float32) << 1", "<<", "invalid operands of type tl.float32 and tl.float32"),
    ("x = abs(i)", "abs", "abs is not defined"),
    ("for k in i:\n    x = k", "for", "'Name' object has no attribute 'func'"),
    (
        "x = tl.load(x_ptr + i).to(tl.uint8) + (-1)",
        "uint8",
        "Cannot perform a binary operation between an unsigned tensor and a negative scalar.",
    ),
    ("tl.static_assert(BLOCK == 4, 'four')", "assert", "four"),
)
"""The body of a kernel, what stands in the line that is to blame, and how Triton's words begin."""


def line(body: str, text: str) -> int:
    lines = textwrap.dedent(body).strip("\n").splitlines()
    return FIRST + next(n for n, one in enumerate(lines) if text in one)


@pytest.mark.parametrize(("body", "at", "words"), MISFITS)
def test_what_does_not_fit_is_found_before_anything_runs(body: str, at: str, words: str, bench: Bench) -> None:
    fault = bench.fault(body, out=lambda: torch.full((8,), 5.0))
    assert (fault.kind, fault.line) == ("compile", line(body, at))
    assert tidied(fault.detail).startswith(tidied(words))


def test_it_is_found_in_what_a_kernel_calls(bench: Bench) -> None:
    fault = bench.fault("x = two(i, tl.arange(0, 4))")
    assert (fault.kind, fault.line) == ("compile", HEAD.splitlines().index("    return a + b, a - b") + 1)
