"""The pictures of kernels/conv2d/README.md are drawn anew, and their numbers are those of the kernels."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import triton
from matplotlib.patches import Rectangle

from bench import lessons
from bench.drawing import ASSETS, write
from tests.sight import assert_same_picture
from torchops.kernels.conv2d import PlainConfig
from torchops.kernels.conv2d.weight_grad import _program
from torchops.kernels.geometry import Conv2d
from torchops.kernels.planning.conv2d import Config
from torchops.workloads import ConvLayer


def test_pictures_are_those_that_are_committed(tmp_path: Path) -> None:
    page = (ASSETS.parent / "kernels" / "conv2d" / "README.md").read_text()
    for file in write(lessons.PICTURES, tmp_path):
        committed = ASSETS / file.name
        assert f"](../../assets/{file.name})" in page
        assert_same_picture(committed, file)
        assert committed.stat().st_size < 64_000


@pytest.mark.parametrize(
    ("stride", "dilation", "padding"),
    [*itertools.product((2, 3), (1, 2, 3), (0, 1)), (4, 6, 1)],
    ids=lambda n: str(n),
)
def test_taps_of_a_phase_lie_a_jump_apart(stride: int, dilation: int, padding: int) -> None:
    """What the definition of a convolution says of them, and what the launcher tells the kernel."""
    conv = Conv2d((stride, stride), (padding,) * 4, (dilation, dilation), 1, "zeros")
    (launch,) = lessons.input_grad((40, 40), (5, 5), conv)
    (step, _), (jump, _) = lessons.argument(launch, "step"), lessons.argument(launch, "jump")
    found = [list(lessons.taps_of_phase(phase, 5, stride, padding, dilation)) for phase in range(stride)]
    assert sum(map(len, found)) == 5
    for taps in found:
        first = taps[:1]
        assert taps == [(r + i * jump, p + i * step) for r, p in first for i in range(len(taps))]
        assert all(r < jump for r, _ in first)


def test_ring_is_the_padding() -> None:
    conv = Conv2d((1, 1), (1, 2, 2, 1), (1, 1), 1, "reflect")
    of_ring, of_image = lessons.input_grad((6, 7), (4, 4), conv)
    count = (6 + 2 + 1) * (7 + 1 + 2) - 6 * 7
    assert of_ring.tensors["y"].shape[3] == of_image.tensors["ring"].shape[1] == count


def _loops(kernel: Any) -> list[ast.For]:
    """The loops of a kernel's source, the outermost first."""
    source = ast.parse(textwrap.dedent(inspect.getsource(kernel.fn)))
    return [node for node in ast.walk(source) if isinstance(node, ast.For)]


LAYER, TILE = ConvLayer("", "", 1, 80, 9, 9, 64, 3, 2, padding=1), (64, 64, 32, 4, 3)


def test_three_loops_count_as_in_the_picture() -> None:
    """The loops of plain.py, from its source."""
    launch = lessons.forward(LAYER, PlainConfig(*TILE))
    loops = _loops(launch.kernel)
    assert all(inner in outer.body for outer, inner in itertools.pairwise(loops))
    rows, cols, channels = (eval(ast.unparse(loop.iter), {"R": 3, "S": 2, "C": 80, "BLOCK_K": 32}) for loop in loops)
    assert [ast.unparse(loop.target) for loop in loops] == ["r", "s", "c0"]
    assert lessons.counters(launch) == [[(r, s, c) for c in channels] for r in rows for s in cols]


def test_one_loop_counts_as_in_the_picture() -> None:
    """The loop of gemm.py: its source says how often it goes round, and the lines at its end count."""
    launch = lessons.forward(LAYER, Config(*TILE))
    (loop,) = _loops(launch.kernel)
    assert launch.name == "conv2d_gemm_kernel"
    assert isinstance(loop.iter, ast.Call)
    language = SimpleNamespace(where=lambda where, yes, no: yes if where else no, cdiv=triton.cdiv)
    now: dict[str, Any] = {
        "tl": language,
        "taps_h": 3,
        "taps_w": 2,
        "C": 80,
        "BLOCK_K": 32,
        "t_h": 0,
        "t_w": 0,
        "c0": 0,
    }
    count = "\n".join(map(ast.unparse, loop.body[-3:]))
    order = []
    for _ in range(eval(ast.unparse(loop.iter.args[0]), now)):
        order.append((now["t_h"], now["t_w"], now["c0"]))
        exec(count, now)
    assert lessons.counters(launch) == [order]


def test_programs_of_split_sums_are_those_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel takes a program for, and the slices that both kernels were given."""
    layer = ConvLayer("", "", 3, 64, 7, 9, 96, 3, 3, padding=1)
    product, total = lessons.weight_grad(layer, Config(32, 32, 16, 4, 3, taps=3, splits=4))
    assert product.programs == 4 * 3 * 6
    for program in range(product.programs):
        monkeypatch.setattr("triton.language.program_id", lambda _axis, program=program: program)
        tile_j, tile_k, _, split = _program.fn(6, 3, 1)
        assert lessons.tile_of(program, product) == (split, tile_k, tile_j)
    steps, pixels = lessons.argument(product, "steps"), 3 * 7 * 9
    assert 3 * steps * 16 < pixels <= 4 * steps * 16
    assert lessons.argument(total, "splits_ptr") is lessons.argument(product, "dw_ptr")
    assert lessons.argument(total, "splits_ptr").shape == (lessons.argument(total, "splits"), 96, 3 * 3 * 64)
    assert total.programs * total.meta["BLOCK_N"] >= 96 * 3 * 3 * 64 > (total.programs - 1) * total.meta["BLOCK_N"]


def test_picture_of_split_sums_has_every_pixel_and_program_once() -> None:
    (axes,) = lessons.splits().axes
    shown = [text.get_text() for text in axes.texts]
    assert [int(text) for text in shown if text.isdigit()] == list(range(4 * 2 * 3))
    blocks = [tuple(map(int, text.split("-"))) for text in shown if re.fullmatch(r"\d+-\d+", text)]
    assert [m for first, last in blocks for m in range(first, last + 1)] == list(range(2 * 7 * 9))


def test_picture_of_loops_has_every_product_after_its_copy() -> None:
    for axes in lessons.loops().axes:
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        times: dict[str, list[tuple[float, float]]] = {}
        for x, y, width in ((cell.get_x(), cell.get_y(), cell.get_width()) for cell in cells):
            times.setdefault(texts[x + width / 2, y + 0.5], []).append((x, x + width))
        del times[""]  # where products wait
        assert list(times) == [str(number) for number in range(3 * 3 * 2)]
        assert all(product[0] >= copy[1] for copy, product in times.values())
        copies = [copy for copy, _ in times.values()]
        assert max(sum(begin <= now < end for begin, end in copies) for now, _ in copies) <= 3  # of 4 stages
