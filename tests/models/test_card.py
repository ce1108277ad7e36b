"""The card of a run: what it says is so, names in it are no markup, and a README of one's own stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.models.tiny import Silent, tiny
from torchops.models import load
from torchops.models.card import MOST, card, escaped
from torchops.models.data import Data, Found, Preprocess
from torchops.models.figures import of_classes
from torchops.models.options import Config
from torchops.models.runs import CARD_MARK, Run
from torchops.models.training import train

SUMMARY: dict[str, Any] = {
    "last": {"epoch": 3.0}, "best_epoch": 2, "parameters": 1234, "torch": "2.0", "torchops": "0.1", "device": "cpu",
    "processes": 1,
}  # fmt: skip


def data_of(*labels: str, **fields: Any) -> Data:
    return Data([], [], labels, Preprocess(), **fields)  # type: ignore[arg-type]


def test_says_what_came_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "secret" / "my*photos"
    for i in range(12):
        file = folder / ("a|b", "<b>")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 20 * i).save(file)
    run = Run(tmp_path / "run")
    summary = train(tiny("lenet", data=f"{folder}/"), run, Silent())
    text = run.card_file.read_text(encoding="utf-8")
    assert text.startswith(f"{CARD_MARK}\n\n# LeNet: my\\*photos\n")
    # it may be shown to others
    assert str(tmp_path) not in text
    assert "secret" not in text
    assert "| a\\|b | 4 | " in text
    assert "<b>" not in text
    best = run.metrics()[summary["best_epoch"] - 1]
    assert f"| accuracy, held out | {best['val_accuracy']:.4f} |" in text
    assert f"`best.pt` is of epoch {summary['best_epoch']} of 2." in text
    assert f"of {summary['parameters']:,} parameters" in text
    assert "| `batch_size` | 10 |" in text
    linked = re.findall(r"!\[.*\]\((.*)\)", text)
    assert sorted(linked) == sorted(file.name for file in run.path.glob("*.png"))
    # two of twelve
    assert "Held out were 2 images: one is 50 points of the accuracy." in text
    # how it is loaded is so
    monkeypatch.chdir(run.path)
    assert 'torchops.models.load(".")' in text
    assert load(".").classes == ("<b>", "a|b")


def test_a_longer_run_writes_it_anew(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train(tiny("diffusion", epochs=1), run, Silent())
    first = run.card_file.read_text()
    assert "of epoch 1 of 1" in first
    # gone on with as it is, it says the same
    train(run.config(), run, Silent(), resume=True)
    assert run.card_file.read_text() == first
    seen: list[bool] = []
    train(
        run.config().changed(tiny("diffusion", epochs=2), ["epochs"]),
        run, Silent(lambda epoch, step: seen.append(run.card_file.exists())), resume=True,
    )  # fmt: skip
    assert seen
    assert not any(seen), "while it goes on, it is not done"
    assert re.search("of epoch [12] of 2", run.card_file.read_text())


def test_ones_own_readme_stays(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for kept in ("# Mine\n", "", CARD_MARK[:-1]):
        run.card_file.write_text(kept)
        run.write_card("# A card\n")
        run.remove_results()
        assert run.card_file.read_text() == kept
    run.card_file.unlink()
    run.card_file.mkdir()
    run.write_card("# A card\n")
    run.remove_results()
    run.card_file.rmdir()
    for text in ("# A card\n", "# Another\n"):
        run.write_card(text)
        assert run.card_file.read_text() == f"{CARD_MARK}\n\n{text}"
    run.remove_results()
    assert list(tmp_path.iterdir()) == []


def test_of_many_classes_are_the_worst() -> None:
    labels = [f"class {i}" for i in range(MOST + 10)]
    recall = {label: i / 100 for i, label in enumerate(reversed(labels))} | {labels[-1]: None}
    summary = SUMMARY | {"recall": recall, "test_accuracy": 0.25, "versions": {"numpy": "2"}}
    text = card(Config("lenet", data="photos"), data_of(*labels, test=[]), {"val_accuracy": 0.5}, summary, ["a b.png"])
    assert f"Of {MOST + 10} classes, the {MOST} with the smallest recall:" in text
    assert text.count("\n| class ") == MOST + 1
    # of the last one nothing is known, which is no figure
    assert f"| {labels[-2]} | 0.0100 |" in text
    assert labels[-1] not in text
    assert "| accuracy, test | 0.2500 |" in text
    assert "numpy" not in text
    assert "![a b](a%20b.png)" in text
    assert "those of the test part are not" in text


def test_says_the_figures_of_classes_and_their_means() -> None:
    figures = of_classes(torch.tensor([[3, 1], [0, 0]]), ["a|b", "c"])
    text = card(Config("classifier"), data_of("a|b", "c"), {"val_accuracy": 0.75}, SUMMARY | figures, [])
    assert text.startswith("# Classifier: digits\n\nClassifier of 1,234 parameters")
    assert "| F1, mean of the classes | 0.4286 |" in text
    assert "| class | precision | recall | F1 |" in text
    assert "| a\\|b | 1.0000 | 0.7500 | 0.8571 |" in text
    assert "| c | 0.0000 | n/a | 0.0000 |" in text
    assert "`confusion.csv`" in text


def test_files_left_out_and_options(tmp_path: Path) -> None:
    found = Found()
    found.count("train", {"a": 3, "b": 4})
    found.leave_out(tmp_path / "x.png", "cannot be read")
    config = Config("resnet", {"depth": 18}, data=".", weights=str(tmp_path / "deep" / "w.pt"), workers=3)
    text = card(config, data_of("a", "b", found=found), {"val_loss": None}, SUMMARY, [])
    assert "Left out: 1 file: cannot be read." in text.replace("\\", "")
    assert f"# ResNet: {escaped(Path.cwd().name)}\n" in text
    assert "| `weights` | w.pt |" in text
    assert "workers" not in text
    assert str(tmp_path) not in text
    assert "| loss, held out | n/a |" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, 1.5 - x", "plain, 1.5 - x"),
        ("a|b*c_d", r"a\|b\*c\_d"),
        ("<img src=x>", r"\<img src=x\>"),
        ("[a](http://b)", r"\[a\](http\://b)"),
        ("www.b", r"www\.b"),
        ("a\nb\\", r"a\\nb\\"),
    ],
)
def test_names_are_no_markup(text: str, expected: str) -> None:
    assert escaped(text) == expected
