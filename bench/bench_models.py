"""Whole networks, original, converted and fused: the forward pass, and training steps, in both memory formats.

`python -m bench.bench_models` writes what becomes of each network, and how exact it stays, without timing anything.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import torchops
from torchops.measure.race import ratio
from torchops.measure.rivals import threads

from . import kept
from .harness import CLOCK, Contest, blank, close, compete, hold, leave_default_stream, normal
from .networks import NETWORKS, OURS, in_torch_nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
THREADS = os.cpu_count() or 1
PROVIDERS = {"forward": ("torchops", "aten", "fused"), "train": ("torchops", "aten")}
"""Converted, as torch.nn has it, fused. "train" is the forward pass and the gradients of all parameters."""
TOLERANCE = {"forward": 1e-4, "train": 1e-3}
"""Of the largest value; of the largest of all gradients, since those of a bias that a batch norm takes away again are 0."""
BY_DEFAULT = {
    "forward": ("resnet18", "resnet50", "mobilenet_v3_small", *OURS),
    "train": ("resnet18", "torchops.lenet", "torchops.unet.avg", "torchops.diffusion"),
}
"""On a CPU, the networks without `--all-cases`."""
GATE = "resnet18"
"""Raced in all rounds; the others in a fifth of them, or they would take more than ten minutes on two cores."""
FLAGS = partial(torch.backends.cudnn.flags, enabled=True, benchmark=True, allow_tf32=False)
"""float32 as it is, without TF32."""
EXACT = partial(torch.backends.cudnn.flags, enabled=True, benchmark=False, allow_tf32=False)
"""Of float64 one run is wanted: cuDNN would try all its ways for each layer first."""
SLOW = ("deeplabv3_resnet50", "fcn_resnet50")
"""Trained on a CPU in channels_last only, for the same reason."""


@dataclass(frozen=True)
class Case:
    network: str
    what: str
    channels_last: bool
    batch: int

    @property
    def name(self) -> str:
        return f"{self.network}.{self.what}.{self.layout}.f32"

    @property
    def layout(self) -> str:
        return "channels_last" if self.channels_last else "nchw"

    @property
    def providers(self) -> tuple[str, ...]:
        return PROVIDERS[self.what]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        size = OURS[self.network][2] if self.network in OURS else 224
        return self.batch, 1 if self.network in OURS else 3, size, size


def _batch(network: str, what: str, gpu: bool) -> int:
    """On a CPU one image; two to train on, as DeepLab has a batch norm of one pixel an image."""
    if network in OURS:
        return OURS[network][1] * (8 if gpu else 1)
    if gpu:
        return 32
    return 8 if network == GATE else 2 if what == "train" else 1


def every_case(gpu: bool) -> list[Case]:
    """What there is to time on a GPU, or on a CPU, wherever this runs."""
    cases = [
        Case(network, what, form, _batch(network, what, gpu))
        for network in (*NETWORKS, *OURS)
        for what in PROVIDERS
        for form in (True, False)
    ]
    return [c for c in cases if gpu or c.channels_last or c.what == "forward" or c.network not in SLOW]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    gpu = DEVICE == "cuda"
    everything = gpu or metafunc.config.getoption("--all-cases")
    wanted = [case for case in every_case(gpu) if everything or case.network in BY_DEFAULT[case.what]]
    pairs = [(case, provider) for case in wanted for provider in case.providers]
    metafunc.parametrize(("case", "provider"), pairs, ids=[f"{case.name}-{provider}" for case, provider in pairs])


class Decisions(TorchFunctionMode):
    """Lets a run in float64 go through ReLUs and pools where a run in float32 did.

    Where rounding decides about a sign or a maximum, it decides about the gradient. A network has so many of them that a few
    are decided differently, and a single one can be a hundredth of a gradient. Its gradient is checked for what it decided.
    """

    ACTIVATIONS = (F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid)

    def __init__(self, run: Callable[[], Any]) -> None:
        super().__init__()
        self.inputs: deque[Tensor] = deque()
        with torch.no_grad(), self, register_module_forward_pre_hook(self._record):
            run()

    def _record(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        # torchops's pools are torch.nn's too, but do not call F.max_pool2d
        if isinstance(module, nn.MaxPool2d):
            self.inputs.append(args[0].clone())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (*self.ACTIVATIONS, F.max_pool2d, F.max_pool2d_with_indices):
            return func(*args, **kwargs)
        x, *further = args
        if x.dtype != torch.float64:
            if func in self.ACTIVATIONS:
                self.inputs.append(x.clone())
            return func(*args, **kwargs)
        seen = self.inputs.popleft()
        if func not in self.ACTIVATIONS:
            _, where = F.max_pool2d(seen, *further, **{**kwargs, "return_indices": True})
            y = x.flatten(2).gather(2, where.flatten(2)).view_as(where)
            return y if func is F.max_pool2d else (y, where)
        # the call may be in place, so it gets a copy
        leaf = seen.double().requires_grad_()
        (slope,) = torch.autograd.grad(func(leaf.clone(), *further, **kwargs).sum(), leaf)
        return func(x.detach().clone(), *further, **kwargs) + (x - x.detach()) * slope


@functools.lru_cache(maxsize=1)
def _built(name: str) -> nn.Module:
    """The network on the CPU, where drawing its parameters takes longer than a race on a GPU: its cases come in a row."""
    return {**NETWORKS, **{ours: build for ours, (build, *_) in OURS.items()}}[name]().eval()


class Versions:
    """A network as it is, in float64, converted and fused."""

    def __init__(self, name: str, channels_last: bool = False, device: torch.device | str = DEVICE) -> None:
        form = torch.channels_last if channels_last else torch.contiguous_format
        model = copy.deepcopy(_built(name)).to(device, memory_format=form)
        self.original = in_torch_nn(model) if name in OURS else model
        self.exact = copy.deepcopy(self.original).double()
        # the converted model shares the original's parameters
        self.converted, self.conversion = torchops.convert(self.original)
        if name in OURS:
            self.converted = model
        self.fused, self.fusion = torchops.fuse(model)

    def without_values(self) -> None:
        """Put all of it on the meta device. It was converted and fused before, for which there have to be values."""
        models = self.original, self.exact, self.converted, self.fused
        # a copy goes by this dictionary: models that shared a parameter share the blank one
        blanks: dict[int, Any] = {}
        for model in models:
            for t in (*model.parameters(), *model.buffers()):
                blanks[id(t)] = torch.empty_like(t, device="meta")
                if isinstance(t, nn.Parameter):
                    blanks[id(t)] = nn.Parameter(blanks[id(t)], t.requires_grad)
        self.original, self.exact, self.converted, self.fused = copy.deepcopy(models, blanks)

    def __call__(self, provider: str, x: Tensor) -> Tensor:
        models = {"torchops": self.converted, "aten": self.original, "fused": self.fused, "exact": self.exact}
        # where no layer could be swapped, layers of the network's own call the functions
        by_function = provider == "torchops" and not self.conversion.swapped
        with torchops.override() if by_function else contextlib.nullcontext():
            y = models[provider](x.double() if provider == "exact" else x)
        return y["out"] if isinstance(y, dict) else y

    def train(self) -> None:
        for model in (self.original, self.exact, self.converted):
            model.train()

    @torch.no_grad()
    def logits(self, provider: str, x: Tensor) -> tuple[Tensor]:
        return (self(provider, x),)

    def gradients(self, provider: str, x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self(provider, x), list(self.original.parameters()), dy)

    def exact_gradients(self, provider: str, x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
        with Decisions(lambda: self(provider, x)) as decisions, EXACT():
            y = self("exact", x)
        assert not decisions.inputs, "the two runs do not call the same"
        with EXACT():
            return torch.autograd.grad(y, list(self.exact.parameters()), dy.double())

    @torch.no_grad()
    def exact_logits(self, x: Tensor) -> tuple[Tensor]:
        with EXACT():
            return (self("exact", x),)


def _random(shape: Sequence[int], channels_last: bool = False) -> Tensor:
    return normal(shape, torch.float32, torch.Generator(DEVICE).manual_seed(2), channels_last)


def _largest(tensors: Sequence[Tensor]) -> float:
    return max(float(t.abs().max()) for t in tensors)


def _error(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest, relative to the largest value."""
    return _largest([a.double() - b.double() for a, b in zip(actual, expected, strict=True)]) / _largest(expected)


