"""Image files as they are read: opaque, upright, and white where the file says."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchops.files.images import (
    FORMATS,
    SUFFIXES,
    ImageError,
    opened,
    read_image,
    stretched,
    turned,
    write_image,
)

from .crafted import encoded, png, tiff

VALUES = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
RGBA = Image.fromarray(VALUES)
RGB, L, LA = RGBA.convert("RGB"), RGBA.convert("L"), RGBA.convert("LA")


@pytest.fixture(autouse=True)
def _pillow_keeps_its_guard() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    yield
    assert before == Image.MAX_IMAGE_PIXELS


def put(folder: Path, content: bytes, name: str = "image.png") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def over(colour: np.ndarray, alpha: np.ndarray, background: str) -> np.ndarray:
    """The definition, in float64: (H, W, C) under (H, W)."""
    share = alpha[..., None] / 255
    return np.floor(colour * share + (255 if background == "white" else 0) * (1 - share) + 0.5)


def _palette(transparency: int | bytes) -> tuple[bytes, np.ndarray, np.ndarray]:
    image = RGB.quantize(16)
    indices = np.array(image)
    if isinstance(transparency, bytes):
        table = np.frombuffer(transparency.ljust(256, b"\xff"), np.uint8)
    else:
        table = np.where(np.arange(256) == transparency, 0, 255)
    return encoded(image, "PNG", transparency=transparency), np.array(image.convert("RGB")), table[indices]


GRAY = np.array(L)
TRANSPARENT: dict[str, tuple[bytes, np.ndarray, np.ndarray]] = {
    "RGBA": (encoded(RGBA, "PNG"), VALUES[..., :3], VALUES[..., 3]),
    "LA": (encoded(LA, "PNG"), np.array(LA)[..., :1], np.array(LA)[..., 1]),
    "RGBA-tiff": (encoded(RGBA, "TIFF"), VALUES[..., :3], VALUES[..., 3]),
    "RGBA-webp": (encoded(RGBA, "WEBP", lossless=True, exact=True), VALUES[..., :3], VALUES[..., 3]),
    "palette-one": _palette(5),
    "palette-bytes": _palette(bytes(range(0, 240, 15))),
    "L-key": (encoded(L, "PNG", transparency=77), GRAY[..., None], np.where(GRAY == 77, 0, 255)),
    "RGB-key": (
        encoded(RGB, "PNG", transparency=tuple(VALUES[3, 4, :3].tolist())),
        VALUES[..., :3],
        np.where((VALUES[..., :3] == VALUES[3, 4, :3]).all(-1), 0, 255),
    ),
    "1-bit-key": (
        png(8, 1, 1, 0, b"\0\xa5", (b"tRNS", b"\0\x01")),
        np.array([[[255], [0], [255], [0], [0], [255], [0], [255]]]),
        np.array([[0, 255, 0, 255, 255, 0, 255, 0]]),
    ),
    "2-bit-key": (
        png(4, 1, 2, 0, b"\0\x1b", (b"tRNS", b"\0\x02")),
        np.array([[[0], [85], [170], [255]]]),
        np.array([[255, 255, 0, 255]]),
    ),
    "4-bit-key": (
        png(2, 1, 4, 0, b"\0\x3c", (b"tRNS", b"\0\x0c")),
        np.array([[[51], [204]]]),
        np.array([[255, 0]]),
    ),
    "16-bit-RGB-key": (
        png(2, 1, 16, 2, b"\0" + bytes(range(12)), (b"tRNS", bytes(range(6)))),
        np.array([[[0, 2, 4], [6, 8, 10]]]),
        np.array([[0, 255]]),
    ),
    "gif": (
        encoded(L.quantize(8), "GIF", transparency=3),
        np.array(L.quantize(8).convert("RGB")),
        np.where(np.array(L.quantize(8)) == 3, 0, 255),
    ),
}


@pytest.mark.parametrize("background", ["white", "black"])
@pytest.mark.parametrize("name", TRANSPARENT)
def test_background_shines_through(name: str, background: str, tmp_path: Path) -> None:
    content, colour, alpha = TRANSPARENT[name]
    assert (alpha < 255).any()
    pixels = read_image(put(tmp_path, content), background=background).pixels.permute(1, 2, 0).numpy()
    expected = over(colour, alpha, background)
    assert (pixels == np.broadcast_to(expected, pixels.shape)).all()
    if background == "white":
        under = Image.new("RGBA", (pixels.shape[1], pixels.shape[0]), "white")
        layer = np.concatenate([np.broadcast_to(colour, pixels.shape[:2] + (3,)), alpha[..., None]], -1).astype(
            np.uint8
        )
        pillows = np.array(Image.alpha_composite(under, Image.fromarray(layer)))[..., :3].astype(int)
        assert abs(pillows - pixels).max() <= 1


def test_gray_is_the_luminance_of_what_shines_through(tmp_path: Path) -> None:
    file = put(tmp_path, encoded(RGBA, "PNG"))
    seen = Image.fromarray(read_image(file).pixels.permute(1, 2, 0).numpy())
    assert (read_image(file, gray=True).pixels[0].numpy() == np.array(seen.convert("L"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_colours_that_were_multiplied_by_alpha(mode: str, tmp_path: Path) -> None:
    multiplied = np.array(RGBA.convert("RGBa") if mode == "RGBA" else LA.convert("La")).astype(int)
    content = encoded(Image.fromarray(multiplied.astype(np.uint8), mode), "TIFF")
    # the tag 338 says of what kind alpha is: 2 stands by itself, 1 was multiplied
    alpha_apart, premultiplied = (struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1))
    assert content.count(alpha_apart) == 1
    file = put(tmp_path, content.replace(alpha_apart, premultiplied), "image.tif")
    pixels = read_image(file).pixels.permute(1, 2, 0).numpy().astype(int)
    # dividing by alpha rounds
    assert abs(pixels - (multiplied[..., :-1] + 255 - multiplied[..., -1:])).max() <= 1


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P-bytes", "RGB", "L", "CMYK", "1"])
def test_opaque_images_are_read_as_before(mode: str, gray: bool, tmp_path: Path) -> None:
    VISIBLE = VALUES.copy()
    VISIBLE[..., 3] = 255
    image = Image.fromarray(VISIBLE)
    options = {"transparency": b"\xff" * 16} if mode == "P-bytes" else {}
    image = image.convert("RGB").quantize(16) if mode[0] == "P" else image.convert(mode)
    file = put(tmp_path, encoded(image, "TIFF" if mode == "CMYK" else "PNG", **options))
    expected = np.array(image.convert("L" if gray or mode in ("1", "L", "LA") else "RGB"))
    pixels = read_image(file, gray=gray).pixels
    assert (pixels.permute(1, 2, 0).squeeze(-1).numpy() == expected).all()


def test_sixteen_bits_with_a_transparent_value(tmp_path: Path) -> None:
    file = put(tmp_path, png(3, 1, 16, 0, b"\0\x01\x02\xff\xff\x00\x10", (b"tRNS", b"\x01\x02")))
    assert read_image(file).pixels.tolist() == [[[65535, 65535, 16]]]
    assert read_image(file, background="black").pixels.tolist() == [[[0, 65535, 16]]]


def test_background_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^`background` must be white or black, got 'pink'$"):
        read_image(put(tmp_path, encoded(RGBA, "PNG")), background="pink")


class TestScale:
    @pytest.mark.parametrize(
        ("content", "pixels", "white"),
        [
            (tiff(np.array([[0, 500, 65535]], np.int32)), [0, 500, 65535], 65535),
            (tiff(np.array([[0, 500, 65535]], np.uint32)), [0, 500, 65535], 65535),
            (tiff(np.array([[0, 500, 65535]], np.uint16)), [0, 500, 65535], 65535),
            (tiff(np.array([[0, 500, 65535]], np.uint16), {262: ("H", 0)}), [65535, 65035, 0], 65535),
            (tiff(np.array([[0, 0.25, 1]], np.float32), {262: ("H", 0)}), [1, 0.75, 0], 1),
            (tiff(np.array([[0, 0.25, 1]], np.float32)), [0, 0.25, 1], 1),
            (tiff(np.array([[0, 100, 400]], np.float32), {341: ("f", 400)}), [0, 100, 400], 400),
            (tiff(np.array([[-1, 0, 1]], np.float32), {340: ("f", -1), 341: ("f", 1)}), [0, 1, 2], 2),
            (tiff(np.array([[-1, 0, 1]], np.float32), {340: ("d", -1), 341: ("d", 3)}), [0, 1, 2], 4),
            (tiff(np.array([[0, 7, 1000]], np.int32), {280: ("H", 0), 281: ("H", 1000)}), [0, 7, 1000], 1000),
            (tiff(np.array([[-5, 7, 9]], np.int32), {340: ("i", -5), 341: ("i", 10)}), [0, 12, 14], 15),
            (tiff(np.array([[0, 2**31, 2**32 - 1]], np.uint32), {341: ("I", 2**32 - 1)}), [0, 2**31, 2**32], 2**32 - 1),
            # tags that make no sense say nothing
            (tiff(np.array([[0, 0.5, 1]], np.float32), {340: ("f", 5), 341: ("f", 5)}), [0, 0.5, 1], 1),
            (tiff(np.array([[0, 0.5, 1]], np.float32), {341: ("f", float("nan"))}), [0, 0.5, 1], 1),
            # 12 bits: ABC, 123
            (tiff(np.frombuffer(b"\xab\xc1\x23", np.uint8)[None], {258: ("H", 12)}, size=(1, 2)), [0xABC, 0x123], 4095),
            (b"P5 3 1 1023\n\0\0\2\0\3\xff", [0, 32800, 65535], 65535),
        ],
    )  # fmt: skip
    def test_white_is_what_the_file_says(
        self, content: bytes, pixels: list[float], white: float, tmp_path: Path
    ) -> None:
        picture = read_image(put(tmp_path, content))
        assert picture.white == white
        assert picture.pixels.tolist() == [[pixels]]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (
                tiff(np.array([[0, 25_500_000]], np.int32)),
                "values from 0 to 2.55e+07, while black is 0 and white 65535",
            ),
            (tiff(np.array([[-1, 3]], np.int32)), "values from -1 to 3, while black is 0 and white 65535"),
            (tiff(np.array([[0, 2**32 - 1]], np.uint32)), "values from 0 to 4.294967e+09, while black is 0"),
            (tiff(np.array([[0, 389]], np.float32)), "values from 0 to 389, while black is 0 and white 1"),
            (tiff(np.array([[0, 1.001]], np.float32)), "values from 0 to 1.001, while black is 0 and white 1"),
            (tiff(np.array([[0, np.nan]], np.float32)), "values that are infinite or no numbers"),
            (tiff(np.array([[0, np.inf]], np.float32)), "values that are infinite or no numbers"),
            (tiff(np.array([[0, 5]], np.float32), {341: ("f", 4)}), "values from 0 to 5, while black is 0 and white 4"),
        ],
    )
    def test_values_that_no_white_is_known_of(self, content: bytes, said: str, tmp_path: Path) -> None:
        with pytest.raises(ImageError) as caught:
            read_image(put(tmp_path, content))
        assert said in str(caught.value)


class TestUpright:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
    def test_all_formats(self, kind: str, orientation: int, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        flat = Image.new("RGB", (12, 8), "black")
        flat.paste("white", (0, 0, 4, 4))
        file = put(tmp_path, encoded(flat, kind, exif=exif))
        pixels = read_image(file, gray=True).pixels[0].numpy() > 127
        as_stored = np.array(flat.convert("L")) > 127
        turns = {
            1: as_stored, 2: as_stored[:, ::-1], 3: as_stored[::-1, ::-1], 4: as_stored[::-1],
            5: as_stored.T, 6: np.rot90(as_stored, -1), 7: as_stored[::-1, ::-1].T, 8: np.rot90(as_stored),
        }  # fmt: skip
        assert pixels.shape == turns[orientation].shape
        assert (pixels == turns[orientation]).mean() > 0.9
        with opened(file) as image:
            assert turned(image) == (orientation > 1)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_gray_tiffs(self, orientation: int, dtype: type, tmp_path: Path) -> None:
        """Pillow reads them past its decoders where it knows the file's name, and with the sides mixed up."""
        stored = (np.arange(6).reshape(2, 3) / (1 if dtype is not np.float32 else 8)).astype(dtype)
        turns = {
            1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
            5: stored.T, 6: np.rot90(stored, -1), 7: stored[::-1, ::-1].T, 8: np.rot90(stored),
        }  # fmt: skip
        file = tmp_path / "image.tif"
        Image.fromarray(stored).save(file, tiffinfo={0x0112: orientation})
        assert read_image(file).pixels[0].tolist() == turns[orientation].tolist()

    def test_a_png_of_other_checksums(self, tmp_path: Path) -> None:
        """A broken download may end in zeros, which decode to pixels all the same."""
        whole = encoded(RGB, "PNG")
        for where in (len(whole) // 2, len(whole) - 20):
            for content in (whole[:where] + bytes(len(whole) - where), whole[:where] + b"?" + whole[where + 1 :]):
                with pytest.raises(ImageError, match="cannot be read"):
                    read_image(put(tmp_path, content))

    def test_no_orientation(self, tmp_path: Path) -> None:
        with opened(put(tmp_path, encoded(RGB, "PNG"))) as image:
            assert not turned(image)
            assert (np.array(image) == np.array(RGB)).all()

    @pytest.mark.parametrize("exif", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(40)])
    def test_broken_exif_leaves_the_pixels(self, exif: bytes, tmp_path: Path) -> None:
        file = put(tmp_path, encoded(RGB, "PNG", exif=exif))
        assert (read_image(file).pixels.permute(1, 2, 0).numpy() == np.array(RGB)).all()


