"""Pictures of runs: colours that every reader can tell apart, names as they are written, and no size that breaks them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sight import SIGHT, lab, least_distance
from torchops.models import pictures
from torchops.models.colours import COLOURS, palette
from torchops.models.data.masks import IGNORED
from torchops.models.pictures import ALPHA, GRAY, coloured

NAMES = [
    "[b]cat[/b]",
    "$x^2$",
    "猫",
    "two\nlines",
    "_" + "long " * 12,
    "\udcff",
    "é",
    "0",
    "%s {}",
    "\\alpha",
    "a" * 200,
]


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("count", "least"), [(3, 77.6), (8, 16.0), (11, 16.0), (16, 16.0), (32, 13.2), (64, 8.4)])
def test_colours_differ_for_every_reader(count: int, least: float, sight: str) -> None:
    """A distance of 2.3 is one that can just be seen; hues in equal steps come to 0.2 for eight classes."""
    assert least_distance(palette(count), SIGHT[sight]) >= least


def test_lab_is_lab() -> None:
    expected = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20), (0, 0, 128): (12.97, 47.50, -64.70)}
    np.testing.assert_allclose(lab(list(expected), np.eye(3)), list(expected.values()), atol=0.02)


def test_palettes_of_any_number() -> None:
    assert palette(2) == [(230, 159, 0), (86, 180, 233)]
    assert palette(5)[0] == (0, 0, 0)
    assert len(COLOURS) == 64
    for count in (64, 65, 1000):
        colours = palette(count)
        assert len(set(colours)) == len(colours) == count
        assert colours[:64] == list(COLOURS)
    assert palette(2, [(1, 2, 3), [4, 5, 6]]) == [(1, 2, 3), (4, 5, 6)]
    # colours of other classes are not these
    assert palette(3, [(1, 2, 3), (4, 5, 6)]) == palette(3)


def test_pixels_have_the_colours_of_their_classes() -> None:
    """But for the background, the first of more than two classes; ignored ones are gray."""
    image, classes = torch.full((1, 1, 4), 0.5), torch.tensor([[0, 1, 2, IGNORED]])

    def mixed(colour: tuple[int, ...]) -> list[float]:
        return [ALPHA * part / 255 + (1 - ALPHA) * 0.5 for part in colour]

    found = coloured(image, classes, 3)[:, 0].T
    torch.testing.assert_close(found, torch.tensor([[0.5] * 3, *map(mixed, (COLOURS[1], COLOURS[2], GRAY))]))
    found = coloured(image[..., :2].expand(3, -1, -1), classes[:, :2], 2, [(255, 0, 0), (9, 9, 9)])[:, 0].T
    torch.testing.assert_close(found, torch.tensor([mixed((255, 0, 0)), mixed((9, 9, 9))]))


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("count", [1, 30, 200])
def test_confusion_of_any_number_of_classes(count: int, tmp_path: Path) -> None:
    names = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(count)]
    matrix = torch.randint(0, 10**6, (count, count))
    matrix[0] = 0
    width, height = size(pictures.confusion(matrix, names, tmp_path / "confusion.png"))
    assert max(width, height) < 3000


@pytest.mark.parametrize("count", [2, 3, 200])
def test_overlays_of_any_size(count: int, tmp_path: Path) -> None:
    shapes = [(1, 1), (5, 90), (64, 64), (120, 7)]
    images = [torch.rand(1 + 2 * (i % 2), *shape) for i, shape in enumerate(shapes)]
    truth = [torch.randint(-1, count, shape) for shape in shapes]
    truth[0][:] = IGNORED
    guess = [torch.randint(0, count, shape) for shape in shapes]
    names = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(count)]
    width, height = size(pictures.overlays(images, truth, guess, names, tmp_path / "overlays.png"))
    assert width == 960
    assert height < 1700


def test_what_differs_is_counted_without_ignored_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    monkeypatch.setattr(pictures, "show", lambda axes, image, title="", **text: shown.update({title: image}))
    truth, guess = torch.tensor([[0, 1, IGNORED, 1]]), torch.tensor([[0, 0, 0, 1]])
    pictures.overlays([torch.zeros(1, 1, 4)], [truth], [guess], ["a", "b"], tmp_path / "overlays.png")
    assert shown["differ: 33.3% of the pixels"].tolist() == [[0.0, 1.0, 0.5, 0.0]]
    pictures.overlays([torch.zeros(1, 1, 4)], [truth * 0 - 1], [guess], ["a", "b"], tmp_path / "overlays.png")
    assert "differ: n/a" in shown


@pytest.mark.parametrize("count", [0, 1, 24])
def test_predictions_of_any_number(count: int, tmp_path: Path) -> None:
    truth, guess = [NAMES[i % 11] for i in range(count)], [NAMES[i % 7] for i in range(count)]
    images = torch.rand(count, 3, 9, 9) if count else torch.empty(0)
    path = pictures.predictions(images, truth, guess, [1.0, math.nan, *[0.5] * 22], tmp_path / "predictions.png")
    assert size(path)[0] == 162 * min(6, max(4, count))


@pytest.mark.parametrize(
    "rows",
    [
        [{"epoch": 1, "train_loss": 0.5, "val_loss": 0.6, "val_iou": 0.5}],
        [{"epoch": 1, "train_loss": 0.5, "val_loss": math.nan, "val_iou": None}] * 2,
        [{"epoch": 1, "train_loss": 0.0, "val_loss": None, "val_iou": None}],
        [{"epoch": 1, "train_loss": math.inf, "val_loss": -0.5, "val_iou": math.nan}],
        [{"epoch": i, "train_loss": 1 / i, "val_loss": None if i == 2 else 1.0, "val_iou": i / 9} for i in range(1, 9)],
    ],
    ids=["one epoch", "NaN", "nothing held out", "inf", "a gap"],
)
def test_curves_of_figures_that_there_are(rows: list[dict[str, float | None]], tmp_path: Path) -> None:
    assert size(pictures.curves(rows, "val_iou", tmp_path / "curves.png")) == (960, 360)


@pytest.mark.parametrize("count", [0, 1, 3, 8, 100])
def test_grids_show_every_sample(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(pictures, "show", lambda axes, image, title: shown.append(image))
    images = (torch.arange(count).float() / 200).view(-1, 1, 1, 1).expand(count, 1, 2, 3)
    pictures.samples({"real": images, "drawn": torch.zeros(4, 1, 2, 3)}, tmp_path / "samples.png")
    assert len(shown) == (2 if count else 1)
    if count:
        side = math.ceil(math.sqrt(count))
        assert shown[0].shape == (1, 4 * side, 5 * side)
        tiles = shown[0][0, 1::4, 1::5].flatten()
        torch.testing.assert_close(tiles, torch.cat([images[:, 0, 0, 0], torch.ones(side * side - count)]))
