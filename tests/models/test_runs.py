"""The folder of a run: one process trains in it at a time, and what is wrong with its files is said in a line."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.models.kills import forking
from tests.models.tiny import Silent, tiny
from torchops.models import Checkpoint, CheckpointError
from torchops.models.options import Config
from torchops.models.runs import Row, Run, best_row
from torchops.models.tasks import Classification
from torchops.models.trainer import Trainer
from torchops.models.training import train

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize(
    ("values", "larger", "expected"),
    [
        ([0.5], True, 0), ([0.5, 0.7, 0.7], True, 1), ([0.5, 0.7, 0.7], False, 0), ([3.0, 2.0, 2.0, 4.0], False, 1),
        ([None, 0.2, None], True, 1), ([None, 0.0], True, 1), ([None, None], True, 1), ([-1.0, None], False, 0),
    ],
    ids=str,
)  # fmt: skip
def test_the_best_epoch_is_the_first_of_the_best(values: list[float | None], larger: bool, expected: int) -> None:
    assert best_row([{"figure": value} for value in values], "figure", larger) == expected


def test_of_epochs_that_tie_the_one_of_least_loss_is_the_best() -> None:
    """Of four held-out images all are told right by weights that tell most others wrong."""
    figures = zip((0.75, 1.0, 1.0, 1.0, 0.75, 1.0), (0.1, 0.9, 0.3, 0.2, 0.0, 0.2), strict=True)
    rows: list[Row] = [{"val_accuracy": accuracy, "val_loss": loss} for accuracy, loss in figures]
    assert best_row(rows, "val_accuracy", True) == 3
    rows[3]["val_loss"] = None
    assert best_row(rows, "val_accuracy", True) == 5


def test_best_is_the_epoch_that_the_summary_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when epochs tie: the weights are those of the one of least loss."""
    evaluate = Classification.evaluate
    figures = iter([(0.5, 0.2), (0.7, 0.4), (0.7, 0.3), (0.6, 0.1)])

    def tied(*arguments: Any) -> Any:
        accuracy, loss = next(figures)
        return {**evaluate(*arguments), "val_accuracy": accuracy, "val_loss": loss}

    run = Run(tmp_path / "run")
    weights = []

    class Weights(Silent):
        def epoch(self, figures: Row) -> None:
            weights.append(Checkpoint.load(run.last).state)

    monkeypatch.setattr(Classification, "evaluate", tied)
    summary = train(tiny("lenet", epochs=4), run, Weights())
    assert (summary["best_epoch"], summary["best_val_accuracy"]) == (3, 0.7)
    best = Checkpoint.load(run.best)
    assert best.training == {"epoch": 3}
    for name, tensor in best.state.items():
        assert tensor.equal(weights[2][name]), name
    assert any(not tensor.equal(weights[1][name]) for name, tensor in best.state.items())


def test_figures_without_a_value_are_read_back(tmp_path: Path) -> None:
    rows: list[Row] = [{"epoch": 1, "val_iou": None}, {"epoch": 2, "val_iou": 0.25}]
    run = Run(tmp_path)
    run.write_metrics(rows)
    assert run.metrics() == rows
    assert run.metrics_file.read_text().splitlines() == ["epoch,val_iou", "1,", "2,0.25"]


WRONG: dict[str, Any] = {
    "net": [3, None, "gpt", []],
    "options": [3, None, [], {"width": "x"}, {"dilations": "1"}, {"dilations": [1.5]}, {"pool": 3}, {"norm": "x"}],
    "data": [3, []],
    "dataset": [None, "imagenet", 3],
    "size": [None, "28", 28.5, True, 4, 10**30],
    "crops": [0, "1"],
    "ema": ["x", 1.0, float("nan")],
    "weights": [3],
    "layer_decay": ["x", 0.0, None],
    "examples": [0, "4"],
    "augment": ["yes", 1, None],
    "background": ["red", None],
    "max_pixels": [0, "x"],
    "skip_corrupt": ["x"],
    "epochs": [0, "2", None, 1.5],
    "batch_size": [0, [64]],
    "lr": ["x", 0, -1.0, float("inf"), None, 10**400],
    "weight_decay": ["x", float("nan")],
    "seed": ["x", 2**63, None],
    "patience": ["x", 0],
    "layers": ["jax", None],
    "backend": ["cuda", 3],
    "compile": ["x"],
    "amp": ["x"],
    "channels_last": [3],
    "device": [3],
    "workers": [-1, "x"],
    "cycles": [3, None, ["x"], [0], [2], [3], [-1]],
}


