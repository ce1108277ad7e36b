"""Block sizes by measurement: which configs a convolution may get, what they are compiled to, how long they take.

The launches of a recorded call say which problems it poses (see recording.py). On a GPU, the configs that the model ranks
highest are run, compared with float64 and, if they are right, timed. What is fastest becomes a row of the table that
:mod:`torchops.kernels.planning.tables` reads. Without a GPU, the configs can be compiled and ranked.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchops import workers
from torchops.backend import use_backend
from torchops.catalog import TOLERANCE, largest
from torchops.files import replacing
from torchops.inspect import LaunchReport, report
from torchops.recording import Call
from torchops.workers import in_a_line

from .race import device_seconds, race

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch
    from torchops.kernels.planning.conv2d import Config, Problem
    from torchops.kernels.planning.hardware import Device

Clock = Callable[[Callable[[], Any], int], float]


def this_gpu() -> Device:
    """The current GPU.

    Raises:
        ValueError: if there is none.
    """
    if not torch.cuda.is_available():
        raise ValueError("no GPU here to measure on")
    from torchops.kernels.planning.hardware import device_of

    return device_of(torch.empty(0, device="cuda"))


@dataclass(frozen=True)
class Task:
    """A problem that tables may know, and the first call that poses it."""

    call: Call
    problem: Problem


def tasks(calls: Iterable[Call], device: Device) -> list[Task]:
    """The problems of these calls that have a choice of configs, each once."""
    from torchops.kernels.planning.conv2d import choices, key

    found: dict[Problem, Task] = {}
    for call in calls:
        for launch in call.launches(device):
            if launch.problem is not None and len(choices(launch.problem, device)) > 1:
                found.setdefault(key(launch.problem), Task(call, launch.problem))
    return list(found.values())


def launches_with(task: Task, config: Config, device: Device) -> list[Launch]:
    """The launches of a task's call if its problem gets this config."""
    from torchops.kernels.planning.conv2d import prefer

    with prefer(task.problem, config):
        return task.call.launches(device)


def compiled(task: Task, config: Config, device: Device) -> LaunchReport | str:
    """What a config is compiled to for a GPU that need not be there, without its code; or why it is not."""
    from torchops.kernels.planning.conv2d import key

    launches = launches_with(task, config, device)
    (launch,) = (x for x in launches if x.problem is not None and key(x.problem) == key(task.problem))
    try:
        return replace(report(launch), code={})
    except Exception as error:  # the compiler raises errors of many types
        return in_a_line(error)


def _compiled(device: Device, job: tuple[Task, Config]) -> LaunchReport | str:
    return compiled(*job, device)


