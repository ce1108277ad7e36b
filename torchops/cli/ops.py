"""The operators from the shell: edges of an image file, a check of this machine, a look into the kernels."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text

import torchops
from torchops import catalog, inspect
from torchops.files.images import (
    BACKGROUNDS,
    FORMATS,
    MAX_PIXELS,
    ImageError,
    check_target,
    read_image,
    stretched,
    write_image,
)
from torchops.inspect import check, ptxas
from torchops.recording import Spec

from .console import app, choices, console, fail, say, table
from .options import BackendOption

PaddingMode = choices("PaddingMode", torchops.functional.PADDING_MODES)
Background = choices("Background", BACKGROUNDS)
OpName = choices("OpName", tuple(catalog.OPS))


@app.command()
def sobel(
    input: Annotated[
        Path, typer.Argument(metavar="IN", help=f"An image: {', '.join(FORMATS)}. Of several frames, the first.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="The suffix decides the format. Replaced if it exists.")
    ],
    gray: Annotated[
        bool, typer.Option("--gray", help="One channel of luminance instead of colour by channel.")
    ] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Edges as they are computed, filters divided by 8: nearly black for most photos."),
    ] = False,
    gain: Annotated[
        float | None, typer.Option(help="Brighten the edges so many times, instead of as much as the picture needs.")
    ] = None,
    padding_mode: Annotated[PaddingMode, typer.Option(help="What lies beyond the border.")] = PaddingMode["replicate"],  # type: ignore[valid-type]
    padding_value: Annotated[float, typer.Option(help="From 0 (black) to 1 (white), for constant.")] = 0.0,
    background: Annotated[Background, typer.Option(help="What shows where the image is transparent.")] = Background[  # type: ignore[valid-type]
        "white"
    ],
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse images of more pixels, width times height.")
    ] = MAX_PIXELS,
    backend: BackendOption = None,
) -> None:
    """Draw the edges of an image: the magnitude of its Sobel gradients.

    They are brightened until the strongest hundredth is white, unless --raw or --gain says otherwise.
    """
    try:
        if gain is not None and raw:
            raise ValueError("--raw leaves edges as they are computed, and --gain brightens them: give one of the two")
        if gain is not None and not 0 < gain < math.inf:
            raise ValueError(f"`gain` (={gain:g}) must be positive and finite")
        if not math.isfinite(padding_value):
            raise ValueError(f"--padding-value must be finite, got {padding_value}")
        if padding_value and padding_mode.value != "constant":  # type: ignore[attr-defined]
            raise ValueError(
                f"`padding_value` (={padding_value:g}) needs `padding_mode` 'constant', got '{padding_mode.value}'"  # type: ignore[attr-defined]
            )
        check_target(output)
        picture = read_image(input, gray=gray, background=background.value, max_pixels=max_pixels)  # type: ignore[attr-defined]
        name = backend.value if backend else torchops.get_backend()  # type: ignore[attr-defined]
        device = "cuda" if torch.cuda.is_available() and name != "aten" else "cpu"
        with torchops.use_backend(name):
            # pixels keep their scale, so eps takes it on: the result is that of an image from 0 to 1, times white;
            # where edges are brightened, a plain surface is to stay black
            edges = torchops.sobel(
                picture.pixels.to(device),
                eps=1e-6 * picture.white**2 if raw else 0.0,
                padding_mode=padding_mode.value,  # type: ignore[attr-defined]
                padding_value=padding_value * picture.white,
            ).cpu()
        if raw:
            how = "edges as they are computed"
        elif gain is not None:
            edges, how = edges * gain, f"edges {gain:g} times as bright"
        else:
            edges, factor = stretched(edges, picture.white)
            bright = f"edges {factor:.3g} times as bright, which makes the strongest hundredth white"
            how = bright if edges.any() else "no edges: all of it is black"
        bits = write_image(output, edges, picture.white)
    except (ImageError, OSError, ValueError, RuntimeError, MemoryError) as error:
        fail(error)
    channels, height, width = edges.shape
    kind = f"{width} x {height}, {'gray' if channels == 1 else 'colour'}, {bits} bits a channel"
    first = f"; the first of {picture.frames} frames" if picture.frames > 1 else ""
    say(f"{output}: {kind}; {how}{first}")


@app.command("check")
def check_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON.")] = False,
) -> None:
    """Compare every op, dtype and backend with float64 on this machine; exit code 1 if one fails.

    A ptxas that drops constants is a warning, with what to do about it.
    """
    rows, verdicts = check.check_all(), ptxas.here()
    if as_json:
        found = {"machine": check.machine(), "ptxas": list(map(vars, verdicts)), "rows": list(map(vars, rows))}
        console.print_json(json.dumps(found))
    else:
        print_check(rows, verdicts)
    if any(row.verdict.startswith("FAILED") for row in rows):
        raise typer.Exit(1)


def print_check(rows: list[check.Row], verdicts: Sequence[ptxas.Verdict] = ()) -> None:
    for name, value in check.machine().items():
        say(f"{name:>9}  {value}")
    if verdicts:
        say(f"    ptxas  {'; '.join(map(str, verdicts))}")
    notes = {row.verdict for row in rows if row.verdict.startswith("not run")}
    shown = table("torchops check", caption="\n".join(("errors: the largest, relative to float64", *sorted(notes))))
    for heading in ("op", "dtype", "backend"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("error", "gradient", "allowed"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold")
    for row in rows:
        error, grad = ("-" if e is None else f"{e:.1e}" for e in (row.error, row.grad_error))
        colour = {"ok": "green"}.get(row.verdict, "red" if row.verdict.startswith("FAILED") else "yellow")
        verdict = Text("not run" if row.verdict in notes else row.verdict, colour)
        shown.add_row(row.op, row.dtype, row.backend, error, grad, f"{row.tolerance:.0e}", verdict)
    console.print(shown)
    _print_warning(ptxas.warning(verdicts))


def _print_warning(lines: list[str]) -> None:
    if lines:
        console.print(Text.assemble(("warning:", "yellow"), f" {lines[0]}"))
    for line in lines[1:]:
        # paths are not wrapped, so that they can be copied
        say(line)


_Op = Annotated[OpName, typer.Argument(metavar="OP", help="The op whose kernels to look into.")]  # type: ignore[valid-type]
_Arch = Annotated[
    str,
    typer.Option(
        help="The GPU: sm_80, sm_89, sm_90, sm_100, sm_120, gfx942, or its name, as H200; it need not be there."
    ),
]
_Dtype = Annotated[
    str, typer.Option(help="The kind of numbers of the input: float32, bfloat16, float16, float64 or uint8.")
]
_Shape = Annotated[str | None, typer.Option(help="The sizes of the input, N,C,H,W; those of a real load by default.")]
_Weight = Annotated[
    str | None,
    typer.Option(
        help="The sizes of the weight, K,C,R,S, with C of one group; C,K,R,S for conv_transpose2d. 3x3 by default."
    ),
]
_Last = Annotated[bool, typer.Option("--channels-last", help="Input and weight lie in memory channels last.")]
_Indices = Annotated[
    str | None, typer.Option(help="What the indices of max_unpool2d count: offset or position; offset by default.")
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A further argument of the op, as stride=2; may be repeated."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print rows as JSON.")]
ModelInput = Annotated[str, typer.Option(help="The sizes of the model's input, NxCxHxW.")]
_REFUSED = (ValueError, TypeError, OverflowError, RuntimeError, OSError, ModuleNotFoundError)


@app.command("explain")
def explain_command(
    op: _Op,
    arch: _Arch = "sm_90",
    dtype: _Dtype = "float32",
    shape: _Shape = None,
    weight: _Weight = None,
    channels_last: _Last = False,
    indices: _Indices = None,
    settings: _Settings = None,
    as_json: _AsJson = False,
) -> None:
    """Say which kernels and block sizes a call takes on a GPU that is not there, forward and backward; compile nothing."""
    try:
        passes = inspect.plan(
            op.value,  # type: ignore[attr-defined]
            arch,
            parse_dtype(dtype),
            parse_sizes("--shape", "N,C,H,W", shape),
            weight=parse_sizes("--weight", "K,C,R,S", weight),
            channels_last=channels_last,
            indices=indices,
            **_parse_settings(op.value, settings),  # type: ignore[attr-defined]
        )
    except _REFUSED as error:
        fail(error)
    launches = [(launch, inspect.model(launch)) for launch in (*passes[0], *passes[1])]
    total = inspect.Total(
        len(launches), sum(model.us for _, model in launches), sum(launch.cost.bytes_moved for launch, _ in launches)
    )
    if as_json:
        rows = [
            {
                "pass": launch.pass_name,
                "kernel": launch.name,
                "programs": launch.programs,
                "config": str(launch.config),
                "tensors": {name: Spec.of(t).as_dict() for name, t in launch.tensors.items()},
                "bytes_moved": launch.cost.bytes_moved,
                "modelled_us": model.us,
                "bound": model.bound,
                "times_us": model.times_us,
                "utilization": model.utilization,
            }
            for launch, model in launches
        ]
        console.print_json(json.dumps({"launches": rows, "total": vars(total)}))
        return
    first = launches[0][0]
    shown = table(
        f"{first.device.name} ({arch}): {_specs((name, Spec.of(t)) for name, t in first.tensors.items())}",
        caption="modelled before compilation; instructions are estimated for convolutions alone: torchops inspect counts them",
    )
    shown.add_column("pass", no_wrap=True)
    shown.add_column("kernel, block sizes", overflow="fold")
    for heading in ("programs", "MB", "us"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("bound", no_wrap=True)
    for launch, model in launches:
        kernel = f"{launch.name}\n{_short(str(launch.config))}"
        moved = f"{launch.cost.bytes_moved / 1e6:.1f}"
        shown.add_row(launch.pass_name, kernel, str(launch.programs), moved, f"{model.us:.1f}", model.bound)
    shown.add_section()
    shown.add_row("total", total.counted, "", f"{total.bytes_moved / 1e6:.1f}", f"{total.modelled_us:.1f}", "")
    console.print(shown)


@app.command("inspect")
def inspect_command(
    op: _Op,
    arch: _Arch = "sm_90",
    dtype: _Dtype = "float32",
    shape: _Shape = None,
    weight: _Weight = None,
    channels_last: _Last = False,
    indices: _Indices = None,
    settings: _Settings = None,
    as_json: _AsJson = False,
    dump: Annotated[
        Path | None, typer.Option(help="The folder to write what the compilers make: TTIR, TTGIR, PTX, SASS.")
    ] = None,
) -> None:
    """Compile an op's kernels for a GPU that is not there, through the real launcher, and report on each launch."""
    try:
        reports = inspect.inspect(
            op.value,  # type: ignore[attr-defined]
            arch,
            parse_dtype(dtype),
            parse_sizes("--shape", "N,C,H,W", shape),
            weight=parse_sizes("--weight", "K,C,R,S", weight),
            channels_last=channels_last,
            indices=indices,
            **_parse_settings(op.value, settings),  # type: ignore[attr-defined]
        )
        files = inspect.dump(reports, dump) if dump else []
    except _REFUSED as error:
        fail(error)
    if as_json:
        rows = [report.as_dict() for report in reports]
        console.print_json(json.dumps({"launches": rows, "total": vars(inspect.total(reports))}))
        return
    # so many launches can be read beside each other
    columns = max(1, (console.width - 24) // 28)
    for first in range(0, len(reports), columns):
        some = reports[first : first + columns]
        shown = table("" if first else f"{some[0].gpu} ({arch}), {dtype}")
        for heading in ("", *(report.kernel for report in some)):
            shown.add_column(heading)
        for name, value in _INSPECT_ROWS.items():
            shown.add_row(name, *(value(report) for report in some))
        console.print(shown)
    say(f"total: {inspect.total(reports)}")
    _print_warning(ptxas.hit(reports))
    for file in files:
        say(file)


def _short(config: str) -> str:
    return config.removeprefix("Config(").removesuffix(")")


def _specs(tensors: Iterable[tuple[str, Spec]], between: str = ", ") -> str:
    return between.join(f"{name} {spec}" for name, spec in tensors)


def _by_width(counts: dict[int, int]) -> str:
    return ", ".join(f"{count} x {bits} bit" for bits, count in counts.items()) or "none"


def _times(times_us: dict[str, float]) -> str:
    return ", ".join(f"{name} {us:.1f}" for name, us in times_us.items() if us > 0)


_INSPECT_ROWS = {
    "pass": lambda r: r.pass_name,
    "compiled for": lambda r: _specs(r.tensors.items(), "\n"),
    "grid": lambda r: f"{r.programs}",
    "config": lambda r: _short(r.config),
    "warps, stages": lambda r: f"{r.num_warps}, {r.num_stages}",
    "registers a thread": lambda r: f"{r.registers}",
    "spills, stack bytes": lambda r: f"{r.spills}, {r.stack_bytes}",
    "shared memory, bytes": lambda r: f"{r.shared_bytes}",
    "matrix instructions": lambda r: f"{r.matrix_instructions}",
    "constants dropped": lambda r: f"{r.dropped_constants}",
    "loads": lambda r: _by_width(r.loads),
    "stores": lambda r: _by_width(r.stores),
    "instructions, main loop": lambda r: f"{r.instructions}, {r.loop_instructions}",
    "MB moved, least": lambda r: f"{r.bytes_moved / 1e6:.1f}, {r.bytes_least / 1e6:.1f} ({r.traffic:.3f}x)",
    "modelled bounds": lambda r: f"{_times(r.times_us)} us",
    "modelled time": lambda r: f"{r.modelled_us:.1f} us, {r.utilization:.0%} of it bound by {r.bound}",
}


def parse_dtype(text: str) -> torch.dtype:
    dtype = getattr(torch, text, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"--dtype must name a dtype of torch, got {text!r}")
    return dtype


def parse_floating(text: str) -> torch.dtype:
    dtype = parse_dtype(text)
    if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(f"--dtype must be float16, bfloat16, float32 or float64, got {text!r}")
    return dtype


def parse_sizes(option: str, names: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        sizes = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 4 or min(sizes) < 1 or math.prod(sizes) >= 2**40:
        raise ValueError(f"{option} must be four positive numbers {names}, of less than 2^40 elements, got {text!r}")
    return sizes


def _parse_settings(op: str, settings: list[str] | None) -> dict[str, Any]:
    """Further arguments of an op by name: Python literals, and strings where they are none."""
    found: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"--set must be NAME=VALUE, got {setting!r}")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            found[name] = text
    inspect.check_further(op, found)
    return found
