"""Images that belong to classes: handwritten digits, the sets that torchvision knows, and folders of your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import MNIST, USPS, FashionMNIST, ImageFolder
from torchvision.transforms import v2

from torchops.files.images import ImageError

from .found import DataError, Found
from .loading import Data, Images
from .preprocess import Preprocess, read

TORCHVISION: dict[str, tuple[Any, str]] = {
    "mnist": (MNIST, "MNIST/raw"),
    "fashion-mnist": (FashionMNIST, "FashionMNIST/raw"),
    "usps": (USPS, "."),
}
"""torchvision's sets by name: the class, and where under the root it looks for its files."""
DATASETS = ("digits", *TORCHVISION)
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FIFTH = 5
"""One in so many samples of each class is held out, where a set does not say which."""


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


def named(
    name: str, root: Path, *, size: int, channels: int, seed: int,
    examples: int | None = None, augment: bool = True, centred: bool = False,
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

    Raises:
        DataError: if the name is unknown, or the set is not there and cannot be downloaded.
    """
    if name == "digits":
        images, targets = digits()
        train, val = split(targets, seed=0)
        parts = [(images[train], targets[train]), (images[val], targets[val])]
        labels = tuple(map(str, range(10)))
    elif name in TORCHVISION:
        parts, labels = _torchvision(name, root)
    else:
        raise DataError(f"`dataset` must be one of {', '.join(DATASETS)}, got {name!r}")
    chosen = few(parts[0][1], examples, seed)
    parts[0] = (parts[0][0][chosen], parts[0][1][chosen])
    preprocess = Preprocess(channels, size)
    (x, y), (val_x, val_y) = ((preprocess.resize(images), targets) for images, targets in parts)
    if centred:
        preprocess = Preprocess(channels, size)
    elif channels == 3:
        preprocess = Preprocess(channels, size, **IMAGENET)
    else:
        preprocess = Preprocess(channels, size, (float(x.mean()),), (float(x.std()),))
    change = (_flipped() if name == "fashion-mnist" else _written(size)) if augment else None
    return Data(Images(x, y, preprocess, change), Images(val_x, val_y, preprocess), labels, preprocess)


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


def _written(size: int) -> v2.Transform:
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
    ) -> None:
        self.samples, self.preprocess, self.augment = list(samples), preprocess, augment

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, target = self.samples[index]
        image = read(path, gray=self.preprocess.channels == 1)
        if self.augment is None:
            return self.preprocess(image), target
        image = Preprocess(self.preprocess.channels).resize(image)
        return self.preprocess.normalize(self.augment(image)), target


def folder(
    root: Path, *, size: int, channels: int, seed: int,
    examples: int | None = None, augment: bool = True, centred: bool = False, skip_corrupt: bool = False,
) -> Data:  # fmt: skip
    """A tree with a folder of images for every class, or with such trees in `train` and in `val`.

    Raises:
        DataError: if a class is empty, there is only one, or an image cannot be read and is not to be skipped.
    """
    if not root.is_dir():
        raise DataError(f"`data` (={root}): no such folder")
    halves = [root / "train", root / "val"]
    apart = all(half.is_dir() for half in halves)
    trees = [_tree(half) for half in (halves if apart else [root])]
    classes = trees[0].classes
    if any(tree.classes != classes for tree in trees):
        raise DataError(f"`data` (={root}): the classes of train and val differ")
    if len(classes) < 2:
        raise DataError(f"`data` (={root}): holds one class only, {classes[0]}: at least two are needed")
    skipped: list[str] = []
    samples = [_readable(tree.samples, skip_corrupt, skipped) for tree in trees]
    for each, tree in zip(samples, trees, strict=True):
        empty = set(range(len(classes))) - {target for _, target in each}
        if empty:
            raise DataError(f"`data` (={tree.root}): no image of the class {classes[min(empty)]} is left")
    if not apart:
        counts = Counter(target for _, target in samples[0])
        rare = [classes[target] for target, count in counts.items() if count < 2]
        if rare:
            raise DataError(f"`data` (={root}): the class {rare[0]} has one image only: one more is needed to hold out")
        train, val = split([target for _, target in samples[0]], seed=0)
        samples = [[samples[0][i] for i in train], [samples[0][i] for i in val]]
    chosen = few([target for _, target in samples[0]], examples, seed)
    statistics: Any = IMAGENET if channels == 3 and not centred else {}
    preprocess = Preprocess(channels, size, **statistics)
    change = v2.Compose(
        [v2.RandomResizedCrop(size, scale=(0.6, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    )  # fmt: skip
    train_set = Folder([samples[0][i] for i in chosen], preprocess, change if augment else None)
    found = Found()
    for text in skipped:
        found.leave_out(text, "cannot be read")
    return Data(train_set, Folder(samples[1], preprocess), tuple(classes), preprocess, found=found)


def _tree(root: Path) -> ImageFolder:
    try:
        return ImageFolder(str(root))
    except FileNotFoundError as error:
        subfolders = sorted(p.name for p in root.iterdir() if p.is_dir())
        if not subfolders:
            raise DataError(f"`data` (={root}): holds no folder: one is needed for every class") from error
        raise DataError(f"`data` (={root}): {str(error).splitlines()[0]}") from error


def _readable(samples: Sequence[tuple[str, int]], skip_corrupt: bool, skipped: list[str]) -> list[tuple[str, int]]:
    """The samples whose images can be decoded, as is tried with all of them."""

    def problem(sample: tuple[str, int]) -> str | None:
        try:
            read(sample[0])
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(problem, samples))
    broken = [p for p in problems if p is not None]
    if broken and not skip_corrupt:
        more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise DataError(f"{broken[0]}{more}; `skip_corrupt` leaves such files out")
    skipped += broken
    return [sample for sample, p in zip(samples, problems, strict=True) if p is None]
