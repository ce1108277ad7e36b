"""Block sizes from the shell: measured on the GPU of this machine, or compiled and modelled for one that is not there."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.text import Text

from torchops import precompile, recording
from torchops.files.names import printable
from torchops.inspect import LaunchReport
from torchops.measure import tune as tuning

from .console import app, bar, console, fail, one_line, one_line_errors, say, table
from .ops import ModelInput, parse_floating, parse_sizes
from .precompile import compile_ahead

if TYPE_CHECKING:
    from torchops.kernels.planning.conv2d import Config
    from torchops.kernels.planning.hardware import Device

_TOP = 8


@app.command("tune")
def tune_command(
    case: Annotated[
        list[str] | None,
        typer.Option(help=f"A convolution by its name: {', '.join(recording.NAMED)}. May be repeated; all by default."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="All convolutions of a model instead, as torchvision:resnet50 or timm:resnet18d; its weights are not loaded.",
        ),
    ] = None,
    input: ModelInput = "8x3x224x224",
    dtype: Annotated[
        str, typer.Option(help="The kind of numbers: float16, bfloat16, float32 or float64.")
    ] = "bfloat16",
    channels_last: Annotated[bool, typer.Option("--channels-last/--nchw", help="How tensors lie in memory.")] = True,
    backward: Annotated[bool, typer.Option(help="Tune the computation of gradients, too.")] = True,
    top: Annotated[
        int | None,
        typer.Option(
            help=f"How many configs of each problem to time, those first that should be fastest; {_TOP}, or all in a dry run.",
            min=1,
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what was measured before.")] = False,
    into_source: Annotated[
        bool,
        typer.Option("--into-source", help="Write the table into the package's source, not into the user's folder."),
    ] = False,
    journal: Annotated[
        Path | None, typer.Option(help="A file to add every config's time to as it comes, a line of JSON each.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compile and rank the configs; run nothing.")] = False,
    arch: Annotated[str | None, typer.Option(help="The GPU of a dry run, as sm_90 or H200; sm_90 by default.")] = None,
) -> None:
    """Time the block sizes of convolutions on this GPU, and keep the fastest in a table that calls read.

    The table is <GPU>.json in TORCHOPS_CONFIG_DIR, or else in torchops/configs of the user's cache. A config whose values are
    wrong is dropped. What was measured is kept when it is stopped, and skipped the next time.
    """
    with one_line_errors("stopped; what was measured is kept"):
        if arch and not dry_run:
            raise ValueError("--arch is for --dry-run: what is measured is the GPU of this machine")
        kind = parse_floating(dtype)
        from torchops.kernels.planning.hardware import find

        device = find(arch or "sm_90") if dry_run else _this_gpu()
        work = tuning.tasks(_calls(case, name, input, kind, channels_last, backward), device)
        if dry_run:
            _dry_run(work, device, top)
        else:
            _tune(work, device, top or _TOP, again, into_source, journal)


def _this_gpu() -> Device:
    try:
        return tuning.this_gpu()
    except ValueError as error:
        raise ValueError(f"{error}: --dry-run compiles and ranks the configs without one") from error


def _calls(
    cases: list[str] | None, name: str | None, size: str, dtype: torch.dtype, channels_last: bool, backward: bool
) -> list[recording.Call]:
    if name is not None:
        if cases:
            raise ValueError("--case and --model exclude each other")
        shape = parse_sizes("--input", "NxCxHxW", size)
        assert shape is not None
        return recording.model_calls(name, shape, dtype, channels_last=channels_last, backward=backward)
    for case in cases or ():
        if case not in recording.NAMED:
            raise ValueError(f"--case must be one of {', '.join(recording.NAMED)}, got {case!r}")
    layers = [recording.NAMED[case] for case in cases or recording.NAMED]
    return [
        call
        for layer in layers
        for call in recording.layer_calls(layer, dtype, channels_last=channels_last, backward=backward)
    ]


def _tile(config: Config) -> str:
    strip = f", {config.rows} rows" if config.rows else ""
    return f"{config.block_m}x{config.block_n}x{config.block_k}{strip}"


def _dry_run(work: list[tuning.Task], device: Device, top: int | None) -> None:
    from torchops.kernels.planning.conv2d import ranking

    jobs = [(task, config) for task in work for config in ranking(task.problem, device)[:top]]
    found = {}
    with bar() as progress:
        compiling = progress.add_task(f"compiling for {device.name}", total=len(jobs))
        for number, result in tuning.compile_all(jobs, device):
            found[number] = result
            progress.advance(compiling)
    for task in work:
        rows = [(config, found[n]) for n, (other, config) in enumerate(jobs) if other is task]
        console.print(_ranking(task, device, rows))
    say(f"{len(jobs)} configs of {len(work)} problems compiled; nothing was run")


def _ranking(task: tuning.Task, device: Device, rows: list[tuple[Config, LaunchReport | str]]):  # type: ignore[no-untyped-def]
    shown = table(
        f"{task.call.name}, {task.problem.kind}, {device.name} ({device.arch})",
        caption="ranked as the model does before it compiles; times are modelled, not measured",
    )
    headings = ("tile", "warps", "stages", "taps", "splits", "registers", "spills", "shared", "loop", "us", "bound")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in ("tile", "bound") else "right", no_wrap=True)
    for c, r in rows:
        cells: list[str | Text] = [_tile(c), str(c.num_warps), str(c.num_stages), str(c.taps), str(c.splits)]
        if isinstance(r, str):
            shown.add_row(*cells, *["-"] * 5, Text(one_line(re.split("[:(]", r)[0]), "red"))
            continue
        spills = r.spills + r.stack_bytes
        cells += [str(r.registers), Text(str(r.spills), "red") if spills else "0", str(r.shared_bytes)]
        cells += [str(r.loop_instructions), f"{r.modelled_us:.1f}"]
        shown.add_row(*cells, Text.assemble(r.bound, (" spills" if spills else "", "red")))
    return shown


def _write(journal: Path, task: tuning.Task, trials: list[tuning.Trial], device: Device) -> None:
    from torchops.kernels.planning.conv2d import modelled_us

    with journal.open("a") as file:
        for t in trials:
            row = {
                "call": task.call.name, "config": asdict(t.config), "us": t.us, "dropped": t.dropped,
                "modelled_us": round(modelled_us(task.problem, t.config, device), 2),
            }  # fmt: skip
            if t.dropped.startswith("wrong"):
                row["wrong"] = f"{t.config}: {t.dropped}"
            file.write(f"{json.dumps(row)}\n")


def _tune(
    work: list[tuning.Task], device: Device, top: int, again: bool, into_source: bool, journal: Path | None
) -> None:
    from torchops.kernels.planning.conv2d import key, ranking
    from torchops.kernels.planning.tables import PACKAGE, user_folder

    kept = tuning.Table(PACKAGE if into_source else user_folder(), device)
    known = set() if again else kept.measured()
    new = [task for task in work if key(task.problem) not in known]
    # all cores compile before anything is timed
    jobs = [(task, config) for task in new for config in ranking(task.problem, device)[:top]]
    launches = (launch for task, config in jobs for launch in tuning.launches_with(task, config, device))
    compile_ahead(precompile.kernels_of(launches))
    shown = table(f"measured on {device.name}", caption=f"the table: {printable(kept.file)}")
    for heading in ("call", "tile", "warps", "stages", "taps", "splits", "us", "second", "dropped"):
        shown.add_column(heading, justify="left" if heading in ("call", "tile") else "right")
    failed = 0
    with tuning.MeasuredApart() as measured, bar() as progress:
        timing = progress.add_task("timing", total=len(work))
        for task, trials in tuning.tune(work, kept, top=top, again=again, measured=measured):
            progress.update(timing, advance=1, description=task.call.name)
            if trials is None:
                continue
            if journal is not None:
                _write(journal, task, trials, device)
            dropped = [t for t in trials if t.us is None]
            for t in dropped:
                say(f"{task.call.name}: {t.config} is dropped: {one_line(t.dropped)}")
            if len(dropped) == len(trials):
                failed += 1
                continue
            best, times = trials[0].config, [t.us for t in trials if t.us is not None]
            second = f"{times[1] / times[0]:.2f}x" if len(times) > 1 else "-"
            sizes = (best.num_warps, best.num_stages, best.taps, best.splits)
            shown.add_row(
                task.call.name, _tile(best), *map(str, sizes), f"{times[0]:.1f}", second, str(len(dropped))
            )  # fmt: skip
    console.print(shown)
    if len(new) < len(work):
        say(f"{len(work) - len(new)} problems were measured before: --again measures them")
    if failed:
        fail(f"no config of {failed} problems ran and was right")
