"""The pictures of kernels/conv2d/README.md are drawn anew, and their numbers are those of the kernels."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.image import imread

from bench import lessons
from torchops.kernels.geometry import Conv2d


def test_pictures_are_those_that_are_committed(tmp_path: Path) -> None:
    page = (lessons.FOLDER.parent / "kernels" / "conv2d" / "README.md").read_text()
    for file in lessons.draw(tmp_path):
        committed = lessons.FOLDER / file.name
        assert f"](../../assets/{file.name})" in page
        assert imread(file).shape == imread(committed).shape
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
