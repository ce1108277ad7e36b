"""Folders of images and masks: the right class for every pixel, and every mistake of a user named."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchops.files.images import ImageError
from torchops.models.colours import COLOURS
from torchops.models.data import DataError, Preprocess, pairs
from torchops.models.data.mask_files import read_classes, read_mask
from torchops.models.data.masks import IGNORED

ORIENTATION = 0x0112
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
"""The first colours of PASCAL VOC's palette."""


def save(
    path: Path, values: object, mode: str | None = None, palette: list[int] | None = None, **options: object
) -> Path:
    """An array as an image file; with a palette, its values are indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    if mode is not None:
        image = image.convert(mode)
    if palette is not None:
        image.putpalette(palette)
        # as many bits as there are colours would cut values off
        options = {"bits": 8, **options}
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Images whose pixels are the values of their masks, 0 and 255."""
    return paired(tmp_path)


def paired(root: Path, count: int = 5, top: int = 255) -> Path:
    for i in range(count):
        values = np.zeros((24, 30), np.uint8)
        values[i : i + 12, 5:20] = 255
        save(root / "images" / f"{i:02}.png", values)
        save(root / "masks" / f"{i:02}.png", np.where(values > 0, top, 0).astype(np.uint8))
    return root


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
    with pytest.raises(ImageError, match=r"mask.png: cannot be read: .* data stream"):
        read_mask(file)


def test_a_mask_that_changes_meanwhile(masked: Path) -> None:
    data = pairs(masked)
    save(masked / "masks" / "04.png", np.full((24, 30), 9, np.uint8))
    with pytest.raises(DataError, match=r"masks/04.png: has changed: the value 9 is new"):
        data.val[0]


def png(indices: np.ndarray, palette: bytes) -> bytes:
    """A PNG with a palette that may be too short, which Pillow would not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = indices.shape
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in indices))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def _jpeg(root: Path, name: str = "02.png", **options: object) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (24, 30)).astype(np.uint8) * 255
    (root / "masks" / "02.png").unlink()
    save(root / "masks" / name, noise, **options)


def _link(root: Path, name: str, target: str) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(target)


def _again(root: Path, name: str) -> None:
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
    "pipe": (lambda r: _again(r, "masks/02.png"), r"masks/02.png: is a pipe, not a file; `skip_corrupt`"),
    "pipe as image": (lambda r: _again(r, "images/02.png"), r"images/02.png: is a pipe, not a file; `skip_corrupt`"),
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
