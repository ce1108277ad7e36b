"""Images that belong to classes: handwritten digits, the sets that torchvision knows, and folders of your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import MNIST, USPS, FashionMNIST
from torchvision.transforms import v2

from torchops.files.images import MAX_PIXELS
from torchops.models.backbones import IMAGENET

from .found import DataError, Found, counted, listed, readable
from .loading import Data, Images
from .preprocess import Preprocess
from .trees import find

TORCHVISION: dict[str, tuple[Any, str]] = {
    "mnist": (MNIST, "MNIST/raw"),
    "fashion-mnist": (FashionMNIST, "FashionMNIST/raw"),
    "usps": (USPS, "."),
}
"""torchvision's sets by name: the class, and where under the root it looks for its files."""
DATASETS = ("digits", *TORCHVISION)
FIFTH = 5
"""One in so many samples of each class is held out, where a set does not say which."""
AT_RANDOM = "a fifth of every class, chosen at random with seed 0"
"""How they are held out, in words."""


def digits() -> tuple[Tensor, Tensor]:
    """1,797 handwritten digits of 43 people, 8 x 8 pixels, from scikit-learn: (N, 1, 8, 8) from 0 to 1, and (N,).

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
    examples: int | None = None, augment: bool = True, centred: bool = False,
    statistics: Mapping[str, Any] = IMAGENET,
) -> Data:  # fmt: skip
    """A set by its name; the held-out part is the test set, or a fifth of the digits.

    Args:
        name: one of `DATASETS`.
        root: where torchvision keeps its files.
        size, channels: of the images, as the network wants them.
        seed: of the choice of `examples`.
        examples: to train on, of each class; None for all.
        augment: whether images are changed at random while training: handwriting leaned, clothes mirrored.
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
        parts, labels = _torchvision(name, root)
        held_out = f"the test set of {name}"
    else:
        raise DataError(f"`dataset` must be one of {', '.join(DATASETS)}, got {name!r}")
    found = Found(held_out=held_out)
    chosen = _chosen(parts[0][1], examples, seed, found)
    parts[0] = (parts[0][0][chosen], parts[0][1][chosen])
    preprocess = Preprocess(channels, size)
    (x, y), (val_x, val_y) = ((preprocess.resize(images), targets) for images, targets in parts)
    if centred:
        preprocess = Preprocess(channels, size)
    elif channels == 3:
        preprocess = Preprocess(channels, size, **statistics)
    else:
        preprocess = Preprocess(channels, size, (float(x.mean()),), (float(x.std()),))
    change = (_flipped() if name == "fashion-mnist" else _written()) if augment else None
    for part, targets in (("train", y), ("val", val_y)):
        found.count(part, by_class(labels, targets))
    return Data(Images(x, y, preprocess, change), Images(val_x, val_y, preprocess), labels, preprocess, found=found)


def _torchvision(name: str, root: Path) -> tuple[list[tuple[Tensor, Tensor]], tuple[str, ...]]:
    cls, folder = TORCHVISION[name]
    parts = []
    try:
        for train in (True, False):
            data = cls(root, train=train, download=True)
            pixels = torch.as_tensor(data.data)
            parts.append((pixels.unsqueeze(1).float() / 255, torch.as_tensor(data.targets)))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} is not in {root / folder} and cannot be downloaded ({error}): "
            "put its unpacked files there, or say with `root` where they are"
        ) from error
    return parts, tuple(map(str, getattr(data, "classes", range(10))))


def _written() -> v2.Transform:
    """Random changes for handwriting, which leans and is not quite in the middle."""
    return v2.RandomAffine(
        degrees=12, translate=(0.08, 0.08), scale=(0.9, 1.1), shear=8, interpolation=v2.InterpolationMode.BILINEAR
    )


def _flipped() -> v2.Transform:
    return v2.RandomHorizontalFlip()


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
        image = self.preprocess.read(path, max_pixels=self.max_pixels)
        if self.augment is None:
            return self.preprocess(image), target
        image = Preprocess(self.preprocess.channels).resize(image)
        return self.preprocess.normalize(self.augment(image)), target


def folder(
    root: Path, *, size: int, channels: int, seed: int,
    examples: int | None = None, augment: bool = True, centred: bool = False, unlabelled: bool = False,
    statistics: Mapping[str, Any] = IMAGENET,
    background: str = "white", max_pixels: int = MAX_PIXELS, skip_corrupt: bool = False,
) -> Data:  # fmt: skip
    """A tree with a folder of images for every class, or with such trees in `train`, `val` and `test`.

    Without `val`, a fifth of every class is held out. What there is, and what is left out, is in :attr:`Data.found`.

    Args:
        root: of the tree. Hidden names are passed over; links to images are followed, those to folders where nothing
            is listed twice by them.
        size, channels: of the images, as the network wants them.
        seed: of the choice of `examples`.
        examples: to train on, of each class; None for all.
        augment: whether images are changed at random while training.
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
    change = v2.Compose(
        [v2.RandomResizedCrop(size, scale=(0.6, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    )  # fmt: skip
    train_set, val_set, *test_set = (
        Folder(samples, preprocess, change if augment and part == "train" else None, max_pixels)
        for part, samples in parts.items()
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
