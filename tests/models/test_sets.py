"""Sets that torchvision knows, small ones in the formats of their files, which are in colour."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, SVHN

from tests.shell import invoke
from torchops.models.data import Data, Preprocess, classes, named
from torchops.models.options import Config
from torchops.models.setup import data_for, net_for, task_for

SIZE: dict[str, Any] = {"size": 32, "channels": 3, "seed": 0}
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
Sets = dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sets:
    """Images (N, 32, 32, 3) and targets to train on, of either set; the first 10 of 60 are of the test part, too."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    images[:, :16] //= 4
    targets = np.arange(60) % 10

    def batch(name: str, rows: slice, **content: Any) -> list[str]:
        path = tmp_path / CIFAR10.base_folder / name
        path.parent.mkdir(exist_ok=True)
        data = {"data": images[rows].transpose(0, 3, 1, 2).reshape(-1, 3072), "labels": targets[rows].tolist()}
        path.write_bytes(pickle.dumps(content or data))
        return [name, md5(path)]

    monkeypatch.setattr(CIFAR10, "train_list", [batch("data_batch_1", slice(40)), batch("data_batch_2", slice(40, 60))])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", slice(10))])
    name, known = batch("batches.meta", slice(0), label_names=NAMES)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": known})
    files = {}
    for part, rows in (("train", slice(60)), ("test", slice(10))):
        path = tmp_path / f"{part}_32x32.mat"
        # there a 0 is called 10
        labels = np.where(targets[rows] == 0, 10, targets[rows]).astype(np.uint8)[:, None]
        scipy.io.savemat(path, {"X": images[rows].transpose(1, 2, 3, 0), "y": labels})
        files[part] = ["", path.name, md5(path)]
    monkeypatch.setattr(SVHN, "split_list", files | {"extra": files["test"]})
    return {"train": (images, targets), "val": (images[:10], targets[:10])}


def pixels(data: Data, part: str) -> tuple[Tensor, list[int]]:
    """All images (N, H, W, C) from 0 to 1, and their targets."""
    dataset: Any = getattr(data, part)
    seen = [dataset[i] for i in range(len(dataset))]
    return torch.stack([data.preprocess.undo(x) for x, _ in seen]).permute(0, 2, 3, 1), [int(y) for _, y in seen]


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_sets_in_colour(name: str, sets: Sets, tmp_path: Path) -> None:
    data = named(name, tmp_path, augment=False, **SIZE)
    assert data.labels == (tuple(NAMES) if name == "cifar10" else tuple("0123456789"))
    assert (data.found.notes, data.found.held_out) == ([], f"the test set of {name}")
    for part, (images, targets) in sets.items():
        seen, found = pixels(data, part)
        torch.testing.assert_close(seen, torch.from_numpy(images) / 255)
        assert found == targets.tolist()


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_colour_becomes_gray(name: str, sets: Sets, tmp_path: Path) -> None:
    data = named(name, tmp_path, augment=False, **{**SIZE, "channels": 1})
    assert data.found.notes == ["the images are in colour, and turned to shades of gray, as `channels` is 1"]
    seen, _ = pixels(data, "val")
    luminance = sets["val"][0] @ np.array([0.299, 0.587, 0.114]) / 255
    torch.testing.assert_close(seen[..., 0], torch.from_numpy(luminance).float(), atol=1e-3, rtol=0)
    x = torch.stack([x for x, _ in data.train])
    assert abs(float(x.mean())) < 1e-4
    assert abs(float(x.std()) - 1) < 1e-4


@pytest.mark.parametrize("size", [28, 32, 48])
def test_what_would_take_much_memory_stays_as_it_is(
    size: int, sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes, which are brought to the size one by one; to the same bits."""
    eager = named("cifar10", tmp_path, **{**SIZE, "size": size, "augment": False})
    monkeypatch.setattr(classes, "MOST_BYTES", 1000)
    lazy = named("cifar10", tmp_path, **{**SIZE, "size": size, "augment": False})
    held: Any = lazy.train
    assert (held.images.dtype, held.images.shape) == (torch.uint8, (60, 3, 32, 32))
    assert eager.train.images.dtype == torch.float32  # type: ignore[attr-defined]
    for part in sets:
        assert torch.equal(pixels(eager, part)[0], pixels(lazy, part)[0])


NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "gray": ("lenet", {"options": {"channels": 1}, "size": 28}),
    "colour": ("lenet", {"options": {"channels": 3}, "size": 32}),
    "resnet": ("resnet", {"options": {"depth": 18}, "size": 64}),
    "classifier": ("classifier", {"options": {"model": "torchvision:squeezenet1_1"}, "size": 64}),
    "diffusion": (
        "diffusion", {"options": {"channels": 3, "width": 8, "depth": 1}, "size": 16, "augment": False, "ema": 0.9}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
@pytest.mark.parametrize("kind", NETS)
def test_every_network_takes_them(kind: str, name: str, sets: Sets, tmp_path: Path) -> None:
    net, changed = NETS[kind]
    config = Config(net, dataset=name, root=str(tmp_path), examples=1, **changed)
    data = data_for(config)
    assert data.found.images == {"train": 10, "val": 10}
    model, _ = net_for(config, data)
    task = task_for(config, data, model)
    batch = [torch.stack([torch.as_tensor(t) for t in part]) for part in zip(*task.data.train, strict=True)]
    loss = task.loss(model, batch)
    loss.backward()
    assert float(loss.detach()) > 0


def test_a_gray_set_becomes_colour() -> None:
    data = named("digits", Path("nowhere"), augment=False, **{**SIZE, "size": 8})
    x, _ = data.train[0]
    seen = data.preprocess.undo(x)
    assert torch.allclose(seen[0], seen[2], atol=1e-6)
    assert data.preprocess == Preprocess(3, 8, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_from_the_shell(sets: Sets, tmp_path: Path) -> None:
    options = ("--dataset", "cifar10", "--root", tmp_path, "--size", 16, "--epochs", 1, "--batch-size", 20)
    result = invoke("train", "lenet", *options, "--channels", 3, "--list")
    assert result.exit_code == 0, result.output
    assert "60 images of 10 classes to train on, 10 held out (the test set of cifar10)" in result.output
    assert "gray" not in result.output
    assert "turned to shades of gray" in invoke("train", "lenet", *options, "--list").output


def test_a_broken_file_is_not_trained_on(sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    (tmp_path / CIFAR10.base_folder / "test_batch").write_bytes(b"x")
    with pytest.raises(
        classes.DataError, match=rf"cifar10 is not in {tmp_path}/cifar-10-batches-py and cannot be downl"
    ):
        named("cifar10", tmp_path, **SIZE)
