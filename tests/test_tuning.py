"""torchops tune: what is measured, what is believed, what is written; and what it is without a GPU."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from torchops import recording, workers
from torchops.cli import app
from torchops.inspect import LaunchReport
from torchops.kernels.planning import conv2d as conv2d_config
from torchops.kernels.planning.conv2d import Config, choices, key, parse_row, pick_config, ranking
from torchops.kernels.planning.hardware import GPUS
from torchops.measure import tune as tuning
from torchops.measure.tune import Table, Task, Trial, tasks, tune
from torchops.recording import layer_calls, model_calls
from torchops.workloads import ConvLayer

H100 = replace(GPUS["H100"], name="NVIDIA H100 80GB HBM3")
SMALL = ConvLayer("small", "of a test", 1, 16, 5, 6, 16, 3, 3, padding=1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where tables are written; nobody's own are read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHOPS_CONFIG_DIR", str(tmp_path / "configs"))
    conv2d_config.forget_tables()
    yield tmp_path / "configs"
    conv2d_config.forget_tables()


def work(*names: str) -> list[Task]:
    return tasks([call for name in names for call in layer_calls(recording.NAMED[name])], H100)


def convolutions(*arguments: Any, **options: Any) -> list[recording.Call]:
    return [call for call in model_calls(*arguments, **options) if call.operator.startswith("conv2d")]


def last_is_best(task: Task, configs: list[Config]) -> list[Trial]:
    """In place of a measurement: the model was wrong."""
    return [Trial(config, 10.0 + n) for n, config in enumerate(reversed(configs))]


class TestCalls:
    def test_a_layer_has_three(self) -> None:
        assert [call.name for call in layer_calls(SMALL)] == ["small.forward", "small.input_grad", "small.weight_grad"]
        (call,) = layer_calls(SMALL, torch.float16, channels_last=False, backward=False)
        x = call.args[0]
        assert (x.shape, x.strides, x.dtype) == ((1, 16, 5, 6), (480, 30, 6, 1), torch.float16)

    def test_a_model_has_those_of_its_convolutions(self) -> None:
        calls = model_calls("torchvision:resnet18", (2, 3, 64, 64), backward=False)
        assert Counter(call.operator for call in calls) == {"conv2d": 20, "max_pool2d": 1, "adaptive_avg_pool2d": 1}
        # the image has no gradient
        assert len(convolutions("torchvision:resnet18", (2, 3, 64, 64))) == 3 * 20 - 1

    def test_a_segmenter_fetches_no_backbone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
        assert len(convolutions("torchvision:lraspp_mobilenet_v3_large", (1, 3, 64, 64), backward=False)) > 50

    def test_timm_has_models_too(self) -> None:
        pytest.importorskip("timm")
        assert len(convolutions("timm:resnet18d", (1, 3, 64, 64), torch.float32, backward=False)) == 22

    def test_a_problem_is_a_task_once(self) -> None:
        found = work("body", "body")
        assert len(found) == len({key(task.problem) for task in found}) == 2  # the input gradient is a forward pass
        assert all(len(choices(task.problem, H100)) > 1 for task in found)

    def test_values_are_the_same_every_time(self) -> None:
        (call,) = layer_calls(SMALL, torch.float32, backward=False)
        first, second = (call.filled(torch.device("cpu")) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert first[0].is_contiguous(memory_format=torch.channels_last)

    def test_an_expanded_gradient_stays_expanded(self) -> None:
        spec = recording.Spec((2, 3, 4, 5), (3, 1, 0, 0), torch.float32)
        (filled,) = recording.Call("a", "conv2d", (spec,)).filled(torch.device("cpu"))
        assert filled.stride() == (3, 1, 0, 0)
        assert filled.isfinite().all()


class TestTune:
    def test_the_fastest_is_written_and_picked(self, folder: Path) -> None:
        table = Table(folder, H100)
        for task, trials in tune(work("body"), table, top=3, measured=last_is_best):
            assert trials is not None
            assert {t.config for t in trials} == set(ranking(task.problem, H100)[:3])
            assert pick_config(task.problem, H100) == trials[0].config != ranking(task.problem, H100)[0]
        found = json.loads((folder / "H100.json").read_text())
        assert (found["gpu"], found["sms"]) == ("H100-SXM5", 132)
        assert [row["source"] for row in found["rows"]] == ["measured"] * 2
        assert found["rows"][0]["us"] == 10.0
        assert {"gpu", "torch", "triton"} <= set(found["rows"][0])

    def test_what_was_measured_is_skipped(self, folder: Path) -> None:
        table, asked = Table(folder, H100), []

        def measured(task: Task, configs: list[Config]) -> list[Trial]:
            asked.append(task.call.name)
            return last_is_best(task, configs)

        list(tune(work("body"), table, measured=measured))
        rest = list(tune(work("body", "mid"), table, measured=measured))
        assert [trials is None for _, trials in rest] == [True, True, False, False]
        assert asked == ["body.forward", "body.weight_grad", "mid.forward", "mid.weight_grad"]
        list(tune(work("body"), table, again=True, measured=last_is_best))
        assert len(table.rows()) == 4

    def test_stopped_it_keeps_what_it_has(self, folder: Path) -> None:
        def measured(task: Task, configs: list[Config]) -> list[Trial]:
            if task.call.name == "mid.forward":
                raise KeyboardInterrupt
            return last_is_best(task, configs)

        with pytest.raises(KeyboardInterrupt):
            list(tune(work("body", "mid"), Table(folder, H100), measured=measured))
        assert len(Table(folder, H100).measured()) == 2

    def test_a_write_that_fails_leaves_the_old_table(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        table = Table(folder, H100)
        list(tune(work("body"), table, measured=last_is_best))
        before = table.file.read_bytes()

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            list(tune(work("mid"), table, measured=last_is_best))
        assert table.file.read_bytes() == before
        assert list(folder.iterdir()) == [table.file]

    def test_nothing_is_written_where_nothing_is_right(self, folder: Path) -> None:
        (_, trials), *_ = tune(
            work("body"), Table(folder, H100), measured=lambda task, configs: [Trial(c, None, "wrong") for c in configs]
        )
        assert trials
        assert not folder.exists()

    def test_another_gpus_table_is_left_alone(self, folder: Path) -> None:
        found = work("body")
        folder.mkdir()
        (folder / "H100.json").write_text("mine")
        with pytest.raises(ValueError, match=r"H100.json is no table of this GPU: not JSON"):
            list(tune(found, Table(folder, H100), measured=last_is_best))
        assert (folder / "H100.json").read_text() == "mine"

    def test_modelled_rows_stay(self, folder: Path) -> None:
        folder.mkdir()
        (task, *_) = work("body")
        modelled = conv2d_config.row(task.problem, ranking(task.problem, H100)[0], "model", "body")
        (folder / "H100.json").write_text(json.dumps({"gpu": "H100-SXM5", "sms": 132, "rows": [modelled]}))
        list(tune([task], Table(folder, H100), measured=last_is_best))
        assert [row["source"] for row in Table(folder, H100).rows()] == ["model", "measured"]
        assert parse_row(Table(folder, H100).rows()[1])[0] == key(task.problem)


@pytest.mark.tiers("interpreter")
class TestMeasure:
    """The kernels run, in the interpreter or on a GPU; a clock that is made up says which is fast."""

    @pytest.mark.parametrize("number", [0, 1, 2], ids=["forward", "input_grad", "weight_grad"])
    def test_right_ones_are_timed_and_ordered(self, number: int) -> None:
        task, configs = self._task(number)
        seconds = iter((1.0, 1.0, 2.0, 2.0, 3.0, 5.0))  # once each, twice; then a round
        trials = tuning.measure(task, configs, on="cpu", clock=lambda run, runs: next(seconds) * runs, rounds=1)
        assert [(t.config, t.us) for t in trials] == [(configs[0], 3e6), (configs[1], 5e6)]

    def test_wrong_and_broken_ones_are_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task, (good, wrong) = self._task(0)
        broken, run = replace(good, num_warps=8), recording.Call.run

        def sabotaged(call: recording.Call, args: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
            (y,) = run(call, args)
            picked = pick_config(task.problem, H100)
            if picked == broken:
                raise RuntimeError("out of\nresource")
            if picked == wrong and args[0].dtype == torch.float32:
                y[0, 3, 2, 1] = float("nan")
            return (y,)

        monkeypatch.setattr(recording.Call, "run", sabotaged)
        trials = tuning.measure(task, [wrong, broken, good], on="cpu", clock=lambda run, runs: 1.0, rounds=1)
        assert [t.config for t in trials] == [good, wrong, broken]
        assert [t.us is None for t in trials] == [False, True, True]
        assert trials[1].dropped.startswith("wrong: off by nan")
        assert trials[2].dropped == "RuntimeError: out of resource"

    def _task(self, number: int) -> tuple[Task, list[Config]]:
        call = layer_calls(SMALL, torch.float32)[number]
        (launch, *_) = call.launches(H100)
        first = Config(32, 32, 16, 4, 2)
        return Task(call, launch.problem), [first, replace(first, block_m=64)]


@pytest.mark.tiers("gpu")
@pytest.mark.xdist_group("processes of its own")
def test_a_gpu_is_tuned(folder: Path) -> None:
    result = invoke("--case", "mid", "--top", 3)
    assert result.exit_code == 0, result.output
    device = tuning.this_gpu()
    rows = Table(folder, device).rows()
    assert len(rows) == 2
    assert all(row["us"] > 1 for row in rows)
    assert "were measured before" in invoke("--case", "mid").output


def deadly(job: tuple[Task, list[Config]]) -> list[Trial]:
    """In place of a measurement: the second config takes its process with it, the third's never ends."""
    task, configs = job
    for config in configs:
        workers.doing(config)
        if config == ranking(task.problem, H100)[1]:
            os._exit(workers.GPU_LOST)
        if config == ranking(task.problem, H100)[2]:
            time.sleep(600)
    return [Trial(config, 1.0) for config in configs]


