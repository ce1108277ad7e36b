"""Random changes of images to train on: what they are, how strong, and that 1 is what they were before they had a strength."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tests.shell import invoke, refused
from torchops.models.data import folder, named
from torchops.models.data.changes import changes
from torchops.models.options import Config
from torchops.models.setup import data_for

from .trees import two_classes

BEFORE = {
    "digits": v2.RandomAffine(
        degrees=12, translate=(0.08, 0.08), scale=(0.9, 1.1), shear=8, interpolation=v2.InterpolationMode.BILINEAR
    ),
    "fashion-mnist": v2.RandomHorizontalFlip(),
    None: v2.Compose([v2.RandomResizedCrop(32, scale=(0.6, 1.0), antialias=True), v2.RandomHorizontalFlip()]),
}


def drawn(change: v2.Transform | None, image: Tensor, count: int = 40) -> Tensor:
    """What becomes of an image."""
    torch.manual_seed(0)
    return torch.stack([image if change is None else change(image) for _ in range(count)])


@pytest.fixture
def image() -> Tensor:
    """A slope to the right and one downwards, 32 x 32, which no change but small ones leave as they are."""
    ramp = torch.linspace(0, 1, 32)
    return torch.stack([ramp.expand(32, 32), ramp.view(32, 1).expand(32, 32), torch.full((32, 32), 0.5)])


@pytest.mark.parametrize("name", BEFORE)
def test_the_default_is_what_there_was_before(name: str | None, image: Tensor) -> None:
    """To the bit."""
    assert torch.equal(drawn(changes(name, 32), image), drawn(BEFORE[name], image))


@pytest.mark.parametrize("name", ["digits", "svhn", "cifar10", None])
def test_more_strength_changes_more(name: str | None, image: Tensor) -> None:
    means = []
    for strength in (0.0, 0.25, 0.5, 1.0, 2.0):
        seen = drawn(changes(name, 32, strength), image)
        # the slope downwards is that of an image that is mirrored, too
        means.append(float((seen[:, 1] - image[1]).abs().mean()))
    assert means[0] == 0
    assert all(a < b for a, b in itertools.pairwise(means)), means


@pytest.mark.parametrize("strength", [0.01, 1.0, 2.0])
@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", None])
def test_half_of_the_images_are_mirrored(name: str | None, strength: float, image: Tensor) -> None:
    seen = drawn(changes(name, 32, strength), image, 200)[:, 0]
    mirrored = seen[..., :16].mean((1, 2)) > seen[..., 16:].mean((1, 2))
    assert 80 < int(mirrored.sum()) < 120


@pytest.mark.parametrize("name", ["digits", "svhn"])
def test_characters_are_not_mirrored(name: str, image: Tensor) -> None:
    seen = drawn(changes(name, 32), image, 100)[:, 0]
    assert (seen[:, 8:-8, 8:16].mean((1, 2)) < seen[:, 8:-8, 16:24].mean((1, 2))).all()


def test_photographs_are_shifted_by_an_eighth(image: Tensor) -> None:
    """And no further; what comes in is reflected, so that no black border does."""
    change = changes("cifar10", 32)
    seen = drawn(change, image + 0.5, 200)
    assert float(seen.min()) >= 0.5
    tops = ((seen[:, 1, 16, 16] - 0.5) * 31 - 16).round()
    assert (int(tops.min()), int(tops.max())) == (-4, 4)


def test_strength_nought_is_no_change(tmp_path: Path) -> None:
    for none, off in (
        (named("digits", tmp_path, size=16, channels=1, seed=0, strength=0.0),
         named("digits", tmp_path, size=16, channels=1, seed=0, augment=False)),
        (folder(two_classes(tmp_path), size=8, channels=3, seed=0, strength=0.0),
         folder(tmp_path, size=8, channels=3, seed=0, augment=False)),
    ):  # fmt: skip
        for i in range(5):
            assert torch.equal(none.train[i][0], off.train[i][0])


@pytest.mark.parametrize("strength", [1.0, 1.5])
@pytest.mark.parametrize("source", ["digits", "folder"])
def test_a_run_has_a_strength(source: str, strength: float, tmp_path: Path) -> None:
    given = {"data": str(two_classes(tmp_path)) if source == "folder" else None, "size": 16}
    plain, changed = (data_for(Config("lenet", augment_strength=s, **given)) for s in (0.0, strength))  # type: ignore[arg-type]
    image = plain.preprocess.undo(plain.train[0][0])
    if source == "folder":
        image = plain.preprocess.read(plain.train.samples[0][0])  # type: ignore[attr-defined]
    change = changes("digits" if source == "digits" else None, 16, strength)
    expected = plain.preprocess.normalize(drawn(change, image, 1)[0])
    torch.manual_seed(0)
    torch.testing.assert_close(changed.train[0][0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--augment-strength", 2.1), "^torchops: --augment-strength must be at most 2, got 2.1$"),
        (("--augment-strength", -0.5), "^torchops: --augment-strength must be at least 0, got -0.5$"),
        (("--augment-strength", "nan"), "^torchops: --augment-strength must be finite, got nan$"),
        (
            ("--augment-strength", 0.5, "--no-augment"),
            "^torchops: --augment-strength 0.5: without --augment nothing is changed$",
        ),
    ],
)
def test_what_cannot_be(options: tuple[object, ...], match: str, tmp_path: Path) -> None:
    refused(invoke("train", "lenet", "--out", tmp_path / "run", *options), match)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_own(tmp_path: Path) -> None:
    before = Config.asked("lenet", augment_strength=0.5)
    with pytest.raises(ValueError, match=r"`augment_strength` \(=1.0\): the run was started with 0.5"):
        before.changed(Config.asked("lenet"))
    assert before.changed(Config.asked("lenet", augment_strength=0.5)) == before
