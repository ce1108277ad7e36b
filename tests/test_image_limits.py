"""How large an image may be: a limit of each read, whatever Pillow's own is and other threads ask for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from torchops.files.images import MAX_PIXELS, ImageError, read_image

from .crafted import encoded, png, tiff

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8))


@pytest.fixture(autouse=True)
def _pillow_keeps_its_guard() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    yield
    assert before == Image.MAX_IMAGE_PIXELS


def put(folder: Path, content: bytes) -> Path:
    (folder / "image.png").write_bytes(content)
    return folder / "image.png"


BOMBS = {
    "png": png(60_000, 50_000, 8, 2, b""),
    "tif": tiff(np.zeros((1, 1), np.uint8), size=(50_000, 60_000)),
    "gif": b"GIF89a\x60\xea\x50\xc3\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
    # the frame is what is large, and is to be cleared afterwards
    "gif-frame": b"GIF89a\1\0\1\0\0\0\0!\xf9\4\x08\0\0\0\0,\0\0\0\0\x60\xea\x50\xc3\0\2\2D\1\0;",
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + bytes([0x5F, 0xEA, 0, 0x4F, 0xC3, 0]) + bytes(12),
    "bmp": encoded(RGB, "BMP")[:18] + b"\x60\xea\0\0\x50\xc3\0\0" + encoded(RGB, "BMP")[26:],
    "ppm": b"P6 60000 50000 255\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_by_header(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(put(tmp_path, BOMBS[name]))
    said = f"60000 x 50000 pixels are more than `max_pixels` (={MAX_PIXELS}), which can be raised"
    assert str(caught.value) == f"{tmp_path / 'image.png'}: {said}"


@pytest.mark.parametrize(("most", "read"), [(478, False), (479, False), (480, True), (481, True)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
def test_to_the_pixel(kind: str, most: int, read: bool, tmp_path: Path) -> None:
    file = put(tmp_path, encoded(RGB, kind))
    if read:
        read_image(file, max_pixels=most)
    else:
        with pytest.raises(ImageError, match=rf"20 x 24 pixels are more than `max_pixels` \(={most}\)"):
            read_image(file, max_pixels=most)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "JPEG", "BMP", "PPM"])
@pytest.mark.parametrize("usual", [100, 300, None])
def test_pillows_own_limit_neither_warns_nor_refuses(
    kind: str, usual: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path, encoded(RGB, kind))
    expected = read_image(file).pixels
    # 480 pixels: more than twice 100, between once and twice 300
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", usual)
    assert torch.equal(read_image(file).pixels, expected)
    assert usual == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("usual", [None, 10**6, 100])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_threads_have_limits_of_their_own(
    kind: str, usual: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a switch after every few instructions, so that each thread stands everywhere while the others run
    interval = sys.getswitchinterval()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", usual)
    file = put(tmp_path, encoded(RGB, kind))
    wrong: list[str] = []

    def read(most: int) -> None:
        try:
            read_image(file, max_pixels=most)
            if most < 480:
                wrong.append(f"{most}: read")
        except ImageError as error:
            if most >= 480 or f"`max_pixels` (={most})" not in str(error):
                wrong.append(f"{most}: {error}")

    def reads(most: int) -> None:
        for _ in range(50):
            read(most)

    threads = [threading.Thread(target=reads, args=(most,)) for most in (10, 480, 479, 10**9)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert usual == Image.MAX_IMAGE_PIXELS


def test_other_readers_are_not_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path, encoded(RGB, "PNG"))
    usual = Image.MAX_IMAGE_PIXELS
    assert usual is not None
    seen: list[int | None] = []
    load = ImageFile.ImageFile.load

    def watched(image: ImageFile.ImageFile) -> object:
        seen.append(Image.MAX_IMAGE_PIXELS)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    read_image(file, max_pixels=480)
    assert seen
    assert all(limit == usual for limit in seen)
