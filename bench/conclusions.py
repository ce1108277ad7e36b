"""What a user should conclude of the figures, in a table and in sentences. What is not worth it stands first."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from torchops.workloads import CASES

from . import kept
from .lookup import Results, ratio, span, time
from .results_file import Duel


def _row(what: str, against: str, duel: Duel) -> tuple[float, list[str]]:
    return duel.ratio, [what, against, time(duel.ms[0] / 1e3), ratio(duel.ratio)]


def _layer(r: Results, gpu: str, case: str, name: str = "forward") -> dict[str, Any]:
    rows = r.modelled(gpu, "conv2d").records()
    return next(row for row in rows if (row["case"], row["pass"]) == (case, name))


def readme(r: Results) -> str:
    stem, resnet = "resnet.stem.forward", "resnet18.forward.channels_last.f32"
    rows = [
        _row("`conv2d` of 4 x 4 pixels, a call", "ATen", r.duel("call.conv2d.inference", "aten")),
        _row("erosion by 3 x 3 pixels", "`cv2.erode`", r.duel("erosion.forward.nchw.f32", "opencv")),
        _row("max pool of ResNet's stem, channels_last", "Inductor", r.duel(f"{stem}.channels_last.f32", "inductor")),
        _row("max pool of ResNet's stem, NCHW", "ATen", r.duel(f"{stem}.nchw.f32", "aten")),
        _row("Sobel, a 4K frame, uint8", "`cv2.Sobel`", r.duel("video4k.gray.u8", "opencv")),
        _row("Sobel, a 4K frame, float32", "kornia", r.duel("video4k.gray.f32", "kornia")),
        _row("ResNet-18 fused, channels_last", "torch.nn", r.duel(resnet, "aten", "2", "fused")),
    ]
    epoch = next(row for row in r.measured("epochs").rows if row[:2] == ["resnet18, photos", 1])
    seconds, lasts = float(epoch[2]), float(epoch[5])  # type: ignore[arg-type]
    rows.append((lasts, ["ResNet-18, an epoch of training", "a plain loop", time(seconds), ratio(lasts)]))
    networks = list(r.measured("compiled", "times").records())
    median = next(row for row in networks if row["network"] == "median")
    for other, against in (("Inductor", "Inductor alone"), ("eager", "eager")):
        share = median[f"this + Inductor / {other}"]
        rows.append((share, [f"{len(networks) - 1} networks compiled, the median", against, "-", ratio(share)]))
    measured = [[*cells, "measured"] for _, cells in sorted(rows, key=lambda one: -one[0])]
    layer = _layer(r, "H100", "body")
    over, us = ratio(layer["modelled"] / layer["floor"]), f"{layer['modelled']:.1f} us"
    _, _, theirs, again, _ = r.modelled("H100", "model-errors", "cudnn").texts()[0]
    beside = span([float(again) / float(one) for one in theirs.split(" to ")])
    modelled = [
        ["3 x 3 taps, 64 channels, bfloat16, H100", "the hardware's least", us, over, "modelled"],
        ["the same, H100 PCIe at 1,395 MHz", "cuDNN, by others", f"{again} us", beside, "modelled"],
    ]
    return kept.markdown(("what", "against", "torchops", "ratio", "how"), measured + modelled)


def conclusions(r: Results) -> str:
    lines = (*_not_worth_it(r), *_worth_it(r), _on_a_gpu(r))
    return "\n".join(fill(f"- {line}", 128, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def _ratios(duels: Sequence[Duel], family: str, other: str) -> list[float]:
    return [d.ratio for d in duels if (d.ours.family, d.other.provider) == (family, other)]


def _not_worth_it(r: Results) -> list[str]:
    duels = r.run().duels
    networks = ("mobilenet_v3_small", "torchops.lenet")
    small = [r.duel(f"{name}.forward.channels_last.f32", "aten", "2").ratio for name in networks]
    erosion = [d for d in duels if d.ours.case.startswith("erosion") and d.ours.case.endswith(".forward.nchw.f32")]
    of_opencv = [d.ratio for d in erosion if d.other.provider == "opencv"]
    pool = r.duel("resnet.stem.forward.channels_last.f32", "inductor")
    epochs = [float(row[5]) for row in r.measured("epochs").rows]  # type: ignore[arg-type]
    single = _ratios(duels, "convolutions", "aten")
    return [
        f"**Not worth it on a CPU: many small calls.** A call of microseconds takes {span(_ratios(duels, 'calls', 'aten'))} of "
        f"ATen's time; MobileNetV3 and LeNet, converted, take {span(small)} of the original's.",
        f"**Not worth it: erosion, where OpenCV is at hand.** It takes {span(of_opencv)} of `cv2.erode`'s time.",
        f"**Not worth it: pools in channels_last under Inductor.** ResNet's takes {ratio(pool.ratio)} of Inductor's time.",
        f"**Not worth it: faster training.** An epoch of `torchops train` takes {span(epochs)} of a plain loop's.",
        f"**No difference: single convolutions.** They take {span(single)} of ATen's time, the median is "
        f"{ratio(statistics.median(single))}.",
    ]


def _worth_it(r: Results) -> list[str]:
    duels = r.run().duels
    fused = [d.ratio for d in duels if d.ours.provider == "fused" and d.ours.case.startswith("resnet")]
    elsewhere = r.measured("networks").records()
    fused += [row["fused, forward"] for row in elsewhere if row["model"].startswith("resnet")]
    median = next(row for row in r.measured("compiled", "times").records() if row["network"] == "median")
    pools = [r.duel(f"{case}.forward.nchw.f32", "aten").ratio for case in ("resnet.stem", "googlenet.pool3")]
    return [
        f"**Worth it: inference of ResNets and their like.** Fused, a ResNet takes {span(fused)} of the original's time on two "
        f"machines. With `torch.compile`, this backend and Inductor take {ratio(median['this + Inductor / Inductor'])} of the "
        f"time of Inductor alone and {ratio(median['this + Inductor / eager'])} of eager's (medians of networks).",
        f"**Worth it: max pools that overlap, in NCHW.** They take {span(pools)} of ATen's time.",
        f"**Worth it: Sobel.** It takes {span(_ratios(duels, 'Sobel', 'kornia'))} of kornia's time and "
        f"{span(_ratios(duels, 'Sobel', 'opencv'))} of OpenCV's.",
    ]


def _on_a_gpu(r: Results) -> str:
    known = {case.name for case in CASES}
    layers = [
        row for row in r.modelled("H100", "conv2d").records() if row["pass"] == "forward" and row["case"] in known
    ]
    over = [row["modelled"] / row["floor"] for row in layers]
    errors = [row[4] for row in r.modelled("H100", "model-errors").texts()]
    worst = max((e for e in errors if "," not in e), key=lambda e: abs(float(e.rstrip("%"))))
    cudnn = r.modelled("H100", "model-errors", "cudnn").texts()[0]
    return (
        f"**On a GPU nothing is measured.** The model puts the forward pass of {len(layers)} named layers at {span(over)} of "
        f"the least possible on an H100. Of times that others published it is off by {worst} at worst, but for a kernel whose "
        f"published times differ by a factor of two ({errors[-1]}). For a layer that cuDNN does in {cudnn[2]} us it says "
        f"{cudnn[3]}: expect parity."
    )


def compiled_summary(r: Results) -> str:
    table = r.measured("compiled", "times")
    networks = [row for row in table.records() if row["network"] != "median"]
    beside = [row["this + Inductor / Inductor"] for row in networks]
    median = next(row for row in table.records() if row["network"] == "median")
    alone, compiling = [row["this alone / Inductor"] for row in networks], median["compiling / Inductor"]
    return (
        f"With Inductor this backend takes {span(beside)} of the time of Inductor alone in {len(networks)} networks on a CPU "
        f"(median {ratio(median['this + Inductor / Inductor'])}), and {ratio(median['this + Inductor / eager'])} of eager's. "
        f"Without Inductor it takes {span(alone)} of Inductor's time. Compiling takes {ratio(compiling)} of Inductor's CPU "
        "seconds."
    )