@pytest.mark.parametrize("name", WRONG)
def test_rejects_a_configuration(name: str, tmp_path: Path) -> None:
    """From Python, and from a file."""
    fields = asdict(tiny("lenet"))
    run = Run(tmp_path)
    for value in WRONG[name]:
        with pytest.raises((ValueError, TypeError), match=r"^`\w+` must .*, got ") as caught:
            Config(**{**fields, name: value})
        assert len(str(caught.value)) < 250
        run.config_file.write_text(json.dumps({**fields, name: value}))
        with pytest.raises(CheckpointError, match=r"holds no run of torchops train that can be read: .* must") as said:
            run.config()
        assert len(str(said.value).splitlines()) == 1


def _pipe(file: Path) -> None:
    os.mkfifo(file)


NO_CONFIGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda f: None, "no such file, config.json"),
    "pipe": (_pipe, "config.json is a pipe, not a file"),
    "folder": (lambda f: f.mkdir(), "config.json is a directory, not a file"),
    "bytes": (lambda f: f.write_bytes(b"\xff\xfe\x00"), "codec can't decode"),
    "text": (lambda f: f.write_text("hello"), "Expecting value"),
    "list": (lambda f: f.write_text("[]"), "holds no fields"),
    "deep": (lambda f: f.write_text("[" * 200_000), "recursion"),
    "large": (lambda f: f.write_text(" " * (1 << 21)), "is larger than 1,048,576 bytes"),
    "foreign": (lambda f: f.write_text('{"model_type": "bert"}'), "unexpected keyword argument 'model_type'"),
    "empty": (lambda f: f.write_text("{}"), "missing 1 required positional argument: 'net'"),
}


@pytest.mark.parametrize("case", NO_CONFIGS)
def test_rejects_a_file_that_is_no_configuration(case: str, tmp_path: Path) -> None:
    make, match = NO_CONFIGS[case]
    run = Run(tmp_path)
    make(run.config_file)
    with pytest.raises(CheckpointError, match=f"holds no run of torchops train that can be read: .*{match}") as said:
        run.config()
    assert len(str(said.value).splitlines()) == 1
    # a new run does not take the place of what it does not know
    if case != "missing":
        with pytest.raises(CheckpointError, match="holds no run"):
            Run.create(tmp_path, tiny("lenet"))


def test_a_run_killed_in_its_first_epoch_is_no_obstacle(tmp_path: Path) -> None:
    """It left its configuration: it can be gone on with, from the beginning, and another one can take its place."""
    config = tiny("lenet", epochs=1)
    runs = [Run.create(tmp_path / name, config) for name in ("again", "anew")]
    train(config, runs[0], Silent(), resume=True)
    train(tiny("lenet", epochs=1, seed=1), runs[1], Silent())
    assert [len(run.metrics()) for run in runs] == [1, 1]
    assert runs[1].config().seed == 1