def compile_all(jobs: list[tuple[Task, Config]], device: Device) -> Iterator[tuple[int, LaunchReport | str]]:
    """What all these configs are compiled to, by their place in the list, as they come: on all cores, if they are many."""
    processes = min(workers.cores(), len(jobs) // 8)
    if processes < 2:
        for number, job in enumerate(jobs):
            yield number, _compiled(device, job)
        return
    for number, found in workers.run(partial(_compiled, device), jobs, processes=processes):
        yield number, found.reason if isinstance(found, workers.Failure) else found


@dataclass(frozen=True)
class Trial:
    """A config that was run."""

    config: Config
    us: float | None
    """Median time of the whole call in microseconds; None if it was dropped."""
    dropped: str = ""
    """Why it was dropped."""


def _allowed(dtype: torch.dtype) -> float:
    """Error relative to the largest value that rounding and the order of long sums explain."""
    if dtype == torch.float32:
        precision = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
        return 2e-3 if precision == "tf32" else 1e-5
    return {**TOLERANCE, torch.float64: 1e-10}[dtype]


def _error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest error, relative to the largest value; NaN where a result has one."""
    return largest(
        float((a.double() - b).abs().max()) / max(float(b.abs().max()), 1e-30)
        for a, b in zip(found, expected, strict=True)
        if b.numel()
    )


@dataclass(frozen=True)
class _Contender:
    """A call with a config of its own."""

    task: Task
    config: Config
    args: tuple[Any, ...]

    def __call__(self) -> tuple[Tensor, ...]:
        from torchops.kernels.planning.conv2d import prefer

        with prefer(self.task.problem, self.config):
            return self.task.call.run(self.args)

    def timed(self, clock: Clock, runs: int) -> float:
        from torchops.kernels.planning.conv2d import prefer

        with prefer(self.task.problem, self.config):
            # one run picks the configs of the call's other launches
            self.task.call.run(self.args)
            return clock(lambda: self.task.call.run(self.args), runs)


def measure(
    task: Task, configs: Iterable[Config], *, on: str = "cuda", clock: Clock = device_seconds, rounds: int = 5
) -> list[Trial]:
    """Run a call with each config, drop those that fail or are wrong, time the others in turn.

    Args:
        task: what to run.
        configs: what may be picked for its problem.
        on: device of the tensors.
        clock: as in :func:`torchops.measure.race.race`.
        rounds: times of each; the median counts.

    Returns:
        Those that were timed, the fastest first, then those that were dropped.
    """
    args = task.call.filled(torch.device(on))
    with use_backend("aten"):
        expected = task.call.run(tuple(a.double() if isinstance(a, Tensor) else a for a in args))
    allowed, right, dropped = _allowed(args[0].dtype), {}, []
    with use_backend("triton"):
        for config in configs:
            contender = _Contender(task, config, args)
            workers.doing(config)
            try:
                error = _error(contender(), expected)
                reason = (
                    "" if error <= allowed else f"wrong: off by {error:.1e} of the largest value, not {allowed:.0e}"
                )
            except Exception as error:  # the search is also for configs that do not run
                if workers.gpu_is_lost():
                    # no further config could run in this process
                    raise
                reason = in_a_line(error)
            if reason:
                dropped.append(Trial(config, None, reason))
            else:
                right[str(config)] = contender
        del expected
        workers.doing(None)
        times = (
            race(right, rounds=rounds, turn=0.005, most=50, clock=lambda contender, runs: contender.timed(clock, runs))  # type: ignore[attr-defined]
            if right
            else {}
        )
    trials = [Trial(right[name].config, statistics.median(times[name]) * 1e6) for name in right]
    return sorted(trials, key=lambda t: t.us or 0) + dropped


class MeasuredApart:
    """:func:`measure` in a process of its own: a config that takes the process with it is dropped, and the others go on.

    A context manager, to be called with a task and its configs.
    """

    def __init__(self, seconds: float = 45) -> None:
        self._measure = workers.Apart(_measure, seconds)

    def __call__(self, task: Task, configs: list[Config]) -> list[Trial]:
        left, dropped = list(configs), list[Trial]()
        while left:
            found = self._measure((task, left))
            if not isinstance(found, workers.Failure):
                return [*found, *dropped]
            guilty = [found.doing] if found.doing in left else left
            dropped += [Trial(config, None, found.reason) for config in guilty]
            left = [config for config in left if config not in guilty]
        return dropped

    def __enter__(self) -> MeasuredApart:
        return self

    def __exit__(self, *exception: object) -> None:
        self._measure.__exit__()


def _measure(job: tuple[Task, list[Config]]) -> list[Trial]:
    return measure(*job)


@dataclass(frozen=True)
class Table:
    """The table of a GPU in a folder, which may not be there yet.

    Raises:
        ValueError: on reading, if the file is no table of this GPU: it is left alone.
    """

    folder: Path
    device: Device

    @property
    def file(self) -> Path:
        from torchops.kernels.planning.tables import file_name

        return self.folder / file_name(self.device.name, self.device.sms)

    @property
    def _gpu(self) -> str:
        """The name of the GPU, as the package's tables have it."""
        from torchops.kernels.planning.hardware import GPUS, listed

        short = listed(self.device.name)
        return GPUS[short].name if short and GPUS[short].sms == self.device.sms else self.device.name

    def rows(self) -> list[Any]:
        from torchops.kernels.planning.tables import contents

        try:
            return contents(self.file, self.device)
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise ValueError(f"{self.file} is no table of this GPU: {error}") from None

    def measured(self) -> set[Problem]:
        """The problems of its rows that were measured and are in order."""
        from torchops.kernels.planning.conv2d import parse_row
        from torchops.kernels.planning.tables import good_rows

        return {problem for problem, _ in good_rows(self.rows(), parse_row)[0]["measured"]}

    def add(self, new: dict[str, object]) -> None:
        """Put a measured row in, in place of one of the same problem: the file is whole at any time."""
        kept = [row for row in self.rows() if not _same(row, new)]
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(map(json.dumps, [*kept, new]))
        head = json.dumps({"gpu": self._gpu, "sms": self.device.sms}).removesuffix("}")
        with replacing(self.file) as beside:
            beside.write_text(f'{head}, "rows": [\n{lines}\n]}}\n')


def _same(row: Any, new: dict[str, object]) -> bool:
    return isinstance(row, dict) and (row.get("source"), row.get("problem")) == ("measured", new["problem"])


def tune(
    work: Iterable[Task], table: Table, *, top: int = 8, again: bool = False,
    measured: Callable[[Task, list[Config]], list[Trial]] | None = None,
) -> Iterator[tuple[Task, list[Trial] | None]]:  # fmt: skip
    """Measure the configs that the model ranks highest for each problem, and write the fastest to a table as it is found.

    Args:
        work: see :func:`tasks`.
        table: where to write.
        top: configs of each problem; what is picked today is one of them.
        again: measure problems too that the table has measured rows of.
        measured: what measures, in place of :func:`measure`.

    Yields:
        Every task, with its trials; None where the table had it.

    Raises:
        ValueError: if the table's file is another's.
        OSError: if it cannot be written.
    """
    from torchops.kernels.planning.conv2d import forget_tables, key, pick_config, ranking, row

    known = set() if again else table.measured()
    for task in work:
        if key(task.problem) in known:
            yield task, None
            continue
        today = pick_config(task.problem, table.device)
        configs = [today, *(c for c in ranking(task.problem, table.device) if c != today)]
        trials = (measured or measure)(task, configs[:top])
        if trials and (best := trials[0]).us is not None:
            new = row(task.problem, best.config, "measured", task.call.name)
            made_with = {"gpu": table.device.name, "torch": torch.__version__, "triton": version("triton")}
            table.add({**new, "us": round(best.us, 2), **made_with})
            forget_tables()
        yield task, trials
