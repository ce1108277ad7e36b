"""Trained networks at work from the shell: what is said of images, what is written, what is done about bad files."""

from __future__ import annotations

import csv
import errno
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.untrained import files_in, gray, ink, lenet_of_digits, unet
from tests.shell import invoke, refused
from torchops.models import Checkpoint, build
from torchops.models.data import Preprocess, read
from torchops.models.data.mask_files import read_mask
from torchops.models.predict import Predictor
from torchops.models.setup import Config, data_for


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lenet_of_digits(tmp_path_factory.mktemp("lenet") / "net.pt")


class TestClasses:
    def test_are_the_likeliest(self, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        checkpoint = Checkpoint.load(lenet)
        files = [ink(Path(f"{i}.png"), i) for i in (1, 2, 30, 400)]
        prepare = Preprocess(**checkpoint.preprocess)
        with torch.no_grad():
            p = checkpoint.model()(torch.stack([prepare(read(file)) for file in files])).exp()
        best = p.topk(5)
        assert len(set(best.indices[:, 0].tolist())) > 1
        result = invoke("predict", lenet, *files, "--csv", "seen.csv")
        assert result.exit_code == 0, result.output
        assert result.output.splitlines() == [
            f"{file!s:<7}  "
            + "  ".join(f"digit {i} {v:>7.2%}" for i, v in zip(of.tolist(), values.tolist(), strict=True))
            for file, of, values in zip(files, best.indices, best.values, strict=True)
        ]
        with Path("seen.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["image"] for row in rows] == [str(file) for file in files for _ in range(5)]
        assert [row["class"] for row in rows] == [f"digit {i}" for i in best.indices.flatten().tolist()]
        assert [float(row["probability"]) for row in rows] == pytest.approx(best.values.flatten().tolist(), abs=1e-5)

    def test_one_image_has_a_table(self, lenet: Path, tmp_path: Path) -> None:
        ink(tmp_path / "a.png", 3)
        light = invoke("predict", lenet, tmp_path / "a.png")
        assert re.search(r"a.png\n.*\n class +probability \n.*\n digit \d +\d+\.\d\d% \n", light.output), light.output
        ink(tmp_path / "a.png", 3, inverted=True)
        assert invoke("predict", lenet, tmp_path / "a.png", "--invert", "--no-fuse").output == light.output
        assert invoke("predict", lenet, tmp_path / "a.png").output != light.output

    def test_names_are_quoted(self, lenet: Path, tmp_path: Path) -> None:
        """Rows hold names as they are: a reader of CSV gets them back, bytes that are no text, too."""
        names = ["=1+1.png", 'a"b.png', "a\nb.png", os.fsdecode(b"\xff.png"), "日本.png"]
        for index, name in enumerate(names):
            ink(tmp_path / name, index)
        result = invoke("predict", lenet, tmp_path, "--csv", tmp_path / "seen.csv")
        assert result.exit_code == 0, result.output
        assert len(result.output.splitlines()) == len(names)
        assert (tmp_path / "seen.csv").read_bytes().startswith(b'"image","class","probability"\r\n')
        with (tmp_path / "seen.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            found = {row["image"] for row in csv.DictReader(file)}
        assert found == {str(tmp_path / name) for name in names}

    def test_long_names_of_classes_are_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        label = "a-class-whose-name-is-longer-than-the-terminal-is-wide [b]"
        net = build("lenet", classes=2, size=16, channels=1)
        preprocess = Preprocess(1, 16).as_dict()
        options = {"classes": 2, "size": 16, "channels": 1}
        Checkpoint("lenet", options, net.state_dict(), [label, "b"], preprocess).save(tmp_path / "net.pt")
        monkeypatch.setattr("torchops.cli.console.console._width", 40)
        result = invoke("predict", tmp_path / "net.pt", gray(tmp_path / "a.png"))
        assert result.exit_code == 0, result.output
        told = re.sub(r"\s", "", result.output)
        assert "a-class-whose-name-is-longer-than-the-terminal-is-wide[b]" in re.sub(r"[\d.]+%", "", told)


class TestMasks:
    def test_have_the_values_they_came_with(self, tmp_path: Path) -> None:
        colours = [[0, 0, 0], [200, 10, 10], [10, 200, 10]]
        net = unet(tmp_path / "net.pt", values=(0, 85, 255), colours=colours)
        photo = gray(tmp_path / "page.png", 37)
        result = invoke("predict", net, photo, "--out", tmp_path / "seen")
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "seen" / "page-mask.png") as image:
            assert (image.mode, image.size) == ("P", (40, 37))
            palette, values = image.getpalette(), np.array(image)
        assert palette is not None
        assert [palette[3 * v : 3 * v + 3] for v in (0, 85, 255)] == colours
        shares = {v: float((values == v).mean()) for v in (0, 85, 255)}
        assert sum(shares.values()) == pytest.approx(1)
        assert len([s for s in shares.values() if s]) > 1
        with Image.open(tmp_path / "seen" / "page-overlay.png") as image:
            assert image.size == (40, 37)
        assert re.search(r"page.png: .*page-mask.png, .*page-overlay.png\n", result.output), result.output
        rows = re.findall(r"^ +(\d+) (\w+) +([\d.]+)%", result.output, re.M)
        labels = {0: "paper", 85: "ink", 255: "blot"}
        assert rows == [(str(v), labels[v], f"{100 * s:.2f}") for v, s in shares.items() if s]

    @pytest.mark.parametrize(
        ("values", "colours"),
        [((), []), ((0, 1, 7), [[0] * 3, [128] * 3, [255] * 3]), ((0, 1, 7), [[1, 2, 3]] * 3), ((3, 128, 65535), [])],
        ids=["no-values", "grays", "one-colour", "deep"],
    )
    def test_can_be_trained_on(self, values: tuple[int, ...], colours: list[list[int]], tmp_path: Path) -> None:
        """What a network says goes back into `masks`, and means the same: also where its colours are grays, or no three."""
        net, images = unet(tmp_path / "net.pt", values=values, colours=colours), tmp_path / "data" / "images"
        for seed in range(5):
            gray(images / f"{seed}.png", 16, seed=seed)
        assert invoke("predict", net, images, "--out", tmp_path / "masks").exit_code == 0
        predictor, seen = Predictor(net), set()
        for seed in range(5):
            _, p = predictor.scores(images / f"{seed}.png")
            expected = torch.tensor(predictor.values)[p.argmax(0)]
            assert torch.equal(read_mask(tmp_path / "masks" / f"{seed}-mask.png").values, expected)
            seen |= set(expected.unique().tolist())
        (tmp_path / "data" / "masks").mkdir()
        for seed in range(5):
            (tmp_path / "masks" / f"{seed}-mask.png").rename(tmp_path / "data" / "masks" / f"{seed}.png")
        data = data_for(Config.asked("unet", data=str(tmp_path / "data"), size=16))
        assert tuple(data.values) == tuple(sorted(seen)) == (values or (0, 1, 2))

    def test_more_classes_than_a_byte_counts(self, tmp_path: Path) -> None:
        net = unet(tmp_path / "net.pt", labels=[f"c{i}" for i in range(300)])
        # the class of every pixel is the last
        checkpoint = Checkpoint.load(net)
        checkpoint.state["head.bias"][299] = 1e6
        checkpoint.save(net)
        result = invoke("predict", net, gray(tmp_path / "a.png"), "--out", tmp_path)
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "a-mask.png") as image:
            assert np.array(image).min() == np.array(image).max() == 299
        assert re.search(r"\n +299 c299  100\.00%", result.output)

    def test_lie_as_their_images_do(self, tmp_path: Path) -> None:
        net = unet(tmp_path / "net.pt")
        for name in (
            "a/1.png",
            "b/1.png",
            "b/deep/1.PNG",
            ".hidden/2.png",
            "__MACOSX/2.png",
            "@eaDir/2.png",
            "b/.2.png",
        ):
            gray(tmp_path / "photos" / name)
        (tmp_path / "photos" / "notes.txt").write_text("no image")
        (tmp_path / "photos" / "a" / "up").symlink_to("..")
        out = tmp_path / "photos" / "seen"
        made = {f"{name}-{kind}.png" for name in ("a/1", "b/1", "b/deep/1") for kind in ("mask", "overlay")}
        for _ in range(2):
            # the second time, what was made lies among the images
            result = invoke("predict", net, tmp_path / "photos", "--out", out, "--csv", tmp_path / "seen.csv")
            assert result.exit_code == 0, result.output
            assert len(result.output.splitlines()) == 4
            assert files_in(out) == made
        with (tmp_path / "seen.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(float(row["share"]) for row in rows) == pytest.approx(3)
        assert {row["value"] for row in rows} <= {"0", "1", "2"}
        # files are named one by one, in two folders; one of them twice
        files = [tmp_path / "photos" / name for name in ("a/1.png", "b/1.png", "a/../a/1.png")]
        assert invoke("predict", net, *files, "--out", tmp_path / "files").exit_code == 0
        assert files_in(tmp_path / "files") == {name for name in made if "deep" not in name}

    def test_what_would_be_lost_is_refused(self, tmp_path: Path) -> None:
        net, out = unet(tmp_path / "net.pt"), tmp_path / "seen"
        one, other = gray(tmp_path / "in" / "1.png"), gray(tmp_path / "in" / "1.bmp")
        refused(
            invoke("predict", net, one, other, "--out", out), r"in/1.png and \S+in/1.bmp would both be written to \S+"
        )
        refused(invoke("predict", net, tmp_path / "in", "--out", out), "1.bmp and .*1.png would both be written to")
        mask = gray(tmp_path / "in" / "1-mask.png")
        refused(
            invoke("predict", net, one, mask, "--out", tmp_path / "in"),
            "1.png would be written over .*1-mask.png, which is",
        )
        out.mkdir()
        (out / "1-mask.png").symlink_to(one)
        refused(invoke("predict", net, one, "--out", out), "1.png would be written over .*1.png, which is to be read")
        (out / "1-mask.png").unlink()
        (out / "1-mask.png").mkdir()
        refused(invoke("predict", net, one, "--out", out), "seen/1-mask.png: is a directory, not a file to write")
        (out / "1-mask.png").rmdir()
        refused(invoke("predict", net, tmp_path / "in", "--out", tmp_path / "in"), "in: is the folder to write to")
        refused(invoke("predict", net, one, "--out", net), "--out .*net.pt: is a file, not a folder")
        refused(invoke("predict", net, one, "--out", out, "--csv", one), "1.png: is one of the images")
        refused(invoke("predict", net, one, "--out", out, "--csv", tmp_path), "is a directory, not a file")
        refused(invoke("predict", net, one, "--out", out, "--csv", tmp_path / "no" / "a.csv"), "no does not exist")
        assert list(out.iterdir()) == []


class TestBadFiles:
    def test_the_rest_goes_on(self, tmp_path: Path) -> None:
        net = unet(tmp_path / "net.pt")
        for name in ("1.png", "2.png", "b [b].png", "fifo.png", "5.png"):
            gray(tmp_path / "in" / name)
        (tmp_path / "in" / "b [b].png").write_bytes(b"no image")
        (tmp_path / "in" / "fifo.png").unlink()
        os.mkfifo(tmp_path / "in" / "fifo.png")
        (tmp_path / "in" / "gone\n.png").symlink_to("nowhere")
        result = invoke("predict", net, tmp_path / "in", "--out", tmp_path / "seen", "--csv", tmp_path / "seen.csv")
        assert result.exit_code == 1
        assert re.fullmatch(
            r"torchops: \S+in/b \[b\]\.png: .*\n"
            r"torchops: \S+in/fifo\.png: is a pipe, not a file\n"
            r"torchops: \S+in/gone\\n\.png: is a link to nothing\n"
            r"torchops: 3 of 6 images could not be predicted\n",
            result.stderr,
        ), result.stderr
        assert files_in(tmp_path / "seen") == {f"{i}-{kind}.png" for i in (1, 2, 5) for kind in ("mask", "overlay")}
        with (tmp_path / "seen.csv").open(newline="") as file:
            assert {Path(row["image"]).name for row in csv.DictReader(file)} == {"1.png", "2.png", "5.png"}

    def test_nothing_is_made_of_nothing(self, tmp_path: Path) -> None:
        net, out = unet(tmp_path / "net.pt"), ("--out", tmp_path / "seen", "--csv", tmp_path / "seen.csv")
        (tmp_path / "empty").mkdir()
        refused(invoke("predict", net, tmp_path / "empty", *out), "empty: holds no images, whose names end in .png, ")
        refused(invoke("predict", net, tmp_path / "*.jpg", *out), r"\*\.jpg: no such file")
        result = invoke("predict", net, tmp_path / "1.png", tmp_path / "2.png", *out)
        assert result.exit_code == 1
        assert "2 of 2 images" in result.stderr
        assert files_in(tmp_path) == {"net.pt"}
        assert not (tmp_path / "seen").exists()

    def test_scores_that_are_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        net, images = unet(tmp_path / "net.pt"), [gray(tmp_path / f"{i}.png", seed=i) for i in range(2)]
        calls: list[int] = []

        def overflowing(net: Any, batch: torch.Tensor) -> torch.Tensor:
            calls.append(0)
            if len(calls) == 1:
                raise FloatingPointError("the network's scores are not finite")
            return batch.softmax(1).expand(1, 3, -1, -1)

        monkeypatch.setattr("torchops.models.predict.probabilities", overflowing)
        result = invoke("predict", net, *images, "--out", tmp_path / "seen")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[0].endswith("0.png: the network's scores are not finite")
        assert "nan" not in result.output
        assert files_in(tmp_path / "seen") == {"1-mask.png", "1-overlay.png"}

    def test_too_many_pixels(self, tmp_path: Path) -> None:
        net, image = unet(tmp_path / "net.pt"), gray(tmp_path / "a.png", 20)
        refused(invoke("predict", net, image, "--max-pixels", 100, "--out", tmp_path / "seen"), "a.png: .*100")
        assert not (tmp_path / "seen").exists()

    def test_a_name_that_is_too_long_with_more(self, tmp_path: Path) -> None:
        """The image can be read, its overlay cannot be written: nothing is written of this one."""
        net, images = unet(tmp_path / "net.pt"), [gray(tmp_path / f"{name}.png") for name in ("x" * 245, "1", "2")]
        result = invoke("predict", net, *images, "--out", tmp_path / "seen")
        assert result.exit_code == 1
        first, last = result.stderr.splitlines()
        assert first.startswith(
            f"torchops: {images[0]}: its overlay cannot be written: {os.strerror(errno.ENAMETOOLONG)}"
        )
        assert last == "torchops: 1 of 3 images could not be predicted"
        assert files_in(tmp_path / "seen") == {f"{i}-{kind}.png" for i in (1, 2) for kind in ("mask", "overlay")}

    def test_a_full_disk_ends_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        net, images = unet(tmp_path / "net.pt"), [gray(tmp_path / f"{i}.png") for i in range(3)]

        def full(image: Image.Image, path: Path, **settings: Any) -> None:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Image.Image, "save", full)
        refused(invoke("predict", net, *images, "--out", tmp_path / "seen"), "No space left on device")
        assert files_in(tmp_path / "seen") == set()

    def test_ctrl_c_says_how_far_it_came(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        net, images = unet(tmp_path / "net.pt"), [gray(tmp_path / f"{i}.png") for i in range(3)]
        read = Preprocess.picture

        def stopped(preprocess: Preprocess, path: Path, **settings: Any) -> Any:
            if path == images[2]:
                raise KeyboardInterrupt
            return read(preprocess, path, **settings)

        monkeypatch.setattr(Preprocess, "picture", stopped)
        result = invoke("predict", net, *images, "--out", tmp_path / "seen", "--csv", tmp_path / "seen.csv")
        assert (result.exit_code, result.stderr) == (130, "torchops: stopped after 2 of 3 images\n")
        assert not (tmp_path / "seen.csv").exists()


def test_transparent_pixels_are_as_in_training(tmp_path: Path) -> None:
    """A glyph that is all alpha is ink on the background that the network was trained with."""
    alpha = np.zeros((12, 12, 4), np.uint8)
    alpha[3:9, 3:9, 3] = 255
    Image.fromarray(alpha).save(tmp_path / "a.png")
    for background, level in (("white", 1.0), ("black", 0.0)):
        net = unet(tmp_path / f"{background}.pt")
        checkpoint = Checkpoint.load(net)
        checkpoint.preprocess["background"] = background
        checkpoint.save(net)
        image, _ = Predictor(net).scores(tmp_path / "a.png")
        assert image[0, 0, 0] == level
        assert image[0, 5, 5] == 0


def test_refuses(lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(invoke("predict", "nowhere", "a.png"), "nowhere: no such file")
    refused(invoke("predict", lenet, "missing.png"), "missing.png: no such file")
    assert list(tmp_path.iterdir()) == []
    if not torch.cuda.is_available():
        refused(
            invoke("predict", lenet, "a.png", "--device", "cuda"), "--device cuda: there is no GPU that torch can use"
        )


def test_a_diffusion_model_does_not_predict(tmp_path: Path) -> None:
    options = {"size": 8, "channels": 1, "width": 8, "depth": 1, "steps": 5}
    Checkpoint("diffusion", options, build("diffusion", **options).state_dict(), [], Preprocess(1, 8).as_dict()).save(
        tmp_path / "net.pt"
    )
    refused(invoke("predict", tmp_path / "net.pt", "a.png"), "a diffusion model draws images, it does not predict")
