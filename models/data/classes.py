"""Images that belong to classes: handwritten digits, the sets that torchvision knows, and folders of your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchops.files.images import MAX_PIXELS
from torchops.models.backbones import IMAGENET

from .changes import changes
from .found import DataError, Found, counted, listed, readable
from .loading import Data, Images
from .preprocess import Preprocess
from .sets import TORCHVISION, known
from .stored import scaled, stored
from .trees import find

DATASETS = ("digits", *TORCHVISION)
FIFTH = 5
"""One in so many samples of each class is held out, where a set does not say which."""
MOST_BYTES = 1 << 29
"""Sets in colour that would take more than this, brought to their size, are not, before an image is asked for."""
AT_RANDOM = "a fifth of every class, chosen at random with seed 0"
"""How they are held out, in words."""


def digits() -> tuple[Tensor, Tensor]:
    """1,797 handwritten digits of 13 people, 8 x 8 pixels, from scikit-learn: (N, 1, 8, 8) from 0 to 1, and (N,).

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.images).float().unsqueeze(1) / 16, torch.from_numpy(bunch.target)


def split(targets: Sequence[int] | Tensor, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold out: a fifth of every class."""
    from sklearn.model_selection import train_test_split

    targets = [int(t) for t in targets]
    rare = [label for label, count in Counter(targets).items() if count < 2]
    if rare:
        raise DataError(f"class {rare[0]} has one image only: two are needed, to train on and to hold out")
    held_out = max(len(targets) // FIFTH, len(set(targets)))
    train, val = train_test_split(list(range(len(targets))), test_size=held_out, stratify=targets, random_state=seed)
    return sorted(train), sorted(val)


def by_class(labels: Sequence[str], targets: Sequence[int] | Tensor) -> dict[str, int]:
    """How many targets there are of every class."""
    counts = Counter(int(t) for t in targets)
    return {label: counts[i] for i, label in enumerate(labels)}


def few(targets: Sequence[int] | Tensor, count: int | None, seed: int) -> list[int]:
    """Indices of `count` samples of every class, or of all."""
    targets = [int(t) for t in targets]
    if count is None:
        return list(range(len(targets)))
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed)).tolist()
    taken: Counter[int] = Counter()
    chosen = []
    for index in order:
        if taken[targets[index]] < count:
            taken[targets[index]] += 1
            chosen.append(index)
    return sorted(chosen)


def _chosen(targets: Sequence[int] | Tensor, examples: int | None, seed: int, found: Found) -> list[int]:
    chosen = few(targets, examples, seed)
    if len(chosen) < len(targets):
        found.notes.append(f"of {counted(len(targets), 'image')} to train on, {len(chosen):,} are used")
    return chosen


def named(
    name: str, root: Path, *, size: int, channels: int, seed: int,
    examples: int | None = None, augment: bool = True, strength: float = 1.0, centred: bool = False,
    statistics: Mapping[str, Any] = IMAGENET,
) -> Data:  # fmt: skip
    """A set by its name; the held-out part is the test set, or a fifth of the digits.

    Args:
        name: one of `DATASETS`.
        root: where torchvision keeps its files.
        size, channels: of the images, as the network wants them.
        seed: of the choice of `examples`.
        examples: to train on, of each class; None for all.
        augment: whether images are changed at random while training, as :func:`changes` says.
        strength: of these changes, a factor.
        centred: normalise to values from -1 to 1, not to mean 0 and standard deviation 1.
        statistics: `mean` and `std` that images in colour are normalised by.

    Raises:
        DataError: if the name is unknown, or the set is not there and cannot be downloaded.
    """
    if name == "digits":
        images, targets = digits()
        train, val = split(targets, seed=0)
        parts = [(images[train], targets[train]), (images[val], targets[val])]
        labels, held_out = tuple(map(str, range(10))), AT_RANDOM
    elif name in TORCHVISION:
        parts, labels = known(name, root)
        held_out = f"the test set of {name}"
    else:
        raise DataError(f"`dataset` must be one of {', '.join(DATASETS)}, got {name!r}")
    found = Found(held_out=held_out)
    chosen = _chosen(parts[0][1], examples, seed, found)
    parts[0] = (parts[0][0][chosen], parts[0][1][chosen])
    if channels == 1 and parts[0][0].shape[1] == 3:
        found.notes.append("the images are in colour, and turned to shades of gray, as `channels` is 1")
    preprocess = Preprocess(channels, size)
    (x, y), (val_x, val_y) = ((_kept(images, preprocess), targets) for images, targets in parts)
    if centred:
        preprocess = Preprocess(channels, size)
    elif channels == 3:
        preprocess = Preprocess(channels, size, **statistics)
    else:
        preprocess = Preprocess(channels, size, (float(x.mean()),), (float(x.std()),))
    change = changes(name, size, strength) if augment else None
    for part, targets in (("train", y), ("val", val_y)):
        found.count(part, by_class(labels, targets))
    return Data(Images(x, y, preprocess, change), Images(val_x, val_y, preprocess), labels, preprocess, found=found)


def _kept(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Images as they are held in memory: brought to their channels and size, float32; or as they are, where that would take
    much, and they are brought to it one by one. Gray ones are needed all at once, for their mean and deviation."""
    size = preprocess.size or 0
    if preprocess.channels == 3 and 4 * 3 * size * size * len(images) > MOST_BYTES:
        return images
    return torch.cat([preprocess.resize(scaled(some)) for some in images.split(4096)])


class Folder(Dataset[tuple[Tensor, int]]):
    """Some images of a tree, read when they are asked for."""

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        preprocess: Preprocess,
        augment: Callable[[Tensor], Tensor] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.samples, self.preprocess, self.augment = list(samples), preprocess, augment
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, target = self.samples[index]
        picture = self.preprocess.picture(path, max_pixels=self.max_pixels)
        if self.augment is None:
            return self.preprocess(picture.scaled()), target
        # a crop is taken before there are floats
        image = self.augment(stored(Preprocess(self.preprocess.channels).resize(picture.pixels), picture.white))
        return self.preprocess.normalize(scaled(image)), target


def folder(
    root: Path, *, size: int, channels: int, seed: int,
    examples: int | None = None, augment: bool = True, strength: float = 1.0, centred: bool = False, unlabelled: bool = False,
    statistics: Mapping[str, Any] = IMAGENET,
    background: str = "white", max_pixels: int = MAX_PIXELS, skip_corrupt: bool = False,
) -> Data:  # fmt: skip
    """A tree with a folder of images for every class, or with such trees in `train`, `val` and `test`.

    Without `val`, a fifth of every class is held out. What there is, and what is left out, is in
    `found` of the :class:`torchops.models.data.Data`.

    Args:
        root: of the tree. Hidden names are passed over; links to images are followed, those to folders where nothing
            is listed twice by them.
        size, channels: of the images, as the network wants them.
        seed: of the choice of `examples`.
        examples: to train on, of each class; None for all.
        augment: whether images are changed at random while training, as :func:`changes` says.
        strength: of these changes, a factor.
        centred: normalise to values from -1 to 1, not by `statistics`.
        statistics: `mean` and `std` that images in colour are normalised by.
        unlabelled: nobody asks for classes: one will do, or a folder of images.
        background: what shines through where an image is transparent, "white" or "black".
        max_pixels: that an image may have.
        skip_corrupt: leave out images that cannot be read.

    Raises:
        DataError: if it is no such tree, a class is empty, there is only one, a file is in two of them or in two parts,
            or an image cannot be read and is not to be skipped.
    """
    found = Found()
    tree = find(root, found, unlabelled=unlabelled)
    classes = tree.classes
    if len(classes) == 1 and not unlabelled:
        raise DataError(f"`data` (={root}): holds one class only, {classes[0]}: at least two are needed")
    normal: Any = statistics if channels == 3 and not centred else {}
    preprocess = Preprocess(channels, size, **normal, background=background)
    parts = _readable(tree.parts, preprocess, max_pixels, skip_corrupt, found)
    for part, samples in parts.items():
        present = {target for _, target in samples}
        absent = [name for label, name in enumerate(classes) if label not in present]
        where = root / tree.folders.get(part, "")
        if not samples or (absent and part == "train"):
            of = f" of the class {absent[0]}" if samples else ""
            raise DataError(f"`data` (={where}): no image{of} is left")
        if absent:
            found.notes.append(
                f"{tree.folders[part]} has no image of {counted(len(absent), 'class')}: {listed(absent)}"
            )
    if "val" in parts:
        found.held_out = f"the images in {tree.folders['val']}"
    else:
        targets = [target for _, target in parts["train"]]
        rare = [target for target, count in Counter(targets).items() if count < 2]
        if rare:
            name = f"the class {classes[rare[0]]}" if classes else "it"
            raise DataError(f"`data` (={root}): {name} has one image only: one more is needed to hold out")
        both = parts["train"]
        train, val = split(targets, seed=0)
        parts = {"train": [both[i] for i in train], "val": [both[i] for i in val]} | {
            part: samples for part, samples in parts.items() if part != "train"
        }
        found.held_out = AT_RANDOM if classes else AT_RANDOM.replace(" of every class", "")
    chosen = _chosen([target for _, target in parts["train"]], examples, seed, found)
    parts["train"] = [parts["train"][i] for i in chosen]
    for part, samples in parts.items():
        found.count(part, by_class(classes, [target for _, target in samples]), len(samples))
    change = changes(None, size, strength) if augment else None
    train_set, val_set, *test_set = (
        Folder(samples, preprocess, change if part == "train" else None, max_pixels) for part, samples in parts.items()
    )
    return Data(train_set, val_set, classes, preprocess, test_set[0] if test_set else None, found)


def _readable(
    parts: Mapping[str, list[tuple[str, int]]],
    preprocess: Preprocess,
    max_pixels: int,
    skip_corrupt: bool,
    found: Found,
) -> dict[str, list[tuple[str, int]]]:
    """The samples whose images can be decoded, as is tried with all of them."""
    paths = [path for samples in parts.values() for path, _ in samples]

    def frames(path: str) -> int:
        return preprocess.picture(path, max_pixels=max_pixels).frames

    seen = readable(paths, frames, found, skip_corrupt=skip_corrupt)
    found.note_frames([path for path, count in seen.items() if count > 1])
    return {part: [s for s in samples if s[0] in seen] for part, samples in parts.items()}
