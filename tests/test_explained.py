"""The pictures of docs/explanation are drawn anew, and the pages hold what they promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import torchops
from bench import explained
from bench.drawing import ASSETS, write
from tests import tiers
from tests.sight import assert_same_picture
from torchops.course.lesson import folders, load

ROOT = ASSETS.parent
PAGES = sorted((ROOT / "docs" / "explanation").glob("*.md"))


def _texts(drawn: Figure) -> list[str]:
    return [text.get_text() for axes in drawn.axes for text in axes.texts if text.get_text()]


def test_pictures_are_those_that_are_committed(tmp_path: Path) -> None:
    pages = "\n".join(page.read_text() for page in PAGES)
    for file in write(explained.PICTURES, tmp_path):
        committed = ASSETS / file.name
        assert f"](../../assets/{file.name})" in pages
        assert_same_picture(committed, file)
        assert committed.stat().st_size < 100_000


def test_product_of_the_picture_is_the_convolution() -> None:
    numbers = [int(text) for text in _texts(explained.product()) if text.isdigit()]
    image, taps, result, rows, column, again = (
        torch.tensor(numbers[begin:end]).double()
        for begin, end in ((0, 25), (25, 34), (34, 43), (43, 124), (124, 133), (133, 142))
    )
    assert torch.equal(torchops.reference.conv2d(image.view(1, 1, 5, 5), taps.view(1, 1, 3, 3)).flatten(), result)
    assert torch.equal(taps, column)
    assert torch.equal(rows.view(9, 9) @ column, result)
    assert torch.equal(result, again)


@pytest.mark.parametrize("mode", ["zeros", "constant", "reflect", "replicate", "circular"])
def test_borders_of_the_picture_are_what_a_convolution_reads(mode: str) -> None:
    row, value = torch.arange(1.0, 6).view(1, 1, 5), {"padding_value": 9.0} if mode == "constant" else {}
    same = torch.ones(1, 1, 1, 1)
    read = torchops.conv2d(row, same, padding=(3, 3, 0, 0), padding_mode=mode, **value)  # type: ignore[arg-type]
    assert read.flatten().tolist() == explained.bordered(mode, 3)
    drawn = [text for text in _texts(explained.borders()) if text.isdigit()]
    number = ("zeros", "constant", "reflect", "replicate", "circular").index(mode)
    assert [int(text) for text in drawn[11 * number : 11 * (number + 1)]] == explained.bordered(mode, 3)


def test_indices_of_the_picture_point_to_one_pixel() -> None:
    texts = _texts(explained.pooling())
    positions, offsets = texts.index("positions"), texts.index("offsets")
    assert texts[positions - 4 : positions] == ["12"] * 4
    assert texts[offsets - 4 : offsets] == ["8", "6", "2", "0"]
    assert explained.POOLED.flatten()[12] == explained.POOLED.max()


def test_maxima_of_the_picture_are_those_of_windows() -> None:
    row = explained.maxima(torch.tensor([1.0, 4, 2, 0, 3, 5, 1, 2]))[0][2]
    for count, _, line in explained.maxima(row):
        assert torch.equal(torchops.reference.max_pool2d(row.view(1, 1, 1, -1), (1, count), (1, 1)).flatten(), line)


def test_orders_of_the_picture_add_the_same_numbers_to_three_sums() -> None:
    assert len({tuple(sorted(map(float, terms))) for terms in explained.ORDERS}) == 1
    assert sorted(float(explained.sums(terms)[-1]) for terms in explained.ORDERS) == [0, 1, 2]


def test_backends_of_the_picture_are_those_that_there_are() -> None:
    found = {
        (backend, device): explained.served(backend, device)
        for backend in ("auto", "aten")
        for device in ("cpu", "cuda")
    }
    expected = {("auto", "cpu"): "ATen", ("auto", "cuda"): "Triton", ("aten", "cpu"): "ATen", ("aten", "cuda"): "ATen"}
    assert found == expected
    assert explained.served("triton", "cpu") == "refused"


def test_tiers_of_the_page_and_the_picture_are_all() -> None:
    rows = re.findall(
        r"^\| (\w+) \| [^|]+ \| [^|]+ \| [^|]*\|$", (ROOT / "docs/explanation/proof.md").read_text(), re.M
    )
    assert set(rows[1:]) == {name for name, _, _ in explained.TIERS} == set(tiers.PROCESSES)


def test_lessons_of_the_door_are_the_courses() -> None:
    """In their order, with their minutes, each with a link to its page, and with the words of the students' page."""
    page, students = (ROOT / "docs/course.md").read_text(), (ROOT / "course/README.md").read_text()
    table = re.findall(r"^\| (\d+) \| \[(\w+)\]\(([^)]+)\) \| ([^|]+) \| (\d+)(, class)? \|", page, re.M)
    gained = re.findall(r"^\| \d+ \| `\w+` \| ([^|]+) \|", students, re.M)
    assert [what for _, _, _, what, _, _ in table] == gained
    rows = [(n, name, link, minutes, taught) for n, name, link, _, minutes, taught in table]
    lessons = [load(folder.name) for folder in folders()]
    assert [(int(n), name, int(minutes), bool(taught)) for n, name, _, minutes, taught in rows] == [
        (lesson.number, lesson.name, lesson.minutes, lesson.in_class) for lesson in lessons
    ]
    for (_, _, link, _, _), lesson in zip(rows, lessons, strict=True):
        assert (ROOT / "docs" / link).resolve() == (
            ROOT / "course" / "lessons" / lesson.folder.name / "page.md"
        ).resolve()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_picture_an_example_and_the_place_in_the_code(page: Path) -> None:
    text = page.read_text()
    pictures = re.findall(r"^!\[(.+)\]\((\.\./\.\./assets/[\w-]+\.png)\)$", text, re.M)
    assert pictures
    assert all(len(told) > 40 and (page.parent / file).exists() for told, file in pictures)
    assert "```python\n>>> " in text
    (code,) = re.findall(r"^## In the code\n(.*)", text, re.M | re.S)
    places = re.findall(r"\]\((\.\./\.\./[^)#]+)", code)
    assert places
    assert all((page.parent / place).exists() for place in places)
