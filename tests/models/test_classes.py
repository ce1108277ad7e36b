"""Folders of images for every class: which are taken as what, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from torchops.models.data import folder

from .trees import SIZE, counts, grow, left_out, parts, picture, refused, two_classes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return two_classes(tmp_path)


def test_folder_of_classes(tree: Path) -> None:
    data = folder(tree, **SIZE)
    assert (data.labels, data.found.left_out, data.found.notes) == (("dark", "light"), [], [])
    assert counts(data) == {"train": [4, 4], "val": [1, 1]}
    assert data.found.held_out == "a fifth of every class, chosen at random with seed 0"
    assert data.test is None
    for part, dataset in (("train", data.train), ("val", data.val)):
        for i, (path, target) in enumerate(parts(data)[part]):
            x, y = dataset[i]
            assert x.shape == (1, 8, 8)
            assert y == target
            with Image.open(path) as image:
                expected = torch.full((1, 8, 8), image.getpixel((0, 0)) / 255)
            torch.testing.assert_close(data.preprocess.undo(x), expected)
            assert (float(x.mean()) > 0) == (y == 1)


SPLITS = {
    "train and test": (
        {"train/cat": 5, "train/dog": 10, "test/cat": 2, "test/dog": 3},
        {"train": [4, 8], "val": [1, 2], "test": [2, 3]},
        "a fifth of every class, chosen at random with seed 0",
    ),
    "train and valid": (
        {"train/cat": 1, "train/dog": 2, "valid/cat": 3, "valid/dog": 4},
        {"train": [1, 2], "val": [3, 4]},
        "the images in valid",
    ),
    "all three": (
        {"train/cat": 1, "train/dog": 2, "validation/cat": 3, "validation/dog": 4, "test/cat": 5, "test/dog": 6},
        {"train": [1, 2], "val": [3, 4], "test": [5, 6]},
        "the images in validation",
    ),
    "in capitals": (
        {"TRAINING/cat": 1, "TRAINING/dog": 2, "Val/cat": 3, "Val/dog": 4, "Testing/cat": 5, "Testing/dog": 6},
        {"train": [1, 2], "val": [3, 4], "test": [5, 6]},
        "the images in Val",
    ),
    "train only": (
        {"train/cat": 5, "train/dog": 5},
        {"train": [4, 4], "val": [1, 1]},
        "a fifth of every class, chosen at random with seed 0",
    ),
    "deeper": (
        {"train/cat": 1, "train/cat/more/still": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1},
        {"train": [3, 2], "val": [1, 1]},
        "the images in val",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_folder_that_is_split_already(name: str, tmp_path: Path) -> None:
    folders, expected, held_out = SPLITS[name]
    data = folder(grow(tmp_path, folders), **SIZE)
    assert (data.labels, data.found.left_out, data.found.notes) == (("cat", "dog"), [], [])
    assert counts(data) == expected
    assert data.found.held_out == held_out
    for part, samples in parts(data).items():
        for path, target in samples:
            names = Path(path).relative_to(tmp_path).parts
            assert names[1] == data.labels[target]
            assert part == "val" or part in names[0].lower()
    assert (data.test is not None) == ("test" in expected)
    if data.test is not None:
        assert torch.equal(data.test[0][0], data.test[0][0])


def test_classes_that_a_part_lacks_are_named(tmp_path: Path) -> None:
    grow(tmp_path, {"train/a": 1, "train/b": 1, "train/c": 2, "val/b": 2, "test/a": 1, "test/b": 0, "test/c": 1})
    data = folder(tmp_path, **SIZE)
    assert data.labels == ("a", "b", "c")
    assert counts(data) == {"train": [1, 1, 2], "val": [0, 2, 0], "test": [1, 0, 1]}
    assert {target for _, target in parts(data)["val"]} == {1}
    assert data.found.notes == ["val has no image of 2 classes: a, c", "test has no image of 1 class: b"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = folder(grow(tmp_path, {"bus": 5, "car": 5, "train": 5, "train/freight": 5}), **SIZE)
    assert data.labels == ("bus", "car", "train")
    assert counts(data) == {"train": [4, 4, 8], "val": [1, 1, 2]}


def test_hidden_names_are_passed_over(tree: Path) -> None:
    expected = folder(tree, **SIZE)
    hidden = [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".DS_Store", "dark/.ipynb_checkpoints", "light/Thumbs.db"]
    for name in (*hidden[:3], hidden[4]):
        grow(tree, {name: 2})
    (tree / hidden[3]).write_text("x")
    (tree / hidden[5]).write_text("x")
    picture(tree / "dark" / "._0.png")
    data = folder(tree, **SIZE)
    assert (data.labels, parts(data)) == (expected.labels, parts(expected))
    assert left_out(data, tree) == {"hidden": sorted([*hidden, "dark/._0.png"])}


def test_files_that_are_no_images_by_their_names(tree: Path) -> None:
    for name in ("dark/notes.txt", "light/movie.MP4", "light/README", "LICENSE", "loose.png"):
        (tree / name).write_text("x")
    for i, name in enumerate(["dark/5.GIF", "dark/6.JPG", "dark/7.pgm", "light/5.gif", "light/6.webp"]):
        picture(tree / name, i)
    data = folder(tree, **SIZE)
    assert counts(data) == {"train": [6, 6], "val": [2, 1]}
    assert left_out(data, tree) == {
        "beside the folders of classes": ["LICENSE", "loose.png"],
        "no image by its name (.txt)": ["dark/notes.txt"],
        "no image by its name (.mp4)": ["light/movie.MP4"],
        "no image by its name": ["light/README"],
    }


@pytest.mark.parametrize("place", ["run", "dark/run"])
def test_pictures_of_a_run_are_no_class(place: str, tree: Path) -> None:
    """A run that was written into the data, or is trained there now, changes nothing of them."""
    expected = parts(folder(tree, **SIZE))
    for name in ("curves.png", "confusion.png"):
        picture(tree / place / name)
    for name in ("config.json", ".lock"):
        (tree / place / name).write_text("{}")
    data = folder(tree, **SIZE)
    assert parts(data) == expected
    assert left_out(data, tree) == {"the folder of a run": [place]}
    (tree / place / ".lock").rename(tree / place / "last.pt")
    assert parts(folder(tree, **SIZE)) == expected
    # a folder of images may hold a file of this name
    (tree / place / "last.pt").unlink()
    assert parts(folder(tree, **SIZE)) != expected


def test_what_lies_beside_the_parts_is_named(tmp_path: Path) -> None:
    grow(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1, "more": 3, "test": 3})
    picture(tmp_path / "val" / "loose.png")
    for name in ("labels.csv", "train/loose.txt", "val/a/x.xml"):
        (tmp_path / name).write_text("x")
    data = folder(tmp_path, **SIZE)
    assert counts(data) == {"train": [2, 2], "val": [1, 1]}
    assert left_out(data, tmp_path) == {
        "beside train": ["labels.csv", "more"],
        "beside the folders of classes": ["train/loose.txt", "val/loose.png"],
        "no image by its name (.xml)": ["val/a/x.xml"],
        "without a folder for every class": ["test"],
    }


def test_names_of_classes_stay_as_they_are(tmp_path: Path) -> None:
    names = ("[b]bold", "a b", "new\nline", "b\udcff", "\u732b", "\u72d7")
    data = folder(grow(tmp_path, dict.fromkeys(names, 5)), **SIZE)
    assert data.labels == tuple(sorted(names))
    assert all(Path(path).parent.name == data.labels[target] for path, target in parts(data)["train"])
    headings, rows = data.found.table()
    assert headings == ["class", "train", "val", "all"]
    assert [row[0] for row in rows] == ["[b]bold", "a b", r"b\udcff", r"new\nline", "\u72d7", "\u732b", "all"]


def test_more_pixels_than_may_be(tree: Path) -> None:
    picture(tree / "dark" / "big.png", size=(10, 8))
    assert counts(folder(tree, max_pixels=80, **SIZE)) == {"train": [5, 4], "val": [1, 1]}
    refused(tree, "dark/big.png: 10 x 8 pixels", max_pixels=79)


def test_transparent_images_lie_on_the_background(tree: Path) -> None:
    for file in (tree / "dark").iterdir():
        Image.new("RGBA", (8, 8), (90, 90, 90, 0)).save(file)
    for background, value in (("white", 1.0), ("black", 0.0)):
        data = folder(tree, background=background, **SIZE)
        dark = next(i for i, (_, target) in enumerate(parts(data)["val"]) if target == 0)
        assert torch.equal(data.preprocess.undo(data.val[dark][0]), torch.full((1, 8, 8), value))
        assert data.preprocess.background == background


def test_the_first_of_several_frames_is_read(tree: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(tree / "dark" / "moves.gif", save_all=True, append_images=frames[1:])
    data = folder(tree, **SIZE)
    assert data.found.notes == [f"the first frame of 1 file is read: {tree}/dark/moves.gif"]
    everything = [
        *zip(parts(data)["train"], data.train, strict=False),
        *zip(parts(data)["val"], data.val, strict=False),
    ]
    (moves,) = (x for (path, _), (x, _) in everything if path.endswith("gif"))
    torch.testing.assert_close(data.preprocess.undo(moves), torch.full((1, 8, 8), 10 / 255))


def test_few_examples_are_said(tree: Path) -> None:
    data = folder(tree, examples=3, **SIZE)
    assert counts(data) == {"train": [3, 3], "val": [1, 1]}
    assert data.found.notes == ["of 8 images to train on, 6 are used"]


def test_images_without_classes(tmp_path: Path) -> None:
    """A diffusion model asks for none."""
    grow(tmp_path, {"": 10})
    (tmp_path / "notes.txt").write_text("x")
    data = folder(tmp_path, unlabelled=True, **SIZE)
    assert (data.labels, data.found.images) == ((), {"train": 8, "val": 2})
    assert data.found.held_out == "a fifth, chosen at random with seed 0"
    assert left_out(data, tmp_path) == {"no image by its name (.txt)": ["notes.txt"]}
    assert sorted(path for samples in parts(data).values() for path, _ in samples) == sorted(
        str(path) for path in tmp_path.glob("*.png")
    )
    one = folder(grow(tmp_path / "one", {"only": 5}), unlabelled=True, **SIZE)
    assert (one.labels, counts(one)) == (("only",), {"train": [4], "val": [1]})
    refused(grow(tmp_path / "few", {"": 1}), "it has one image only: one more is needed to hold out", unlabelled=True)