def test_frames_are_counted_and_the_first_is_read(tmp_path: Path) -> None:
    for kind, suffix in (("GIF", "gif"), ("TIFF", "tif"), ("WEBP", "webp"), ("PNG", "png")):
        frames = [Image.new("L", (4, 3), shade) for shade in (0, 120, 255)]
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        picture = read_image(put(tmp_path, content, f"image.{suffix}"))
        assert picture.frames == 3
        assert not picture.pixels.any()
    assert read_image(put(tmp_path, encoded(L, "PNG"))).frames == 1


def test_a_postscript_runs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'has-run'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for name in ("image.png", "image.eps"):
        with pytest.raises(ImageError, match=r"of a format that is read: PNG, JPEG, .*AVIF$"):
            read_image(put(tmp_path, content, name))
    assert not (tmp_path / "has-run").exists()


def test_names_of_images_follow_from_the_formats() -> None:
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp", ".bmp"} <= set(SUFFIXES)
    assert {kind for suffix in SUFFIXES if (kind := Image.registered_extensions()[suffix]) != "MPO"} == set(FORMATS)


class TestStretched:
    def test_the_strongest_hundredth_is_white(self) -> None:
        values = torch.arange(201.0).view(1, 3, 67)
        result, factor = stretched(values, 255.0)
        assert factor == 255 / 198
        assert int((result == 255).sum()) == 3
        torch.testing.assert_close(result[0, 0, 1], torch.tensor(255 / 198))

    def test_few_edges(self) -> None:
        values = torch.zeros(1, 20, 20)
        values[0, 3, 4], values[0, 5, 6] = 10, 40
        result, factor = stretched(values, 255.0)
        assert (factor, result.max(), result[0, 3, 4]) == (255 / 40, 255, 63.75)

    def test_black(self) -> None:
        result, factor = stretched(torch.zeros(3, 4, 5), 255.0)
        assert (factor, result.any()) == (1, False)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "jpg", "jp2", "gif", "avif", "ppm"])
def test_written_images_are_read_again(suffix: str, tmp_path: Path) -> None:
    flat = torch.full((1, 16, 16), 0.5)
    assert write_image(tmp_path / f"out.{suffix}", flat, 1.0) == 8
    picture = read_image(tmp_path / f"out.{suffix}", gray=True)
    assert (picture.pixels / picture.white - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)])
def test_nothing_but_files_is_written_to(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "out.png")
    with pytest.raises(ImageError, match=r"out\.png: is a .*"):
        write_image(tmp_path / "out.png", torch.zeros(1, 2, 2), 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
