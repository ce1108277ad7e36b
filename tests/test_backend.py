"""Which implementation runs, and what is said about it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import torchops
from torchops import backend, catalog
from torchops.kernels.launch import record
from torchops.kernels.planning.hardware import DEVICES

from .inside import Inside


def test_auto_serves_cpu_tensors_with_aten() -> None:
    explanation = torchops.explain(torchops.sobel, torch.rand(1, 3, 8, 8))
    assert explanation.implementation == "aten"
    assert explanation.launches == ()
    assert "auto" in str(explanation)


@pytest.mark.tiers("interpreter")
def test_explain_names_kernel_and_config_and_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchops.kernels import sobel

    monkeypatch.setattr(sobel.sobel_fwd_kernel, "run", None, raising=False)
    explanation = torchops.explain("sobel", torch.rand(1, 3, 8, 40))
    assert explanation.implementation == "triton"
    assert [name for name, _, _ in explanation.launches] == ["sobel_fwd_kernel"]
    assert "block=64" in str(explanation)
    # a modelled time means nothing here
    assert explanation.modelled == (None,)
    assert "modelled" not in str(explanation)


@pytest.mark.parametrize("name", ["sobel", "conv2d"])
def test_explain_says_how_long_a_gpu_should_take(name: str) -> None:
    op = catalog.OPS[name]
    with record(DEVICES["sm_90"]), torchops.use_backend("triton"):
        explanation = torchops.explain(name, *op.inputs((2, 64, 56, 56), torch.float32), **op.kwargs)
    ((microseconds, bound),) = explanation.modelled  # type: ignore[misc]
    assert 0 < microseconds < 1000
    assert bound == ("DRAM" if name == "sobel" else "tensor")
    assert str(explanation).endswith(f", modelled {microseconds:.1f} us, bound by {bound}")


def test_explain_rejects_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"`op` must be one of sobel, .* got 'relu'"):
        torchops.explain(torch.relu, torch.rand(3))
    with pytest.raises(ValueError, match=r"`args` must hold the tensors"):
        torchops.explain("sobel")


def test_use_backend_nests_and_restores() -> None:
    assert torchops.get_backend() == "auto"
    with torchops.use_backend("aten"):
        with torchops.use_backend("triton"):
            assert torchops.get_backend() == "triton"
        assert torchops.get_backend() == "aten"
    with pytest.raises(ZeroDivisionError), torchops.use_backend("aten"):
        raise ZeroDivisionError
    assert torchops.get_backend() == "auto"


def test_blocks_of_threads_that_overlap_are_their_own() -> None:
    step, seen = threading.Barrier(2, timeout=60), {}

    def first() -> None:
        with torchops.use_backend("aten"):
            step.wait()
            step.wait()
            seen["first"] = torchops.get_backend()
        step.wait()

    def second() -> None:
        step.wait()
        with torchops.use_backend("triton"):
            step.wait()
            # the first leaves
            step.wait()
            seen["second"] = torchops.get_backend()

    thread = threading.Thread(target=first)
    thread.start()
    second()
    thread.join()
    assert seen == {"first": "aten", "second": "triton"}
    assert torchops.get_backend() == "auto"


def test_blocks_of_tasks_that_overlap_are_their_own() -> None:
    async def inside(backend: Any, steps: int) -> tuple[str, str]:
        with torchops.use_backend(backend):
            for _ in range(steps):
                await asyncio.sleep(0)
            seen = torchops.get_backend()
        return seen, torchops.get_backend()

    async def both() -> Any:
        # in turns: the first enters, the second enters, the first leaves, the second leaves
        return await asyncio.gather(inside("aten", 1), inside("triton", 2))

    assert asyncio.run(both()) == [("aten", "auto"), ("triton", "auto")]
    assert torchops.get_backend() == "auto"


def test_blocks_of_generators_that_overlap_leave_nothing_behind() -> None:
    def blocks(name: Any) -> Iterator[None]:
        with torchops.use_backend(name):
            yield

    # which share the context of their caller
    first, second = blocks("aten"), blocks("triton")
    next(first), next(second)
    assert next(first, "over") == "over"
    assert torchops.get_backend() == "triton"
    assert next(second, "over") == "over"
    assert torchops.get_backend() == "auto"


def test_a_block_reaches_tasks_started_inside_and_no_thread_but_with_its_context() -> None:
    async def child() -> str:
        await asyncio.sleep(0)
        return torchops.get_backend()

    async def parent() -> tuple[str, str, str]:
        with torchops.use_backend("aten"):
            task = asyncio.create_task(child())
            in_thread = await asyncio.to_thread(torchops.get_backend)
        return await task, in_thread, torchops.get_backend()

    assert asyncio.run(parent()) == ("aten", "aten", "auto")
    with torchops.use_backend("aten"):
        context = contextvars.copy_context()
        assert in_another_thread(torchops.get_backend) == "auto"
        assert in_another_thread(lambda: context.run(torchops.get_backend)) == "aten"


def in_another_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def leaves_and_output(name: str) -> tuple[list[Tensor], Tensor]:
    op = catalog.OPS[name]
    inputs = [t.requires_grad_(t.is_floating_point()) for t in op.random_inputs((1, 4, 6, 6), torch.float32)]
    return [t for t in inputs if t.requires_grad], op.function(*inputs, **op.kwargs)


@pytest.mark.parametrize("inside", [None, "aten", "triton"])
@pytest.mark.parametrize("elsewhere", [lambda f: f(), in_another_thread], ids=["same_thread", "another_thread"])
@pytest.mark.parametrize("name", catalog.OPS)
def test_backward_runs_on_the_backend_of_its_forward(name: str, elsewhere: Callable[..., Any], inside: Any) -> None:
    def backward() -> tuple[int, int]:
        """Launches of a first derivative, and of a second."""
        with record(DEVICES["sm_90"]) as launches, torchops.use_backend(inside) if inside else contextlib.nullcontext():
            grads = torch.autograd.grad(y, leaves, torch.ones_like(y).requires_grad_(), create_graph=True)
            first = len(launches)
            torch.autograd.grad(sum(g.square().sum() for g in grads), leaves, allow_unused=True)
        return first, len(launches) - first

    for forward in ("triton", "aten"):
        with record(DEVICES["sm_90"]), torchops.use_backend(forward):  # type: ignore[arg-type]
            leaves, y = leaves_and_output(name)
        first, _ = found = elsewhere(backward)
        assert first > 0 if forward == "triton" else found == (0, 0)


@pytest.mark.parametrize("call", ["eager", "watched", "transformed"])
def test_backward_runs_on_the_backend_of_its_forward_by_every_path_of_a_call(call: str) -> None:
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    if call == "transformed":
        with torchops.use_backend("aten"):
            _, backward = torch.func.vjp(torchops.sobel, x)
    else:
        with torchops.use_backend("aten"), Inside() if call == "watched" else contextlib.nullcontext():
            y = torchops.sobel(x)
    # which raises here
    with torchops.use_backend("triton"):
        if call == "transformed":
            backward(torch.ones_like(x))
        else:
            y.sum().backward()


@pytest.mark.tiers("interpreter", "gpu")
def test_backward_after_the_block_is_the_blocks(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it runs in a thread of autograd's, which is inside no block."""
    from torchops.kernels import sobel

    monkeypatch.setattr(sobel, "sobel_bwd", None)
    x = torch.rand(1, 1, 5, 5, device=device, requires_grad=True)
    with torchops.use_backend("aten"):
        y = torchops.sobel(x)
    y.sum().backward()
    assert x.grad is not None
    with torchops.use_backend("triton"), pytest.raises(TypeError, match="'NoneType' object is not callable"):
        torchops.sobel(x).sum().backward()


