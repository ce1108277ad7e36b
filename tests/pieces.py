"""Small images worked on as large ones are on a CPU: in pieces, on several threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from torchops.measure.rivals import threads
from torchops.ops.cpu import tiles


@dataclass(frozen=True)
class Pieces:
    """How large a piece may be, in elements, and how many threads do them."""

    elements: int
    threads: int

    @contextlib.contextmanager
    def of_any_image(self) -> Iterator[None]:
        """A block in which no image is too small for that."""
        with pytest.MonkeyPatch.context() as patch, threads(self.threads):
            for name in ("TILE", "PART", "BAND", "MOST"):
                patch.setattr(tiles, name, self.elements)
            for name in ("FEW", "LEAST", "LANES", "PIXELS"):
                patch.setattr(tiles, name, 1)
            patch.setattr(tiles, "OVERLAP", 0)
            patch.setattr(tiles, "SPARSE", 1 << 62)
            yield
