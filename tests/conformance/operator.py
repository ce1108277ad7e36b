"""Being a PyTorch operator: opcheck, fake tensors, autocast, compile, export, modules."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.opinfo import Sample

from .base import OPERATOR, Questions


class Operator(Questions):
    @pytest.mark.tiers("aten")
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
    def test_opcheck(self, operator: str, layout: str, device: torch.device) -> None:
        """All four checks, on the very arguments with which the op is called forward and backward."""
        sample = self.info.samples[0].resized((2, 3, 4, 5))
        for parameter_layout in ("contiguous", "channels_last") if self.info.further else ("contiguous",):
            inputs = self.inputs(sample, torch.float32, device, layout, parameter_layout)
            self.opcheck(operator, self.with_grad(inputs), sample)

    @pytest.mark.tiers("aten")
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
    def test_opcheck_empty(self, operator: str, device: torch.device) -> None:
        sample = self.info.samples[0].resized((0, 3, 4, 5))
        self.opcheck(operator, self.with_grad(self.inputs(sample, torch.float32, device)), sample)

    def opcheck(self, operator: str, leaves: Any, sample: Sample) -> None:
        target = getattr(torch.ops.torchops, operator).default
        calls: list[tuple[Any, Any]] = []

        class Spy(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func is target:
                    calls.append((args, kwargs or {}))
                return func(*args, **(kwargs or {}))

        with Spy():
            out = self.call(leaves, sample)
            self.grads(out, leaves, torch.randn_like(out))
        assert calls, f"{operator} was not called"
        args, kwargs = calls[0]
        args = tuple(a.detach().requires_grad_(a.is_floating_point()) if isinstance(a, Tensor) else a for a in args)
        torch.library.opcheck(target, args, kwargs)

    @OPERATOR
    def test_fake_tensors_agree(self, layout: str, dtype: torch.dtype, device: torch.device) -> None:
        """Sizes, strides, dtypes and devices, of the result and of the gradients."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        def results(inputs: Any) -> tuple[Tensor, ...]:
            if not dtype.is_floating_point:
                return (self.call(inputs, sample),)
            leaves = self.with_grad(inputs)
            out = self.call(leaves, sample)
            return (out, *self.grads(out, leaves, torch.ones_like(out)))

        sample = self.info.samples[0]
        for parameter_layout in ("contiguous", "channels_last"):
            inputs = self.inputs(sample, dtype, device, layout, parameter_layout)
            with FakeTensorMode() as mode:
                fakes = results(tuple(mode.from_tensor(t) for t in inputs))
            for real, fake in zip(results(inputs), fakes, strict=True):
                assert (fake.shape, fake.stride(), fake.dtype, fake.device) == (
                    real.shape,
                    real.stride(),
                    real.dtype,
                    real.device,
                )

    @pytest.mark.tiers("aten")
    def test_fake_cuda_needs_no_gpu(self) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            shape = self.info.samples[0].shape
            inputs = tuple(
                torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in self.info.op.inputs(shape, torch.float16)
            )
            out = self.call(inputs, self.info.samples[0])
        assert (out.device.type, out.dtype) == ("cuda", torch.float16)

    @OPERATOR
    @pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
    @pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
    def test_autocast(self, low: torch.dtype, compiled: bool, device: torch.device, tier: str) -> None:
        """The dtype in force, whichever it is; gradients in the dtype of what they are gradients of."""
        if tier == "interpreter" and low == torch.bfloat16:
            pytest.skip("bfloat16 raises in Triton's interpreter, which computes it wrongly")
        torch._dynamo.reset()
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))

        def call(*args: Tensor) -> Tensor:
            return self.call(args, sample)

        with torch.autocast(device.type, dtype=low):
            out = (torch.compile(call, backend="aot_eager", fullgraph=True) if compiled else call)(*leaves)
        lowered = self.with_grad(
            t.to(low) if self.info.lowers_in_autocast and t.is_floating_point() else t for t in leaves
        )
        expected = call(*lowered)
        assert out.dtype == expected.dtype
        assert torch.equal(out, expected)
        grad = torch.randn_like(out)
        for a, e in zip(self.grads(out, leaves, grad), self.grads(expected, lowered, grad), strict=True):
            assert a.dtype == torch.float32
            assert torch.equal(a, e.float())

    @OPERATOR
    @pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
    def test_compile_fullgraph(self, dynamic: bool, device: torch.device) -> None:
        from torch._dynamo.testing import CompileCounterWithBackend

        torch._dynamo.reset()
        sample = self.info.samples[0]
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(
            lambda *args: self.call(args, sample), backend=counter, fullgraph=True, dynamic=dynamic
        )
        # sizes that differ where they first appear: those that do not are taken for one
        shapes = [(2, 5, 4, 7), (3, 2, 5, 8), (4, 7, 6, 6)] if dynamic else [(2, 2, 4, 5)]
        compilations = []
        for shape in shapes:
            inputs = self.inputs(sample.resized(shape), torch.float32, device)
            leaves, plain = self.with_grad(inputs), self.with_grad(inputs)
            out, expected = compiled(*leaves), self.call(plain, sample)
            grad = torch.randn_like(expected)
            assert torch.equal(out, expected)
            for a, b in zip(self.grads(out, leaves, grad), self.grads(expected, plain, grad), strict=True):
                assert torch.equal(a, b)
            compilations.append(counter.frame_count)
        assert compilations[0] == compilations[-1], "a shape was compiled anew"

    @OPERATOR
    def test_export_and_reload(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        call = self.call

        class Module(nn.Module):
            def forward(self, *args: Tensor) -> Tensor:
                return call(args, sample)

        inputs = self.inputs(sample, torch.float32, device)
        file = io.BytesIO()
        torch.export.save(torch.export.export(Module(), inputs), file)
        file.seek(0)
        assert torch.equal(torch.export.load(file).module()(*inputs), self.call(inputs, sample))

    @OPERATOR
    def test_module(self, device: torch.device) -> None:
        if self.info.module is None:
            pytest.skip("the op has no module")
        kind, kwargs = self.info.module
        module = kind(**kwargs)
        inputs = self.inputs(self.info.samples[0], torch.float32, device)
        expected = self.info.op.function(*inputs, **kwargs)
        assert torch.equal(module(*inputs), expected)
        assert not torch.equal(kind(**self.info.op.kwargs)(*inputs), expected), (
            "kwargs that change nothing test nothing"
        )
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(*inputs), expected)
            assert repr(twin) == repr(module)

    @pytest.mark.tiers("gpu")
    def test_cuda_graph(self, device: torch.device) -> None:
        """No synchronisation, no tuning, no allocation outside the caching allocator."""
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        grad = torch.ones_like(self.call(leaves, sample))

        def step() -> tuple[Tensor, ...]:
            out = self.call(leaves, sample)
            return (out.detach(), *self.grads(out, leaves, grad))

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            expected = step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        graph.replay()
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))

    @pytest.mark.tiers("gpu")
    def test_compile_inductor(self, device: torch.device) -> None:
        torch._dynamo.reset()
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        assert torch.equal(
            torch.compile(lambda *a: self.call(a, sample), fullgraph=True)(*inputs), self.call(inputs, sample)
        )
