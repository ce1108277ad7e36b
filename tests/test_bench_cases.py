"""What the benchmarks time: cases as on a GPU, listed and rehearsed where there is none; and the roofs above them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bench import bench_conv2d, bench_models, bench_sobel, roofs
from bench.bench_conv2d import ALONE, BIAS, BLOCK, RELU, SUFFIXES, Epilogue
from bench.harness import Contest, blank, normal
from bench.telling import FILES, benchmarks, telling
from torchops.backend import use_backend
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.hardware import GPUS
from torchops.measure.race import race
from torchops.workloads import ConvLayer

OF_OPS = FILES[:-1]
TINY = ConvLayer("tiny", "a.layer", 2, 4, 6, 6, 8, 3, 3, padding=1)


@pytest.fixture(autouse=True)
def _blank_memory_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the benchmarks run; and races are short."""
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr("bench.harness.race", partial(race, turn=1e-4))


def _launches(name: str, case: Any) -> list[Launch]:
    with record(GPUS["H100"]) as launches, use_backend("triton"):
        benchmarks(name).rehearse(case, torch.device("cpu"))
    return launches


@pytest.mark.parametrize("gpu", [True, False], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", FILES)
def test_cases_have_names_of_their_own_and_say_where_they_run(name: str, gpu: bool) -> None:
    cases = benchmarks(name).every_case(gpu)
    assert len({(case.name, getattr(case, "threads", 1)) for case in cases}) == len(cases)
    if name in ("conv2d", "pooling"):
        assert {case.dtype for case in cases} >= {torch.bfloat16, torch.float32}
        first = {case.layer.name: case for case in reversed(cases)}
        here = first["body" if name == "conv2d" else "unet.pool1"]
        assert here.dtype == (torch.bfloat16 if gpu else torch.float32)
        batch = {"conv2d": 32, "pooling": 8}[name] if gpu else 1
        assert (here.layer.N, here.what) == (batch, "forward")


@pytest.mark.parametrize("gpu", [True, False], ids=["gpu", "cpu"])
def test_telling_cases_are_cases(gpu: bool) -> None:
    found = telling(gpu)
    assert [(name, len(cases)) for name, cases in found.items()] == [("conv2d", 32), ("pooling", 6), ("sobel", 1)]
    for name, cases in found.items():
        assert set(cases) <= set(benchmarks(name).every_case(gpu))
    convolutions = {case.name for case in found["conv2d"]}
    short = "bf16" if gpu else "f32"
    for layout in ("channels_last", "nchw"):
        for layer in ("body", "mid", "stem", "pointwise", "aspp", "depthwise"):
            assert {f"{layer}.{e}.forward.{layout}.{short}" for e in ("alone", "relu")} <= convolutions
        for layer in ("body", "deep", "unet-up"):
            assert f"{layer}.alone.train.{layout}.{short}" in convolutions
        assert f"depthwise.alone.weight_grad.{layout}.{short}" in convolutions
    if gpu:
        assert found["sobel"][0].shape == (8, 1, 2160, 3840)


def test_names_of_cases_stay() -> None:
    """Results of other days are compared by them."""
    names = {case.name for case in bench_conv2d.every_case(False)}
    assert {
        "body.forward.channels_last.f32",
        "body.relu.residual.train.nchw.f32",
        "stem.forward.channels_last.f16",
    } <= names
    assert {case.name for case in bench_models.every_case(True)} >= {"resnet50.train.nchw.f32"}


@pytest.mark.parametrize("name", OF_OPS)
def test_every_case_is_rehearsed_as_on_a_gpu(name: str) -> None:
    """Launches of every one, though nothing is computed and there is no GPU."""
    for case in benchmarks(name).every_case(True):
        launches = _launches(name, case)
        assert launches, case.name
        assert all(launch.device == GPUS["H100"] for launch in launches)


def test_a_rehearsal_launches_what_the_case_does() -> None:
    def kernels(epilogue: Epilogue, what: str) -> list[str]:
        body = next(c for c in telling(True)["conv2d"] if c.layer.name == "body")
        return [launch.name for launch in _launches("conv2d", replace(body, what=what, epilogue=epilogue))]

    assert [len(kernels(e, "forward")) for e in (ALONE, BIAS, RELU, BLOCK)] == [1, 1, 1, 1]
    assert "conv2d_bias_grad_kernel" not in kernels(ALONE, "train")
    assert "conv2d_bias_grad_kernel" in kernels(BIAS, "train")
    unpool = next(c for c in telling(True)["pooling"] if c.layer.unpools)
    # its indices are those of torchops's pool
    assert {launch.name for launch in _launches("pooling", unpool)} >= {
        "max_pool2d_fwd_kernel",
        "max_unpool2d_fwd_kernel",
    }


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (8, 1, 3, 3), (2, 8, 1, 1), (7,)], ids=str)
@pytest.mark.parametrize("channels_last", [True, False])
def test_blank_tensors_lie_as_random_ones_do(shape: tuple[int, ...], channels_last: bool) -> None:
    random = normal(shape, torch.bfloat16, torch.Generator().manual_seed(0), channels_last)
    found = blank(shape, torch.bfloat16, torch.device("cpu"), channels_last)
    assert (found.shape, found.stride(), found.dtype) == (random.shape, random.stride(), random.dtype)