def test_compiled_code_runs_on_the_backend_around_its_call() -> None:
    torch.compiler.reset()
    compiled = torch.compile(torchops.sobel, backend="aot_eager", fullgraph=True)
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    for _ in range(2):
        with torchops.use_backend("aten"):
            compiled(x).sum().backward()
        with torchops.use_backend("triton"), pytest.raises(RuntimeError, match="the backend is triton"):
            compiled(x)


def test_a_block_inside_compiled_code_is_refused_and_holds_where_that_is_not_compiled() -> None:
    torch.compiler.reset()
    seen = []

    @torch.compiler.disable
    def look() -> None:
        seen.append(torchops.get_backend())

    def step(x: Tensor) -> Tensor:
        with torchops.use_backend("aten"):
            look()
            return torchops.sobel(x)

    with pytest.raises(
        Exception, match=r"`use_backend` \('aten'\) cannot be inside compiled code, .* around that call"
    ):
        torch.compile(step, backend="eager", fullgraph=True)(torch.rand(1, 1, 5, 5))
    torch.compile(step, backend="eager")(torch.rand(1, 1, 5, 5))
    assert seen == ["aten"]


def test_use_backend_rejects_unknown() -> None:
    with pytest.raises(ValueError, match=r"`backend` must be one of auto, triton, aten, got 'cuda'"):  # noqa: SIM117
        with torchops.use_backend("cuda"):  # type: ignore[arg-type]
            pass


def test_triton_on_cpu_tensors_raises_without_the_interpreter() -> None:
    with torchops.use_backend("triton"), pytest.raises(RuntimeError, match=r"input is on cpu: .* TRITON_INTERPRET=1"):
        torchops.sobel(torch.rand(1, 3, 8, 8))


def test_missing_triton_raises_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_has_triton", lambda: False)
    with pytest.raises(RuntimeError, match=r"cuda.* need triton, .* pip install triton, or set TORCHOPS_BACKEND=aten"):
        backend.choose(torch.device("cuda"))
    assert backend.choose(torch.device("cpu")).implementation == "aten"


@pytest.mark.parametrize("value", ["aten", "triton", "nonsense"])
def test_environment_variable(value: str) -> None:
    code = "import torchops; print(torchops.get_backend())"
    env = {**os.environ, "TORCHOPS_BACKEND": value}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if value == "nonsense":
        assert done.returncode != 0
        assert "TORCHOPS_BACKEND must be one of auto, triton, aten, got 'nonsense'" in done.stderr
    else:
        assert done.stdout.strip() == value


def test_aten_backend_serves_gradients_too() -> None:
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    with torchops.use_backend("aten"):
        torchops.sobel(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_keeps_the_dtype_of_the_image(dtype: torch.dtype) -> None:
    x = torch.rand(1, 1, 5, 5)
    with torch.autocast("cpu", dtype):
        assert torchops.sobel(x).dtype == torch.float32
        assert torchops.sobel(x.to(dtype)).dtype == dtype
