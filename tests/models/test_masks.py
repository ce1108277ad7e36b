"""Folders of images and masks: the right class for every pixel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchops.files.images import ImageError
from torchops.models.colours import COLOURS
from torchops.models.data import DataError, Preprocess, pairs
from torchops.models.data.mask_files import read_mask
from torchops.models.data.masks import IGNORED

from .masks import VOC, paired, save

ORIENTATION = 0x0112
"""EXIF's number for it."""


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    return paired(tmp_path)


def sizes(*parts: object) -> list[int]:
    return [len(part) for part in parts]  # type: ignore[arg-type]


def test_masks_follow_their_images(masked: Path) -> None:
    """Crops, turns and mirrors hit both alike; whole images are held out."""
    data = pairs(masked, crop=16, crops=4)
    assert (data.labels, data.values, data.colours) == (("0", "255"), (0, 255), ())
    assert sizes(data.train, data.val) == [16, 1]
    assert data.test is None
    for i in range(16):
        x, y = data.train[i]
        assert x.shape == (1, 16, 16)
        assert torch.equal((data.preprocess.undo(x)[0] > 0.5).long(), y)
    x, y = data.val[0]
    assert y.shape == (24, 30)
    assert torch.equal((data.preprocess.undo(x)[0] > 0.5).long(), y)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (11, 16), (24, 30), (40, 40)], ids=str)
def test_images_smaller_than_the_crop_are_reflected_as_often_as_it_takes(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    first = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape) % 40
    for i in range(2):
        for name in ("images", "masks"):
            save(tmp_path / name / f"{i}.png", first + np.uint8(i))
    data = pairs(tmp_path, crop=40, crops=1)
    expected = np.pad(first, [(0, 40 - side) for side in shape], mode="symmetric")
    ways = [np.rot90(side, turns) for side in (expected, expected[:, ::-1]) for turns in range(4)]
    for _ in range(8):
        x, y = data.train[0]
        assert x.shape == (1, 40, 40)
        levels = (data.preprocess.undo(x)[0] * 255).round().long()
        assert torch.equal(levels, torch.tensor(data.values)[y])
        assert any(np.array_equal(levels.numpy(), way) for way in ways)


def test_statistics_are_those_of_all_pixels_to_train_on(tmp_path: Path) -> None:
    """Which are never in memory together."""
    rng = np.random.default_rng(0)
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", rng.integers(0, 256, (9 + i, 7, 3), dtype=np.uint8))
        save(tmp_path / "masks" / f"{i}.png", rng.integers(0, 2, (9 + i, 7), dtype=np.uint8))
    for channels in (1, 3):
        data = pairs(tmp_path, channels=channels)
        plain = Preprocess(channels)
        pixels = [plain.resize(plain.read(tmp_path / "images" / f"{i}.png")).flatten(1) for i in (0, 1, 2, 3, 5)]
        together = torch.cat(pixels, 1).double()
        torch.testing.assert_close(torch.tensor(data.preprocess.mean).double(), together.mean(1), rtol=1e-6, atol=0)
        torch.testing.assert_close(torch.tensor(data.preprocess.std).double(), together.std(1), rtol=1e-6, atol=0)


def test_what_is_found_is_counted(masked: Path) -> None:
    for name in ("images/.hidden.png", "masks/Thumbs.db", "masks/notes.doc"):
        (masked / name).write_bytes(b"nothing")
    (masked / "images" / "more").mkdir()
    found = pairs(masked).found
    assert found.images == {"train": 4, "val": 1}
    assert found.parts == {"train": {"0": 4, "255": 4}, "val": {"0": 1, "255": 1}}
    assert found.held_out == "every fifth image"
    assert found.shares == pytest.approx({"0": 3 / 4, "255": 1 / 4})
    assert dict(found.reasons()) == {"hidden": 2, "no image by its name (.doc)": 1, "a folder": 1}
    assert found.notes == []


def test_parts_of_their_own(tmp_path: Path) -> None:
    for part, count in (("Train", 3), ("valid", 2), ("test", 4)):
        paired(tmp_path / part, count)
    (tmp_path / "classes.txt").write_text("0 paper\n255 ink\n7 stain\n")
    data = pairs(tmp_path, crop=16, crops=2)
    assert sizes(data.train, data.val, data.test) == [6, 2, 4]
    assert data.labels == ("paper", "ink", "stain")
    assert data.test is not None
    assert data.test[3][1].shape == (24, 30)
    assert data.found.images == {"train": 3, "val": 2, "test": 4}
    assert data.found.parts["test"] == {"paper": 4, "ink": 4, "stain": 0}
    assert data.found.held_out == "the images in valid"
    assert data.found.notes == ["no pixel to train on is of the class stain"]


