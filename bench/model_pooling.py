"""`python -m bench.model_pooling`: what the model says of every pooling layer, compiled for GPUs that are not there.

Writes out/pooling_model.md. Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

import torchops
from torchops.files import replacing
from torchops.inspect import LaunchReport, record_launches, report
from torchops.kernels.planning.hardware import DEVICES, memory_us

from .pools import POOLS, PoolLayer

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


def _lines(arch: str) -> Iterator[str]:
    yield f"### {DEVICES[arch].name} ({arch}), modelled, bfloat16"
    yield ""
    yield (
        "| case | pass | format | launches | tile | registers, spills | loads | stores | MB moved | over the least | DRAM "
        "| issue | modelled us | floor us |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for layer in POOLS:
        for form, last in ((torch.channels_last, "channels_last"), (torch.contiguous_format, "nchw")):
            for name, found in zip(("forward", "backward"), reports(layer, arch, form), strict=True):
                yield _row(layer, name, last, found, arch)


def _row(layer: PoolLayer, name: str, form: str, found: list[LaunchReport], arch: str) -> str:
    first = found[0]
    tile = dict(part.split("=") for part in first.config.removeprefix("Config(").removesuffix(")").split(", "))
    down = f", down {tile['strip']}" if tile["strip"] != "0" else ""
    loads, stores = (", ".join(f"{n} x {bits}" for bits, n in w.items()) for w in (first.loads, first.stores))
    cells = (
        layer.name, name, form, len(found), f"{tile['rows']} x {tile['cols']}{down}",
        f"{first.registers}, {sum(r.spills for r in found)}", loads, stores,
        f"{first.bytes_moved / 1e6:.1f}", f"{first.traffic:.3f}",
        f"{first.times_us['DRAM']:.1f}", f"{first.times_us['issue']:.1f}",
        f"{sum(r.modelled_us for r in found):.1f}", f"{memory_us(first.bytes_least, DEVICES[arch]):.1f}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    out = Path("out")
    out.mkdir(exist_ok=True)
    with replacing(out / "pooling_model.md") as page:
        page.write_text("\n".join([*_lines("sm_90"), ""]))
    print(f"written: {out / 'pooling_model.md'}")


if __name__ == "__main__":
    main()
