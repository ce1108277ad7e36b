"""One right padding, and what is said of those that are not: the kind, the line, and a phrase of the words."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchops.course.lesson import Wrong, load
from torchops.course.server import Server
from torchops.course.words import shown

from .conftest import Servers

FOLDER = Path(__file__).parent / "lessons" / "03_pad"
LOAD = "tl.load(x_ptr + c * x_sc + h * x_sh + w * x_sw, mask=inside, other=value)"
STORE = "tl.store(y_ptr + row * Q + q, x, mask=q < Q)"
ROW = "row = tl.program_id(0).to(tl.int64)"
INSIDE = "    inside = "
HOST = "    C, H, W = x.shape\n"
RETURN = "    return y\n"

WRONG = (
    Wrong("no_load_mask", "oob_read", "before the start of `x_ptr`", ((", mask=inside, other=value", ""),), "tl.load"),
    Wrong(
        "no_store_mask", "oob_write", "stores 5 elements behind the end of `y_ptr`", ((", mask=q < Q", ""),), "tl.store"
    ),
    Wrong(
        "one_too_far",
        "oob_read",
        "loads 1 element behind the end of `x_ptr`",
        (("& (w < W)", "& (w <= W)"),),
        "tl.load",
    ),
    Wrong(
        "race",
        "race",
        "let every element have one owner".capitalize(),
        (("y_ptr + row * Q", "y_ptr + p * Q"),),
        "tl.store",
    ),
    Wrong("lanes", "lanes", "Two lanes of one store", (("row * Q + q, x", "row * Q + q // 2, x"),), "tl.store"),
    Wrong("strides_ignored", "values", "rows that are not neighbours", (("h * x_sh + w * x_sw", "h * W + w"),)),
    Wrong("no_other", "values", "Your border is 0", ((", other=value", ", other=0.0"),)),
    Wrong(
        "too_few_programs", "unwritten", "is no program there for it", (("triton.cdiv(Q, block))", "Q // block or 1)"),)
    ),
    Wrong("narrow", "far", "Widen before you multiply", ((".to(tl.int64)", ""),), "tl.store"),
    Wrong(
        "widened_too_late",
        "far",
        "2147483647",
        ((".to(tl.int64)", ""), ("row * Q + q, x", "(row * Q).to(tl.int64) + q, x")),
        "tl.store",
    ),
    Wrong(
        "reads_result",
        "uninitialised",
        "which nobody has written",
        ((LOAD, f"{LOAD} + 0 * tl.load(y_ptr + row * Q + q, mask=q < Q)"),),
        "y_ptr + row * Q + q, mask=q < Q)",
    ),
    Wrong(
        "writes_input",
        "input",
        "Argument 1 of the function",
        ((STORE, f"{STORE}\n    tl.store(x_ptr + c * x_sc + h * x_sh + w * x_sw, x + 1, mask=inside)"),),
    ),
    Wrong(
        "divides_by_zero",
        "undefined",
        "divides by zero",
        (("c, p = row // P, row % P", "c, p = row // (P - P), row % P"),),
        "P - P",
    ),
    Wrong("name", "compile", "No `QQ` is known", (("mask=q < Q)", "mask=q < QQ)"),), "QQ"),
    Wrong(
        "if_on_a_block", "compile", "use tl.where", ((INSIDE, f"    if q < Q:\n        h = h\n{INSIDE}"),), "if q < Q"
    ),
    Wrong(
        "block_not_power",
        "compile",
        "take the next power of two",
        (("block=32", "block=33"), ("BLOCK=block", "BLOCK=33")),
        "tl.arange",
    ),
    Wrong(
        "numpy",
        "compile",
        "cannot call `maximum`",
        ((INSIDE, f"    h = torch.maximum(h, 0)\n{INSIDE}"),),
        "torch.maximum",
    ),
    Wrong(
        "half_index",
        "compile",
        "// divides them",
        (("h, w = p - PAD, q - PAD", "h, w = p - PAD, (q - PAD) / 1"),),
        "tl.load",
    ),
    Wrong(
        "no_grid",
        "exception",
        "A kernel is launched on a grid",
        (("pad_kernel[grid](", "pad_kernel("),),
        "pad_kernel(x",
    ),
    Wrong(
        "float_grid",
        "exception",
        "triton.cdiv(n, BLOCK)",
        (("triton.cdiv(Q, block)", "Q / block"),),
        "pad_kernel[grid]",
    ),
    Wrong("returns_none", "shape", "The function returned None: does it end with `return`?", ((RETURN, ""),)),
    Wrong("wrong_shape", "shape", "of shape 1x7x8, expected 1x7x9", ((RETURN, "    return y[..., 1:]\n"),)),
    Wrong("wrong_dtype", "shape", "returned float64, expected float32", ((RETURN, "    return y.double()\n"),)),
    Wrong(
        "by_torch",
        "nokernel",
        "no kernel of yours has written it",
        ((f"{HOST}", f"    return torch.nn.functional.pad(x, (n,) * 4, value=value)\n{HOST}"),),
    ),
    Wrong("hole", "hole", "in place of the three dots", (("mask=q < Q)", "mask=...)"),), "..."),
    Wrong("syntax", "syntax", "Python cannot read the file", (("def pad_kernel(", "def pad_kernel(("),)),
    Wrong("import", "import", "No module named 'torhc'", (("import torch\n", "import torhc\n"),), "torhc"),
    Wrong("renamed", "missing", "no function `pad`", (("def pad(", "def padded("),)),
    Wrong("exits", "exit", "remove exit() or os._exit()", ((HOST, f"    import os; os._exit(0)\n{HOST}"),)),
    Wrong("leaves", "exit", "The file ended the process, line", ((HOST, f"    exit()\n{HOST}"),), "exit()"),
    Wrong(
        "crashes",
        "crash",
        "Python itself crashed (SIGSEGV)",
        ((HOST, f"    import ctypes; ctypes.string_at(0)\n{HOST}"),),
        "ctypes",
    ),
)


@pytest.fixture
def server(servers: Servers) -> Server:
    return servers("ttsem")


def test_right(server: Server) -> None:
    report = server.check(FOLDER / "solution.py", FOLDER)
    assert report.verdict == "ok", shown(report, "")
    assert [finding.case for finding in report.steps[0].findings][-1] == "more than 2^31 elements"


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_wrong(server: Server, wrong: Wrong, tmp_path: Path) -> None:
    solution = load(FOLDER).solution
    source = wrong.made(solution)
    file = tmp_path / "pad.py"
    file.write_text(source, encoding="utf-8")
    report = server.check(file, FOLDER)
    said = shown(report, source)
    assert report.verdict == wrong.kind, said
    assert wrong.says in said
    assert report.last is not None
    if wrong.at:
        assert report.last.line == wrong.line(solution)
        assert f"{report.last.line} | " in said


@pytest.mark.parametrize(
    ("inside", "line"),
    [
        ("    while p >= 0:\n        c += 1\n", "while p >= 0:"),
        ("    for i in range(1 << 30):\n        c += 1\n", "for i in range"),
    ],
)
def test_endless_loop_in_the_kernel(
    server: Server, inside: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "limit", 1.0)
    file = tmp_path / "pad.py"
    source = load(FOLDER).solution.replace(INSIDE, inside + INSIDE)
    file.write_text(source)
    report = server.check(file, FOLDER)
    assert report.verdict == "timeout"
    said = shown(report, source)
    assert f"| {line}" in said
    assert "Stopped after 1 s" in said
