"""override: torch's functions on torchops's ops, in a block, in a thread, and nowhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchops
from torchops.torch_internals import count_function_modes

from .conformance import EVERY_TIER, OPERATOR, close
from .inside import on_a_gpu_that_is_not_there
from .networks import as_torch_has_it, image, small


class Functions(nn.Module):
    """A forward of calls, in all the ways they are written."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Parameter(torch.randn(4, 3, 3, 3) / 5), nn.Parameter(torch.randn(4, 3, 2, 2) / 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.first, padding="same")
        y, indices = F.max_pool2d(y, kernel_size=2, return_indices=True)
        y = torch.max_pool2d(F.max_unpool2d(y, indices, 2), 3, 1, 1)
        return F.avg_pool2d(input=F.conv_transpose2d(y, self.second, stride=2), kernel_size=2)


EVERY = {"conv2d": 1, "max_pool2d": 2, "max_unpool2d": 1, "conv_transpose2d": 1, "avg_pool2d": 1}


@EVERY_TIER
def test_same_results_and_gradients(device: torch.device) -> None:
    model, x = Functions().to(device), image(2, 3, 8, 6, device=device)
    with as_torch_has_it():
        expected = model(x)
        expected_grads = torch.autograd.grad(expected.square().mean(), list(model.parameters()))
    with torchops.override() as calls:
        y = model(x)
        # the backward too: what the ops call is none of the block's business
        grads = torch.autograd.grad(y.square().mean(), list(model.parameters()))
    assert (calls.swapped, calls.kept) == (EVERY, {})
    close(y, expected, torch.float32)
    for grad, reference in zip(grads, expected_grads, strict=True):
        close(grad, reference, torch.float32)


@EVERY_TIER
def test_adaptive_pools_and_interpolation(device: torch.device) -> None:
    x = image(2, 3, 7, 6, device=device).requires_grad_()

    def forward() -> Tensor:
        y, _ = F.adaptive_max_pool2d(x, (5, 4), return_indices=True)
        y = nn.Upsample(scale_factor=(1.0, 2.0))(F.adaptive_max_pool2d(y, 3))
        return F.interpolate(F.adaptive_avg_pool2d(y, (2, None)), size=(4, 6))

    with as_torch_has_it():
        expected = forward()
        expected_grad = torch.autograd.grad(expected.square().mean(), x)[0]
    with torchops.override() as calls:
        y = forward()
        grad = torch.autograd.grad(y.square().mean(), x)[0]
    assert calls.swapped == {"adaptive_max_pool2d": 2, "interpolate": 2, "adaptive_avg_pool2d": 1}
    assert calls.kept == {}
    close(y, expected, torch.float32)
    close(grad, expected_grad, torch.float32)


def test_launches_are_ours() -> None:
    with torch.no_grad(), on_a_gpu_that_is_not_there() as (launches, inside), torchops.override():
        Functions()(image(1, 3, 8, 6))
    assert len(launches) == 7
    assert inside.calls[False]["conv2d"] == 1
    assert inside.calls[False]["convolution"] == 0


def test_layers_of_torch_too() -> None:
    model, x = small(), image(1, 3, 16, 16)
    with torchops.override() as calls:
        y = model(x)
    assert calls.swapped == {"conv2d": 7, "conv_transpose2d": 1, "max_pool2d": 1, "max_unpool2d": 1, "avg_pool2d": 1}
    close(y, torchops.convert(model)[0](x), torch.float32)


def test_nests_and_ends() -> None:
    x = image(1, 3, 8, 8)
    with torchops.override() as outer:
        F.avg_pool2d(x, 2)
        with torchops.override() as inner:
            F.avg_pool2d(x, 2)
        F.avg_pool2d(x, 2)
    F.avg_pool2d(x, 2)
    # once each, not once a block
    assert (outer.swapped["avg_pool2d"], inner.swapped["avg_pool2d"]) == (2, 1)
    before = outer.swapped.copy()
    F.avg_pool2d(x, 2)
    assert outer.swapped == before


def test_other_threads_see_nothing_of_it() -> None:
    x, during = image(1, 3, 8, 8), threading.Event()
    found: list[int] = []

    def work() -> None:
        with torchops.override() as calls:
            during.wait(60)
            F.avg_pool2d(x, 2)
            found.append(calls.swapped["avg_pool2d"])

    thread = threading.Thread(target=work)
    with torchops.override() as calls:
        thread.start()
        F.avg_pool2d(x, 2)
        during.set()
        thread.join()
    assert (calls.swapped["avg_pool2d"], found) == (1, [1])