def test_a_fifth_is_held_out_of_train_beside_test(tmp_path: Path) -> None:
    paired(tmp_path / "train", 5)
    paired(tmp_path / "test", 1)
    data = pairs(tmp_path)
    assert sizes(data.train, data.val, data.test) == [32, 1, 1]
    shutil.rmtree(tmp_path / "test" / "masks")
    data = pairs(tmp_path)
    assert data.test is None
    assert data.found.left_out == [(str(tmp_path / "test"), "without masks")]


def test_classes_file_names_values(masked: Path) -> None:
    (masked / "classes.txt").write_bytes("\ufeff# value, name\r\n255 dark ink\r\n\r\n0\tpaper\r\n".encode())
    data = pairs(masked, crop=16)
    assert (data.labels, data.values) == (("dark ink", "paper"), (255, 0))
    assert set(data.val[0][1].unique().tolist()) == {0, 1}
    (masked / "classes.txt").write_text("0 paper\n1 ink\n")
    with pytest.raises(DataError, match=r"masks/00.png: the value 255 is not in classes.txt"):
        pairs(masked)


def test_many_classes_need_names(tmp_path: Path) -> None:
    """And are not taken for each other: 300 do not fit into 8 bits."""
    values = np.arange(300, dtype=np.uint16).reshape(15, 20)
    for i in range(2):
        save(tmp_path / "images" / f"{i}.png", (values % 256).astype(np.uint8))
        save(tmp_path / "masks" / f"{i}.png", values)
    with pytest.raises(
        DataError, match=r"masks/0.png: with it, masks have more than 64 values.*classes.txt can name more"
    ):
        pairs(tmp_path)
    (tmp_path / "classes.txt").write_text("".join(f"{i}\n" for i in range(300)))
    data = pairs(tmp_path)
    assert len(data.labels) == 300
    assert torch.equal(data.val[0][1], torch.arange(300).view(15, 20))


@pytest.mark.parametrize("lines", ["255 ignore\n", "0 paper\n1 ink\n255 Ignore\n254 IGNORE\n"], ids=["alone", "named"])
def test_ignored_values_are_no_class(lines: str, masked: Path) -> None:
    for file in (masked / "masks").iterdir():
        values = np.array(Image.open(file)) // 255
        values[:6] = 255
        save(file, values)
    plain = pairs(masked)
    assert plain.labels == ("0", "1", "255")
    assert plain.found.notes == ["255 counts as a class; a line `255 ignore` in classes.txt leaves it out"]
    (masked / "classes.txt").write_text(lines)
    data = pairs(masked, crop=16)
    assert data.values == (0, 1)
    truth = data.val[0][1]
    assert (truth[:6] == IGNORED).all()
    assert set(truth[6:].unique().tolist()) == {0, 1}
    assert set(data.found.parts["train"]) == set(data.labels)
    assert sum(data.found.shares.values()) == pytest.approx(1)
    assert data.found.notes == ["25.0% of the pixels to train on are ignored"]


@pytest.mark.parametrize("values", [(0, 255), (0, 128, 255), (0, 85, 170, 255), (1, 255)])
def test_255_is_not_suspicious_where_masks_are_gray_levels(values: tuple[int, ...], masked: Path) -> None:
    for file in (masked / "masks").iterdir():
        save(file, np.resize(np.array(values, np.uint8), (24, 30)))
    assert pairs(masked).found.notes == []


def test_a_gray_palette_is_read_as_it_looks(masked: Path) -> None:
    """As a program for pictures writes black and white: the indices are 0 and 1."""
    for i, file in enumerate(sorted((masked / "masks").iterdir())):
        black_first = np.array(Image.open(file)) // 255
        # the order is the program's choice
        save(
            file,
            black_first if i % 2 else 1 - black_first,
            palette=[0, 0, 0, 255, 255, 255] if i % 2 else [255] * 3 + [0] * 3,
        )
    data = pairs(masked, crop=16)
    assert (data.values, data.colours) == ((0, 255), ())
    for i in range(8):
        x, y = data.train[i]
        assert torch.equal((data.preprocess.undo(x)[0] > 0.5).long(), y)


