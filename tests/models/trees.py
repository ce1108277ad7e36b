"""Small folders of images, and what became of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from torchops.models.data import Data, DataError, folder

SIZE: dict[str, Any] = {"size": 8, "channels": 1, "seed": 0, "augment": False}


def picture(path: Path, value: int = 128, size: tuple[int, int] = (9, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def grow(root: Path, folders: dict[str, int]) -> Path:
    """So many images in each folder."""
    for name, count in folders.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(root / name / f"{i}.png")
    return root


def parts(data: Data) -> dict[str, list[tuple[str, int]]]:
    """The samples of every part."""
    sets = {"train": data.train, "val": data.val} | ({} if data.test is None else {"test": data.test})
    return {part: dataset.samples for part, dataset in sets.items()}  # type: ignore[attr-defined]


def counts(data: Data) -> dict[str, list[int]]:
    """How many images of every class each part has, by its samples; what was found says the same."""
    of = {}
    for part, samples in parts(data).items():
        here = Counter(target for _, target in samples)
        of[part] = [here[label] for label in range(len(data.labels))]
        assert data.found.parts[part] == dict(zip(data.labels, of[part], strict=True))
        assert data.found.images[part] == len(samples)
    assert of.keys() == data.found.parts.keys()
    return of


def left_out(data: Data, root: Path) -> dict[str, list[str]]:
    """What was left out, by reason, in order."""
    named: dict[str, list[str]] = {}
    for path, reason in data.found.left_out:
        named.setdefault(reason, []).append(path.replace(f"{root}/", ""))
    return {reason: sorted(paths) for reason, paths in named.items()}


def refused(root: Path, message: str, **options: Any) -> None:
    """One line, whatever the names in it."""
    with pytest.raises(DataError) as caught:
        folder(root, **SIZE | options)
    text = str(caught.value)
    assert text.isprintable()
    assert message.replace("ROOT", str(root)) in text


def two_classes(root: Path) -> Path:
    """Five images of each of two classes; the classes differ in brightness."""
    for label, value in (("dark", 10), ("light", 240)):
        for i in range(5):
            picture(root / label / f"{i}.png", value + i)
    return root