def test_blocks_of_tasks_that_overlap_are_their_own() -> None:
    x, modes = image(1, 3, 8, 8), count_function_modes()

    async def inside(steps: int) -> Any:
        await asyncio.sleep(0)
        with torchops.override() as calls:
            for _ in range(steps):
                F.avg_pool2d(x, 2)
                await asyncio.sleep(0)
            with torch.device("cpu"):
                F.max_pool2d(x, 2)
        F.avg_pool2d(x, 2)
        await asyncio.sleep(0)
        return calls.swapped, calls.kept

    async def never() -> None:
        for _ in range(4):
            F.avg_pool2d(x, 2)
            await asyncio.sleep(0)

    async def all_three() -> Any:
        # in turns: the first enters, the second enters, the first leaves, the second leaves
        return await asyncio.gather(inside(1), inside(2), never())

    first, second, _ = asyncio.run(all_three())
    assert first == ({"avg_pool2d": 1, "max_pool2d": 1}, {})
    assert second == ({"avg_pool2d": 2, "max_pool2d": 1}, {})
    assert count_function_modes() == modes


def test_tasks_started_inside_are_inside_until_it_ends() -> None:
    x = image(1, 3, 8, 8)

    async def child() -> None:
        for _ in range(2):
            F.avg_pool2d(x, 2)
            await asyncio.sleep(0)

    async def parent() -> Any:
        with torchops.override() as calls:
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        await task
        return calls

    assert asyncio.run(parent()).swapped == {"avg_pool2d": 1}


def test_blocks_of_generators_that_overlap_leave_nothing_behind() -> None:
    x, modes = image(1, 3, 8, 8), count_function_modes()

    def block() -> Iterator[torchops.override]:
        with torchops.override() as calls:
            yield calls

    first, second = block(), block()
    next(first)
    calls = next(second)
    assert next(first, "over") == "over"
    F.avg_pool2d(x, 2)
    assert next(second, "over") == "over"
    F.avg_pool2d(x, 2)
    assert calls.swapped == {"avg_pool2d": 1}
    assert count_function_modes() == modes


class Special(Tensor):
    pass


KEPT: dict[str, Any] = {
    "integers": lambda: F.max_pool2d(torch.arange(16).view(1, 1, 4, 4), 2),
    "complex": lambda: F.conv2d(torch.ones(1, 1, 4, 4, dtype=torch.complex64), torch.ones(1, 1, 2, 2, dtype=torch.complex64)),
    "subclass": lambda: F.avg_pool2d(torch.ones(1, 1, 4, 4).as_subclass(Special), 2),
    "interpolation_of_another_mode": lambda: F.interpolate(torch.ones(1, 1, 4, 4), scale_factor=2, mode="bilinear"),
    "interpolation_by_a_broken_factor": lambda: F.interpolate(torch.ones(1, 1, 4, 4), scale_factor=1.5),
    "interpolation_of_a_volume": lambda: F.interpolate(torch.ones(1, 1, 4, 4, 4), scale_factor=2),
    "interpolation_of_integers": lambda: F.interpolate(torch.ones(1, 1, 4, 4, dtype=torch.uint8), scale_factor=2),
    "weight_of_a_subclass": lambda: F.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2).as_subclass(Special)),
}  # fmt: skip


@pytest.mark.parametrize("which", KEPT)
def test_what_torchops_has_no_kernel_for_stays_torchs(which: str) -> None:
    expected = KEPT[which]()
    with torchops.override() as calls:
        y = KEPT[which]()
    assert sum(calls.kept.values()) == 1
    assert calls.swapped == {}
    assert (type(y), y.dtype) == (type(expected), expected.dtype)
    assert torch.equal(y, expected)


REFUSED: dict[str, Any] = {
    "kernel_size": lambda: F.avg_pool2d(torch.ones(1, 1, 4, 4), 0),
    "channels": lambda: F.conv2d(torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)),
    "integer_weight": lambda: F.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2, dtype=torch.int64)),
    "output_padding": lambda: F.conv_transpose2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2), output_padding=1),
    "padding": lambda: F.max_pool2d(torch.ones(1, 1, 4, 4), 2, padding=2),
    "indices": lambda: F.max_unpool2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.int32), 2),
}


@OPERATOR
@pytest.mark.parametrize("which", REFUSED)
def test_errors_are_torchs(which: str) -> None:
    """So that code which catches them goes on as it did."""
    with as_torch_has_it(), pytest.raises(RuntimeError) as expected:
        REFUSED[which]()
    with as_torch_has_it(), torchops.override() as calls, pytest.raises(RuntimeError) as found:
        REFUSED[which]()
    assert str(found.value) == str(expected.value)
    assert (sum(calls.kept.values()), calls.swapped) == (1, {})


COMPUTED: dict[str, Any] = {
    "windows_that_step_over_the_image": lambda x: F.max_pool2d(x[..., :2, :2], 2, 1, 1, 3),
    "no_channels": lambda x: F.conv2d(x[:, :0], x.new_ones(4, 0, 2, 2)),
}


@OPERATOR
@pytest.mark.parametrize("which", COMPUTED)
def test_what_torchops_refuses_torch_computes(which: str, device: torch.device) -> None:
    x = image(1, 3, 4, 4, device=device)
    with as_torch_has_it():
        expected = COMPUTED[which](x)
    with torchops.override() as calls:
        y = COMPUTED[which](x)
    assert torch.equal(y, expected)
    assert (sum(calls.kept.values()), calls.swapped) == (1, {})


