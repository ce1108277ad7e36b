"""What networks are trained on: nothing lost, nothing mixed up, and every mistake of a user named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from torchops.files.images import ImageError
from torchops.models.data import DATASETS, DataError, Preprocess, Seeded, digits, named, pages, read
from torchops.models.data.classes import few, split
from torchops.models.data.loading import Batches, train_loader, val_loader

SIZE = {"size": 16, "channels": 1, "seed": 0}


def picture(path: Path, value: int = 128, size: tuple[int, int] = (20, 24), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(path)
    return path


def test_preprocess_agrees_with_pillow(tmp_path: Path) -> None:
    photo = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8).numpy()
    file = tmp_path / "photo.png"
    Image.fromarray(photo).save(file)
    ours = Preprocess(3, 20).resize(read(file))
    theirs = Image.fromarray(photo).resize((30, 20), Image.Resampling.BILINEAR).crop((5, 0, 25, 20))
    expected = torch.from_numpy(np.array(theirs)).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(ours, expected, atol=1 / 255, rtol=0)


def test_preprocess_is_undone_for_the_eye() -> None:
    preprocess = Preprocess(3, None, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    x = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(preprocess.undo(preprocess(x)), x)
    assert Preprocess(**preprocess.as_dict()) == preprocess
    assert preprocess(torch.rand(1, 5, 5)).shape == (3, 5, 5)
    assert Preprocess(1)(x).shape == (2, 1, 5, 5)


def test_preprocess_reads_as_it_was_trained(tmp_path: Path) -> None:
    """Its own channels, and its own background under what is transparent."""
    file = tmp_path / "clear.png"
    Image.new("RGBA", (4, 3), (255, 0, 0, 0)).save(file)
    for background, value in (("white", 1.0), ("black", 0.0)):
        for channels in (1, 3):
            x = Preprocess(channels, background=background).read(file)
            assert torch.equal(x, torch.full((channels, 3, 4), value))
    with pytest.raises(ImageError, match="4 x 3 pixels"):
        Preprocess(1).read(file, max_pixels=11)
    assert Preprocess(1).read(file, max_pixels=12).shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 2}, "`channels` must be 1 or 3, got 2"),
        ({"channels": "3"}, "`channels` must be 1 or 3, got '3'"),
        ({"channels": True}, "`channels` must be 1 or 3, got True"),
        ({"channels": [3]}, r"`channels` must be 1 or 3, got \[3\]"),
        ({"size": 0}, "`size` must be a whole number from 1 to 13377, got 0"),
        ({"size": 2.5}, "`size` must be a whole number from 1 to 13377, got 2.5"),
        ({"size": 10**400}, "`size` must be a whole number from 1 to 13377, got 1000"),
        ({"size": torch.tensor(8)}, "`size` must be a whole number"),
        ({"mean": ()}, r"`mean` must be a finite number, or one for every channel, got \(\)"),
        ({"mean": 0.5}, "`mean` must be a finite number, or one for every channel, got 0.5"),
        ({"mean": (0.5, 0.5)}, "`mean` must be"),
        ({"mean": (float("nan"),)}, r"`mean` must be .* got \(nan,\)"),
        ({"mean": ["a"]}, "`mean` must be"),
        ({"mean": "a"}, "`mean` must be"),
        ({"mean": None}, "`mean` must be"),
        ({"mean": [10**400]}, "`mean` must be"),
        ({"mean": [0.5] * 10**6}, "`mean` must be"),
        ({"std": (0.0,)}, r"`std` must be a positive number, or one for every channel, got \(0.0,\)"),
        ({"std": (-1.0,)}, "`std` must be"),
        ({"std": (float("inf"),)}, "`std` must be"),
        ({"background": "green"}, "`background` must be white or black, got 'green'"),
        ({"background": []}, r"`background` must be white or black, got \[\]"),
    ],
)  # fmt: skip
def test_preprocess_refuses(fields: dict[str, object], message: str) -> None:
    """What may come from a file that somebody has made up."""
    with pytest.raises(ValueError, match=message) as caught:
        Preprocess(**fields)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_preprocess_takes_what_files_hold() -> None:
    assert Preprocess(3, 8, [0, 0.5, 1], [1, 1, 1]) == Preprocess(3, 8, (0.0, 0.5, 1.0), (1.0, 1.0, 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("long", [5000, 5001])
@pytest.mark.parametrize("short", [1, 2, 3, 50])
def test_strips_are_resized_in_their_middle(long: int, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the whole would be, but in little memory: no more than the middle is resized."""
    ramp = torch.linspace(0, 1, long).sin().expand(1, short, long) + torch.rand(1, short, 1) / 8
    real, sizes = F.resize, []

    def resize(image: Tensor, size: list[int], antialias: bool) -> Tensor:
        resized = real(image, size, antialias=antialias)
        sizes.append(resized.numel())
        return resized

    monkeypatch.setattr("torchops.models.data.preprocess.V.resize", resize)
    for strip in (ramp, ramp.mT):
        whole = F.center_crop(real(strip, [16], antialias=True), [16, 16])
        ours = Preprocess(1, 16).resize(strip)
        assert ours.shape == (1, 16, 16)
        # the longer side is rounded, so samples may lie a pixel of the 16 beside each other, on a slope of 1 a length
        torch.testing.assert_close(ours, whole, atol=short / 16 / long, rtol=0)
    assert max(sizes) <= 64 * 16 * 16