def rehearse(case: Case, device: torch.device) -> None:
    """torchops's part of a contest, once, on blank tensors of its sizes.

    On the meta device nothing is computed, and what the networks call can be recorded. On a CPU all but what torchops
    launches is computed.
    """
    x = blank(case.shape, torch.float32, device, case.channels_last)
    with FLAGS():
        versions = Versions(case.network, case.channels_last, "cpu" if device.type == "meta" else device)
        if device.type == "meta":
            versions.without_values()
        if case.what == "forward":
            for provider in ("torchops", "fused"):
                versions.logits(provider, x)
            return
        dy = blank(versions.logits("aten", x)[0].shape, torch.float32, device, False)
        versions.train()
        # the check of a gradient runs it without one, to see what it decides
        versions.logits("torchops", x)
        versions.gradients("torchops", x, dy)


def contest(case: Case, rounds: int, *, inductor: bool = False) -> Contest:
    """Race a case on this machine, on its GPU where it has one. Inductor is not raced on networks: it must not be asked for."""
    assert not inductor, "networks are not raced against Inductor"
    leave_default_stream()
    x = _random(case.shape, case.channels_last)
    with threads(THREADS), FLAGS():
        versions = Versions(case.network, case.channels_last)
        dy = _random(versions.logits("aten", x)[0].shape)
        if case.what == "train":
            versions.train()
            run, exact = partial(versions.gradients, x=x, dy=dy), partial(versions.exact_gradients, x=x, dy=dy)
        else:
            logits = versions.exact_logits(x)
            run, exact = partial(versions.logits, x=x), lambda provider: logits

        def check(name: str, results: tuple[Tensor, ...]) -> float:
            expected = exact(name)
            for actual, exactly in zip(results, expected, strict=True):
                close(actual, exactly, TOLERANCE[case.what] * _largest(expected), f"{case.name}, {name}")
            return _error(results, expected)

        with FlopCounterMode(display=False) as counter:
            run("aten")
        found = hold(
            {name: partial(run, name) for name in PROVIDERS[case.what]},
            check=check, bytes_least=0, flops=counter.get_total_flops(),
            rounds=rounds if case.network in (GATE, *OURS) else max(2, rounds // 5), device=DEVICE,
        )  # fmt: skip
    found.info = {
        "case": case.name,
        "threads": THREADS if DEVICE == "cpu" else "gpu",
        "batch": case.batch,
        "kernels_before": versions.fusion.before.total(),
        "kernels_after": versions.fusion.after.total(),
        "dtype": "f32",
        "layout": case.layout,
    }
    if "fused" in found.times:
        found.info["fused_over_aten"] = ratio(found.times, "fused", "aten")
    return found


@pytest.mark.benchmark(timer=CLOCK)
def test_models(case: Case, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest) -> None:
    benchmark.group = case.name
    compete(contest, case, provider, held, benchmark, request)


COLUMNS = (
    kept.Column("model"), kept.Column("swapped"), kept.Column("kernels before", "count", "d"),
    kept.Column("after", "count", "d"), kept.Column("converted, logits"), kept.Column("converted, gradients"),
    kept.Column("fused, logits"),
)  # fmt: skip


def table() -> kept.Table:
    """What becomes of each network, and how exact it stays."""
    rows: list[list[kept.Cell]] = []
    x = _random((2, 3, 96, 96))

    def errors(actual: Sequence[Tensor], *expected: Sequence[Tensor]) -> str:
        return " / ".join(f"{_error(actual, each):.1e}" for each in expected)

    with threads(1), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for name in NETWORKS:
            versions = Versions(name)
            ours, fused, theirs = (versions.logits(p, x) for p in ("torchops", "fused", "aten"))
            exact = versions.exact_logits(x)
            logits, of_fused = errors(ours, theirs, exact), errors(fused, theirs, exact)
            dy = _random(theirs[0].shape)
            versions.train()
            ours, theirs = (versions.gradients(provider, x, dy) for provider in ("torchops", "aten"))
            gradients = errors(ours, theirs, versions.exact_gradients("torchops", x, dy))
            swapped = str(len(versions.conversion.swapped) or "0, functions overridden")
            kernels = versions.fusion.before.total(), versions.fusion.after.total()
            rows.append([name, swapped, *kernels, logits, gradients, of_fused])
    note = "Errors, relative to the largest value, are those against the original in float32 / in float64."
    return kept.Table("becomes", "What becomes of each model, and how exact it stays", COLUMNS, rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_models", description="What becomes of each network.")
    parser.add_argument("--file", type=Path, help="networks.json of this machine and day by default")
    file = parser.parse_args().file or kept.folder() / "networks.json"
    made = table()
    method = "two images of 96 x 96, float32, on one thread"
    kept.write(file, kept.about("measured", "python -m bench.bench_models", method, threads="1"), [made])
    print(f"{kept.printed(made)}\nwritten: {file}")


if __name__ == "__main__":
    main()
