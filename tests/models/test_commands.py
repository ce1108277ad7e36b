"""Networks from the shell, as a user meets them: train, predict, compare, and one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from torchops.cli import app
from torchops.models import Checkpoint
from torchops.models.data import Preprocess, digits
from torchops.models.runs import Run

ROOT = Path(__file__).parent.parent.parent
runner = CliRunner()


def invoke(*arguments: object) -> Result:
    return runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def refused(result: Result, match: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert re.search(match, line), line


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet that knows its digits well enough."""
    out = tmp_path_factory.mktemp("runs") / "lenet"
    result = invoke("train", "lenet", "--epochs", 3, "--size", 16, "--norm", "before", "--no-augment", "--out", out)
    assert result.exit_code == 0, result.output
    assert "epoch   3" in result.output
    assert "confusion.png, curves.png, mistakes.png, predictions.png" in result.output
    return out


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "unet"
    options = ("--epochs", 1, "--size", 32, "--width", 4, "--depth", 2, "--crops", 1, "--unpool", "avg")
    result = invoke("train", "unet", *options, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def ink(path: Path, index: int, inverted: bool = False) -> Path:
    values = digits()[0][index, 0] * 255
    Image.fromarray((255 - values if inverted else values).round().byte().numpy()).save(path)
    return path


def test_predicts_classes(lenet: Path, tmp_path: Path) -> None:
    # it was 0.978 of 359 images: 28 may fall otherwise
    assert json.loads((lenet / "summary.json").read_text())["best_val_accuracy"] > 0.9
    checkpoint, (images, targets) = Checkpoint.load(lenet), digits()
    with torch.no_grad():
        p, guess = checkpoint.model()(Preprocess(**checkpoint.preprocess)(images[:100])).exp().max(1)
    # of those that it is sure of, rounding turns none into another class
    sure = (p > 0.9).nonzero().flatten().tolist()[:10]
    assert len(sure) == 10
    files = [ink(tmp_path / f"{i}.png", i) for i in sure]
    result = invoke("predict", lenet, *files)
    assert result.exit_code == 0, result.output
    first = re.findall(r"probability.*?\n.*?\n\s*(\d)\s+([\d.]+)%", result.output, re.S)
    assert [int(label) for label, _ in first] == guess[sure].tolist() == targets[sure].tolist()
    assert [float(share) / 100 for _, share in first] == pytest.approx(p[sure].tolist(), abs=2e-3)
    three = next(i for i in sure if targets[i] == 3)
    paper = invoke(
        "predict", lenet / "best.pt", ink(tmp_path / "paper.png", three, inverted=True), "--invert", "--no-fuse"
    )
    assert re.search(r"\n\s*3\s+\d", paper.output), paper.output


def test_predicts_masks(unet: Path, tmp_path: Path) -> None:
    photo = tmp_path / "page.png"
    Image.fromarray(np.full((37, 50), 190, np.uint8)).save(photo)
    result = invoke("predict", unet, photo, "--out", tmp_path / "seen")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "seen" / "page-mask.png") as image:
        mask = np.array(image)
    assert mask.shape == (37, 50)
    assert mask.max() <= 10
    with Image.open(tmp_path / "seen" / "page-overlay.png") as image:
        assert image.size == (50, 37)
    assert re.search(r"page.png: .*page-mask.png, .*page-overlay.png\n", result.output), result.output
    assert "%" in result.output


def test_compares_layers(tmp_path: Path) -> None:
    result = invoke("compare", "lenet", "--steps", 3, "--batch-size", 8, "--out", tmp_path / "compare.png")
    assert result.exit_code == 0, result.output
    differ = re.search(r"losses differ by (\S+) at most; torchops takes ([\d.]+)x", result.output)
    assert differ
    assert float(differ[1]) < 1e-5
    with Image.open(tmp_path / "compare.png") as image:
        assert image.size == (1200, 340)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torchops", "train", "lenet", "--size", "16", "--out", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert re.fullmatch(rf"torchops: stopped \(epoch .*\): torchops train lenet --resume {out} goes on\n", errors), (
        errors
    )
    checkpoint = Checkpoint.load(out / "last.pt")
    assert len(checkpoint.training["rows"]) == len(Run(out).metrics()) >= 1


def test_refuses(lenet: Path, unet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(invoke("train", "lenet", "--data", "nowhere"), "--data nowhere: no such folder")
    refused(invoke("train", "lenet", "--epochs", 0), "--epochs must be at least 1, got 0")
    refused(invoke("train", "lenet", "--out", lenet), "holds a run already; --resume")
    refused(invoke("train", "unet", "--resume", lenet), "is a run of lenet, not of unet")
    refused(invoke("train", "lenet", "--resume", "nowhere"), "nowhere: holds no run")
    refused(invoke("train", "unet", "--dilations", "1,x"), "--dilations must be numbers as 1,2,4, got '1,x'")
    refused(invoke("train", "resnet", "--weights", unet, "--size", 32, "--examples", 1), "is of another network, unet")
    refused(
        invoke("train", "resnet", "--depth", 19, "--size", 32), "--depth must be one of 18, 34, 50, 101, 152, got 19"
    )
    refused(invoke("train", "lenet", "--device", "tpu9"), "--device tpu9: torch knows no such device")
    refused(invoke("predict", "nowhere", "a.png"), "nowhere: no such file")
    refused(invoke("predict", lenet, "missing.png"), "missing.png: no such file")
    assert list(tmp_path.iterdir()) == []
    if not torch.cuda.is_available():
        refused(
            invoke("predict", lenet, "a.png", "--device", "cuda"), "--device cuda: there is no GPU that torch can use"
        )


def test_a_diffusion_model_does_not_predict(tmp_path: Path) -> None:
    out = tmp_path / "diffusion"
    options = ("--epochs", 1, "--width", 8, "--depth", 1, "--steps", 5)
    assert invoke("train", "diffusion", *options, "--out", out).exit_code == 0
    refused(invoke("predict", out, "a.png"), "a diffusion model draws images, it does not predict")