def test_a_config_that_takes_its_process_with_it_is_dropped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_measure", deadly)
    (task, *_) = work("body")
    configs = ranking(task.problem, H100)[:4]
    with tuning.MeasuredApart(seconds=15) as measured:
        trials = measured(task, configs)
    assert [t.config for t in trials if t.us] == [configs[0], configs[3]]
    assert {t.config: t.dropped for t in trials if not t.us} == {
        configs[1]: "the process ended with exit code 86", configs[2]: "stopped after 15 s: no answer",
    }  # fmt: skip


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tune", *map(str, arguments)], catch_exceptions=False)


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ((), "no GPU here to measure on: --dry-run compiles"),
            (("--arch", "sm_90"), "--arch is for --dry-run"),
            (("--dry-run", "--arch", "sm_1"), "--arch must be one of sm_80, .* got 'sm_1'"),
            (("--dry-run", "--case", "nose"), "--case must be one of body, .* got 'nose'"),
            (("--dry-run", "--case", "body", "--model", "torchvision:vgg11"), "exclude each other"),
            (("--dry-run", "--model", "torchvision:resnet50", "--input", "8x3x224"), "--input must be four"),
            (
                ("--dry-run", "--model", "torchvision:resnet50", "--input", "8x1x64x64"),
                r"does not take an input of \(8, 1, 64, 64\).*channel",
            ),
            (("--dry-run", "--model", "torchvision:nonet"), "torchvision has no 'nonet'"),
            (("--dry-run", "--model", "timm:nonet"), "timm has no 'nonet'"),
            (("--dry-run", "--model", "resnet50"), "must be torchvision:NAME or timm:NAME"),
            (("--dry-run", "--dtype", "uint8"), "--dtype must be float16"),
            (("--dry-run", "--dtype", "number"), "--dtype must name a dtype"),
        ],
    )
    def test_errors_are_one_line(self, arguments: tuple[str, ...], complaint: str) -> None:
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.strip().splitlines()
        assert re.search(complaint, line), line

    @pytest.fixture
    def gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An H100 on which the model is always wrong, and nothing needs compiling."""
        monkeypatch.setattr(tuning, "this_gpu", lambda: H100)
        monkeypatch.setattr("torchops.cli.tune.compile_ahead", lambda kernels: [])
        self._measures(monkeypatch, last_is_best)

    def _measures(self, monkeypatch: pytest.MonkeyPatch, measured: Callable[[Task, list[Config]], list[Trial]]) -> None:
        """In this process, by a function that measures nothing."""
        monkeypatch.setattr(tuning, "MeasuredApart", lambda: nullcontext(measured))

    @pytest.mark.usefixtures("gpu")
    def test_a_table_is_written_and_gone_on_with(self, folder: Path) -> None:
        result = invoke("--case", "body", "--top", 2)
        assert result.exit_code == 0, result.output
        assert "body.weight_grad" in result.output
        assert len(Table(folder, H100).rows()) == 2
        assert "2 problems were measured before" in invoke("--case", "body", "--case", "deep").output
        assert len(Table(folder, H100).rows()) == 4

    @pytest.mark.usefixtures("gpu")
    def test_a_journal_has_every_config(self, tmp_path: Path) -> None:
        journal = tmp_path / "tune.jsonl"
        for case in ("body", "deep"):
            assert invoke("--case", case, "--top", 2, "--no-backward", "--journal", journal).exit_code == 0
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        assert [(row["call"], row["us"]) for row in rows] == [
            ("body.forward", 10.0), ("body.forward", 11.0), ("deep.forward", 10.0), ("deep.forward", 11.0),
        ]  # fmt: skip
        assert set(rows[0]) == {"call", "config", "us", "dropped", "modelled_us"}
        (task,) = tasks(layer_calls(recording.NAMED["body"], backward=False), H100)
        best = ranking(task.problem, H100)[:2]
        modelled = {round(conv2d_config.modelled_us(task.problem, config, H100), 2) for config in best}
        assert {row["modelled_us"] for row in rows[:2]} == modelled

    @pytest.mark.usefixtures("gpu")
    def test_into_source(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torchops.kernels.planning.tables.PACKAGE", tmp_path / "source")
        assert invoke("--case", "body", "--into-source").exit_code == 0
        assert (tmp_path / "source" / "H100.json").exists()
        assert not folder.exists()

    @pytest.mark.usefixtures("gpu")
    def test_stopped(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def measured(task: Task, configs: list[Config]) -> list[Trial]:
            if "weight" in task.call.name:
                raise KeyboardInterrupt
            return last_is_best(task, configs)

        self._measures(monkeypatch, measured)
        result = invoke("--case", "body")
        assert (result.exit_code, result.stderr) == (130, "torchops: stopped; what was measured is kept\n")
        assert len(Table(folder, H100).rows()) == 1

    @pytest.mark.usefixtures("gpu")
    def test_a_problem_without_a_right_config_fails_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._measures(monkeypatch, lambda task, configs: [Trial(c, None, "wrong [x]") for c in configs])
        result = invoke("--case", "body", "--no-backward", "--top", 2)
        assert result.exit_code == 2
        assert result.stdout.count("is dropped: wrong [x]") == 2
        assert "no config of 1 problems ran and was right" in result.stderr

    def test_a_dry_run_marks_what_spills_or_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        spilled = LaunchReport(
            kernel="k", arch="sm_90", gpu="H100", config="", programs=1, num_warps=4, num_stages=4, registers=255,
            spills=12, stack_bytes=64, shared_bytes=99, matrix_instructions=1, loads={}, stores={}, loop_instructions=77,
            instructions=99, bytes_moved=1, bytes_least=1, modelled_us=5.0, bound="L2", times_us={}, utilization=1.0,
        )  # fmt: skip
        results = [(0, spilled), (1, "PTXASError: too much")]
        monkeypatch.setattr(tuning, "compile_all", lambda jobs, device: iter(results))
        result = invoke("--dry-run", "--case", "body", "--no-backward", "--top", 2)
        assert result.exit_code == 0, result.output
        assert "L2 spills" in result.stdout
        assert "PTXASError" in result.stdout

    @pytest.mark.tiers("compile")
    @pytest.mark.parametrize("arch", ["sm_90", "RTX 4090"])
    def test_a_dry_run_compiles_and_ranks(self, arch: str) -> None:
        result = invoke("--dry-run", "--arch", arch, "--case", "lenet-conv2", "--no-backward", "--top", 2)
        assert result.exit_code == 0, result.output
        assert "lenet-conv2.forward, gather" in result.stdout
        assert "2 configs of 1 problems compiled; nothing was run" in result.stdout
