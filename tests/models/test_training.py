"""The training loop: the same whether it is stopped or not, alone or shared, and nothing is lost when something fails."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.rounding import Keeper, assert_same_but_for_rounding, figures
from tests.models.tiny import TINY, Silent, tiny
from torchops.models import Checkpoint, CheckpointError, load
from torchops.models.checkpoints import read
from torchops.models.data import DataError
from torchops.models.distributed import SyncBatchNorm2d
from torchops.models.runs import Run
from torchops.models.training import Interrupted, Trainer, train

ROOT = Path(__file__).parent.parent.parent
each_net = pytest.mark.parametrize("net", TINY)


class Foreign:
    """No tensor, number or string."""


@each_net
def test_a_run_fills_its_folder(net: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny(net))
    summary = train(run.config(), run, Silent())
    names = {path.name for path in run.path.iterdir()}
    pictures = {
        "lenet": {"confusion.png", "confusion.csv", "predictions.png", "mistakes.png"},
        "resnet": {"confusion.png", "confusion.csv", "predictions.png", "mistakes.png"},
        "unet": {"confusion.png", "confusion.csv", "overlays.png"},
        "diffusion": {"samples.png", "steps.png"},
    }[net]
    always = {"README.md", "config.json", "metrics.csv", "summary.json", "best.pt", "last.pt", "curves.png"}
    assert names == always | pictures
    assert json.loads((run.path / "summary.json").read_text()) == summary
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == [1, 2]
    key = {"unet": "val_iou", "diffusion": "val_loss"}.get(net, "val_accuracy")
    better = min if net == "diffusion" else max
    assert summary[f"best_{key}"] == pytest.approx(better(row[key] or 0.0 for row in rows))
    checkpoint = Checkpoint.load(run.path)
    assert checkpoint.net == net
    assert checkpoint.training == {"epoch": summary["best_epoch"]}
    assert not load(run.path).training
    assert load(run.best).state_dict().keys() == checkpoint.state.keys()


@pytest.mark.parametrize("net", ["lenet", "unet", "diffusion"])
def test_interrupted_and_resumed_ends_with_the_same_figures(net: str, tmp_path: Path) -> None:
    """Ctrl-C in the middle of the second epoch."""
    whole = Run.create(tmp_path / "whole", tiny(net))
    train(whole.config(), whole, Silent())

    def interrupt(epoch: int, step: int) -> None:
        if epoch == 2 and not sent:
            sent.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    sent: list[int] = []
    # SIGINT may be ignored, as in the background of a shell
    handler = signal.getsignal(signal.SIGINT)
    halves = Run.create(tmp_path / "halves", tiny(net))
    with pytest.raises(Interrupted, match=r"epoch 2, step \d"):
        train(halves.config(), halves, Silent(interrupt))
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(halves.metrics()) == 1
    train(halves.config(), halves, Silent(), resume=True)
    assert figures(halves) == figures(whole)
    for name, tensor in Checkpoint.load(whole.last).state.items():
        assert torch.equal(Checkpoint.load(halves.last).state[name], tensor), name


def test_killed_and_resumed_ends_with_the_same_figures(tmp_path: Path) -> None:
    """Killed with no chance to save, from the shell."""
    command = [sys.executable, "-m", "torchops", "train", "lenet", "--examples", "4", "--size", "16", "--epochs", "3"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--out", str(tmp_path / "whole")], env=env, check=True, capture_output=True)
    code = (
        "import os, signal, sys; from torchops.models import training; from torchops.cli import app\n"
        "update, steps = training.Trainer._update, []\n"
        "def fatal(*arguments):\n"
        "    steps.append(1)\n"
        "    if len(steps) > 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return update(*arguments)\n"
        "training.Trainer._update = fatal; sys.argv[0] = 'torchops'; app()"
    )
    halves = tmp_path / "halves"
    killed = subprocess.run([sys.executable, "-c", code, *command[3:], "--out", str(halves)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Run(halves).last.exists()
    resumed = subprocess.run(
        [*command[:5], "--resume", str(halves)], env=env, check=True, capture_output=True, text=True
    )
    assert "epoch   3" in resumed.stdout
    assert figures(Run(halves)) == figures(Run(tmp_path / "whole"))


@pytest.mark.parametrize("net", ["lenet", "unet"])
def test_two_processes_train_as_one(net: str, tmp_path: Path) -> None:
    """torchrun over gloo: batch norm sees both halves of a batch, so that every step is that of one process."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.models.rounding import Keeper; from tests.models.tiny import tiny\n"
        "from torchops.models.runs import Run; from torchops.models.training import train\n"
        "run, net = Run(Path(sys.argv[1])), sys.argv[2]\n"
        "train(tiny(net, lr=2e-3, balance=net == 'unet'), run, Keeper(run))"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }
    for name, launcher in launchers.items():
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [*launcher, str(script), str(tmp_path / name), net], env=env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (Run(tmp_path / name) for name in launchers)
    assert json.loads((two.path / "summary.json").read_text())["processes"] == 2
    assert_same_but_for_rounding(one, two)
    states = [Checkpoint.load(run.last).state for run in (one, two)]
    # as a whole: where a gradient is 0 but for rounding, Adam's step is as long as anywhere, either way
    for name, tensor in states[0].items():
        apart, size = (float(t.double().norm()) for t in (states[1][name] - tensor, tensor))
        assert apart <= 0.01 * size + 1e-3 * tensor.numel() ** 0.5, name


