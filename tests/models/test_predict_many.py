"""Many images at once: what is written of them in files, and how they go through a network together."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.untrained import files_in, gray, ink, lenet_of_digits, unet
from tests.shell import invoke, refused
from torchops.files.images import ImageError
from torchops.models.inputs import Input
from torchops.models.predict import Predictor
from torchops.models.trained import probabilities


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lenet_of_digits(tmp_path_factory.mktemp("lenet") / "net.pt")


class TestJson:
    def test_says_what_csv_says(self, lenet: Path, tmp_path: Path) -> None:
        names = ['a"b\n.png', os.fsdecode(b"\xff.png"), "日本.png"]
        (tmp_path / "in").mkdir()
        for index, name in enumerate(names):
            ink(tmp_path / "in" / name, index)
        masks = unet(tmp_path / "net.pt", values=(0, 85, 255))
        for net, columns in ((lenet, ("class", "probability")), (masks, ("value", "class", "share"))):
            files = "--csv", tmp_path / "seen.csv", "--json", tmp_path / "seen.json"
            result = invoke("predict", net, tmp_path / "in", "--out", tmp_path / "out", *files)
            assert result.exit_code == 0, result.output
            content = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
            assert sorted(seen["image"] for seen in content) == sorted(str(tmp_path / "in" / name) for name in names)
            rows = [[seen["image"], *(str(c[name]) for name in columns)] for seen in content for c in seen["classes"]]
            with (tmp_path / "seen.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                assert rows == list(csv.reader(file))[1:]

    def test_is_checked_first(self, lenet: Path, tmp_path: Path) -> None:
        image = gray(tmp_path / "a.png")
        refused(invoke("predict", lenet, image, "--json", image), "a.png: is one of the images")
        refused(invoke("predict", lenet, image, "--json", tmp_path / "no" / "a.json"), "no does not exist")
        both = tmp_path / "a.txt"
        refused(invoke("predict", lenet, image, "--json", both, "--csv", both), r"a\.txt: is the file of --csv, too")
        assert files_in(tmp_path) == {"a.png"}

    def test_takes_no_mask_s_place(self, tmp_path: Path) -> None:
        net, image = unet(tmp_path / "net.pt"), gray(tmp_path / "a.png")
        for name in ("a-mask.png", "a-overlay.png"):
            result = invoke("predict", net, image, "--out", tmp_path / "out", "--json", tmp_path / "out" / name)
            refused(result, "no such folder|does not exist")
            (tmp_path / "out").mkdir(exist_ok=True)
            result = invoke("predict", net, image, "--out", tmp_path / "out", "--json", tmp_path / "out" / name)
            refused(result, f"{name}: is where a mask or an overlay is to be")
            (tmp_path / "out").rmdir()


class TestBatches:
    def test_of_classifiers(self, lenet: Path, tmp_path: Path) -> None:
        """Sizes differ, but not for the network; a broken image is one of a batch."""
        for seed in range(7):
            gray(tmp_path / "in" / f"{seed}.png", 12 + seed, seed=seed)
        (tmp_path / "in" / "3.png").write_bytes(b"no image")
        results = []
        for batch in (1, 3, 100):
            found = tmp_path / f"{batch}.json"
            result = invoke("predict", lenet, tmp_path / "in", "--batch", batch, "--json", found)
            assert result.exit_code == 1
            assert "3.png: " in result.stderr
            assert "1 of 7 images" in result.stderr
            results.append(json.loads(found.read_text()))
        for batched in results[1:]:
            assert [seen["image"] for seen in batched] == [seen["image"] for seen in results[0]]
            for one, other in zip(results[0], batched, strict=True):
                assert [c["class"] for c in one["classes"]] == [c["class"] for c in other["classes"]]
                p, q = ([c["probability"] for c in seen["classes"]] for seen in (one, other))
                assert q == pytest.approx(p, abs=1e-5)
        assert invoke("predict", lenet, tmp_path / "in", "--batch", 0).exit_code == 2

    def test_are_of_one_size_and_in_a_row(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        predictor = Predictor(unet(tmp_path / "net.pt"))
        sides = {"a": 8, "b": 8, "c": 8, "d": 12, "e": 0, "f": 12, "g": 8}
        files = [Input(gray(tmp_path / f"{name}.png", side or 8), Path(f"{name}.png")) for name, side in sides.items()]
        files[4].path.write_bytes(b"no image")
        batches: list[tuple[int, int]] = []

        def asked(net: Any, x: torch.Tensor) -> torch.Tensor:
            batches.append((len(x), x.shape[-2]))
            return probabilities(net, x)

        monkeypatch.setattr("torchops.models.predict.probabilities", asked)
        seen = list(predictor.each(files, tmp_path / "out", batch=2))
        assert batches == [(2, 8), (1, 8), (2, 12), (1, 8)]
        assert [file.path.stem for file, _ in seen] == list(sides)
        assert [file.path.stem for file, found in seen if isinstance(found, ImageError)] == ["e"]

    def test_an_image_without_scores_costs_no_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        predictor = Predictor(unet(tmp_path / "net.pt"))
        files = [Input(gray(tmp_path / f"{seed}.png", seed=seed), Path(f"{seed}.png")) for seed in range(3)]
        image, _ = predictor.scores(files[1].path)
        bad = float(predictor.prepare.batch(image).sum())

        def asked(net: Any, x: torch.Tensor) -> torch.Tensor:
            if any(float(one.sum()) == pytest.approx(bad) for one in x):
                raise FloatingPointError("the network's scores are not finite")
            return probabilities(net, x)

        monkeypatch.setattr("torchops.models.predict.probabilities", asked)
        seen = [found for _, found in predictor.each(files, tmp_path / "out", batch=3)]
        assert str(seen[1]) == f"{files[1].path}: the network's scores are not finite"
        assert files_in(tmp_path / "out") == {f"{i}-{kind}.png" for i in (0, 2) for kind in ("mask", "overlay")}