def test_values_with_colours_may_lie_beside_a_gray_palette(masked: Path) -> None:
    """As what a network has predicted beside what it was trained on."""
    for i, file in enumerate(sorted((masked / "masks").iterdir())):
        values = np.array(Image.open(file))
        if i % 2:
            save(file, values, palette=[*COLOURS[1], *[0] * (3 * 254), *COLOURS[2]])
        else:
            save(file, values // 255, palette=[0, 0, 0, 255, 255, 255])
    data = pairs(masked, crop=16)
    assert (data.values, data.colours) == ((0, 255), COLOURS[1:3])
    for i in range(8):
        x, y = data.train[i]
        assert torch.equal((data.preprocess.undo(x)[0] > 0.5).long(), y)


def test_indices_of_a_palette_of_colours_are_the_values(masked: Path) -> None:
    for file in sorted((masked / "masks").iterdir()):
        save(file, np.array(Image.open(file)) // 255 * 2, palette=VOC)
    data = pairs(masked)
    assert (data.values, data.colours) == ((0, 2), ((0, 0, 0), (0, 128, 0)))
    # a class that no mask shows has the colour of the palette, and files without one have none to contradict
    (masked / "classes.txt").write_text("0\n1\n2\n")
    save(masked / "masks" / "03.png", np.ones((24, 30), np.uint8))
    assert pairs(masked).colours == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    # the palette ends before 9
    (masked / "classes.txt").write_text("0\n2\n1\n9\n")
    assert pairs(masked).colours == ((0, 0, 0), (0, 128, 0), (128, 0, 0), COLOURS[1])


def test_masks_of_other_kinds(tmp_path: Path) -> None:
    eye = np.eye(4, dtype=bool)
    assert torch.equal(read_mask(save(tmp_path / "bilevel.png", eye)).values, torch.eye(4, dtype=torch.int64))
    deep = np.array([[0, 300], [65535, 7]], np.uint16)
    for name, mode in (("deep.png", None), ("deep.tif", None), ("int.tif", "I")):
        assert read_mask(save(tmp_path / name, deep, mode)).values.tolist() == deep.tolist()
    identity = save(tmp_path / "identity.png", np.array([[0, 3], [200, 7]], np.uint8), "P")
    with Image.open(identity) as image:
        assert image.mode == "P"
    assert read_mask(identity).values.tolist() == [[0, 3], [200, 7]]


def test_masks_are_turned_as_images_are(masked: Path) -> None:
    """EXIF says that what is stored is lying."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for name in ("images", "masks"):
        for file in (masked / name).iterdir():
            save(file, np.array(Image.open(file)), exif=exif)
    data = pairs(masked)
    x, y = data.val[0]
    assert y.shape == (30, 24)
    assert torch.equal((data.preprocess.undo(x)[0] > 0.5).long(), y)
    save(masked / "masks" / "02.png", np.zeros((24, 30), np.uint8))
    with pytest.raises(
        DataError, match=r"02.png: has 30 x 24 pixels, 02.png has 24 x 30: EXIF turns the image, and not"
    ):
        pairs(masked)


def test_transparent_images_lie_on_the_background(masked: Path) -> None:
    for file in (masked / "images").iterdir():
        save(file, np.zeros((24, 30, 4), np.uint8))
    for background, level in (("white", 1.0), ("black", 0.0)):
        data = pairs(masked, channels=3, background=background)
        assert data.preprocess.background == background
        assert data.preprocess.mean == (level,) * 3
        assert (data.preprocess.undo(data.val[0][0]) == level).all()


def test_of_moving_images_the_first_frame_is_read_and_it_is_said(masked: Path) -> None:
    first, *others = (Image.new("L", (30, 24), level) for level in (10, 90, 200))
    (masked / "images" / "02.png").unlink()
    first.save(masked / "images" / "02.gif", save_all=True, append_images=others)
    data = pairs(masked)
    assert data.found.notes == [f"the first frame of 1 file is read: {masked}/images/02.gif"]


def test_what_cannot_be_read_is_left_out_when_asked(masked: Path) -> None:
    (masked / "masks" / "01.png").write_bytes(b"nothing")
    (masked / "images" / "03.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"masks/01.png: .*, and 1 more; `skip_corrupt` leaves such files out"):
        pairs(masked)
    data = pairs(masked, skip_corrupt=True)
    assert data.found.images == {"train": 2, "val": 1}
    assert dict(data.found.reasons()) == {"cannot be read": 2}
    for i in (0, 2):
        (masked / "images" / f"0{i}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="holds 1 image that can be read, at least two are needed"):
        pairs(masked, skip_corrupt=True)


@pytest.mark.parametrize("place", [100, 300, 600, 900])
def test_a_wrong_byte_of_a_png_is_no_other_class(place: int, tmp_path: Path) -> None:
    """Decoding fails once, and must not be asked for again: what is left then is 0."""
    file = save(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 7, (40, 50)).astype(np.uint8))
    content = bytearray(file.read_bytes())
    content[place] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(ImageError, match=r"mask.png: cannot be read: broken"):
        read_mask(file)


def test_a_mask_that_changes_meanwhile(masked: Path) -> None:
    data = pairs(masked)
    save(masked / "masks" / "04.png", np.full((24, 30), 9, np.uint8))
    with pytest.raises(DataError, match=r"masks/04.png: has changed: the value 9 is new"):
        data.val[0]