def test_synchronized_batch_norm_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, it is torch's own: values, gradients, running statistics."""
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    monkeypatch.setattr("torch.distributed.nn.functional.all_reduce", lambda t: t)
    ours, theirs = SyncBatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5) * 3 + 100
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    results = [norm(t) for norm, t in zip((ours, theirs), inputs, strict=True)]
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=0)
    dy = torch.randn_like(x)
    grads = [torch.autograd.grad(y, t, dy)[0] for y, t in zip(results, inputs, strict=True)]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-4, rtol=0)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny("lenet"))
    train(run.config(), run, Silent())
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    checkpoint = Checkpoint.load(run.last)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"last.pt: cannot be written: .*what was saved before is still there"
        ):
            checkpoint.save(run.last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_early_stop(tmp_path: Path) -> None:
    # so little that no weight moves: every epoch guesses what the first did
    run = Run.create(tmp_path / "run", tiny("lenet", epochs=8, lr=1e-30, patience=2, options={}))
    summary = train(run.config(), run, Silent())
    assert len(run.metrics()) == 3
    assert summary["best_epoch"] == 1


def test_frozen_epochs_train_the_head_alone(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny("resnet", freeze=1, epochs=2, layer_decay=0.5))
    states: list[dict[str, Tensor]] = []

    def look(epoch: int, step: int) -> None:
        states.append({k: v.clone() for k, v in trainer.net.state_dict().items()})

    from torchops.models.distributed import Processes

    trainer = Trainer(run.config(), run, Processes.join("cpu"), Silent(look))
    first = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    assert trainer.rates == pytest.approx([1e-3 * 0.5**k for k in (4, 3, 2, 1, 0)])
    trainer.train()
    changed = {name for name in first if not torch.equal(first[name], states[0][name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert not torch.equal(states[0]["conv1.weight"], states[-1]["conv1.weight"])


def test_fine_tuning_starts_from_a_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny("resnet", epochs=1))
    train(run.config(), run, Silent())
    config = tiny("resnet", epochs=1, weights=str(run.path), lr=1e-12)
    tuned = Run.create(tmp_path / "tuned", config)
    train(config, tuned, Silent())
    before, after = (Checkpoint.load(r.best).state for r in (run, tuned))
    torch.testing.assert_close(after["conv1.weight"], before["conv1.weight"])
    wrong = tiny("lenet", weights=str(run.path))
    with pytest.raises(CheckpointError, match=r"`weights` \(=.*\): is of another network, resnet, not lenet"):
        train(wrong, Run.create(tmp_path / "wrong", wrong), Silent())
    deeper = tiny("resnet", options={"depth": 34}, weights=str(run.path))
    with pytest.raises(CheckpointError, match=r"`weights` \(=.*weights of another network"):
        train(deeper, Run.create(tmp_path / "deeper", deeper), Silent())


def test_few_images_make_smaller_batches(tmp_path: Path) -> None:
    config, watcher = tiny("lenet", epochs=1, batch_size=500), Silent()
    train(config, Run.create(tmp_path / "run", config), watcher)
    assert watcher.notes[0] == "batches of 40: there are no more images to train on"
    assert watcher.notes[1].startswith("lenet of 56,150 parameters, 1 step of 40 images an epoch, on ")


def test_a_folder_is_not_used_twice(tmp_path: Path) -> None:
    config = tiny("lenet", epochs=1)
    train(config, Run(tmp_path), Silent())
    with pytest.raises(CheckpointError, match="holds a run already; `resume` goes on"):
        train(config, Run(tmp_path), Silent())
    with pytest.raises(CheckpointError, match="holds no run"):
        Run(tmp_path / "other").config()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    with pytest.raises(CheckpointError, match="no such file"):
        Checkpoint.load(file)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="is no file of weights, or broken"):
        Checkpoint.load(file)
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="is no checkpoint of torchops train"):
        Checkpoint.load(file)
    # nothing in a file is run
    torch.save({"a": Foreign()}, file)
    with pytest.raises(CheckpointError, match="is no file of weights, or broken"):
        read(file)


def test_a_checkpoint_that_was_cut_off(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny("lenet", epochs=1))
    train(run.config(), run, Silent())
    whole = run.best.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        run.best.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="is no file of weights, or broken"):
            load(run.path)
    checkpoint = Checkpoint.load(run.last)
    checkpoint.options["classes"] = 11
    with pytest.raises(CheckpointError, match="the weights do not fit lenet"):
        checkpoint.model()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"batch_size": 0}, {"size": 4}, {"lr": 0.0}, {"lr": float("nan")}, {"layer_decay": 0.0},
        {"ema": 1.0}, {"patience": 0}, {"examples": 0}, {"freeze": -1},
    ],
    ids=str,
)  # fmt: skip
def test_rejects_settings(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must .*, got"):
        tiny("lenet", **wrong)


def test_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same figures through torch.compile, here without a C++ compiler."""
    compiled = []
    monkeypatch.setattr(
        "torch.compile", lambda net, _compile=torch.compile: compiled.append(net) or _compile(net, backend="aot_eager")
    )
    runs = []
    for compiles in (False, True):
        config = tiny("lenet", compile=compiles)
        runs.append(Run.create(tmp_path / str(compiles), config))
        train(config, runs[-1], Keeper(runs[-1]))
    assert compiled
    assert_same_but_for_rounding(*runs)


def test_mixed_precision_and_channels_last(tmp_path: Path) -> None:
    config = tiny("unet", amp=True, channels_last=True, epochs=1)
    summary = train(config, Run.create(tmp_path / "run", config), Silent())
    assert 0 < summary["last"]["train_loss"] < 4


def test_too_many_processes(tmp_path: Path) -> None:
    from torchops.models.distributed import Processes

    run = Run.create(tmp_path / "run", tiny("lenet"))
    with pytest.raises(ValueError, match="`batch_size` must be a multiple of the 3 processes, got 10"):
        Trainer(run.config(), run, Processes(torch.device("cpu"), 0, 3), Silent())


def test_missing_data(tmp_path: Path) -> None:
    """Nothing is left behind of what could not start."""
    config = tiny("lenet", data=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no such folder"):
        train(config, Run(tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()
