"""Tiles of images: a U-Net says of them what it says of the whole image, in memory that does not grow with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.models.untrained import gray, unet
from tests.shell import invoke, refused
from torchops.models import UNet, build, load
from torchops.models import tiles as tiles_module
from torchops.models.inputs import Input
from torchops.models.predict import Predictor
from torchops.models.tiles import Tiles, spans
from torchops.models.trained import tiles_for

NETS: list[dict[str, Any]] = [
    {"depth": 1, "unpool": "avg"},
    {"depth": 2, "unpool": "max", "padding_mode": "reflect"},
    {"depth": 2, "unpool": "transpose", "padding_mode": "replicate", "dilations": (1, 2)},
    {"depth": 2, "unpool": "avg", "padding_mode": "circular"},
    {"depth": 3, "unpool": "avg"},
]


def net_of(**options: Any) -> UNet:
    """In float64, where what is left of rounding is far from what a pixel beyond the reach would change."""
    torch.manual_seed(0)
    net = UNet(3, width=2, norm=lambda channels: nn.BatchNorm2d(channels, momentum=1.0), **options).double()
    with torch.no_grad():
        net(torch.rand(2, 1, 64, 64, dtype=torch.float64))
    return net.eval()


def differ(net: UNet, image: torch.Tensor, tiles: Tiles) -> float:
    with torch.no_grad():
        whole = net(image)[:, 0]
        return float((tiles.classes(lambda part: net(part)[:, 0], image) - whole).abs().max() / whole.abs().max())


@pytest.mark.parametrize("options", NETS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("size", [(97, 130), (64, 96), (5, 101)], ids=str)
def test_scores_are_those_of_the_whole_image(options: dict[str, Any], size: tuple[int, int]) -> None:
    net, image = net_of(**options), torch.rand(2, 1, *size, dtype=torch.float64)
    tiles = Tiles.of(net, 16)
    assert differ(net, image, tiles) < 1e-12
    assert differ(net, image, Tiles.of(net, 16, tiles.overlap + tiles.multiple)) < 1e-12
    # without what lies around it, a tile is another image
    assert differ(net, image, Tiles.of(net, 16, 0)) > 1e-6


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (3,)], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_reach_is_how_far_gradients_come(depth: int, dilations: tuple[int, ...]) -> None:
    """Every weight is 1, and nothing is cut off: a pixel that is looked at has a gradient."""
    net = UNet(1, width=1, depth=depth, dilations=dilations, norm=nn.Identity, activation=nn.Identity).double()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1)
    multiple = 2**depth
    first = -(net.reach // -multiple) * multiple + multiple
    image = torch.zeros(1, 1, multiple, 2 * first + multiple, dtype=torch.float64, requires_grad=True)
    net(image)[..., first : first + multiple].sum().backward()
    assert image.grad is not None
    seen = image.grad[0, 0, 0].nonzero().flatten()
    assert (first - int(seen[0]), int(seen[-1]) - first - multiple + 1) == (net.reach, net.reach)
    assert Tiles.of(net, 64).overlap in range(net.reach, net.reach + multiple)


@pytest.mark.parametrize("wraps", [False, True])
def test_tiles_cover_a_side_once(wraps: bool) -> None:
    for length in (1, 7, 8, 31, 32, 33, 100):
        for overlap in (0, 8, 24):
            pixels = torch.arange(length)
            parts = list(spans(length, 16, overlap, 4, wraps))
            assert torch.equal(torch.cat([pixels[part.seen][part.kept] for part in parts]), pixels)
            assert torch.equal(torch.cat([pixels[part.place] for part in parts]), pixels)
            assert all(len(part.seen) <= 16 + 2 * overlap or wraps for part in parts)


def test_predict_writes_the_same(tmp_path: Path) -> None:
    net, photos = unet(tmp_path / "net.pt", values=(0, 85, 255)), tmp_path / "photos"
    for seed, side in enumerate((70, 70, 31)):
        gray(photos / f"{seed}.png", side, seed=seed)
    outputs = []
    for name, options in (("whole", ()), ("tiled", ("--tile", 16)), ("both", ("--tile", 16, "--batch", 2))):
        result = invoke("predict", net, photos, "--out", tmp_path / name, *options)
        assert result.exit_code == 0, result.output
        outputs.append(result.output.replace(str(tmp_path / name), ""))
        for file in (tmp_path / "whole").iterdir():
            with Image.open(file) as whole, Image.open(tmp_path / name / file.name) as tiled:
                assert np.array_equal(np.array(whole), np.array(tiled)), file.name
    assert len(set(outputs)) == 1
    model = load(net)
    seen = model.predict(photos / "0.png", tile=16)  # type: ignore[operator]
    assert torch.equal(seen, model.predict(photos / "0.png"))  # type: ignore[operator]


def test_the_network_sees_no_more_than_a_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(unet(tmp_path / "net.pt"), device="cpu", tile=16)
    sizes: list[int] = []
    forward = predictor.net.forward

    def watched(x: torch.Tensor) -> torch.Tensor:
        sizes.append(max(x.shape[-2:]))
        return forward(x)

    monkeypatch.setattr(predictor.net, "forward", watched)
    photo = gray(tmp_path / "a.png", 100)
    predictor.see(Input(photo, Path("a.png")), tmp_path)
    assert (len(sizes), max(sizes)) == (7 * 7, 16 + 2 * 8)


def test_large_images_are_seen_in_tiles_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a deep network needs larger ones."""
    assert Tiles.of_large(UNet(2)) == Tiles(1024, 48, 8, wraps=False, whole=1 << 22)
    assert Tiles.of_large(UNet(2, width=1, depth=11)).tile == 2048
    monkeypatch.setattr(tiles_module, "TILE", 16)
    monkeypatch.setattr(tiles_module, "LARGE", 32 * 35)
    net = unet(tmp_path / "net.pt")
    predictor = Predictor(net, device="cpu")
    sizes: list[tuple[int, ...]] = []
    predictor.net.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[-2:])))
    for side in (32, 33):
        predictor.see(Input(gray(tmp_path / f"{side}.png", side), Path(f"{side}.png")), tmp_path)
    assert sizes[0] == (32, 35)
    assert len(sizes) == 1 + 3 * 3
    model = load(net)
    seen = model.predict(tmp_path / "33.png")  # type: ignore[operator]
    assert torch.equal(seen, model.predict(tmp_path / "33.png", tile=48))  # type: ignore[operator]


