"""`python -m bench.model`: what the model says of every convolution layer, compiled for GPUs that are not there.

Writes bench/results/modelled-<GPU>/conv2d.json of four GPUs, and assets/conv2d_model.png. With --write-configs it writes what
the model picks into the tables that the launchers read, kernels/configs/<GPU>.json, instead. Nothing here is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from torchops import kernels
from torchops.files import replacing
from torchops.files.plots import paint, save_drawing, style
from torchops.inspect import LaunchReport, record_launches, report
from torchops.kernels.launch import Launch
from torchops.kernels.planning.compilers import PINNED
from torchops.kernels.planning.conv2d import model_config, row
from torchops.kernels.planning.hardware import GPUS, Device, matrix_us, memory_us
from torchops.workloads import CASES, LAYERS, ConvLayer

from . import charts, kept
from .drawing import content

PASSES = ("forward", "input_grad", "weight_grad")
TABLES = {name: GPUS[name] for name in ("A100", "H100", "H200")}
PICTURE = Path(__file__).parent.parent / "assets" / "conv2d_model.png"
BOUNDS = ("DRAM", "L2", "tensor", "issue")
COLUMNS = (
    *(kept.Column(name) for name in ("case", "pass", "kernel", "tile")),
    *(kept.Column(name, form="d") for name in ("taps", "splits", "registers", "spills")),
    kept.Column("loop", "instructions", "d"),
    *(kept.Column(name, "us", ".1f") for name in BOUNDS),
    kept.Column("bound"),
    kept.Column("busy", "%", ".0f"),
    kept.Column("modelled", "us", ".1f"),
    kept.Column("floor", "us", ".1f"),
)
METHOD = (
    "every layer is planned through the real launchers, what they launch is compiled, and kernels/planning/model.py makes a "
    "time of what the machine code holds; the GPU is not there"
)


def launches(layer: ConvLayer, device: Device, dtype: torch.dtype = torch.bfloat16) -> dict[str, list[Launch]]:
    """The launches of each pass of a channels_last layer without a bias."""

    x, w = (
        torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        for shape in (layer.input_shape, layer.weight_shape)
    )
    found: dict[str, list[Launch]] = {name: [] for name in PASSES}
    forward = record_launches(layer, (x, w), device, backward=False)
    backward = record_launches(layer, (x, w), device)[len(forward) :]
    found["forward"] = forward
    of_weight = next(i for i, launch in enumerate(backward) if "weight_grad" in launch.name)
    found["input_grad"], found["weight_grad"] = backward[:of_weight], backward[of_weight:]
    return found


def floor_us(layer: ConvLayer, device: Device, itemsize: int = 2) -> float:
    """What nothing can be faster than: every multiply-add on the matrix units, every element moved once."""
    return max(matrix_us(layer.flops, device, itemsize, False), memory_us(layer.elements * itemsize, device))


def title(device: Device) -> str:
    """A GPU that is not there."""
    return f"{device.name} ({device.arch}), which is not there"


def _rows(device: Device) -> Iterator[tuple[ConvLayer, str, list[LaunchReport]]]:
    for layer in CASES + LAYERS:
        for name, found in launches(layer, device).items():
            yield layer, name, [report(launch) for launch in found]


def _table(device: Device, rows: list[tuple[ConvLayer, str, list[LaunchReport]]]) -> kept.Table:
    made: list[list[kept.Cell]] = []
    for layer, name, reports in rows:
        first = max(reports, key=lambda r: r.modelled_us)
        config = dict(part.split("=") for part in first.config.removeprefix("Config(").removesuffix(")").split(", "))
        made.append(
            [
                layer.name,
                name,
                first.kernel.removeprefix("conv2d_").removesuffix("_kernel"),
                "x".join(config[f"block_{axis}"] for axis in "mnk"),
                int(config["taps"]),
                int(config["splits"]),
                first.registers,
                sum(r.spills for r in reports),
                first.loop_instructions,
                *(first.times_us[bound] for bound in BOUNDS),
                first.bound,
                100 * first.utilization,
                sum(r.modelled_us for r in reports),
                floor_us(layer, device),
            ]
        )
    title = f"Convolutions on {device.name} ({device.arch}), bfloat16, channels_last"
    return kept.Table("conv2d", title, COLUMNS, made)


@style()
def _plot(rows: list[tuple[ConvLayer, str, list[LaunchReport]]], path: Path) -> Path:
    """For each case of the goals and each pass on an H100, the modelled time over the floor, and what bounds it."""
    found = []
    for layer, name, reports in (r for r in rows if r[0] in CASES):
        first = max(reports, key=lambda r: r.modelled_us)
        us = sum(r.modelled_us for r in reports)
        found.append(charts.Modelled(layer, name, us, floor_us(layer, GPUS["H100"]), first.bound))
    drawn = charts.over_floor(found, "H100")
    return save_drawing(paint(drawn), content(drawn), path)


def draw(path: Path) -> Path:
    """The picture of the modelled times alone."""
    h100 = GPUS["H100"]
    found = {layer: launches(layer, h100) for layer in CASES}
    rows = [
        (layer, name, [report(one) for one in of]) for layer, passes in found.items() for name, of in passes.items()
    ]
    return _plot(rows, path)


def configs(device: Device) -> dict[str, object]:
    """A table: what the model picks, with the pinned Triton, for every launch of every layer that has a choice."""
    rows = {}
    for layer in CASES + LAYERS:
        for name, found in launches(layer, device).items():
            for launch in found:
                if launch.problem is not None:
                    case = f"{layer.name}.{name}"
                    new = row(launch.problem, model_config(launch.problem, device, PINNED), "model", case)
                    rows.setdefault(json.dumps(new["problem"]), new)
    return {"gpu": device.name, "sms": device.sms, "rows": list(rows.values())}


def _write_configs() -> None:
    folder = Path(next(iter(kernels.__path__))) / "configs"
    folder.mkdir(exist_ok=True)
    for name, device in TABLES.items():
        found = configs(device)
        if (folder / f"{name}.json").exists():
            old = json.loads((folder / f"{name}.json").read_text())["rows"]
            found["rows"] += [r for r in old if r["source"] == "measured"]  # type: ignore[operator]
        lines = ",\n".join(json.dumps(line) for line in found.pop("rows"))  # type: ignore[attr-defined]
        head = json.dumps(found).removesuffix("}")
        with replacing(folder / f"{name}.json") as file:
            file.write_text(f'{head}, "rows": [\n{lines}\n]}}\n')
        print(f"written: {folder / name}.json")


def main(arguments: list[str]) -> int:
    if arguments == ["--write-configs"]:
        _write_configs()
        return 0
    if arguments:
        print(f"unknown arguments {arguments}; known: --write-configs")
        return 2
    for name in ("H100", "H200", "A100", "B200"):
        rows = list(_rows(GPUS[name]))
        told = kept.about("modelled", "python -m bench.model", METHOD, threads="none", machine=title(GPUS[name]))
        file = kept.RESULTS / f"modelled-{name}" / "conv2d.json"
        kept.write(file, told, [_table(GPUS[name], rows)])
        print(f"written: {file}", flush=True)
        if name == "H100":
            print(f"written: {_plot(rows, PICTURE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