class _Calls(TorchDispatchMode):
    """Calls of torchops's operators, their tensors by shape, strides and dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "torchops":
            self.found.append(repr((str(func), tree_map_only(Tensor, lambda t: (t.shape, t.stride(), t.dtype), args))))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("what", ["forward", "train"])
@pytest.mark.parametrize("network", ["torchops.unet.max", "resnet18"])
def test_networks_call_on_the_meta_device_what_they_call_on_a_real_one(network: str, what: str) -> None:
    case = next(
        c for c in bench_models.every_case(False) if (c.network, c.what, c.channels_last) == (network, what, True)
    )
    with _Calls() as on_meta:
        bench_models.rehearse(case, torch.device("meta"))
    with _Calls() as on_cpu:
        bench_models.rehearse(case, torch.device("cpu"))
    assert on_meta.found == on_cpu.found
    assert len(on_meta.found) > 20


@pytest.mark.parametrize("what", ["forward", "train"])
def test_float64_of_a_network_is_not_what_cudnn_tries_its_ways_on(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is; and so is what decides for a gradient's check, as it has to decide alike."""
    seen: set[tuple[str, bool, bool]] = set()
    called = bench_models.Versions.__call__

    def watched(self: bench_models.Versions, provider: str, x: Tensor) -> Tensor:
        cudnn = torch.backends.cudnn
        seen.add((provider, cudnn.benchmark, cudnn.allow_tf32))
        return called(self, provider, x)

    monkeypatch.setattr(bench_models.Versions, "__call__", watched)
    # more than the cores that are free wait for each other
    monkeypatch.setattr(bench_models, "THREADS", 1)
    bench_models.contest(bench_models.Case("torchops.lenet", what, True, 2), rounds=2)
    ours = ("torchops", "aten", "fused") if what == "forward" else ("torchops", "aten")
    assert seen == {("exact", False, False), *((provider, True, False) for provider in ours)}


@pytest.mark.parametrize("what", bench_conv2d.PASSES)
@pytest.mark.parametrize("epilogue", SUFFIXES, ids=[s or ".bias" for s in SUFFIXES.values()])
def test_a_contest_calls_what_its_rehearsal_does(epilogue: Epilogue, what: str) -> None:
    case = bench_conv2d.Case(TINY, what, True, torch.float32, epilogue)
    with _Calls() as rehearsed:
        bench_conv2d.rehearse(case, torch.device("cpu"))
    with _Calls() as raced:
        found = bench_conv2d.contest(case, rounds=2)
    assert set(rehearsed.found) == set(raced.found)
    assert {"torchops", "aten"} <= set(found.times)
    assert found.info["case"] == case.name


def test_a_contest_of_pools_and_of_sobel_calls_what_its_rehearsal_does() -> None:
    pools = benchmarks("pooling")
    cases = [
        (pools, replace(case, layer=replace(case.layer, N=1, C=2, H=8, W=8), what=what))
        for case in pools.telling(False)
        for what in ("forward", "train")
    ]
    cases += [(bench_sobel, bench_sobel.Case("tiny", (1, 2, 6, 6), torch.float32, train)) for train in (False, True)]
    for file, case in cases:
        with _Calls() as rehearsed:
            file.rehearse(case, torch.device("cpu"))
        with _Calls() as raced:
            file.contest(case, rounds=2)
        assert set(rehearsed.found) == set(raced.found), case


def test_epilogues_are_what_they_are_called() -> None:
    x, w, b, residual = (torch.randn(s) for s in (TINY.input_shape, TINY.weight_shape, (8,), TINY.output_shape))
    y = F.conv2d(x, w, padding=1)
    expected = {ALONE: y, BIAS: y + b[:, None, None], RELU: F.relu(y + b[:, None, None])}
    expected[BLOCK] = F.relu(y + b[:, None, None] + residual)
    for epilogue, exactly in expected.items():
        case = bench_conv2d.Case(TINY, "forward", False, torch.float32, epilogue)
        further = [b] * epilogue.bias + [residual] * epilogue.residual
        for function in (bench_conv2d._ours, bench_conv2d._theirs):
            torch.testing.assert_close(function(case, x, w, *further), exactly, atol=1e-5, rtol=1e-5)


def test_roofs_are_measured_and_results_are_shares_of_them() -> None:
    found = roofs.measure(rounds=2)
    assert found.copy_gb_per_s > 0
    assert found.product_tflops > 0
    half = roofs.Roofs(copy_gb_per_s=2.0, product_tflops=4e-3, copy_bytes=1, product_size=1)
    times = {"torchops": [9.0, 1.0, 1.0], "torchops (graph)": [0.5, 0.5, 0.5], "aten": [1.0, 1.0, 1.0]}
    one = Contest(times, {}, bytes_least=10**9, flops=10**9)
    assert roofs.shares(one, "aten", half) == pytest.approx({"of_copy": 0.5, "of_product": 0.25})
    # a graph, where there is one
    assert roofs.shares(one, "torchops", half) == pytest.approx({"of_copy": 1.0, "of_product": 0.5})
    assert set(roofs.shares(replace(one, flops=0), "aten", half)) == {"of_copy"}