@pytest.mark.parametrize("file", ["best.pt", "last.pt", "metrics.csv"])
def test_what_was_trained_is_not_written_over(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("trained")
    with pytest.raises(CheckpointError, match="holds a run already; `resume` goes on"):
        train(tiny("lenet", epochs=1), Run(tmp_path), Silent())
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    """Whoever comes second is told so; the lock of a killed process is gone, even while a child of it lives."""
    code = (
        "import os, sys, time; from pathlib import Path; from torchops.models.runs import Run\n"
        "with Run(Path(sys.argv[1])).locked():\n"
        "    child = os.fork()\n"
        "    if child: print(child, flush=True)\n"
        "    time.sleep(600)"
    )
    run = Run.create(tmp_path, tiny("lenet", epochs=1))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    child = int(other.stdout.readline())
    try:
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=rf"^{tmp_path}: is being trained by another process$"):
                train(run.config(), run, Silent(), resume=resume)
        other.kill()
        other.wait()
        train(run.config(), run, Silent(), resume=True)
    finally:
        os.kill(child, signal.SIGKILL)
        other.stdout.close()
    assert not (tmp_path / ".lock").exists()


def contend(path: str, seed: int, together: Any, said: Any) -> None:
    """One process that begins a run at the same moment as another one."""
    make = Trainer.__init__

    def ready(*arguments: Any) -> None:
        make(*arguments)
        together.wait(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", ready)
        try:
            train(tiny("lenet", seed=seed), Run(Path(path)), Silent())
        except CheckpointError as error:
            said.put((seed, str(error)))


def test_of_two_runs_in_one_folder_one_wins(tmp_path: Path) -> None:
    """Both have seen that it is empty."""
    out, context = tmp_path / "run", forking()
    together, said = context.Barrier(2), context.Queue()
    both = [context.Process(target=contend, args=(str(out), seed, together, said)) for seed in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    loser, why = said.get(timeout=10)
    assert said.empty()
    assert why in (
        f"{out}: is being trained by another process",
        f"{out}: holds a run already; `resume` goes on with it, another `path` starts anew",
    )
    run, alone = Run(out), Run(tmp_path / "alone")
    assert run.config().seed == 1 - loser
    train(tiny("lenet", seed=1 - loser), alone, Silent())
    for one, other in ((run.last, alone.last), (run.best, alone.best)):
        states = Checkpoint.load(one).state, Checkpoint.load(other).state
        assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())


def test_what_fails_before_its_first_checkpoint_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "_update", fails)
    (tmp_path / "runs").mkdir()
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tiny("lenet"), Run(tmp_path / "runs" / "a" / "b"), Silent())
    assert list((tmp_path / "runs").iterdir()) == []


def full(size: int) -> Callable[[], None]:
    """From now on no file gets larger than so many bytes; what it returns takes that back."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [10, 100_000], ids=["figures", "weights"])
def test_a_full_disk_in_the_second_epoch(size: int, tmp_path: Path) -> None:
    """One line with the reason; when there is space again, the run goes on to what it would have been."""
    run, whole = Run(tmp_path / "run"), Run(tmp_path / "whole")
    undo: list[Callable[[], None]] = []

    def fill(epoch: int, step: int) -> None:
        if epoch == 2 and not undo:
            undo.append(full(size))

    try:
        with pytest.raises(CheckpointError, match=r"cannot be written: File too large; what was saved before is still"):
            train(tiny("lenet"), run, Silent(fill))
    finally:
        undo[0]()
    assert {path.name for path in run.path.iterdir()} == {"config.json", "metrics.csv", "best.pt", "last.pt"}
    assert len(Checkpoint.load(run.last).training["rows"]) == 1
    train(run.config(), run, Silent(), resume=True)
    train(tiny("lenet"), whole, Silent())
    for name, tensor in Checkpoint.load(whole.last).state.items():
        assert tensor.equal(Checkpoint.load(run.last).state[name]), name


def test_a_full_disk_at_the_beginning_leaves_nothing(tmp_path: Path) -> None:
    undo = full(10)
    try:
        with pytest.raises(CheckpointError, match=r"run: cannot be written: File too large$"):
            train(tiny("lenet"), Run(tmp_path / "run"), Silent())
    finally:
        undo()
    assert list(tmp_path.iterdir()) == []
