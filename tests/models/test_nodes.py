"""Training on two machines, here two folders: nothing is shared, and the first one's run is all that there is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from PIL import Image

from tests.models.kills import forking
from tests.models.rounding import figures
from torchops.models import Checkpoint, distributed
from torchops.models.distributed import Processes
from torchops.models.runs import Run

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120.0
"""Seconds after which a process will not end any more."""
LENET = [
    "train", "lenet", "--data", "photos", "--size", "16", "--norm", "before", "--batch-size", "4", "--epochs", "2",
    "--device", "cpu",
]  # fmt: skip
STEPS = 4
"""Of an epoch: of 20 images 16 are trained on."""


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def machines(tmp_path: Path) -> list[Path]:
    """A folder for each, with a copy of the data in it."""
    for name in ("first", "second"):
        for i in range(20):
            file = tmp_path / name / "photos" / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.linear_gradient("L").resize((16, 16)).rotate(18 * i).save(file)
    return [tmp_path / "first", tmp_path / "second"]


def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def process(
    rank: int, to: str, folder: Path, arguments: list[str], act: Callable[[], None] | None, step: int, meeting: int
) -> None:
    """One process of two, as torchrun starts them; what it says is in a file."""
    os.chdir(folder)
    place = {"RANK": str(rank), "LOCAL_RANK": "0", "GROUP_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=to, COLUMNS="200")
    with open("said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    # SIGINT may be ignored, as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    from torchops.cli import app
    from torchops.models import pictures, tasks, training

    # pictures take longer than the rest
    pictures.curves = tasks.Classification.finish = lambda *arguments: {}  # type: ignore[assignment,method-assign]
    distributed.MEETING = timedelta(seconds=meeting)
    update, steps = training.Trainer._update, 0

    def counted(*arguments: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if act is not None and steps == step:
            act()
        return update(*arguments)  # type: ignore[arg-type]

    training.Trainer._update = counted  # type: ignore[method-assign,assignment]
    app(arguments)


def trained(
    machines: list[Path],
    arguments: list[str],
    *,
    rank: int = 0,
    act: Callable[[], None] | None = None,
    step: int = 1,
    meeting: int = 60,
) -> tuple[list[int | None], list[str]]:
    """Exit codes of the two, and what each said in a line of an error.

    Args:
        machines: their folders.
        arguments: of the command.
        rank, act, step: which process does something, what, and before which of its steps.
        meeting: seconds that they wait for each other at the beginning.
    """
    to, started = port(), []
    for number, folder in enumerate(machines):
        does = act if number == rank else None
        started.append(forking().Process(target=process, args=(number, to, folder, arguments, does, step, meeting)))
        started[-1].start()
    try:
        for one in started:
            one.join(PATIENCE)
        codes = [one.exitcode for one in started]
    finally:
        for one in started:
            one.kill()
    lines = [(folder / "said").read_text().splitlines() for folder in machines]
    assert not any("Traceback" in line for told in lines for line in told), lines
    return codes, ["\n".join(line for line in told if line.startswith("torchops: ")) for told in lines]


def with_torchrun(machines: list[Path], arguments: list[str]) -> None:
    """The two commands that start a training on two machines."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    to, started = port(), []
    for rank, folder in enumerate(machines):
        places = f"--nnodes 2 --node-rank {rank} --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {to}".split()
        command = [sys.executable, "-m", "torch.distributed.run", *places, "-m", "torchops", *arguments]
        with (folder / "said").open("w") as said:
            started.append(subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said))
    try:
        codes = [one.wait(PATIENCE) for one in started]
    finally:
        for one in started:
            one.kill()
    assert codes == [0, 0], [(folder / "said").read_text() for folder in machines]


