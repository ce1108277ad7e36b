"""Sixty files that are no images, or not quite: each is an `ImageError` of one line, or the right pixels."""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchops.files.images import ImageError, read_image

from .crafted import encoded, png, tiff

VALUES = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
RGBA = Image.fromarray(VALUES)
RGB, L = RGBA.convert("RGB"), RGBA.convert("L")
GRAY = np.array(L)
ROWS = b"".join(b"\0" + row.tobytes() for row in GRAY)
GOOD = GRAY[None]
EVERY = {
    "png": encoded(RGB, "PNG"),
    "interlaced.png": encoded(RGB, "PNG", optimize=True),
    "jpg": encoded(RGB, "JPEG"),
    "progressive.jpg": encoded(RGB, "JPEG", progressive=True),
    "mpo": encoded(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)]),
    "tif": encoded(RGB, "TIFF"),
    "float.tif": tiff(VALUES[..., 0].astype(np.float32) / 255),
    "gif": encoded(L, "GIF"),
    "animated.gif": encoded(L, "GIF", save_all=True, append_images=[L.rotate(180)]),
    "webp": encoded(RGBA, "WEBP"),
    "animated.webp": encoded(RGBA, "WEBP", save_all=True, append_images=[RGBA.rotate(180)]),
    "bmp": encoded(RGB, "BMP"),
    "ppm": encoded(RGB, "PPM"),
    "jp2": encoded(RGB, "JPEG2000"),
    "avif": encoded(RGB, "AVIF"),
    "animated.png": encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)]),
}


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # an address has 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "pipe": (os.mkfifo, "is a pipe, not a file"),
    "folder": (Path.mkdir, "is a directory, not a file"),
    "socket": (_socket, "is a socket, not a file"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "broken link": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "link to itself": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    "empty": (Path.touch, "is empty"),
}
NO_IMAGE = "is broken, or no image of a format that is read: PNG, JPEG, TIFF, BMP, GIF, WEBP, PPM, JPEG2000, AVIF"
TEXT = zlib.compress(b"a" * 10_000_000)
TOO_MUCH = "cannot be read: Decompressed data too large"
# an orientation of 77, and one of the text "six"
NO_TURN = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x4d" + bytes(7)
NO_NUMBER = b"II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0six" + bytes(5)
FILES: dict[str, tuple[bytes, str | np.ndarray]] = {
    "text": (b"hello\n" * 100, NO_IMAGE),
    "one byte": (b"\x89", NO_IMAGE),
    "zeros": (bytes(5000), NO_IMAGE),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", NO_IMAGE),
    "pdf": (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", NO_IMAGE),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', NO_IMAGE),
    "html": (b"<!DOCTYPE html><html>404</html>", NO_IMAGE),
    "psd": (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(300), NO_IMAGE),
    "ico": (encoded(RGB.resize((16, 16)), "ICO"), NO_IMAGE),
    "tga": (encoded(RGB, "TGA"), NO_IMAGE),
    "zip": (b"PK\3\4" + bytes(100), NO_IMAGE),
    "python": (b"import os\n", NO_IMAGE),
    "png: signature only": (EVERY["png"][:8], NO_IMAGE),
    "png: 0 wide": (png(0, 24, 8, 0, ROWS), NO_IMAGE),
    "png: 0 high": (png(20, 0, 8, 0, ROWS), NO_IMAGE),
    "png: 9 bits": (png(20, 24, 9, 0, ROWS), NO_IMAGE),
    "png: rows missing": (png(20, 24, 8, 0, ROWS[:200]), "cannot be read: image file is truncated"),
    "png: no rows": (png(20, 24, 8, 0, b""), "cannot be read: image file is truncated"),
    "png: filter 9": (png(20, 24, 8, 0, b"\x09" + ROWS[1:]), "cannot be read: "),
    "png: wrong checksum": (EVERY["png"].replace(b"IDAT", b"IDAS"), NO_IMAGE),
    "png: a text of 10 MB": (png(20, 24, 8, 0, ROWS, (b"zTXt", b"k\0\0" + TEXT)), TOO_MUCH),
    "png: an international one": (png(20, 24, 8, 0, ROWS, (b"iTXt", b"k\0\1\0\0\0" + TEXT)), TOO_MUCH),
    "png: a profile of 10 MB": (png(20, 24, 8, 0, ROWS, (b"iCCP", b"k\0\0" + TEXT)), TOO_MUCH),
    "png: a text named turned": (png(20, 24, 8, 0, ROWS, (b"tEXt", b"turned\0yes")), GOOD),
    "png: a text named transparency": (png(20, 24, 8, 0, ROWS, (b"tEXt", b"transparency\x007")), GOOD),
    "png: a transparent value of one byte": (png(20, 24, 8, 0, ROWS, (b"tRNS", b"\1")), "cannot be read: Truncated tRNS chunk"),
    "png: a palette is missing": (png(20, 24, 8, 3, ROWS), "cannot be read: "),
    "png: exif of text": (png(20, 24, 8, 0, ROWS, (b"eXIf", b"no exif")), GOOD),
    "png: exif of 2 MB": (png(20, 24, 8, 0, ROWS, (b"eXIf", b"II*\0" + bytes(2_000_000))), GOOD),
    "png: exif leads out of itself": (png(20, 24, 8, 0, ROWS, (b"eXIf", b"II*\0\xff\xff\xff\x7f")), GOOD),
    "png: orientation 77": (png(20, 24, 8, 0, ROWS, (b"eXIf", NO_TURN)), GOOD),
    "png: orientation is text": (png(20, 24, 8, 0, ROWS, (b"eXIf", NO_NUMBER)), GOOD),
    "png: animated, of no frame": (png(20, 24, 8, 0, ROWS, (b"acTL", bytes(8))), GOOD),
    "png: something behind its end": (png(20, 24, 8, 0, ROWS) + b"tail" * 1000, GOOD),
    "jpg: start only": (b"\xff\xd8\xff", NO_IMAGE),
    "jpg: no frame": (b"\xff\xd8\xff\xd9", NO_IMAGE),
    "jpg: 0 high": (EVERY["jpg"].replace(b"\x08\0\x18\0\x14", b"\x08\0\0\0\x14"), NO_IMAGE),
    "jpg: 0 wide": (EVERY["jpg"].replace(b"\x08\0\x18\0\x14", b"\x08\0\x18\0\0"), NO_IMAGE),
    "gif: no frame": (b"GIF89a\x09\0\x09\0\0\0\0;", NO_IMAGE),
    "gif: 0 wide": (b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\2D\1\0;", NO_IMAGE),
    "gif: text behind the first frame": (EVERY["gif"][:-1] + b"!\xfe\xff" + b"x" * 50, GOOD),
    "bmp: 0 wide": (EVERY["bmp"][:18] + bytes(4) + EVERY["bmp"][22:], NO_IMAGE),
    "bmp: 77 bits": (EVERY["bmp"][:28] + b"\x4d\0" + EVERY["bmp"][30:], "cannot be read: "),
    "ppm: 0 wide": (b"P5 0 9 255\n", NO_IMAGE),
    "ppm: maximum of 0": (b"P5 9 9 0\n" + bytes(81), "cannot be read: "),
    "ppm: maximum of 70000": (b"P5 9 9 70000\n" + bytes(81), "cannot be read: "),
    "ppm: letters": (b"P2 2 2 9\na b c d\n", "cannot be read: "),
    "ppm: a digit of 5000": (b"P5 " + b"9" * 5000, "cannot be read: "),
    "tif: no directory": (b"II*\0\xff\xff\xff\x7f", NO_IMAGE),
    "tif: 0 wide": (tiff(GRAY, {256: ("I", 0)}), NO_IMAGE),
    "tif: its directory leads to itself": (
        tiff(GRAY)[: 8 + GRAY.size + 2 + 120] + struct.pack("<I", 8 + GRAY.size), GOOD,
    ),
    "tif: strip beyond its end": (tiff(GRAY, {273: ("I", 1_000_000)}), "cannot be read: image file is truncated"),
    "tif: higher than its strips": (
        tiff(GRAY, {257: ("I", 2_000_000)}), "is broken: it promises 20 x 2000000 pixels and holds 480",
    ),
    "tif: compression 9999": (tiff(GRAY, {259: ("I", 9999)}), NO_IMAGE),
    "tif: 3 bits": (tiff(GRAY, {258: ("I", 3)}), NO_IMAGE),
    "tif: 1000 samples": (tiff(GRAY, {277: ("I", 1000)}), NO_IMAGE),
    "webp: head only": (EVERY["webp"][:12], NO_IMAGE),
    "webp: of another kind": (b"RIFF\4\0\0\0WAVE" + bytes(30), NO_IMAGE),
    "jp2: head only": (EVERY["jp2"][:12], "cannot be read: "),
    "avif: head only": (EVERY["avif"][:32], NO_IMAGE),
    "png named jpg": (png(20, 24, 8, 0, ROWS), GOOD),
}  # fmt: skip


def outcome(path: Path) -> np.ndarray | str:
    """The pixels, or what is said after the path, which is one line."""
    try:
        return read_image(path).pixels.numpy()
    except ImageError as error:
        said = str(error)
    assert said.isprintable()
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return tmp_path / "picture.jpg"


def test_there_are_sixty() -> None:
    assert len(PLACES) + len(FILES) >= 60


@pytest.mark.parametrize("name", PLACES)
def test_places_that_hold_no_file(name: str, picture: Path) -> None:
    make, said = PLACES[name]
    make(picture)
    assert outcome(picture) == said


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_quite_images(name: str, picture: Path) -> None:
    content, expected = FILES[name]
    picture.write_bytes(content)
    found = outcome(picture)
    if isinstance(expected, str):
        assert isinstance(found, str), found.shape
        assert found.startswith(expected)
    else:
        assert not isinstance(found, str), found
        assert (found == expected).all()


@pytest.mark.parametrize("name", EVERY)
def test_cut_files_are_refused_or_whole(name: str, picture: Path) -> None:
    content, draw = EVERY[name], random.Random(name)
    picture.write_bytes(content)
    whole = outcome(picture)
    assert not isinstance(whole, str), whole
    for length in {*range(1, 40, 3), *(draw.randrange(40, len(content)) for _ in range(25))}:
        picture.write_bytes(content[:length])
        found = outcome(picture)
        assert isinstance(found, str) or (found == whole).all()


def test_flipped_bits_leave_no_traceback_and_no_hang(tmp_path: Path) -> None:
    """In a process of its own, which a hang would not outlive, and which libtiff may write to the standard error of."""
    for name, content in EVERY.items():
        draw = random.Random(name)
        for case in range(25):
            changed = bytearray(content)
            for _ in range(draw.choice((1, 2, 8))):
                changed[draw.randrange(min(draw.choice((64, 400)), len(content)))] ^= 1 << draw.randrange(8)
            (tmp_path / f"{case}.{name}").write_bytes(changed)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.test_hostile_images", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert sum(map(int, done.stdout.split())) == 25 * len(EVERY)


if __name__ == "__main__":
    guard = Image.MAX_IMAGE_PIXELS
    counts = Counter(isinstance(outcome(path), str) for path in sorted(Path(sys.argv[1]).iterdir()))
    assert guard == Image.MAX_IMAGE_PIXELS
    print(counts[True], counts[False])