def test_refuses(tmp_path: Path) -> None:
    net, photo = unet(tmp_path / "net.pt"), gray(tmp_path / "a.png")
    for options, told in (
        (("--tile", 15), "--tile 15: must be a multiple of 2, and 2 at least"),
        (("--tile", 0), "--tile must be at least 1, got 0"),
        (("--tile", 16, "--overlap", 3), "--overlap 3: must be a multiple of 2, as --tile"),
        (("--tile", 16, "--overlap", -2), "--overlap must be at least 0, got -2"),
        (("--overlap", 2), "--overlap 2: is that of tiles, and needs --tile"),
    ):
        refused(invoke("predict", net, photo, "--out", tmp_path / "seen", *options), re.escape(told))
    assert not (tmp_path / "seen").exists()
    with pytest.raises(ValueError, match=r"`tile` \(=8\): must be a multiple of 4, and 12 at least"):
        Tiles.of(UNet(2, depth=2, padding_mode="reflect", dilations=(2,)), 8)
    with pytest.raises(TypeError, match="`tile` must be a whole number"):
        Tiles.of(UNet(2), 16.0)  # type: ignore[arg-type]


def test_classifiers_have_no_tiles() -> None:
    with pytest.raises(ValueError, match=r"`tile` .* is for a U-Net"):
        tiles_for(build("lenet"), 16)
