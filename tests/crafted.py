"""Image files byte by byte: what Pillow does not write, and what nobody should."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(
    width: int, height: int, bits: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes], end: bytes = b""
) -> bytes:
    """A PNG of rows that begin with their filter's number; colour 0: gray, 2: RGB, 3: palette."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", end)]
    whole = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + whole


def tiff(pixels: np.ndarray, tags: dict[int, tuple[str, float]] | None = None, *, size: Any = None) -> bytes:
    """A gray TIFF of one strip, little-endian; tags are a letter of `struct` and a value, which replace the usual ones."""
    data = pixels.tobytes()
    height, width = size or pixels.shape
    bits, kind = pixels.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    usual = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data), 339: kind}
    entries = {number: ("I", value) for number, value in usual.items()} | (tags or {})
    types = {"H": 3, "I": 4, "f": 11, "d": 12, "h": 8, "i": 9}
    directory, more, after = b"", b"", 8 + len(data) + 2 + 12 * len(entries) + 4
    for number, (letter, value) in sorted(entries.items()):
        packed = struct.pack(f"<{letter}", value)
        if len(packed) > 4:
            packed, more = struct.pack("<I", after + len(more)), more + packed
        directory += struct.pack("<HHI", number, types[letter], 1) + packed.ljust(4, b"\0")
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(entries)) + directory + bytes(4) + more
