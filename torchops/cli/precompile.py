"""Kernels compiled ahead from the shell: for a model, a list of calls or the cases of the benchmarks; packed and unpacked."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from torchops import precompile, recording
from torchops.precompile import archives

from .console import app, bar, console, one_line, one_line_errors, say
from .ops import ModelInput, parse_floating, parse_sizes

if TYPE_CHECKING:
    from torchops.kernels.planning.hardware import Device
    from torchops.precompile import Kernel


@app.command("precompile")
def precompile_command(
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="The GPU to compile for, as sm_90, or H200, whose block sizes may differ. May be repeated; sm_90 by default."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Compile all kernels of a model, as torchvision:resnet50 or timm:resnet18d; its weights are not loaded.",
        ),
    ] = None,
    input: ModelInput = "8x3x224x224",
    dtype: Annotated[
        str, typer.Option(help="The kind of numbers of the model: float16, bfloat16, float32 or float64.")
    ] = "bfloat16",
    channels_last: Annotated[
        bool, typer.Option("--channels-last/--nchw", help="How the model's tensors lie in memory.")
    ] = True,
    tf32: Annotated[
        bool,
        typer.Option("--tf32/--no-tf32", help="Whether float32 is multiplied as TF32, which is faster and less exact."),
    ] = True,
    train: Annotated[bool, typer.Option("--train", help="Compile the computation of gradients, too.")] = False,
    fuse: Annotated[
        bool, typer.Option("--fuse", help="Compile the model as torchops.fuse makes it, for inference.")
    ] = False,
    calls: Annotated[
        list[Path] | None,
        typer.Option(help="Compile the calls in a file that torchops.recording.write_calls wrote; may be repeated."),
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option(
            help="Compile what the GPU check runs, in a checkout of torchops: smoke, telling, tune, tests or bench. May be "
            "repeated."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="The folder for kernels, to be named in TRITON_CACHE_DIR later; Triton's own by default."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="How many processes compile; as many as cores by default.", min=1)
    ] = None,
    unpack: Annotated[Path | None, typer.Option(help="Before that, unpack this archive into the folder.")] = None,
    pack: Annotated[Path | None, typer.Option(help="In the end, pack the folder into this archive, an .xz.")] = None,
) -> None:
    """Compile kernels for a GPU that need not be there, so that nothing is compiled when they are first launched.

    They are found again by the same Triton with the same torchops, in any folder. Exit code 1 if a kernel does not compile.
    """
    with one_line_errors("stopped; what was compiled is kept"):
        from torchops.kernels.planning.hardware import find

        devices = [find(gpu) for gpu in arch or ["sm_90"]]
        kind = parse_floating(dtype)
        if train and fuse:
            raise ValueError("--fuse is for inference, and excludes --train")
        work = [call for file in calls or () for call in recording.read_calls(file)]
        if name is not None:
            shape = parse_sizes("--input", "NxCxHxW", input)
            assert shape is not None
            work += recording.model_calls(name, shape, kind, channels_last=channels_last, backward=train, fused=fuse)
        if not (work or cases or pack or unpack):
            raise ValueError("nothing to do: give --model, --calls, --cases, --unpack or --pack")
        folder = _folder(cache)
        if unpack is not None:
            _unpack(unpack, folder, {device.arch for device in devices} if arch else None)
        failed = False
        if work or cases:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
                failed = _compile(work, cases or [], devices, folder, processes)
        if pack is not None:
            packed = archives.pack(folder, pack, {device.arch for device in devices} if arch else None)
            megabytes = pack.stat().st_size / 1e6
            say(f"{pack}: {_held(packed)}, {megabytes:.1f} MB")
    if failed:
        raise typer.Exit(1)


def _folder(cache: Path | None) -> Path:
    from triton import knobs

    return (cache or Path(os.environ.get("TRITON_CACHE_DIR") or knobs.cache.dir)).absolute()


def _held(manifest: archives.Manifest) -> str:
    kernels = ", ".join(f"{count} kernels for {arch}" for arch, count in manifest.archs.items())
    return f"{kernels}, {manifest.launchers} launchers, triton {manifest.triton}"


def _unpack(file: Path, folder: Path, archs: set[str] | None) -> None:
    if archs is None and torch.cuda.is_available() and not torch.version.hip:
        major, minor = torch.cuda.get_device_capability()
        archs = {f"sm_{major}{minor}"}
    manifest = archives.unpack(file, folder, archs or ())
    say(f"{file}: {_held(manifest)}")


def _kernels(work: list[recording.Call], cases: list[str], devices: list[Device]) -> list[Kernel]:
    """All that is asked for, each once."""
    known = _cases() if cases else {}
    for name in cases:
        if name not in known:
            raise ValueError(f"--cases must be one of {', '.join(known)}, got {name!r}")
    found: dict[Kernel, None] = {}
    for device in devices:
        found |= dict.fromkeys(precompile.kernels_of(precompile.launches_of(work, device)))
        for name in cases:
            found |= dict.fromkeys(known[name](device))
    return list(found)


def _cases() -> dict[str, Callable[[Device], Iterable[Kernel]]]:
    try:
        return importlib.import_module("bench.launches").CASES
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("bench"):
            raise
        raise ValueError("--cases are in the checkout of torchops, not in the package: run it there") from None


def compile_ahead(
    kernels: list[Kernel], cache: Path | None = None, processes: int | None = None
) -> list[precompile.Outcome]:
    """Compile what is missing in a cache, with a bar, and name what fails."""
    outcomes = []
    with bar() as progress:
        task = progress.add_task("compiling", total=len(kernels))
        for outcome in precompile.compile_all(kernels, cache, processes=processes):
            outcomes.append(outcome)
            progress.advance(task)
            if outcome.error:
                say(f"{outcome.kernel.name}, {outcome.kernel.arch}: {one_line(outcome.error)}")
    return outcomes


def _compile(
    work: list[recording.Call], cases: list[str], devices: list[Device], folder: Path, processes: int | None
) -> bool:
    """Compile what is asked for and missing, and say so; whether something failed."""
    began = time.monotonic()
    with console.status("recording launches"):
        kernels = _kernels(work, cases, devices)
    recorded = time.monotonic() - began
    outcomes = compile_ahead(kernels, folder, processes)
    failed = sum(bool(o.error) for o in outcomes)
    found = sum(o.found for o in outcomes)
    say(
        f"{len(outcomes)} kernels: {len(outcomes) - found - failed} compiled, {found} found, {failed} failed; "
        f"{recorded:.0f} s to record launches, {time.monotonic() - began - recorded:.0f} s to compile; in {folder}"
    )
    return failed > 0
