"""`python -m bench.compiled [name ...]`: real networks by `torch.compile` with this backend, with Inductor alone, and fused.

    --stage graphs    errors, graphs and kernels left, where nobody compiles the rest: seconds a network
    --stage inductor  kernels and errors with Inductor, and what compiling takes: a minute a network
    --stage times     that, and one image on one thread, all ways interleaved
    --table           print the table of what is in the file; --picture draws it

What was found of a network before stays in the file until its stage is run again.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch._inductor.graph import GraphLowering
from torch._inductor.utils import fresh_cache
from torch.utils import _pytree as pytree

import torchops
import torchops.compile
from torchops.files.plots import paint, save_drawing, style
from torchops.measure.race import race, ratio
from torchops.measure.rivals import threads

from . import arguments, kept
from .charts import Left, kernels_left
from .drawing import content
from .networks import MORE, NETWORKS, OURS, in_torch_nn
from .provenance import commit

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "assets" / "compiled.png"
STAGES = ("graphs", "times", "inductor")
TIMED = (
    "resnet18", "efficientnet_lite0", "mobilenet_v3_small", "mobilenet_v2", "vgg11", "resnet50", "densenet121", "mnasnet0_5",
    "regnet_y_400mf", "smp.Unet",
)  # fmt: skip
"""The networks of the goals: at least as fast as Inductor alone, and as fused."""
SIZES = {"swin_t": 224}
BUILDS: dict[str, Callable[[], nn.Module]] = {**NETWORKS, **MORE, **{name: build for name, (build, *_) in OURS.items()}}
_WARM_UP = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()


def image(name: str) -> Tensor:
    """One image."""
    channels, size = (1, OURS[name][2]) if name in OURS else (3, SIZES.get(name, 160))
    return torch.rand((1, channels, size, size), generator=torch.Generator().manual_seed(2))


def tensors(result: Any) -> list[Tensor]:
    """All tensors of a result, whatever holds them."""
    if hasattr(result, "_asdict"):
        result = tuple(result)
    return [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]


def error(actual: Any, expected: Any) -> float:
    """The largest, of any tensor, relative to the largest value of that tensor. Shapes and dtypes are equal, or it is none."""
    pairs = list(zip(tensors(actual), tensors(expected), strict=True))
    assert all(a.shape == b.shape for a, b in pairs), "shapes differ"
    return max(float((a.double() - b.double()).abs().max() / b.double().abs().max()) for a, b in pairs)


@contextmanager
def counted_graphs() -> Iterator[list[int]]:
    """Start afresh; the list holds, at the end, how many graphs Dynamo captured."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found: list[int] = []
    yield found
    found.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def pair(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """The network, and what torch is asked to run: for one of ours that in layers of torch.nn."""
    model = BUILDS[name]().eval().to(dtype)
    return model, in_torch_nn(model) if name in OURS else model


#
# The stages.


@torch.no_grad()
def graphs(name: str) -> dict[str, Any]:
    """What becomes of a network, and how exact it stays, with nobody to compile the rest."""
    found: dict[str, Any] = {}
    x = image(name)
    model, theirs = pair(name)
    exact = theirs.double()(x.double())
    found["error64"] = _error_of(model.double(), x.double(), exact)
    # a fresh one: float32 numbers that were float64 are the same, but statistics that modules hold aside may not be
    model, theirs = pair(name)
    found["own_error32"] = error(theirs(x), exact)
    with counted_graphs() as count:
        torch.compile(theirs, backend="aot_eager")(x)
    found["aot_graphs"] = count[0]
    backend = torchops.compile.Backend(rest="eager")
    with counted_graphs() as count:
        found["error32"] = error(torch.compile(model, backend=backend)(x), exact)
    found["graphs"] = count[0]
    reports = backend.reports
    found["before"] = sum(r.before.total() for r in reports)
    found["after"] = sum(r.after.total() for r in reports)
    found["after_by_op"] = dict(sum((r.after for r in reports), start=type(reports[0].after)()))
    found["kept"] = {k: v for r in reports for k, v in r.kept.items()}
    found["fuse"] = found["fuse_kept"] = None
    try:
        fused, report = torchops.fuse(model)
    except Exception as problem:
        found["fuse_kept"] = f"{type(problem).__name__}: {problem}"[:200]
        return found
    if "" in report.kept:
        found["fuse_kept"] = report.kept[""]
    else:
        found["fuse"] = report.after.total()
        found["fuse_by_op"] = dict(report.after)
        # torch.fx leaves functions whole that a network asks it to, as torchvision's attention of windows
        whole = {f"{name}()": "a function that is not traced" for name in untraced(fused)}
        found["fuse_kept"] = "; ".join(f"{k}: {v}" for k, v in {**report.kept, **whole}.items())[:300] or None
    found["fuse_error32"] = error(fused(x), exact)
    return found


def untraced(fused: nn.Module) -> list[str]:
    """The functions that the graph of a fused network calls, and that are neither torch's nor ours nor Python's."""
    if not isinstance(fused, torch.fx.GraphModule):
        return []
    called = [node.target for node in fused.graph.nodes if node.op == "call_function"]
    known = {"torch", "torchops", "_operator", "builtins", "math"}
    return sorted({f.__name__ for f in called if (f.__module__ or "torch").partition(".")[0] not in known})


def _error_of(model: nn.Module, x: Tensor, expected: Any) -> float:
    torch._dynamo.reset()
    return error(torch.compile(model, backend=torchops.compile.Backend(rest="eager"))(x), expected)


def launches(codes: list[str]) -> dict[str, int]:
    """What Inductor's code calls: kernels that it wrote, and operators of others."""
    called = {"generated": 0, "extern": 0}
    for code in codes:
        body = re.split(r"\n    def call\(self, args\):|\ndef call\(args\):", code, maxsplit=1)[-1]
        body = re.split(r"\nrunner = |\ndef benchmark_compiled_module|\ndef get_args", body, maxsplit=1)[0]
        called["generated"] += len(re.findall(r"\b(?:cpp_fused|cpp_)\w*\(", body))
        called["extern"] += len(re.findall(r"\b(?:extern_kernels\.\w+|torch\.ops\.[\w.]+)\(", body))
    return called


@torch.no_grad()
def inductor(name: str) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """Kernels and errors with Inductor, and the seconds of the first call, which compiles, with empty caches, one file after
    another: on the clock, and of the CPU, the C++ compiler's with it.

    The order turns from network to network. The compiled networks are returned, too.
    """
    found: dict[str, Any] = {"first_call_s": {}, "first_call_cpu_s": {}, "launches": {}, "error32": {}}
    x = image(name)
    model, theirs = pair(name)
    exact = pair(name, torch.float64)[1](x.double())
    torch._dynamo.reset()
    ways: dict[str, tuple[Any, nn.Module]] = {
        "inductor": ("inductor", theirs),
        "ours": (torchops.compile.Backend(rest="inductor"), model),
    }
    turn = list(BUILDS).index(name) % len(ways)
    compiled: dict[str, nn.Module] = {}
    for way in [*ways][turn:] + [*ways][:turn]:
        backend, network = ways[way]
        codes: list[str] = []
        # a compiler that this process waits for has its seconds counted to it
        one_at_a_time = inductor_config.patch(compile_threads=1)
        with one_at_a_time, fresh_cache(), mock.patch.object(GraphLowering, "save_output_code", codes.append):
            # what is loaded, or compiled, once in a process or a folder is not the network's
            torch.compile(_WARM_UP, backend="inductor")(torch.rand(1, 3, 16, 16))
            codes.clear()
            gc.collect()
            compiled[way] = torch.compile(network, backend=backend)
            start, cpu = time.perf_counter(), sum(os.times()[:4])
            result = compiled[way](x)
            found["first_call_s"][way] = time.perf_counter() - start
            found["first_call_cpu_s"][way] = sum(os.times()[:4]) - cpu
        torch._dynamo.reset_code(_WARM_UP.forward.__code__)
        found["error32"][way] = error(result, exact)
        found["launches"][way] = launches(codes)
    return found, compiled


def cpu_seconds(function: Callable[[], Any], runs: int) -> float:
    """What so many runs take on one thread, without the time that others have the core."""
    start = time.process_time()
    for _ in range(runs):
        function()
    return time.process_time() - start


@torch.no_grad()
def timed(name: str, rounds: int) -> dict[str, Any]:
    """Medians of times, and of their ratios round by round; all ways check first that they compute the same."""
    of_inductor, ways = inductor(name)
    x = image(name)
    model, ways["eager"] = pair(name)
    expected = ways["eager"](x)
    ways["ours_eager"] = torch.compile(model, backend=torchops.compile.Backend(rest="eager"))
    try:
        ways["fuse"] = torchops.fuse(model)[0]
    except Exception:
        traceback.print_exc()
    for way, run in ways.items():
        off = error(run(x), expected)
        assert off <= 1e-4, f"{name}, {way}: off by {off:.1e}, not timed"
    contenders = {way: partial(run, x) for way, run in ways.items()}
    times = race(contenders, rounds=rounds, clock=cpu_seconds)
    ours = [way for way in ways if way.startswith("ours")]
    others = [way for way in ("inductor", "fuse", "eager") if way in ways]
    found = {
        "ms": {way: statistics.median(ts) * 1e3 for way, ts in times.items()},
        "ratios": {f"{way}/{other}": ratio(times, way, other) for way in ours for other in others},
        "rounds": rounds,
    }
    return {"inductor": of_inductor, "times": found}


#
# What is written.


METHOD = (
    "one image of 160 x 160 (224 x 224 for Swin), float32, on one thread; seconds of the CPU, medians of the ratios of the "
    "rounds, interleaved; compiling is the first call with empty caches, once each, the C++ compiler's seconds in it"
)
KERNELS = (
    kept.Column("network"), kept.Column("error, float64", form=".0e"), kept.Column("float32 (its own)"),
    kept.Column("with Inductor (Inductor's own)"), kept.Column("graphs", "count"),
    kept.Column("kernels, eager", "count", "d"), *(kept.Column(n) for n in ("fused", "this", "Inductor", "this + Inductor")),
)  # fmt: skip
TIMES = (
    kept.Column("network"), kept.Column("eager", "ms", ".1f"),
    *(kept.Column(f"{how} / {other}", "x", ".2f")
      for how in ("this + Inductor", "this alone") for other in ("Inductor", "fused", "eager")),
    kept.Column("compiling / Inductor", "x of CPU seconds", ".2f"),
)  # fmt: skip
_NOTE = (
    "Errors are the largest, relative to the largest value of a result, against eager float64; those of eager float32 are "
    "its own. Kernels of Inductor's code are those that it wrote and calls of others' operators. A star says that "
    "`torchops.fuse` kept modules or functions whole, each of which counts as one; `kept whole`, that it traced nothing."
)


def table(results: dict[str, Any]) -> kept.Table:
    """What becomes of each network."""
    rows: list[list[kept.Cell]] = []
    for name, row in results["networks"].items():
        g, i = row.get("graphs", {}), row.get("inductor", {})
        if "before" not in g:
            continue
        launched = [i["launches"][way] if "launches" in i else None for way in ("inductor", "ours")]
        errors = i.get("error32")
        rows.append(
            [
                name,
                g["error64"],
                f"{g['error32']:.0e} ({g['own_error32']:.0e})",
                f"{errors['ours']:.0e} ({errors['inductor']:.0e})" if errors else None,
                f"{g['graphs']}" + (f" ({g['aot_graphs']})" if g["aot_graphs"] != g["graphs"] else ""),
                g["before"],
                "kept whole" if g["fuse"] is None else f"{g['fuse']}{'*' if g['fuse_kept'] else ''}",
                str(g["after"]),
                *(None if n is None else f"{n['generated']} + {n['extern']}" for n in launched),
            ]
        )
    return kept.Table("kernels", "Errors, graphs and kernels of a forward pass", KERNELS, rows, _NOTE, True)


_PAIRS = tuple(f"{ours}/{other}" for ours in ("ours", "ours_eager") for other in ("inductor", "fuse", "eager"))


def table_of_times(results: dict[str, Any]) -> kept.Table:
    """The races; the medians at the end."""
    rows: list[list[kept.Cell]] = []
    for name, row in results["networks"].items():
        ratios, first = row.get("times", {}).get("ratios"), row.get("inductor", {}).get("first_call_cpu_s")
        if ratios or first:
            numbers = [(ratios or {}).get(key) for key in _PAIRS]
            compiling = first["ours"] / first["inductor"] if first else None
            rows.append([name, row["times"]["ms"]["eager"] if ratios else None, *numbers, compiling])
    if rows:
        columns = [[n for n in column if isinstance(n, float)] for column in list(zip(*rows, strict=True))[2:]]
        rows.append(["median", None, *(statistics.median(column) if column else None for column in columns)])
    return kept.Table("times", "One image: eager, and ratios of times; below 1 torchops is faster", TIMES, rows)


def draw(results: dict[str, Any], file: Path = PICTURE) -> None:
    """A line a network: what is left of its kernels, fused and compiled with this backend."""
    found = {name: row["graphs"] for name, row in results["networks"].items() if "before" in row.get("graphs", {})}
    left = {name: Left(row["before"], row["fuse"], bool(row["fuse_kept"]), row["after"]) for name, row in found.items()}
    with style():
        drawn = kernels_left(left)
        save_drawing(paint(drawn), content(drawn), file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compiled", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; all of them by default, with times those of the goals")
    parser.add_argument("--stage", choices=STAGES, action="append", help="which, again for more; all by default")
    parser.add_argument("--rounds", type=int, default=15, help="of the races")
    parser.add_argument("--file", type=Path, help="what is added to; compiled.json of this machine and day by default")
    parser.add_argument("--table", action="store_true", help="print what is in the file, and run nothing")
    parser.add_argument("--picture", action="store_true", help="draw what is in the file, and run nothing")
    asked = parser.parse_args()
    unknown = sorted({*asked.names} - {*BUILDS})
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(BUILDS)}")
    file = arguments.figures(parser, asked.file or kept.folder() / "compiled.json", asked.table or asked.picture)
    if asked.table or asked.picture:
        held = kept.read(file)
        if asked.table:
            print("\n\n".join(map(kept.printed, held.tables.values())))
        if asked.picture:
            draw(held.found)
            print(f"written: {PICTURE}")
        return
    warnings.filterwarnings("ignore")
    at = commit()
    with threads(1):
        for stage in asked.stage or STAGES:
            run: dict[str, Callable[[str], dict[str, Any]]] = {
                "graphs": lambda name: {"graphs": graphs(name)},
                "inductor": lambda name: {"inductor": inductor(name)[0]},
                "times": lambda name: timed(name, asked.rounds),
            }
            for name in asked.names or (TIMED if stage == "times" else BUILDS):
                if name not in BUILDS:
                    print(f"{name} is not installed")
                    continue
                start = time.perf_counter()
                try:
                    found = run[stage](name)
                except Exception as problem:
                    traceback.print_exc()
                    found = {stage: {"failed": f"{type(problem).__name__}: {problem}"[:1000]}}
                # another process may have added to the file
                results = {"networks": {}} | kept.found(file)
                order = {known: results["networks"].get(known, {}) for known in BUILDS}
                order[name] = order[name] | {key: row | {"commit": at} for key, row in found.items()}
                results["networks"] = {known: row for known, row in order.items() if row}
                told = kept.about("measured", "python -m bench.compiled", METHOD, threads="1")
                made = [one for one in (table_of_times(results), table(results)) if one.rows]
                kept.write(file, told, made, results)
                print(f"{stage} {name}, {time.perf_counter() - start:.0f} s: {found}", flush=True)


if __name__ == "__main__":
    main()
