"""Networks from the shell, as a user meets them: train, and one line for every mistake."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shell import invoke, refused
from torchops.models import Checkpoint
from torchops.models.runs import Run

ROOT = Path(__file__).parent.parent.parent


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
    assert list(tmp_path.iterdir()) == []
