"""Images of a diffusion model: each belongs to its seed, whatever is drawn beside it; from Python and from the shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.shell import invoke, refused
from torchops.models import Checkpoint, Diffusion, build
from torchops.models.data import Preprocess
from torchops.models.sampling import Sampler

from .untrained import lenet_of_digits

OPTIONS: dict[str, Any] = {"size": 8, "width": 8, "depth": 1, "steps": 6, "embedding": 8}


def diffusion(path: Path, **changes: Any) -> Path:
    """The checkpoint of one that has learned nothing, and makes something of all noise."""
    torch.manual_seed(0)
    options = OPTIONS | changes
    preprocess = Preprocess(options.get("channels", 1), options["size"]).as_dict()
    Checkpoint("diffusion", options, build("diffusion", **options).state_dict(), [], preprocess).save(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diffusion(tmp_path_factory.mktemp("drawn") / "best.pt")


def levels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_image_belongs_to_its_seed(checkpoint: Path, eta: float) -> None:
    """Whatever the others are, how many, and in which order; the noise to the bit."""
    sampler = Sampler(checkpoint)
    drawn = dict(sampler.each([3, 0, 2**63 - 1, 8], steps=4, eta=eta))
    assert len({tuple(image.flatten().tolist()) for image in drawn.values()}) == 4
    for seeds, batch in (([3], 1), ([8, 5, 3, 0], 3), ([8, 0, 3], 1)):
        for seed, image in sampler.each(seeds, steps=4, eta=eta, batch=batch):
            if seed in drawn:
                torch.testing.assert_close(image, drawn[seed])


def test_noise_is_the_same_to_the_bit() -> None:
    def noise(seeds: list[int]) -> Iterator[Tensor]:
        """Of every step, as a network sees it that takes all for noise."""
        model, seen = Diffusion(**OPTIONS), []
        model.forward = lambda x, t: seen.append(x) or -x  # type: ignore[method-assign,func-returns-value]
        model.sample(seeds=seeds)
        return iter(seen)

    for alone, beside in zip(noise([7]), noise([1, 7, 2]), strict=True):
        assert torch.equal(alone[0], beside[1])
        assert not torch.equal(beside[0], beside[1])


def test_the_world_s_random_numbers_stay(checkpoint: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    model = Checkpoint.load(checkpoint).model()
    state = torch.get_rng_state()
    model.sample(seeds=range(2))  # type: ignore[operator]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"seeds": []}, ValueError, "`seeds` must be one at least, got none"),
        ({"count": 3, "seeds": [1]}, ValueError, "`seeds` must be one for every image, got 1 for 3"),
        ({"seeds": [-1]}, ValueError, "`seeds` must be at least 0, got -1"),
        ({"seeds": [2**63]}, ValueError, "`seeds` must be at most"),
        ({"seeds": [0.5]}, TypeError, "`seeds` must be a whole number, got 0.5"),
        ({"seeds": [0], "generator": torch.Generator()}, ValueError, "`seeds` must not stand beside a `generator`"),
        ({}, TypeError, "`count` or `seeds`"),
        ({"count": 1, "eta": 1.5}, ValueError, "`eta` must lie within 0 and 1, got 1.5"),
        ({"count": 1, "eta": float("nan")}, ValueError, "`eta` must lie within 0 and 1, got nan"),
    ],
)
def test_what_cannot_be_drawn(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Diffusion(**OPTIONS).sample(**arguments)


def test_files_are_named_by_their_seeds(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "drawn"
    result = invoke("draw", checkpoint, "--out", out, "--seeds", "4,0,11", "--batch", 2, "--eta", 1)
    assert result.exit_code == 0, result.output
    assert result.output.strip() == f"{out}: 3 images of the seeds 4, 0, 11, as seed-4.png"
    assert sorted(path.name for path in out.iterdir()) == ["seed-0.png", "seed-11.png", "seed-4.png"]
    for seed, image in Sampler(checkpoint).each([0, 4, 11], eta=1.0):
        assert np.abs(levels(out / f"seed-{seed}.png") - image[0].numpy() * 255).max() < 0.51
    before = {path: path.read_bytes() for path in out.iterdir()}
    # so few steps are all taken by default
    assert invoke("draw", checkpoint, "--out", out, "--count", 5, "--eta", 1, "--steps", 6).exit_code == 0
    assert len(list(out.iterdir())) == 6
    assert (out / "seed-0.png").read_bytes() == before[out / "seed-0.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_one_file_gets_all_of_them(channels: int, tmp_path: Path) -> None:
    path = diffusion(tmp_path / "own.pt", channels=channels)
    out = tmp_path / "all.PNG"
    result = invoke("draw", path, "--out", out, "--count", 5)
    assert (result.exit_code, result.output.strip()) == (
        0, f"{out}: 5 images of the seeds 0 to 4, row by row"
    )  # fmt: skip
    seen = levels(out)
    # three stand in a row, eight times as large, with two pixels between
    assert seen.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    assert (seen[68:, 134:] == 255).all()
    for seed, image in Sampler(path).each(range(5)):
        top, left = 2 + 66 * (seed // 3), 2 + 66 * (seed % 3)
        tile = seen[top : top + 64 : 8, left : left + 64 : 8]
        assert np.abs(tile - image.expand(3, -1, -1).permute(1, 2, 0).numpy() * 255).max() < 0.51


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--seeds", "1,x"), "^torchops: --seeds must be whole numbers as 0,1,7, got '1,x'$"),
        (("--seeds", "1,2,1"), "^torchops: --seeds must differ, got 1 twice$"),
        (("--seeds=-1",), "^torchops: --seeds must be at least 0, got -1$"),
        (("--seeds", "1", "--count", 1), "^torchops: --count 1: the --seeds say how many images are drawn$"),
        (("--steps", 7), "^torchops: --steps must lie within 1 and 6, got 7$"),
        (("--steps", 0), "^torchops: --steps must lie within 1 and 6, got 0$"),
        (("--eta", 1.1), "^torchops: --eta must lie within 0 and 1, got 1.1$"),
        (("--out", "no/such/folder.png"), "no/such does not exist$"),
        (("--out", "file.txt"), "^torchops: --out file.txt: is a file, not a folder, and does not end in .png$"),
    ],
)
def test_what_the_shell_refuses(
    options: tuple[Any, ...], match: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("mine")
    refused(invoke("draw", checkpoint, *options), match)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_other_networks_draw_nothing(tmp_path: Path) -> None:
    path = lenet_of_digits(tmp_path / "lenet.pt")
    refused(invoke("draw", path, "--out", tmp_path / "out"), "lenet.pt: lenet draws no images, only diffusion does$")
    assert not (tmp_path / "out").exists()


def test_stopped_halfway(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn stays."""
    sample: Callable[..., Tensor] = Diffusion.sample

    def stop(self: Diffusion, *, seeds: list[int], **settings: Any) -> Tensor:
        if 2 in seeds:
            raise KeyboardInterrupt
        return sample(self, seeds=seeds, **settings)

    monkeypatch.setattr(Diffusion, "sample", stop)
    result = invoke("draw", checkpoint, "--out", tmp_path / "out", "--count", 4, "--batch", 1)
    assert (result.exit_code, result.stderr) == (130, "torchops: stopped: 2 of 4 images are written\n")
    assert len(list((tmp_path / "out").iterdir())) == 2
    result = invoke("draw", checkpoint, "--out", tmp_path / "all.png", "--count", 4, "--batch", 1)
    assert (result.exit_code, result.stderr) == (130, "torchops: stopped: nothing is written\n")
    assert not (tmp_path / "all.png").exists()


def test_seeds_are_told(checkpoint: Path, tmp_path: Path) -> None:
    for seeds, told in (
        ("4,5,6", "3 images of the seeds 4 to 6"),
        ("3,1,2", "3 images of the seeds 3, 1, 2"),
        ("7", "the seed 7"),
    ):
        assert told in invoke("draw", checkpoint, "--out", tmp_path, "--seeds", seeds, "--steps", 1).output


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"count": 2.5}, TypeError, "`count` must be a whole number, got 2.5"),
        ({"count": 0}, ValueError, "`count` must be at least 1, got 0"),
    ],
)
def test_how_many_must_be_said(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Diffusion(**OPTIONS).sample(**arguments)
