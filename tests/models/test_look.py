"""A look into trained networks from the shell: which pictures there are, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.shell import invoke, refused
from torchops.models import Checkpoint, build
from torchops.models.data import Preprocess
from torchops.models.inside import drawing
from torchops.models.looking import PICTURES, Looker, _likeliest

NAMES = ["猫 " + "long " * 20, "_x$2$", "[b]%s\n"]
OPTIONS: dict[str, dict[str, Any]] = {
    "lenet": {"classes": 3, "size": 16, "widths": [3, 4], "hidden": 8},
    "resnet": {"depth": 18, "classes": 3},
    "unet": {"classes": 3, "width": 2, "depth": 2},
    "diffusion": {"size": 16, "width": 8, "depth": 1, "steps": 10, "embedding": 8},
}


def checkpoint(folder: Path, net: str) -> Path:
    torch.manual_seed(0)
    options, path = OPTIONS[net], folder / f"{net}.pt"
    preprocess = Preprocess(3 if net == "resnet" else 1, {"lenet": 16, "resnet": 48, "diffusion": 16}.get(net))
    labels = [] if net == "diffusion" else NAMES
    Checkpoint(net, options, build(net, **options).state_dict(), labels, preprocess.as_dict()).save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("net", list(OPTIONS))
def test_draws_every_network(net: str, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "seen"
    result = invoke("look", checkpoint(tmp_path, net), image, "--out", out)
    assert result.exit_code == 0, result.output
    expected = [name for name in PICTURES if net != "diffusion" or name != "cam.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)
    for name in expected:
        assert f"{out / name}: " in result.output
        with Image.open(out / name) as drawn:
            assert min(drawn.size) > 120
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 20
    assert ("no classes, and no Grad-CAM" in result.output) is (net == "diffusion")
    assert ("at time 5 of 10" in result.output) is (net == "diffusion")


class TestLayers:
    def test_are_listed_with_their_shapes(self, image: Path, tmp_path: Path) -> None:
        out = tmp_path / "seen"
        result = invoke("look", checkpoint(tmp_path, "lenet"), image, "--layers", "--out", out)
        assert result.exit_code == 0, result.output
        rows = [line.split() for line in result.output.splitlines()]
        assert ["*", "features.1", "ReLU", "3", "x", "12", "x", "12"] in rows
        assert ["features.5", "MaxPool2d", "4", "x", "1", "x", "1"] in rows
        assert not out.exists()

    def test_are_chosen(self, image: Path, tmp_path: Path) -> None:
        net = checkpoint(tmp_path, "lenet")
        layers = ("--layer", "features.3", "--layer", "features.0", "--layer", "features.0")
        result = invoke("look", net, image, *layers, "--out", tmp_path / "seen")
        assert result.exit_code == 0, result.output
        assert "feature maps of features.0, features.3\n" in result.output
        assert " in features.3" in result.output

    def test_that_do_not_exist(self, image: Path, tmp_path: Path) -> None:
        net, out = checkpoint(tmp_path, "lenet"), tmp_path / "seen"
        refused(
            invoke("look", net, image, "--layer", "feature.3", "--out", out),
            "--layer feature.3: is no layer that gives maps; close are features.3, .*; --layers lists them",
        )
        assert not out.exists()


class TestClass:
    def test_is_the_likeliest_or_the_one_that_is_named(self, image: Path, tmp_path: Path) -> None:
        path, out = checkpoint(tmp_path, "lenet"), tmp_path / "seen"
        saved = Checkpoint.load(path)
        saved.state["classifier.3.bias"][1] += 100
        saved.save(path)
        assert "Grad-CAM of _x$2$ in" in invoke("look", path, image, "--out", out).output
        likeliest = (out / "cam.png").read_bytes()
        assert "Grad-CAM of 猫" in invoke("look", path, image, "--out", out, "--class", NAMES[0]).output
        assert (out / "cam.png").read_bytes() != likeliest

    def test_of_pixels_is_that_of_most_besides_the_background(self) -> None:
        classes = torch.tensor([[0, 0, 0, 0], [1, 2, 2, 0]])
        assert _likeliest(F.one_hot(classes, 3).permute(2, 0, 1).float()) == 2
        assert _likeliest(F.one_hot(classes * 0, 3).permute(2, 0, 1).float()) == 0
        # of two classes neither is the background
        assert _likeliest(F.one_hot(classes // 2, 2).permute(2, 0, 1).float()) == 0
        assert _likeliest(torch.tensor([0.2, 0.5, 0.3])) == 1

    def test_that_does_not_exist(self, image: Path, tmp_path: Path) -> None:
        out = tmp_path / "seen"
        refused(
            invoke("look", checkpoint(tmp_path, "lenet"), image, "--class", "x$2$", "--out", out),
            r"--class x\$2\$ must be a class of the network, as _x\$2\$, ",
        )
        refused(
            invoke("look", checkpoint(tmp_path, "diffusion"), image, "--class", "cat", "--out", out),
            "--class cat: diffusion has no classes",
        )
        assert not out.exists()


def test_time_is_that_of_the_noise(image: Path, tmp_path: Path) -> None:
    net = checkpoint(tmp_path, "diffusion")
    clean, same, noise = (Looker(net, image, device="cpu", time=t).inputs for t in (0, 0, 9))
    assert torch.equal(clean[0], same[0])
    assert [int(t) for _, t in (clean, noise)] == [0, 9]
    pixels = Looker(net, image, device="cpu").image * 2 - 1
    assert (clean[0] - pixels).abs().mean() < (noise[0] - pixels).abs().mean() / 2
    refused(invoke("look", net, image, "--time", 10), "--time must lie within 0 and 9, got 10")
    refused(invoke("look", checkpoint(tmp_path, "lenet"), image, "--time", 1), "--time 1: lenet has no times")


def test_invert_shows_the_negative(image: Path, tmp_path: Path) -> None:
    net = checkpoint(tmp_path, "lenet")
    one, other = (Looker(net, image, device="cpu", invert=invert) for invert in (False, True))
    torch.testing.assert_close(other.image, 1 - one.image)
    torch.testing.assert_close(other.inputs[0], -one.inputs[0])


def test_refuses(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = checkpoint(tmp_path, "lenet")
    refused(invoke("look", "nowhere", image), "nowhere: no such file")
    refused(invoke("look", net, "missing.png"), "missing.png: no such file")
    refused(invoke("look", net, image, "--max-pixels", 100), "a.png: .*100")
    refused(invoke("look", net, image, "--out", net), "--out .*lenet.pt: is a file, not a folder")
    (tmp_path / "filters.png").write_bytes(image.read_bytes())
    refused(invoke("look", net, "filters.png", "--out", "."), "would be written over filters.png, which is to be read")
    assert not (tmp_path / "look").exists()


@pytest.mark.parametrize(("count", "channels"), [(70, 4), (7, 3), (1, 1)])
def test_filters_of_any_number(count: int, channels: int, tmp_path: Path) -> None:
    weight = torch.randn(count, channels, 3, 5) * (count > 1)
    with Image.open(drawing.draw_filters(weight, "a" * 50, tmp_path / "filters.png")) as drawn:
        assert drawn.width > 100


def test_a_map_is_drawn_where_it_lies(tmp_path: Path) -> None:
    """Nothing of a map is drawn over the image outside its place."""
    image, cam = torch.zeros(1, 20, 20), torch.ones(4, 4)
    drawing.draw_cam(image, cam, (10.0, 20.0, 20.0, 10.0), "title", "map", tmp_path / "cam.png")
    with Image.open(tmp_path / "cam.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    # in the last panel the map is yellow, weakened by the black image under it, in the lower right quarter
    panel = pixels[:, 594:870]
    rows = ((panel[..., 0] > 150) & (panel[..., 0] - panel[..., 2] > 50)).any(1).nonzero()[0]
    black = ((panel.sum(-1) == 0).mean(1) > 0.4).nonzero()[0]
    assert abs(rows.min() - (black.min() + black.max()) / 2) < 4


def test_maps_are_the_strongest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheets: list[torch.Tensor] = []
    sheet = drawing._sheet

    def kept(tiles: torch.Tensor, *args: Any) -> Any:
        sheets.append(tiles[:, 0, 0, 0])
        return sheet(tiles, *args)

    monkeypatch.setattr(drawing, "_sheet", kept)
    maps = (torch.arange(20.0) - 8).view(20, 1, 1).expand(20, 2, 3)
    drawing.draw_maps({"a": maps, "b": -maps[:3]}, tmp_path / "a.png")
    assert sheets[0].tolist() == [11, 10, 9, -8, 8, -7, 7, -6, 6, -5, 5, -4, 4, -3, 3, -2]
    assert sheets[1].tolist() == [8, 7, 6]
