"""Folders of masks that are none: each is refused in one line, which says what is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from torchops.files.images import ImageError
from torchops.models.data import DataError, pairs
from torchops.models.data.mask_files import read_classes, read_mask

from .masks import VOC, paired, png, save


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    return paired(tmp_path)


def _jpeg(root: Path, name: str = "02.png", **options: object) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (24, 30)).astype(np.uint8) * 255
    (root / "masks" / "02.png").unlink()
    save(root / "masks" / name, noise, **options)


def _link(root: Path, name: str, target: str) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(target)


def _pipe(root: Path, name: str) -> None:
    (root / name).unlink()
    os.mkfifo(root / name)


def _all_255(root: Path, numbers: range) -> None:
    (root / "classes.txt").write_text("0\n1\n255 ignore\n")
    for i in range(5):
        save(root / "masks" / f"{i:02}.png", np.full((24, 30), 255 if i in numbers else i % 2, np.uint8))


def _one_colour(root: Path, palette: list[int]) -> None:
    save(root / "masks" / "02.png", np.eye(24, 30, dtype=np.uint8), palette=palette)


def _reordered(root: Path, palette: list[int], index: int) -> None:
    for i in range(5):
        values = np.eye(24, 30, dtype=np.uint8)
        save(root / "masks" / f"{i:02}.png", values * (index if i == 3 else 1), palette=palette if i == 3 else VOC)


def _moved(root: Path, inner: str) -> None:
    for name in ("images", "masks"):
        (root / name).rename(root / "x")
        (root / name).mkdir()
        (root / "x").rename(root / name / inner)


def _split(root: Path, *names: str) -> None:
    for name in names:
        paired(root / name)
    for name in ("images", "masks"):
        shutil.rmtree(root / name)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "jpeg": (lambda r: _jpeg(r, "02.jpg", quality=60), r"masks/02.jpg: is a JPEG, which blurs .*: \d\d+ values; save"),
    "jpeg called png": (lambda r: _jpeg(r, format="jpeg"), r"02.png: is a JPEG, which blurs masks: \d\d+ values"),
    "jpeg in tiff": (lambda r: _jpeg(r, "02.tif", compression="jpeg"), r"02.tif: is a JPEG, which blurs masks"),
    "rgb": (
        lambda r: save(r / "masks/02.png", np.full((24, 30, 3), (7, 0, 248), np.uint8)),
        r"masks/02.png: a mask has one channel of class values, this is RGB$",
    ),
    "gray rgb": (
        lambda r: save(r / "masks/02.png", np.zeros((24, 30), np.uint8), "RGB"),
        r"this is RGB; the three are equal: save it as gray",
    ),
    "float": (lambda r: _link(r, "masks/02.png", str(save(r / "f.tif", np.ones((24, 30), np.float32)))), "this is F$"),
    "negative": (
        lambda r: _link(r, "masks/02.png", str(save(r / "n.tif", np.full((24, 30), -1, np.int32)))),
        "02.png: the value -1 is not one from 0 to 65535",
    ),
    "too large a value": (
        lambda r: _link(r, "masks/02.png", str(save(r / "n.tif", np.full((24, 30), 65536, np.int32)))),
        "02.png: the value 65536 is not one from 0 to 65535",
    ),
    "more than 64 values": (
        lambda r: save(r / "masks/02.png", np.arange(720, dtype=np.uint8).reshape(24, 30)),
        "masks/02.png: with it, masks have more than 64 values: were they scaled, or saved as JPEG",
    ),
    "one colour of two indices": (
        lambda r: _one_colour(r, [9, 0, 0] * 2), "02.png: the palette gives 0 and 1 one colour, #090000"
    ),
    "one gray of two indices": (lambda r: _one_colour(r, [0] * 6), "02.png: the palette gives 0 and 1 one colour, #000000"),
    "index beyond the palette": (
        lambda r: (r / "masks/02.png").write_bytes(png(np.full((24, 30), 5, np.uint8), bytes([0, 0, 0, 9, 9, 9]))),
        "02.png: a pixel has the index 5, the palette 2 colours only",
    ),
    "reordered palette": (
        lambda r: _reordered(r, [0, 0, 0, 0, 0, 0, 128, 0, 0], 2),
        "03.png: the colour #800000 is the value 2, but 1 in .*00.png; .*give all masks one palette",
    ),
    "recoloured palette": (
        lambda r: _reordered(r, [0, 0, 0, 0, 0, 128], 1),
        "03.png: the value 1 has the colour #000080, but #800000 in .*00.png; .*give all masks one palette",
    ),
    "broken": (lambda r: (r / "masks/02.png").write_bytes(b"nothing"), r"masks/02.png: .*`skip_corrupt`"),
    "cut off": (
        lambda r: (r / "masks/02.png").write_bytes((r / "masks/02.png").read_bytes()[:60]), r"masks/02.png: .*`skip_corrupt`"
    ),
    "empty": (lambda r: (r / "masks/02.png").write_bytes(b""), r"masks/02.png: is empty; `skip_corrupt`"),
    "pipe": (lambda r: _pipe(r, "masks/02.png"), r"masks/02.png: is a pipe, not a file; `skip_corrupt`"),
    "pipe as image": (lambda r: _pipe(r, "images/02.png"), r"images/02.png: is a pipe, not a file; `skip_corrupt`"),
    "link to nothing": (lambda r: _link(r, "masks/02.png", "gone"), r"masks/02.png: is a link to nothing; `skip_corrupt`"),
    "link to itself": (lambda r: _link(r, "masks/02.png", "02.png"), r"masks/02.png: cannot be read"),
    "program": (
        lambda r: (r / "masks/02.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 24\n"),
        r"masks/02.png: is broken, or no image",
    ),
    "other size": (
        lambda r: save(r / "masks/02.png", np.zeros((23, 30), np.uint8)), r"02.png: has 30 x 23 pixels, 02.png has 30 x 24$"
    ),
    "lying": (
        lambda r: save(r / "masks/02.png", np.zeros((30, 24), np.uint8)), r"02.png: has 24 x 30 pixels, 02.png has 30 x 24$"
    ),
    "no mask": (lambda r: (r / "masks/02.png").unlink(), r"images/02.png: has no mask; both are files of one name"),
    "no image": (lambda r: (r / "images/02.png").unlink(), r"masks/02.png: has no image"),
    "stem twice": (lambda r: shutil.copy(r / "images/02.png", r / "images/02.tif"), r"02.tif: 02.png has the same stem"),
    "mask's stem twice": (lambda r: shutil.copy(r / "masks/02.png", r / "masks/02.bmp"), r"02.png: 02.bmp has the same stem"),
    "one image twice": (
        lambda r: _link(r, "images/02.png", "00.png"), r"images/02.png: is one and the same file as .*images/00.png"
    ),
    "image is the mask": (
        lambda r: _link(r, "images/02.png", "../masks/02.png"), r"images/02.png: is one and the same file as the mask .*02.png"
    ),
    "images are the masks": (
        lambda r: (shutil.rmtree(r / "images"), (r / "images").symlink_to("masks")), "images and masks are one folder"
    ),
    "one class": (
        lambda r: [save(r / f"masks/{i:02}.png", np.zeros((24, 30), np.uint8)) for i in range(5)],
        "the masks hold one class only, 0$",
    ),
    "nothing to train on": (lambda r: _all_255(r, range(4)), r"all pixels of the masks to train on are ignored"),
    "nothing to hold out": (lambda r: _all_255(r, range(4, 5)), r"all pixels of the masks to hold out are ignored"),
    "only ignored": (
        lambda r: (_all_255(r, range(5)), (r / "classes.txt").write_text("255 ignore")), r"the masks hold no class$"
    ),
    "folders of images": (lambda r: _moved(r, "train"), r"images\): holds 0 images; its folders are not looked into: train"),
    "no train": (lambda r: _split(r, "val", "test"), r"holds no folder images, and no folder train.*; folders: test, val"),
    "val twice": (lambda r: _split(r, "train", "val", "Valid"), r"holds Valid and val, which mean the same"),
    "part without masks": (
        lambda r: (_split(r, "train", "val"), shutil.rmtree(r / "val/masks")), r"val\): holds no folder masks"
    ),
    "classes of a part": (
        lambda r: (_split(r, "train", "val"), (r / "train/classes.txt").write_text("0\n255\n")),
        r"train/classes.txt: belongs beside train",
    ),
    "val is train": (
        lambda r: (_split(r, "train"), (r / "val").symlink_to("train")),
        r"val/images/00.png: is one and the same file as .*train/images/00.png",
    ),
    "name of bytes": (
        lambda r: shutil.copy(r / "images/02.png", os.fsdecode(bytes(r / "images") + b"/\xff\n.png")),
        r"images/\\udcff\\n.png: has no mask",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_refused_in_one_line(name: str, masked: Path) -> None:
    make, message = HOSTILE[name]
    make(masked)
    with pytest.raises(DataError, match=message) as caught:
        pairs(masked)
    assert "\n" not in str(caught.value)


def test_limits_of_pixels_hold_for_both(masked: Path) -> None:
    with pytest.raises(DataError, match=r"00.png: 30 x 24 pixels are more than `max_pixels` \(=719\).*`skip_corrupt`"):
        pairs(masked, max_pixels=719)
    assert len(pairs(masked, max_pixels=720).labels) == 2
    with pytest.raises(ImageError, match=r"02.png: 30 x 24 pixels are more than `max_pixels` \(=719\)"):
        read_mask(masked / "masks" / "02.png", max_pixels=719)


def test_folders_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder"):
        pairs(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file\): Not a directory"):
        pairs(tmp_path / "file")
    with pytest.raises(
        DataError, match=r"holds no folder images, and no folder train that would hold one; folders: none"
    ):
        pairs(tmp_path)
    save(tmp_path / "images" / "0.png", np.eye(5, dtype=np.uint8))
    with pytest.raises(DataError, match=r"holds no folder masks, .*; folders: images"):
        pairs(tmp_path)
    save(tmp_path / "masks" / "0.png", np.eye(5, dtype=np.uint8))
    with pytest.raises(DataError, match=r"holds 1 image that can be read, at least two are needed"):
        pairs(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"paper 0\n", "lines are a value and a name, got 'paper 0'"),
        (b"-1 ignore\n", "lines are a value and a name, got '-1 ignore'"),
        ("\u00b2 paper\n".encode(), "lines are a value and a name, got '\u00b2 paper'"),
        (b"1.5 ink\n", "lines are a value and a name, got '1.5 ink'"),
        (b"65536 ink\n", "values lie from 0 to 65535, got '65536 ink'"),
        (b"9" * 5000 + b" ink\n", "values lie from 0 to 65535"),
        (b"0 paper\n0 ink\n", "names the value 0 twice"),
        (b"0 paper\n0 ignore\n", "names the value 0 twice"),
        (b"0 ink\n1 ink\n", "two values are called ink"),
        (b"1 2\n2\n", "two values are called 2"),
        ("0 Stra\u00dfe\n".encode("latin-1"), "is no text in UTF-8, at byte 6"),
        ("0 ink\n".encode("utf-16"), "is no text in UTF-8, at byte 0"),
        ("0 ink\n".encode("utf-16-le"), r"lines are a value and a name, got '0\\x00"),
    ],
)
def test_hostile_lines_of_classes(content: bytes, message: str, masked: Path) -> None:
    (masked / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"classes.txt: {message}"):
        pairs(masked)


def test_classes_that_are_no_file(masked: Path) -> None:
    file = masked / "classes.txt"
    assert read_classes(file) == ({}, set())
    file.write_text("\n# nothing\n")
    assert read_classes(file) == ({}, set())
    file.unlink()
    for make, message in (
        (lambda: os.mkfifo(file), "is a pipe, not a file"),
        (file.mkdir, "is a directory, not a file"),
        (lambda: file.symlink_to("gone"), "is a link to nothing"),
    ):
        make()
        with pytest.raises(DataError, match=rf"classes.txt: {message}"):
            pairs(masked)
        file.rmdir() if file.is_dir() else file.unlink()