def test_begun_stopped_and_gone_on_with_where_one_has_the_run(machines: list[Path]) -> None:
    """Ctrl-C on the first machine in the second epoch, and torchrun on both; figures and weights are those of a whole run."""
    whole, halves = (Run(machines[0] / name) for name in ("whole", "halves"))
    assert trained(machines, [*LENET, "--out", "whole"]) == ([0, 0], ["", ""])
    codes, said = trained(machines, [*LENET, "--out", "halves"], act=stop, step=STEPS + 2)
    assert codes == [130, 130]
    assert said == ["torchops: stopped (epoch 2, step 2 of 4): torchops train lenet --resume halves goes on", ""]
    with_torchrun(machines, ["train", "lenet", "--resume", "halves"])
    assert "by 2 processes" in (machines[0] / "said").read_text()
    assert "epoch" not in (machines[1] / "said").read_text()
    assert sorted(path.name for path in machines[1].iterdir()) == ["photos", "said"]
    assert json.loads(halves.summary_file.read_text())["processes"] == 2
    assert [row["epoch"] for row in halves.metrics()] == [1, 2]
    assert figures(halves) == figures(whole)
    states = [Checkpoint.load(run.last).training["net"] for run in (whole, halves)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_data_that_differ_are_told(machines: list[Path]) -> None:
    (machines[1] / "photos" / "a" / "0.png").rename(machines[1] / "photos" / "a" / "00.png")
    codes, said = trained(machines, [*LENET, "--out", "run"])
    host = socket.gethostname()
    other = f"process 1 on {host} has other data than process 0: the names of the images differ"
    assert codes == [2, 1]
    assert said == [f"torchops: {other}", f"torchops: process 0 on {host}: {other}"]
    assert not (machines[0] / "run").exists()


def test_what_one_lacks_ends_both(machines: list[Path]) -> None:
    shutil.rmtree(machines[1] / "photos")
    codes, said = trained(machines, [*LENET, "--out", "run"])
    assert codes == [1, 2]
    assert said[0] == f"torchops: process 1 on {socket.gethostname()}: --data photos: no such folder"
    assert said[1] == "torchops: --data photos: no such folder"
    codes, said = trained(machines, ["train", "lenet", "--resume", "run"])
    assert codes == [2, 1]
    assert said[0].startswith("torchops: run: holds no run of torchops train")
    assert said[1].startswith(f"torchops: process 0 on {socket.gethostname()}: run: holds no run")


def test_weights_are_needed_on_the_first_machine_alone(machines: list[Path]) -> None:
    assert trained(machines, [*LENET, "--epochs", "1", "--out", "run"]) == ([0, 0], ["", ""])
    arguments = [*LENET, "--epochs", "1", "--lr", "1e-30", "--weights", "run", "--out", "tuned"]
    assert trained(machines, arguments) == ([0, 0], ["", ""])
    before, after = (Checkpoint.load(Run(machines[0] / name).last).state for name in ("run", "tuned"))
    for name in ("features.0.weight", "classifier.3.weight"):
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)


def test_a_process_that_is_gone_ends_the_other(machines: list[Path]) -> None:
    """In the middle of an epoch."""
    codes, said = trained(machines, [*LENET, "--out", "run"], rank=1, act=die, step=2)
    assert codes == [1, -signal.SIGKILL]
    assert said == ["torchops: another process has ended, or cannot be reached any more", ""]
    assert not (machines[0] / "run").exists()


def test_nobody_waits_for_ever_for_one_that_does_not_come(machines: list[Path]) -> None:
    codes, said = trained(machines[:1], [*LENET, "--out", "run"], meeting=1)
    assert (codes, said) == ([1], ["torchops: not all processes have come within 1 seconds"])


def one_that_is_slow(rank: int, to: str, folder: Path) -> None:
    """Meets the others; the first process takes a moment after it has connected, before which the others may not leave."""
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=to)
    connect, leave, left = dist.init_process_group, dist.destroy_process_group, 0

    def connecting(*args: Any, **kwargs: Any) -> None:
        connect(*args, **kwargs)
        if rank == 0:
            time.sleep(1)
            (folder / "connected").touch()

    def leaving() -> None:
        nonlocal left
        left += 1
        assert (folder / "connected").exists()
        leave()

    dist.init_process_group, dist.destroy_process_group = connecting, leaving  # type: ignore[assignment]
    distributed.WAITING = timedelta(seconds=10)
    with Processes.joined() as processes:
        assert processes.from_first(rank) == 0
    assert left == 2


def test_nobody_leaves_the_meeting_while_others_connect(tmp_path: Path) -> None:
    """Their connections would end in the middle."""
    to = port()
    started = [forking().Process(target=one_that_is_slow, args=(rank, to, tmp_path)) for rank in range(2)]
    for one in started:
        one.start()
    for one in started:
        one.join(PATIENCE)
        one.kill()
    assert [one.exitcode for one in started] == [0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked which interface an address is reached by")
def test_machines_are_reached_by_the_network_that_the_first_is_in() -> None:
    """Whatever their own names stand for."""
    from torchops.models.distributed import _interface

    assert _interface("127.0.0.1") == "lo"
    assert _interface("nowhere.invalid") is None
