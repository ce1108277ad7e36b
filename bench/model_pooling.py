"""`python -m bench.model_pooling`: what the model says of every pooling layer, compiled for GPUs that are not there.

Writes bench/results/modelled-H100/pooling.json. Nothing here is measured.
"""

from __future__ import annotations

import torch

import torchops
from torchops.inspect import LaunchReport, record_launches, report
from torchops.kernels.planning.hardware import DEVICES, GPUS, memory_us

from . import arguments, kept
from .model import METHOD, title
from .pools import POOLS, PoolLayer

COLUMNS = (
    *(kept.Column(name) for name in ("case", "pass", "format")),
    kept.Column("launches", form="d"),
    kept.Column("tile"),
    kept.Column("registers", form="d"),
    kept.Column("spills", form="d"),
    kept.Column("loads"),
    kept.Column("stores"),
    kept.Column("moved", "MB", ".1f"),
    kept.Column("over the least", "x", ".3f"),
    *(kept.Column(name, "us", ".1f") for name in ("DRAM", "issue", "modelled", "floor")),
)
NOTE = (
    "A tile is rows x columns of the output; a column is a pixel's channel where the format is channels_last. Loads and stores "
    "are those of a thread, in bits. What is moved counts what neighbouring tiles both read for each; the least is every "
    "element once."
)
KINDS = {"none": None, "position": torch.int64, "offset": torch.uint8}


def reports(layer: PoolLayer, arch: str, form: torch.memory_format) -> tuple[list[LaunchReport], list[LaunchReport]]:
    """Of the forward and of the backward, in bfloat16."""
    function = getattr(torchops, layer.op)
    shape = layer.window_shape if layer.unpools else layer.image_shape
    inputs = [torch.empty(shape, dtype=torch.bfloat16, memory_format=form)]
    kwargs: dict[str, object] = {}
    if "unpool" in layer.op:
        kwargs["output_size"] = layer.image_shape[2:]
    if layer.op == "max_unpool2d":
        inputs.append(torch.empty_like(inputs[0], dtype=KINDS[layer.indices]))
    elif layer.indices != "none":
        kwargs["return_indices"] = True if layer.indices == "position" else layer.indices
    device = DEVICES[arch]

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        y = function(*tensors, *layer.arguments, **kwargs)
        return y if isinstance(y, torch.Tensor) else y[0]

    with torch.no_grad():
        forward = record_launches(call, tuple(inputs), device, backward=False)
    both = record_launches(call, tuple(inputs), device)
    return [report(launch) for launch in forward], [report(launch) for launch in both[-len(both) // 2 :]]


def table(arch: str) -> kept.Table:
    """Every layer, in both formats, forward and backward."""
    rows = [
        _row(layer, name, last, found, arch)
        for layer in POOLS
        for form, last in ((torch.channels_last, "channels_last"), (torch.contiguous_format, "nchw"))
        for name, found in zip(("forward", "backward"), reports(layer, arch, form), strict=True)
    ]
    return kept.Table("pooling", f"Pools on {DEVICES[arch].name} ({arch}), bfloat16", COLUMNS, rows, NOTE)


def _row(layer: PoolLayer, name: str, form: str, found: list[LaunchReport], arch: str) -> list[kept.Cell]:
    first = found[0]
    tile = dict(part.split("=") for part in first.config.removeprefix("Config(").removesuffix(")").split(", "))
    down = f", down {tile['strip']}" if tile["strip"] != "0" else ""
    loads, stores = (", ".join(f"{n} x {bits}" for bits, n in w.items()) for w in (first.loads, first.stores))
    return [
        layer.name, name, form, len(found), f"{tile['rows']} x {tile['cols']}{down}", first.registers,
        sum(r.spills for r in found), loads, stores, first.bytes_moved / 1e6, first.traffic, first.times_us["DRAM"],
        first.times_us["issue"], sum(r.modelled_us for r in found), memory_us(first.bytes_least, DEVICES[arch]),
    ]  # fmt: skip


def main() -> None:
    arguments.none("python -m bench.model_pooling", "Pools on an H100 that is not there.")
    told = kept.about("modelled", "python -m bench.model_pooling", METHOD, threads="none", machine=title(GPUS["H100"]))
    file = kept.RESULTS / "modelled-H100" / "pooling.json"
    kept.write(file, told, [table("sm_90")])
    print(f"written: {file}")


if __name__ == "__main__":
    main()
