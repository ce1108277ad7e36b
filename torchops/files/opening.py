"""Image files, opened with care: which formats, how large, which way up. Needs the extra `cli`."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import psutil
from PIL import ExifTags, Image, ImageFile

from . import not_a_file
from .names import printable
from .quiet import quiet

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "AVIF": (".avif",),
}
"""The formats that are read, with what their files' names end in. Pillow knows more, and runs Ghostscript for one of them."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Names of files that are taken for images, in small letters."""
MAX_PIXELS = 178_956_970
"""The most pixels that an image may have, if nothing else is said; Pillow's own limit."""

_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GRAY = ("1", "L", "F", *_SIXTEEN_BITS)
# it was measured at the peak: there are pixels, their upright copy, float32 edges, and two copies on the way to 8 bits
_BYTES_A_VALUE = 16
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = "turned"


class ImageError(Exception):
    """What is wrong with a file, in one line."""


@contextlib.contextmanager
def opened(path: Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An image file's first frame: decoded, and upright by its EXIF orientation; see :func:`turned`.

    Args:
        path: of a regular file, in one of `FORMATS`.
        max_pixels: the most pixels, width times height, that the file's header may promise.

    Raises:
        ImageError: if the file is missing, no image, broken, or larger than `max_pixels` or the memory allow.
    """
    with contextlib.ExitStack() as closing:
        with image_errors(path):
            image = upright(_loaded(path, max_pixels, closing))
        yield image


def turned(image: Image.Image) -> bool:
    """Whether an image of :func:`opened` is not as it was stored: its EXIF orientation has turned or mirrored it."""
    return bool(image.info.get(_TURNED))


@contextlib.contextmanager
def image_errors(path: Path) -> Iterator[None]:
    """Whatever decoders raise in the block becomes an `ImageError`; what they warn of is dropped."""
    try:
        with quiet():
            yield
    except ImageError as error:
        raise ImageError(f"{printable(path)}: {error}") from error.__cause__
    except MemoryError:
        raise ImageError(f"{printable(path)}: does not fit into memory") from None
    except Image.UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise ImageError(f"{printable(path)}: is broken, or no image of a format that is read: {known}") from None
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise ImageError(f"{printable(path)}: cannot be read: {reason}") from error


def _loaded(path: Path, max_pixels: int, closing: contextlib.ExitStack) -> ImageFile.ImageFile:
    if (reason := not_a_file(path)) is not None:
        raise ImageError(reason)
    if not path.stat().st_size:
        raise ImageError("is empty")
    with contextlib.ExitStack() as guard:
        usual = guard.enter_context(_raised(max_pixels))
        try:
            # Pillow 13 maps a file that it is given the name of, and then mixes up the sides of TIFFs that are to be turned
            file = closing.enter_context(path.open("rb"))
            image = closing.enter_context(Image.open(file, formats=tuple(FORMATS)))
        except Image.DecompressionBombError as error:
            raise _too_large(_size_in(error), max_pixels) from None
        if image.width * image.height > max_pixels:
            raise _too_large(image.size, max_pixels)
        _check_memory(image)
        # some decoders ask Pillow for its limit again
        if usual is None or image.width * image.height <= 2 * usual:
            guard.close()
        _check_strips(image)
        if image.format == "PNG":
            # the decoder does not ask for the checksums of pixels
            with Image.open(path, formats=("PNG",)) as twin:
                twin.verify()
        stored = image.tile[0][3] if image.tile else None
        # Pillow turns TIFFs when they are decoded; and decodes others when they are asked
        before = _orientation(image) if image.format == "TIFF" else 1
        image.load()
    image.info[_TURNED] = before in _TURNS or _orientation(image) in _TURNS
    key = image.info.pop("transparency", None)
    # the texts in a PNG have names of their own choice
    if isinstance(key, (int, bytes, tuple)):
        image.info["transparency"] = _as_decoded(key, stored)
    return image


_lock = threading.RLock()


@contextlib.contextmanager
def _raised(max_pixels: int) -> Iterator[int | None]:
    """In the block, Pillow reads images of `max_pixels`; gives its own limit, at twice of which it refuses.

    Pillow knows one limit for the whole process. It is never lowered, since other threads read images too; and one thread
    at a time raises it, since each puts back what it has found.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(_lock)
        usual = Image.MAX_IMAGE_PIXELS
        if usual is None or max_pixels <= 2 * usual:
            held.close()
        else:
            held.callback(setattr, Image, "MAX_IMAGE_PIXELS", usual)
            Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
        yield usual


def _too_large(size: tuple[int, int] | None, max_pixels: int) -> ImageError:
    shown = "its frames" if size is None else f"{size[0]} x {size[1]} pixels"
    return ImageError(f"{shown} are more than `max_pixels` (={max_pixels}), which can be raised")


def _size_in(error: Image.DecompressionBombError) -> tuple[int, int] | None:
    """The size that Pillow has refused: its check was called with it, its message tells the product only."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return frame.f_locals.get("size")


def _check_memory(image: Image.Image) -> None:
    width, height = image.size
    need = width * height * (1 if image.mode in _GRAY else 3) * _BYTES_A_VALUE
    free = psutil.virtual_memory().available
    if need > free:
        raise ImageError(
            f"{width} x {height} pixels need {need / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
        )


def _check_strips(image: ImageFile.ImageFile) -> None:
    """Refuse a TIFF whose strips are fewer than its height wants: Pillow leaves the rest black."""
    if image.format == "TIFF":
        extents = [tile[1] for tile in image.tile if tile[1] is not None]
        covered = sum((right - left) * (bottom - top) for left, top, right, bottom in extents)
        if covered < image.width * image.height:
            raise ImageError(f"is broken: it promises {image.width} x {image.height} pixels and holds {covered}")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever broken EXIF makes its parser stumble over; the pixels need none
        return 1


def upright(image: Image.Image) -> Image.Image:
    """An image as its EXIF orientation says that it is to be seen."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _as_decoded(key: int | bytes | tuple[int, ...], stored: object) -> int | bytes | tuple[int, ...]:
    """The value of transparent pixels, which a PNG has in as many bits as it stores, in as many as were decoded."""
    if isinstance(key, int):
        return key * {"L;2": 85, "L;4": 17}.get(str(stored), 1)
    return tuple(part >> 8 for part in key) if stored == "RGB;16B" and isinstance(key, tuple) else key
