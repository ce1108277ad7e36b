"""What is logged of a run, by a writer that only remembers it, and in real event files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from tests.models.tiny import Silent, tiny
from tests.shell import invoke, refused
from torchops.models import CheckpointError
from torchops.models.options import Config
from torchops.models.runs import Run
from torchops.models.training import Interrupted, train

pytestmark = pytest.mark.usefixtures("undrawn")


class Writer:
    """torch's SummaryWriter, as far as it is used."""

    made: list[Writer]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: dict[tuple[str, int], float] = {}
        self.times: list[float] = []
        self.texts: dict[tuple[str, int], str] = {}
        self.images: dict[tuple[str, int], torch.Tensor] = {}
        self.flushed, self.closed = 0, False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int, walltime: float | None = None) -> None:
        assert (name, step) not in self.scalars
        self.scalars[name, step] = value
        self.times.append(walltime or 0.0)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts[name, step] = text

    def add_image(self, name: str, image: torch.Tensor, step: int) -> None:
        self.images[name, step] = image

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """The writers, whether tensorboard is installed or not."""
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.utils, "tensorboard", module, raising=False)
    monkeypatch.setattr(Writer, "made", [], raising=False)
    return Writer.made


def expected(run: Run) -> dict[tuple[str, int], float]:
    """Scalars, by metrics.csv."""
    names = {
        "train_loss": "train/loss",
        "val_loss": "val/loss",
        "val_accuracy": "val/accuracy",
        "lr": "lr",
    }
    return {(names[n], int(row["epoch"])): row[n] for row in run.metrics() for n in names}  # type: ignore[arg-type,misc]


def draw(path: Path, values: torch.Tensor) -> None:
    Image.fromarray((values * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def test_every_epoch_is_logged_and_at_the_end_the_rest(tmp_path: Path, made: list[Writer]) -> None:
    run = Run(tmp_path / "run")
    seen: list[int] = []

    class Watcher(Silent):
        def epoch(self, figures: Any) -> None:
            seen.append(made[0].flushed if made else 0)

    run.path.mkdir()
    picture = torch.linspace(0, 1, 60).view(3, 4, 5)
    draw(run.path / "curves.png", picture)
    (run.path / "samples.png").write_bytes(b"none")
    # this is somebody's own
    draw(run.path / "holiday.png", picture)
    train(tiny("lenet", log="tensorboard"), run, Watcher())
    (writer,) = made
    assert writer.folder == str(run.path / "tensorboard")
    assert writer.scalars == expected(run)
    assert writer.times == sorted(writer.times)
    # whoever looks meanwhile sees all epochs that are over
    assert seen == [0, 1]
    assert writer.closed
    assert {key: text.replace("\n    ", "\n").strip() for key, text in writer.texts.items()} == {
        ("config", 1): run.config_file.read_text().strip(),
        ("summary", 2): run.summary_file.read_text().strip(),
    }
    assert all(line.startswith("    ") for text in writer.texts.values() for line in text.splitlines())
    assert writer.images.keys() == {("curves", 2)}
    torch.testing.assert_close(writer.images["curves", 2], picture, atol=0.5 / 255 + 1e-6, rtol=0)
    assert "holiday" not in run.card_file.read_text()
    # how it is told is no part of what was trained
    assert "tensorboard" not in run.card_file.read_text()


def test_a_run_that_goes_on_is_logged_as_a_whole(tmp_path: Path, made: list[Writer]) -> None:
    """Its first epochs were not logged, or were and are purged."""
    run = Run(tmp_path / "run")
    train(tiny("lenet", epochs=1), run, Silent())
    assert made == []
    longer = run.config().changed(tiny("lenet", epochs=2, log="tensorboard"), ["epochs", "log"])
    train(longer, run, Silent(), resume=True)
    train(run.config().changed(longer, ["log"]), run, Silent(), resume=True)
    first, again = made
    assert first.purge_step == again.purge_step == 0
    assert first.scalars == again.scalars == expected(run)
    assert ("val/loss", 1) in first.scalars
    assert again.texts.keys() == {("config", 2), ("summary", 2)}


def test_a_run_that_stops_has_what_was_saved(tmp_path: Path, made: list[Writer]) -> None:
    def stop(epoch: int, step: int) -> None:
        if epoch == 2:
            raise Interrupted

    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(tiny("lenet", log="tensorboard"), run, Silent(stop))
    (writer,) = made
    assert writer.scalars == expected(run)
    assert writer.closed
    assert writer.texts.keys() == {("config", 1)}


def test_a_log_that_cannot_be_written_is_told(
    tmp_path: Path, made: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "flush", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device; what was saved before is"):
        train(tiny("lenet", log="tensorboard"), Run(tmp_path / "run"), Silent())
    assert made[0].closed


@pytest.mark.parametrize("foreign", [False, True], ids=["nothing", "a folder of this name"])
def test_what_is_missing_is_said_before_the_training(
    foreign: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchops.models.setup.build", lambda *arguments, **options: pytest.fail("a network is made"))
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard") if foreign else None)
    asked = ("train", "lenet", "--examples", 4, "--log", "tensorboard", "--out", tmp_path / "run")
    refused(invoke(*asked), r"^torchops: --log tensorboard needs tensorboard: pip install 'torchops\[tensorboard\]'$")
    assert not (tmp_path / "run").exists()


def test_may_differ_when_a_run_goes_on() -> None:
    before, asked = Config("lenet"), Config("lenet", log="tensorboard")
    assert before.changed(asked).log == "tensorboard"
    assert asked.changed(before, ["epochs"]).log == "tensorboard"
    with pytest.raises(ValueError, match="`log` must be one of none, tensorboard, got 'wandb'"):
        Config("lenet", log="wandb")  # type: ignore[arg-type]


def test_event_files_say_it(tmp_path: Path) -> None:
    """Also where an older file knows of an epoch that was never saved."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    run = Run(tmp_path / "run")
    run.path.mkdir()
    draw(run.path / "curves.png", torch.rand(3, 4, 5))
    train(tiny("lenet", epochs=1, log="tensorboard"), run, Silent())
    folder = str(run.path / "tensorboard")
    with SummaryWriter(folder) as writer:
        writer.add_scalar("val/loss", 7.0, 2)
    longer = run.config().changed(tiny("lenet", epochs=2), ["epochs"])
    assert longer.log == "tensorboard"
    # as a run draws it at its end
    train(longer, run, Silent(lambda epoch, step: draw(run.path / "curves.png", torch.rand(3, 4, 5))), resume=True)
    events = EventAccumulator(folder, size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()
    found = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
    assert found == pytest.approx(expected(run))
    assert {tag: [e.step for e in events.Images(tag)] for tag in events.Tags()["images"]} == {"curves": [2]}
    assert {tag: [e.step for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]} == {
        "config/text_summary": [1, 2],
        "summary/text_summary": [1, 2],
    }