@pytest.mark.parametrize("which", COMPUTED)
def test_what_torchops_refuses_torch_computes_in_compiled_code(which: str) -> None:
    torch.compiler.reset()
    x = image(1, 3, 4, 4)

    def step(x: Tensor) -> Tensor:
        with torchops.override():
            return COMPUTED[which](x)

    assert torch.equal(torch.compile(step, backend="eager", fullgraph=True)(x), COMPUTED[which](x))


def test_errors_of_the_computation_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch must not compute a second time, without a word, what an op has failed at."""

    def fails(*args: Any) -> None:
        raise ValueError("in the middle of it")

    monkeypatch.setattr("torchops.ops.conv2d.operator.aten_conv2d", fails)
    x, w = image(1, 3, 4, 4), torch.ones(4, 3, 2, 2)
    with torchops.override() as calls, pytest.raises(ValueError, match="in the middle of it"):
        # an image without a batch is not ATen's alone
        F.conv2d(x[0], w)
    assert calls.kept == {}
    indices = torch.full((1, 3, 4, 4), -1)
    with torchops.override() as calls, pytest.raises(RuntimeError, match="`indices` must lie in"):
        F.max_unpool2d(x, indices, 2)
    assert calls.kept == {}


def test_other_dimensions_are_not_touched() -> None:
    with torchops.override() as calls:
        F.conv1d(torch.rand(1, 3, 8), torch.rand(4, 3, 3))
        F.max_pool3d(torch.rand(1, 3, 8, 8, 8), 2)
    assert calls.swapped == calls.kept == {}


@pytest.mark.parametrize("inside", [True, False], ids=["block_inside", "block_outside"])
def test_compile_fullgraph(inside: bool) -> None:
    torch.compiler.reset()
    model, x = Functions(), image(2, 3, 8, 6)
    targets: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    def step(x: Tensor) -> Tensor:
        if not inside:
            return model(x)
        with torchops.override():
            return model(x)

    compiled = torch.compile(step, backend=backend, fullgraph=True)
    with as_torch_has_it():
        expected = model(x)
    if inside:
        y = compiled(x)
    else:
        with torchops.override():
            y = compiled(x)
    close(y, expected, torch.float32)
    assert sum(target.startswith("torchops.") for target in targets) == 6
    # and outside the block torch's again, which is another graph
    targets.clear()
    if not inside:
        with as_torch_has_it():
            compiled(x)
        assert targets
        assert not any(target.startswith("torchops.") for target in targets)


def test_what_a_compiled_block_calls_uncompiled_is_swapped() -> None:
    torch.compiler.reset()
    x, blocks = image(1, 3, 8, 8), []

    @torch.compiler.disable
    def uncompiled(x: Tensor) -> Tensor:
        blocks.append(torch._C._get_function_stack_at(count_function_modes() - 1))
        return F.max_pool2d(x, 2)

    def step(x: Tensor) -> Tensor:
        with torchops.override():
            return uncompiled(F.avg_pool2d(x, 2))

    torch.compile(step, backend="eager")(x)
    assert blocks[0].swapped == {"max_pool2d": 1}


def test_export() -> None:
    x = image(2, 3, 8, 6)
    with torchops.override():
        program = torch.export.export(Functions(), (x,))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum(target.startswith("torchops.") for target in targets) == 6
    with as_torch_has_it():
        close(program.module()(x), Functions()(x), torch.float32)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(low: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=low), torchops.override():
        assert Functions()(image(1, 3, 8, 6)).dtype == low


def test_functional_transforms_and_second_derivatives() -> None:
    x, w = image(2, 3, 5, 5), torch.randn(4, 3, 3, 3)

    def loss(w: Tensor, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.conv2d(x, w), 2).square().sum()

    expected = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x)
    with torchops.override() as calls:
        grads = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x)
    assert calls.swapped == {"conv2d": 1, "avg_pool2d": 1}
    close(grads, expected, torch.float32)
    with torchops.override():
        assert torch.autograd.gradgradcheck(
            lambda w: F.conv2d(x[:1].double(), w), w[:1].double().requires_grad_(),
            check_fwd_over_rev=True, check_batched_grad=True,
        )  # fmt: skip


def test_forward_mode_and_functionalize() -> None:
    x, w = image(1, 3, 6, 6), torch.randn(4, 3, 3, 3)

    def call(x: Tensor) -> Tensor:
        return F.max_pool2d(F.conv2d(x, w), 2)

    out, tangent = torch.func.jvp(call, (x,), (x,))
    with torchops.override() as calls:
        ours = torch.func.jvp(call, (x,), (x,))
        functional = torch.func.functionalize(call)(x)
    assert calls.swapped == {"conv2d": 2, "max_pool2d": 2}
    assert not calls.kept
    close(ours[0], out, torch.float32)
    close(ours[1], tangent, torch.float32)
    close(functional, out, torch.float32)
