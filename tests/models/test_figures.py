"""Figures of classes, against scikit-learn's and by hand, and what is told of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tests.models.tiny import Silent, tiny
from tests.shell import invoke
from torchops.models.figures import ious, of_classes, write_confusion
from torchops.models.runs import Run
from torchops.models.training import train


def test_are_scikit_learns() -> None:
    torch.manual_seed(0)
    truth, guess = torch.randint(0, 4, (200,)), torch.randint(0, 4, (200,))
    counts = torch.from_numpy(confusion_matrix(truth, guess))
    said = of_classes(counts, "abcd")
    expected = precision_recall_fscore_support(truth, guess)
    means = precision_recall_fscore_support(truth, guess, average="macro")
    for name, values, mean in zip(("precision", "recall", "f1"), expected, means, strict=False):
        assert list(said[name]) == list("abcd")
        assert list(said[name].values()) == pytest.approx(values, abs=5e-5)
        assert said[f"macro_{name}"] == pytest.approx(mean, abs=5e-5)
    assert len(set(said["f1"].values())) == 4


def test_what_has_no_figure_has_no_part_in_the_mean() -> None:
    """The third class is predicted only, the fourth neither there nor predicted, the last there only."""
    counts = torch.tensor([[2, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    assert ious(counts) == [2 / 4, 1 / 3, 0.0, None, 0.0]
    said = of_classes(counts, "abcde")
    assert list(said["precision"].values()) == [0.6667, 0.5, 0.0, None, None]
    assert list(said["recall"].values()) == [0.6667, 0.5, None, None, 0.0]
    assert list(said["f1"].values()) == [0.6667, 0.5, 0.0, None, 0.0]
    assert [said[f"macro_{name}"] for name in ("precision", "recall", "f1")] == [0.3889, 0.3889, 0.2917]
    nothing = of_classes(torch.zeros(2, 2, dtype=torch.int64), "ab")
    assert set(nothing["f1"].values()) == {nothing["macro_f1"]} == {None}


def test_a_confusion_is_read_back(tmp_path: Path) -> None:
    """Labels are what people chose: names of folders, which need not even be text."""
    labels = ["a, b", 'c "d"', "e\nf", "=1+1", "f\udce9"]
    counts = torch.arange(25).view(5, 5)
    write_confusion(counts, labels, tmp_path / "confusion.csv")
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        (_, *predicted), *rows = csv.reader(file)
    assert predicted == labels
    assert [name for name, *_ in rows] == labels
    # a row is a class that is true
    assert [[int(cell) for cell in cells] for _, *cells in rows] == counts.tolist()


def test_a_run_that_goes_on_has_none_until_it_is_done(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train(tiny("lenet", epochs=1), run, Silent())
    assert run.confusion_file.read_text().count("\n") == 11
    there: list[bool] = []
    longer = run.config().changed(tiny("lenet", epochs=2), ["epochs"])
    train(longer, run, Silent(lambda epoch, step: there.append(run.confusion_file.exists())), resume=True)
    assert there
    assert not any(there)
    assert run.confusion_file.exists()


@pytest.mark.usefixtures("undrawn")
def test_are_printed_of_a_few_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--examples", 4, "--size", 16, "--epochs", 1)
    counts = torch.eye(10, dtype=torch.int64)
    counts[3, 2] = 3
    said = of_classes(counts, [*"012", "[b]3[/b]", *"456789"])
    monkeypatch.setattr("torchops.models.tasks.Classification.finish", lambda *arguments: said)
    output = invoke("train", "lenet", *options, "--out", tmp_path / "few").output
    lines = [line.split() for line in output.splitlines()]
    assert ["class", "precision", "recall", "f1"] in lines, output
    assert ["[b]3[/b]", "1.0000", "0.2500", "0.4000"] in lines, output
    assert ["macro_f1", "0.8800"] in lines, output
    many = of_classes(torch.eye(21, dtype=torch.int64), [f"class-{i}" for i in range(21)])
    monkeypatch.setattr("torchops.models.tasks.Classification.finish", lambda *arguments: many)
    output = invoke("train", "lenet", *options, "--out", tmp_path / "many").output
    assert "class-" not in output
    assert "figures of all 21 classes: summary.json" in output
