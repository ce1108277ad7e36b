"""Trees of folders that could mix classes, or lead astray: links, files that are none, and trees that are named and refused."""

from __future__ import annotations

import os
import random
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from torchops.models.data import DataError, Found, folder
from torchops.models.data.trees import find

from .trees import SIZE, counts, grow, left_out, parts, picture, refused, two_classes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return two_classes(tmp_path)


def test_links_within_a_class_are_not_followed(tree: Path) -> None:
    expected = parts(folder(tree, **SIZE))
    (tree / "dark" / "up").symlink_to("..")
    (tree / "dark" / "self").symlink_to(".")
    (tree / "dark" / "other").symlink_to("../light")
    (tree / "dark" / "round").symlink_to("round")
    data = folder(tree, **SIZE)
    assert parts(data) == expected
    assert left_out(data, tree) == {
        "a link to a folder": ["dark/other", "dark/self", "dark/up"],
        "no image by its name": ["dark/round"],
    }


def test_links_that_are_classes(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those that lead elsewhere are followed, the others would be a class of what has one already."""
    elsewhere = grow(tmp_path_factory.mktemp("elsewhere"), {"": 5})
    grow(tree, {"dark/inner": 5, ".store/hidden": 5})
    for name, target in {
        "far": elsewhere, "gray": tree / "dark", "inner": "dark/inner", "all": ".", "above": "..", "kept": ".store/hidden",
    }.items():  # fmt: skip
        (tree / name).symlink_to(target)
    data = folder(tree, **SIZE)
    assert data.labels == ("dark", "far", "kept", "light")
    assert counts(data) == {"train": [8, 4, 4, 4], "val": [2, 1, 1, 1]}
    assert left_out(data, tree) == {
        "hidden": [".store"],
        "a link to what is listed already": ["above", "all", "gray", "inner"],
    }


def test_a_link_to_the_root_is_no_part(tree: Path) -> None:
    (tree / "train").symlink_to(".")
    data = folder(tree, **SIZE)
    assert (data.labels, counts(data)) == (("dark", "light"), {"train": [4, 4], "val": [1, 1]})
    assert left_out(data, tree) == {"a link to what is listed already": ["train"]}


def test_links_that_are_parts(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = grow(tmp_path_factory.mktemp("root"), {"val/dark": 1, "val/light": 1})
    (root / "train").symlink_to(tree)
    (root / "val" / "gray").symlink_to("../train/dark")
    (root / "val" / "same").symlink_to("../val/light/..")
    data = folder(root, **SIZE)
    assert counts(data) == {"train": [5, 5], "val": [1, 1]}
    assert left_out(data, root) == {"a link to what is listed already": ["val/gray", "val/same"]}
    (root / "test").symlink_to("val")
    refused(root, "ROOT/val/dark/0.png and ROOT/test/dark/0.png are one file, in val and in test")


def test_a_file_twice_in_a_class_is_there_once(tree: Path) -> None:
    os.link(tree / "dark" / "0.png", tree / "dark" / "hard.png")
    (tree / "light" / "soft.png").symlink_to("3.png")
    picture(tree / ".store" / "a.png")
    (tree / "light" / "6.png").symlink_to("../.store/a.png")
    data = folder(tree, **SIZE)
    assert counts(data) == {"train": [4, 5], "val": [1, 1]}
    assert left_out(data, tree) == {
        "hidden": [".store"],
        "a second name of a file": [
            "dark/hard.png (it is dark/0.png)",
            "light/soft.png (it is light/3.png)",
        ],
    }


@pytest.mark.parametrize("hard", [True, False])
def test_a_file_is_of_one_class_and_one_part(hard: bool, tmp_path: Path) -> None:
    def link(path: Path, target: Path) -> None:
        os.link(target, path) if hard else path.symlink_to(target)

    root = grow(tmp_path / "classes", {"a": 5, "b": 5})
    link(root / "b" / "x.png", root / "a" / "2.png")
    refused(root, "ROOT/a/2.png and ROOT/b/x.png are one file, of a and of b: it can be in one only")
    root = grow(tmp_path / "parts", {"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2})
    link(root / "test" / "a" / "x.png", root / "train" / "a" / "2.png")
    refused(root, "ROOT/train/a/2.png and ROOT/test/a/x.png are one file, in train and in test: it can be in one only")


TREES = {
    "images instead of classes": (
        {"train": 3, "valid": 3},
        "`data` (=ROOT): train and valid must hold a folder for every class, not the images themselves",
    ),
    "an image beside the classes": (
        {"train": 1, "train/a": 3, "train/b": 3, "val/a": 3, "val/b": 3},
        "`data` (=ROOT): holds val, but train holds images itself, as ROOT/train/0.png",
    ),
    "val and valid": (
        {"train/a": 2, "train/b": 2, "val/a": 1, "valid/a": 1},
        "`data` (=ROOT): holds val and valid: only one can be val",
    ),
    "train twice": (
        {"train/a": 2, "train/b": 2, "Train/a": 1, "Train/b": 1},
        "`data` (=ROOT): holds Train and train: only one can be train",
    ),
    "no train": (
        {"val/a": 2, "val/b": 2, "test/a": 1, "test/b": 1},
        "`data` (=ROOT): holds test and val, but no train with a folder for every class",
    ),
    "val of images": (
        {"train/a": 2, "train/b": 2, "val": 2},
        "`data` (=ROOT): val holds no folders of classes, as train",
    ),
    "val is empty": ({"train/a": 2, "train/b": 2, "val/a": 0}, "`data` (=ROOT/val): no image is left"),
    "classes here or there": (
        {"train/steam": 5, "train/diesel": 5, "bus": 5},
        "`data` (=ROOT): train holds folders, but bus beside it holds images: are the classes in there, or here?",
    ),
    "other classes in val": (
        {"train/a": 2, "train/b": 2, "val/a": 1, "val/c": 1, "val/d": 1},
        "`data` (=ROOT): val holds classes that train has not: c, d",
    ),
    "one level up": (
        {"photos/cat": 4, "photos/dog": 6},
        "`data` (=ROOT): no image of the class photos: ROOT/photos holds no image itself, "
        "but the folders cat, dog, with 10 images below; ROOT/photos would fit",
    ),
    "two levels up": ({"a/photos/train/cat": 4, "a/photos/train/dog": 6}, "10 images below; ROOT/a/photos would fit"),
    "two sets": (
        {"a/cat": 1, "a/dog": 1, "b/cat": 1, "b/dog": 1},
        "ROOT/a holds no image itself, but the folders cat, dog, with 2 images below; 1 folder more like it",
    ),
    "a level too much in one class": (
        {"cat": 5, "dog/big": 2, "dog/small": 3},
        "no image of the class dog: ROOT/dog holds no image itself, but the folders big, small, with 5 images below",
    ),
    "a level too much in val": (
        {"train/a": 2, "train/b": 2, "val/a/x": 1, "val/b": 1},
        "no image of the class a: ROOT/val/a holds no image itself, but the folders x, with 1 image below",
    ),
    "an empty class": ({"a": 5, "b": 5, "none": 0}, "no image of the class none: ROOT/none holds no image"),
    "one class": ({"only": 5}, "`data` (=ROOT): holds one class only, only: at least two are needed"),
    "one image of a class": ({"a": 5, "rare": 1}, "the class rare has one image only: one more is needed to hold out"),
    "images alone": ({"": 3}, "`data` (=ROOT): holds 3 images, but no folder: one is needed for every class"),
    "nothing": ({}, "`data` (=ROOT): holds no folder: one is needed for every class"),
    "hidden only": ({".cache/a": 3}, "`data` (=ROOT): holds no folder: one is needed for every class"),
    "names that are commands": (
        {"[b]a\n": 5, "b\udcff/x": 1},
        r"no image of the class b\udcff: ROOT/b\udcff holds no image",
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_refuses_trees_that_are_none(name: str, tmp_path: Path) -> None:
    folders, message = TREES[name]
    refused(grow(tmp_path, folders), message)


def test_two_sets_give_no_hint_and_one_does(tmp_path: Path) -> None:
    grow(tmp_path, {"a/cat": 1, "a/dog": 1})
    refused(tmp_path, "ROOT/a would fit")
    grow(tmp_path, {"b/cat": 1, "b/dog": 1})
    with pytest.raises(DataError) as caught:
        folder(tmp_path, **SIZE)
    assert "would fit" not in str(caught.value)


def test_roots_that_are_no_folders(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "`data` (=ROOT): no such folder")
    refused(picture(tmp_path / "file.png"), "`data` (=ROOT): Not a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "`data` (=ROOT): Not a directory")
    (tmp_path / "gone").symlink_to("nowhere")
    refused(tmp_path / "gone", "`data` (=ROOT): No such file or directory")
    (tmp_path / "round").symlink_to("round")
    refused(tmp_path / "round", "`data` (=ROOT): Too many levels of symbolic links")


def test_folders_that_may_not_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("light"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(tree, f"`data` (={tree}/light): Permission denied", skip_corrupt=True)


def test_images_that_cannot_be_read_are_named_and_skipped_when_asked(tree: Path) -> None:
    """None of them is opened but regular files; a pipe would never end."""
    bad = tree / "dark"
    (bad / "a.png").write_bytes((bad / "3.png").read_bytes()[:50])
    (bad / "b.png").touch()
    (bad / "c.png").symlink_to("nowhere")
    (bad / "d.png").symlink_to("d.png")
    os.mkfifo(bad / "e.png")
    (bad / "f.png").mkdir()
    picture(bad / "f.png" / "x.png")
    (bad / "g.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(bad / "h.png"))
        refused(tree, f"{bad}/a.png: ")
        refused(tree, ", and 7 more; `skip_corrupt` leaves such files out")
        data = folder(tree, skip_corrupt=True, **SIZE)
    assert counts(data) == {"train": [4, 4], "val": [1, 1]}
    (reason, texts), *others = left_out(data, tree).items()
    assert (reason, others) == ("cannot be read", [])
    assert [text.partition(":")[0] for text in texts] == [f"dark/{c}.png" for c in "abcdefgh"]
    for text, why in zip(texts, ("", "empty", "nothing", "links", "pipe", "directory", "", "socket"), strict=True):
        assert why in text
    for file in bad.glob("[0-9].png"):
        file.write_bytes(b"nothing")
    refused(tree, "no image of the class dark is left", skip_corrupt=True)


@pytest.mark.parametrize("seed", range(60))
def test_no_image_is_in_two_parts_or_classes(seed: int, tmp_path: Path) -> None:
    """Whatever leads where: a tree is refused in a line, or every file is in one part and in the class of its folder."""
    draw = random.Random(seed)
    kinds = draw.choice([["cat", "dog"], ["train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "test/dog"]])
    root = grow(tmp_path / "root", dict.fromkeys([*kinds, f"{kinds[0]}/deep"], draw.randint(2, 4)))
    grow(tmp_path, {"elsewhere": 2})
    places = [path for path in sorted(tmp_path.rglob("*")) if path.is_dir()]
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    for i in range(draw.randint(0, 3)):
        place = draw.choice(places)
        match draw.randrange(3):
            case 0:
                (place / f"link{i}").symlink_to(draw.choice(places))
            case 1:
                (place / f"link{i}.png").symlink_to(draw.choice(files))
            case 2:
                os.link(draw.choice(files), place / f"hard{i}.png")
    try:
        data = folder(root, **SIZE)
    except DataError as error:
        text = str(error)
    else:
        text = ""
    assert text.isprintable()
    if text:
        assert re.search(
            "are one file|no image of the class|holds classes that train has not|but no train|but train holds", text
        )
        return
    everything = [(part, *sample) for part, samples in parts(data).items() for sample in samples]
    numbers = [os.stat(path).st_ino for _, path, _ in everything]
    assert len(set(numbers)) == len(numbers)
    for part, path, target in everything:
        names = Path(path).relative_to(root).parts
        assert names[-2] in (data.labels[target], "deep")
        assert names[:-1].count(data.labels[target]) == 1
        assert kinds == ["cat", "dog"] or names[0] == part or (part, names[0]) == ("val", "train")
    # nothing is lost: each file is listed, or else it is a second name of one, or out of reach
    reached = {os.stat(path).st_ino for kind in kinds for path in (root / kind).rglob("*.png")}
    assert reached <= set(numbers)


def test_the_walk_is_in_an_order_of_its_own(tmp_path: Path) -> None:
    """By folders, then by names: what is held out depends on no file system."""
    grow(tmp_path, {"a": 2, "a/z": 1, "a/b": 2, "b": 1})
    paths = [path.replace(f"{tmp_path}/", "") for path, _ in find(tmp_path, Found()).parts["train"]]
    assert paths == ["a/0.png", "a/1.png", "a/b/0.png", "a/b/1.png", "a/z/0.png", "b/0.png"]