def test_a_fifth_of_every_class_is_held_out() -> None:
    _, targets = digits()
    train, val = split(targets, seed=0)
    assert sorted(train + val) == list(range(1797))
    shares = torch.bincount(targets[val], minlength=10) / torch.bincount(targets)
    assert ((shares > 0.19) & (shares < 0.21)).all()
    assert (train, val) == split(targets, seed=0)


def test_few_examples_of_each_class() -> None:
    _, targets = digits()
    chosen = few(targets, 3, seed=0)
    assert torch.bincount(targets[chosen]).tolist() == [3] * 10
    assert chosen != few(targets, 3, seed=1)


def test_named_digits_are_the_real_ones() -> None:
    images, targets = digits()
    data = named("digits", Path("nowhere"), size=8, channels=1, seed=0, augment=False)
    train, _ = split(targets, seed=0)
    x, y = data.train[0]
    torch.testing.assert_close(data.preprocess.undo(x), images[train[0]])
    assert int(y) == int(targets[train[0]])
    stacked = torch.stack([data.train[i][0] for i in range(len(train))])
    assert abs(float(stacked.mean())) < 1e-4
    assert abs(float(stacked.std()) - 1) < 1e-4


def test_augmented_digits_stay_in_range() -> None:
    data = named("digits", Path("nowhere"), centred=True, **SIZE)
    x = torch.stack([data.train[i][0] for i in range(50)])
    assert x.min() >= -1
    assert x.max() <= 1
    assert not torch.equal(data.train[0][0], data.train[0][0])
    assert torch.equal(data.val[0][0], data.val[0][0])


@pytest.mark.parametrize("name", DATASETS[1:])
def test_a_set_that_cannot_be_downloaded_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(DataError, match=rf"{name} is not in {tmp_path}.* cannot be downloaded .*`root`"):
        named(name, tmp_path, **SIZE)


def test_unknown_set() -> None:
    with pytest.raises(
        DataError, match="`dataset` must be one of digits, mnist, fashion-mnist, usps, cifar10, svhn, got 'cifar'"
    ):
        named("cifar", Path(), **SIZE)


def test_pages_know_every_pixel() -> None:
    """Paper is light and digits are dark where the truth says so, and all ten digits occur."""
    data = pages(64, 32)
    seen: set[int] = set()
    for i in range(len(data.train)):  # type: ignore[arg-type]
        x, y = data.train[i]
        image = data.preprocess.undo(x)[0]
        assert image[y > 0].mean() < image[y == 0].mean() - 0.2
        seen |= set(y.unique().tolist())
    assert seen == set(range(11))
    assert torch.equal(data.val[0][0], data.val[0][0])
    assert not torch.equal(data.train[0][0], data.train[0][0])


class Drawn(Dataset[Tensor]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(3) + index


def test_random_numbers_belong_to_the_sample() -> None:
    """Whatever the order, whoever draws; the seed and the epoch change them; the world's go on undisturbed."""
    one, other = Seeded(Drawn(), 5), Seeded(Drawn(), 5)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = [one[i] for i in range(10)]
    assert torch.equal(torch.rand(1), expected)
    for i in reversed(range(10)):
        assert torch.equal(other[i], first[i])
    other.epoch = 1
    assert not torch.equal(other[0], first[0])
    assert not torch.equal(Seeded(Drawn(), 6)[0], first[0])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shares_of_processes_make_up_the_batches(world: int) -> None:
    whole = list(Batches(45, 8, seed=0, epoch=3, start=0, rank=0, world=1))
    assert len(whole) == 5
    assert len({i for batch in whole for i in batch}) == 40
    shares = [list(Batches(45, 8, seed=0, epoch=3, start=2, rank=rank, world=world)) for rank in range(world)]
    for step in range(3):
        assert sorted(i for share in shares for i in share[step]) == sorted(whole[step + 2])
        assert {len(share[step]) for share in shares} == {8 // world}
    assert list(Batches(45, 8, seed=0, epoch=4, start=0, rank=0, world=1)) != whole


class Broken(Dataset[Tensor]):
    """A file that was there when the data were looked at, and is gone."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        raise self.error


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [ImageError("a: b.png: no such file"), DataError("a: b.png has no mask")], ids=repr)
def test_a_file_that_is_gone_is_told_alike_by_workers(error: Exception, workers: int) -> None:
    for loader in (train_loader(Seeded(Broken(error), 0), 2, epoch=0, workers=workers), val_loader(Broken(error), 2)):
        with pytest.raises(type(error)) as caught:
            list(loader)
        assert str(caught.value) == str(error)


def test_loaders_give_everything_once() -> None:
    seeded = Seeded(Drawn(), 0)
    batches = list(train_loader(seeded, 5, epoch=0))
    again = list(train_loader(Seeded(Drawn(), 0), 5, epoch=0, workers=1))
    for one, other in zip(batches, again, strict=True):
        assert torch.equal(one, other)
    held_out = torch.cat([torch.cat(list(val_loader(Drawn(), 2, rank=rank, world=3))) for rank in range(3)])
    assert sorted(held_out[:, 0].long().tolist()) == list(range(10))
