"""`torchops train` as a user meets it: what is said before it begins, what goes on, what is refused, and its help."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.shell import invoke, refused
from torchops.cli import app
from torchops.models import Checkpoint
from torchops.models.checkpoints import NETS
from torchops.models.data import Preprocess
from torchops.models.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")
QUICK = ("--examples", 4, "--size", 16, "--epochs", 2)


def photos(root: Path, counts: dict[str, dict[str, int]]) -> Path:
    """Images of noise around a level of their own for every class, by part and class."""
    generator = np.random.default_rng(0)
    for part, classes in counts.items():
        for level, (name, count) in enumerate(classes.items()):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 160, (20, 20)) + 95 * (level % 2)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def finished(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lenet"
    assert invoke("train", "lenet", *QUICK, "--out", out).exit_code == 0
    return out


def test_options_beside_resume(finished: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in finished.iterdir()}
    for options, match in (
        (
            ("--lr", 0.1),
            "--lr 0.1: the run was started with 0.002; only --device, --workers and --log may differ, and --epochs",
        ),
        (("--no-augment",), "--augment no: the run was started with yes"),
        (("--norm", "after"), "--norm after: the run was started with none"),
        (("--data", "photos"), "--data photos: the run was started with none"),
        (("--epochs", 1), "--epochs 1: the run was asked for 2, and only more can be added"),
        (("--epochs", 0), "--epochs must be at least 1, got 0"),
        (("--out", tmp_path), "--out .*: a run goes on in its own folder, which --resume names"),
    ):
        refused(invoke("train", "lenet", "--resume", finished, *options), f"^torchops: {match}")
    refused(invoke("train", "unet", "--resume", finished), "--resume .*: is a run of lenet, not of unet")
    assert {file.name: file.read_bytes() for file in finished.iterdir()} == before
    # what says the same, or where, is no contradiction
    said = invoke(
        "train", "lenet", "--resume", finished, "--out", finished, *QUICK, "--lr", 0.002, "--device", "cpu", "--augment"
    )
    assert said.exit_code == 0, said.output


def test_a_run_of_relative_data_goes_on_where_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "photos", {"": {"a": 4, "b": 4}})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert invoke("train", "lenet", "--data", "photos", *QUICK, "--out", "run").exit_code == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    match = "^torchops: --data photos: no such folder here; start from the folder that the run was started in$"
    refused(invoke("train", "lenet", "--resume", tmp_path / "run", "--epochs", 3), match)
    monkeypatch.chdir(tmp_path)
    assert invoke("train", "lenet", "--resume", tmp_path / "run", "--epochs", 3).exit_code == 0


def test_how_to_go_on_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with spaces are quoted."""
    assert invoke("train", "lenet", *QUICK, "--out", tmp_path / "my [b] run").exit_code == 0

    def stop(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torchops.models.training.train", stop)
    result = invoke("train", "lenet", "--resume", tmp_path / "my [b] run", "--epochs", 3)
    assert result.exit_code == 130
    assert result.stderr == f"torchops: stopped: torchops train lenet --resume '{tmp_path}/my [b] run' goes on\n"


def test_epochs_beside_resume_extend_a_run(tmp_path: Path) -> None:
    assert invoke("train", "lenet", *QUICK, "--out", tmp_path / "run").exit_code == 0
    result = invoke("train", "lenet", "--resume", tmp_path / "run", "--epochs", 3)
    assert result.exit_code == 0, result.output
    assert "from 2 epochs to 3: in the added ones the learning rate rises again" in result.output
    assert "epoch   3" in result.output
    assert "epoch   2 " not in result.output
    assert len(Run(tmp_path / "run").metrics()) == 3
    again = invoke("train", "lenet", "--resume", tmp_path / "run", "--epochs", 3)
    assert (again.exit_code, "from 2 epochs" in again.output) == (0, False)


def test_list_says_what_was_found_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(
        tmp_path / "photos",
        {"train": {"cat": 5, "dog": 7}, "val": {"cat": 2, "dog": 3}, "test": {"cat": 1, "dog": 4}},
    )
    (root / "train" / "cat" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = invoke("train", "lenet", "--data", root, "--size", 16, "--batch-size", 4, "--list")
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.rglob("*")) == before
    lines = [line.split() for line in result.output.splitlines()]
    for row in (["cat", "5", "2", "1", "8"], ["dog", "7", "3", "4", "14"], ["all", "12", "5", "5", "22"]):
        assert row in lines, result.output
    assert "12 images of 2 classes to train on, 5 held out" in result.output
    assert "notes.txt" in result.output
    assert re.search(r"lenet of 52,072 parameters, 3 steps of 4 images an epoch, on ", result.output), result.output
    # nothing is said of the training
    assert "train_loss" not in result.output


def test_many_classes_are_listed_in_full_only_when_asked_for(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", {".": {f"class-{i:03}": 2 for i in range(60)}})
    options = ("--data", root, "--size", 16, "--epochs", 1, "--out", tmp_path / "run")
    assert len(re.findall("class-", invoke("train", "lenet", *options, "--list").output)) == 60
    output = invoke("train", "lenet", *options).output
    assert len(re.findall("class-", output)) <= 30, output
    assert "120" in output


def test_a_new_head_is_said_before_training(finished: Path, tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", {".": {"dark": 4, "light": 4}})
    options = ("--data", root, "--size", 16, "--epochs", 1, "--out", tmp_path / "run")
    result = invoke("train", "lenet", *options, "--weights", finished)
    assert result.exit_code == 0, result.output
    said = f"{finished}: the weights are of 10 classes, not 2: the head is a new one"
    assert 0 <= result.output.find(said) < result.output.find("train_loss"), result.output


def test_the_best_network_is_judged_on_a_test_part(tmp_path: Path) -> None:
    """Once, at the end: the figure is what the kept network says of these images."""
    counts = {"train": {"dark": 8, "light": 8}, "val": {"dark": 2, "light": 2}, "test": {"dark": 7, "light": 4}}
    root = photos(tmp_path / "photos", counts)
    out = tmp_path / "run"
    result = invoke("train", "lenet", "--data", root, "--size", 16, "--epochs", 2, "--out", out)
    assert result.exit_code == 0, result.output
    checkpoint = Checkpoint.load(out / "best.pt")
    prepare, net = Preprocess(**checkpoint.preprocess), checkpoint.model()
    right = []
    for label in ("dark", "light"):
        for file in sorted((root / "test" / label).iterdir()):
            image = torch.from_numpy(np.array(Image.open(file)))[None].float() / 255
            with torch.no_grad():
                right.append(checkpoint.labels[int(net(prepare(image)[None]).argmax())] == label)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["test_accuracy"] == pytest.approx(sum(right) / 11)
    assert summary["test_loss"] > 0
    assert f"test_accuracy {summary['test_accuracy']:.4f}" in " ".join(result.output.split())
    assert not any("test" in name for name in Run(out).metrics()[0])


def test_data_are_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any weights are loaded."""

    def build(*arguments: object, **options: object) -> None:
        pytest.fail("a network is made")

    monkeypatch.setattr("torchops.models.setup.build", build)
    refused(invoke("train", "resnet", "--weights", "DEFAULT", "--data", tmp_path / "nowhere"), "no such folder")


def test_stopped_in_the_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a second Ctrl-C: there is nothing to go on from, and that is said."""

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torchops.models.trainer.Trainer._update", stop)
    result = invoke("train", "lenet", *QUICK, "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr.strip()) == (130, "torchops: stopped: nothing was saved")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("net", NETS)
def test_help_can_be_read_line_by_line(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phrase of its own for every option, in plain words; what is on or off takes no value."""
    import typer.main

    monkeypatch.setenv("COLUMNS", "200")
    output = invoke("train", net, "--help").output
    assert "<bool>" not in output
    assert "Largest learning rate" in output
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    texts = {p.name: p.help for p in train.commands[net].params if p.param_type_name == "option"}
    assert {"list", "resume", "background", "max_pixels", "skip_corrupt"} <= texts.keys()
    for name, text in texts.items():
        assert re.fullmatch(r"[A-Z][\w.]+ .* .*\.", text), (name, text)
        assert "`" not in text, (name, text)
