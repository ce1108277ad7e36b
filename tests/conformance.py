"""The questions asked of every op, in every tier that can answer them.

An op's test file subclasses `Conformance`, sets `info`, and has been asked. A question belongs here if it makes sense for
an op that is not written yet.
"""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import torchops
from torchops import inspect
from torchops.catalog import TOLERANCE
from torchops.kernels.hardware import DEVICES
from torchops.kernels.launch import record

from .opinfo import LAYOUTS, OpInfo, Rejection, Sample, laid_out

EVERY_TIER = pytest.mark.tiers("aten", "interpreter", "ir", "gpu")
# what concerns the operator and not the kernel: one Triton tier is enough
OPERATOR = pytest.mark.tiers("aten", "interpreter", "gpu")


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype, factor: float = 1.0) -> None:
    """Within the tolerance of the dtype, relative to the largest value (sums of it are what is rounded)."""
    scale = max(1.0, float(expected.detach().nan_to_num(0.0, 0.0, 0.0).abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.double().cpu(), expected.double().cpu(), rtol=0, atol=TOLERANCE[dtype] * scale * factor, equal_nan=True
    )


class Conformance:
    info: ClassVar[OpInfo]

    def inputs(self, sample: Sample, dtype: torch.dtype, device: torch.device, layout: str = "contiguous") -> Any:
        first, *rest = self.info.op.random_inputs(sample.shape, dtype)
        return (laid_out(first.to(device), layout), *(t.to(device) for t in rest))

    def call(self, inputs: Any, sample: Sample) -> Tensor:
        return self.info.op.function(*inputs, **sample.kwargs)

    def expected(self, inputs: Any, sample: Sample) -> Tensor:
        return self.info.op.reference(*(t.detach().double().cpu() for t in inputs), **sample.kwargs)

    def with_grad(self, inputs: Any) -> Any:
        return tuple(t.detach().requires_grad_() for t in inputs)

    def expected_grads(self, inputs: Any, grad: Tensor, sample: Sample) -> Any:
        leaves = self.with_grad(t.double().cpu() for t in inputs)
        out = self.info.op.reference(*leaves, **sample.kwargs)
        return torch.autograd.grad(out, leaves, grad.double().cpu())

    @EVERY_TIER
    def test_matches_reference(self, sample: Sample, device: torch.device) -> None:
        inputs = self.inputs(sample, torch.float32, device)
        close(self.call(inputs, sample), self.expected(inputs, sample), torch.float32)

    @EVERY_TIER
    def test_rounds_once_in_every_dtype(self, dtype: torch.dtype, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, dtype, device)
        out = self.call(inputs, sample)
        assert out.dtype == (dtype if dtype.is_floating_point else torch.float32)
        expected = self.expected(inputs, sample)
        close(out, expected, dtype)
        if dtype in (torch.float16, torch.bfloat16):
            # float32 arithmetic moves hardly any result across a rounding boundary; a second rounding, or none, moves many
            assert (out.cpu() == expected.to(dtype)).double().mean() > 0.98

    @EVERY_TIER
    def test_any_strides(self, layout: str, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device, layout)
        close(self.call(inputs, sample), self.expected(inputs, sample), torch.float32)

    @EVERY_TIER
    def test_same_bits_every_run(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        runs = []
        for _ in range(2):
            out = self.call(leaves, sample)
            runs.append((out, *torch.autograd.grad(out, leaves, torch.ones_like(out))))
        for run in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))

    @EVERY_TIER
    def test_nan_is_data(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        inputs[0].view(-1)[inputs[0].numel() // 2] = torch.nan
        inputs[0].view(-1)[inputs[0].numel() // 3] = torch.inf
        expected = self.expected(inputs, sample)
        assert expected.isnan().any()
        close(self.call(inputs, sample), expected, torch.float32)

    @OPERATOR
    def test_empty_batch(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(Sample((0, *sample.shape[1:]), sample.kwargs), torch.float32, device))
        out = self.call(leaves, sample)
        assert out.shape[0] == 0
        (grad,) = torch.autograd.grad(out.sum(), leaves[:1])
        assert grad.shape == leaves[0].shape

    @OPERATOR
    def test_unbatched(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        first, *rest = self.inputs(sample, torch.float32, device)
        assert torch.equal(self.call((first[0], *rest), sample), self.call((first[:1], *rest), sample)[0])

    @OPERATOR
    def test_output_never_aliases_input(self, sample: Sample, device: torch.device) -> None:
        inputs = self.inputs(sample, torch.float32, device)
        storage = self.call(inputs, sample).untyped_storage().data_ptr()
        assert all(storage != t.untyped_storage().data_ptr() for t in inputs)

    @OPERATOR
    def test_keeps_memory_format(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        for layout, last in (("contiguous", False), ("channels_last", True), ("sliced_channels_last", True)):
            out = self.call(self.inputs(sample, torch.float32, device, layout), sample)
            form = torch.channels_last if out.dim() == 4 else torch.channels_last_3d
            assert out.is_contiguous(memory_format=form) == last, layout
            assert out.is_contiguous() != last, layout

    @EVERY_TIER
    def test_grad_matches_reference(self, sample: Sample, device: torch.device) -> None:
        inputs = self.inputs(sample, torch.float32, device)
        leaves = self.with_grad(inputs)
        out = self.call(leaves, sample)
        grad = torch.randn_like(out)
        for actual, expected in zip(
            torch.autograd.grad(out, leaves, grad), self.expected_grads(inputs, grad, sample), strict=True
        ):
            close(actual, expected, torch.float32, factor=4)

    @EVERY_TIER
    def test_grad_in_every_dtype(self, float_dtype: torch.dtype, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, float_dtype, device)
        leaves = self.with_grad(inputs)
        out = self.call(leaves, sample)
        grad = torch.randn_like(out)
        for actual, expected in zip(
            torch.autograd.grad(out, leaves, grad), self.expected_grads(inputs, grad, sample), strict=True
        ):
            assert actual.dtype == float_dtype
            close(actual, expected, float_dtype, factor=4)

    @EVERY_TIER
    def test_strided_gradient(self, layout: str, device: torch.device) -> None:
        """gradcheck feeds contiguous gradients only; autograd feeds these."""
        sample = self.info.samples[0]
        for input_layout in ("contiguous", "channels_last"):
            inputs = self.inputs(sample, torch.float32, device, input_layout)
            leaves = self.with_grad(inputs)
            out = self.call(leaves, sample)
            grad = torch.randn(out.shape, device=device)
            shape, flat = grad.shape, grad.flatten(2, -2)
            grad = laid_out(flat, layout).unflatten(2, shape[2:-1]) if grad.dim() > 4 else laid_out(grad, layout)
            (actual, *_) = torch.autograd.grad(out, leaves, grad)
            close(actual, self.expected_grads(inputs, grad, sample)[0], torch.float32, factor=4)

    @OPERATOR
    def test_gradient_of_sum(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        leaves = self.with_grad(inputs)
        out = self.call(leaves, sample)
        out.sum().backward()
        close(leaves[0].grad, self.expected_grads(inputs, torch.ones_like(out), sample)[0], torch.float32, factor=4)

    @OPERATOR
    def test_gradcheck(self, sample: Sample, device: torch.device, tier: str) -> None:
        small = Sample((1, 1, *(min(s, 4) for s in sample.shape[2:])), sample.kwargs)
        leaves = self.with_grad(self.inputs(small, torch.float64, device))
        assert torch.autograd.gradcheck(lambda *args: self.call(args, small), leaves, fast_mode=tier == "interpreter")

    @OPERATOR
    def test_gradgradcheck(self, sample: Sample, device: torch.device, tier: str) -> None:
        small = Sample((1, 1, *(min(s, 3) for s in sample.shape[2:])), sample.kwargs)
        leaves = self.with_grad(self.inputs(small, torch.float64, device))
        assert torch.autograd.gradgradcheck(
            lambda *args: self.call(args, small), leaves, fast_mode=tier == "interpreter", atol=1e-4
        )

    @OPERATOR
    def test_create_graph_keeps_the_graph(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        out = self.call(leaves, sample)
        grads = torch.autograd.grad(out, leaves, torch.ones_like(out, requires_grad=True), create_graph=True)
        assert all(g.requires_grad for g in grads)

    @OPERATOR
    def test_no_grad_records_nothing(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        with torch.no_grad():
            assert not self.call(leaves, sample).requires_grad

    @pytest.mark.tiers("aten")
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
    def test_opcheck(self, operator: str, layout: str, device: torch.device) -> None:
        """All four checks, on the very arguments with which the op is called forward and backward."""
        sample = Sample((2, 3, 4, 5), self.info.samples[0].kwargs)
        self.opcheck(operator, self.with_grad(self.inputs(sample, torch.float32, device, layout)), sample)

    @pytest.mark.tiers("aten")
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
    def test_opcheck_empty(self, operator: str, device: torch.device) -> None:
        sample = Sample((0, 3, 4, 5), self.info.samples[0].kwargs)
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
            torch.autograd.grad(out, leaves, torch.randn_like(out))
        assert calls, f"{operator} was not called"
        args, kwargs = calls[0]
        args = tuple(a.detach().requires_grad_() if isinstance(a, Tensor) else a for a in args)
        torch.library.opcheck(target, args, kwargs)

    @OPERATOR
    def test_fake_tensors_agree(self, layout: str, dtype: torch.dtype, device: torch.device) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        sample = self.info.samples[0]
        inputs = self.inputs(sample, dtype, device, layout)
        real = self.call(inputs, sample)
        with FakeTensorMode() as mode:
            fake = self.call(tuple(mode.from_tensor(t) for t in inputs), sample)
        assert (fake.shape, fake.stride(), fake.dtype, fake.device) == (
            real.shape,
            real.stride(),
            real.dtype,
            real.device,
        )

    @pytest.mark.tiers("gpu")
    def test_cuda_graph(self, device: torch.device) -> None:
        """No synchronisation, no tuning, no allocation outside the caching allocator."""
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        grad = torch.ones_like(self.call(leaves, sample))

        def step() -> tuple[Tensor, ...]:
            out = self.call(leaves, sample)
            return (out.detach(), *torch.autograd.grad(out, leaves, grad))

        side = torch.cuda.Stream()
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
    @pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
    def test_compile_fullgraph(self, dynamic: bool, device: torch.device) -> None:
        from torch._dynamo.testing import CompileCounterWithBackend

        torch._dynamo.reset()
        sample = self.info.samples[0]
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(
            lambda *args: self.call(args, sample), backend=counter, fullgraph=True, dynamic=dynamic
        )
        shapes = [(2, 3, 4, 5), (3, 2, 5, 7), (4, 5, 3, 6)] if dynamic else [(2, 2, 4, 5)]
        compilations = []
        for shape in shapes:
            inputs = self.inputs(Sample(shape, sample.kwargs), torch.float32, device)
            leaves, plain = self.with_grad(inputs), self.with_grad(inputs)
            out, expected = compiled(*leaves), self.call(plain, sample)
            grad = torch.randn_like(expected)
            assert torch.equal(out, expected)
            for a, b in zip(
                torch.autograd.grad(out, leaves, grad), torch.autograd.grad(expected, plain, grad), strict=True
            ):
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
    def test_vmap(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(Sample((3, *sample.shape[1:]), sample.kwargs), torch.float32, device)
        stacked = (torch.stack((inputs[0], inputs[0].flip(0)), dim=1), *inputs[1:])
        mapped = torch.vmap(lambda *args: self.call(args, sample), in_dims=(1, *(None for _ in inputs[1:])))(*stacked)
        for i in range(2):
            assert torch.equal(mapped[i], self.call((stacked[0][:, i], *inputs[1:]), sample))

    @OPERATOR
    def test_func_grad_under_vmap(self, device: torch.device) -> None:
        """Gradients image by image: vmap over the backward op."""
        sample = self.info.samples[0]
        first, *rest = self.with_grad(self.inputs(sample, torch.float32, device))
        images = torch.vmap(torch.func.grad(lambda x: self.call((x, *rest), sample).sum()))(first)
        (whole,) = torch.autograd.grad(self.call((first, *rest), sample).sum(), first)
        close(images, whole, torch.float32)

    @pytest.mark.tiers("aten")
    @pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch.func's own
    def test_jvp_is_refused_clearly(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        first, *rest = self.inputs(sample, torch.float32, device)
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward.mode|forward AD"):
            torch.func.jvp(lambda x: self.call((x, *rest), sample), (first,), (torch.ones_like(first),))
        with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode AD"):
            self.call((forward_ad.make_dual(first, torch.ones_like(first)), *rest), sample)

    @OPERATOR
    def test_module(self, device: torch.device) -> None:
        if self.info.module is None:
            pytest.skip("the op has no module")
        kind, kwargs = self.info.module
        module = kind(**kwargs)
        inputs = self.inputs(self.info.samples[0], torch.float32, device)
        expected = self.info.op.function(*inputs, **kwargs)
        assert torch.equal(module(*inputs), expected)
        assert not torch.equal(kind()(*inputs), expected), "kwargs that change nothing test nothing"
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(*inputs), expected)
            assert repr(twin) == repr(module)

    @OPERATOR
    def test_rejects(self, rejection: Rejection) -> None:
        with pytest.raises(rejection.error, match=rejection.match):
            rejection.call()

    @pytest.mark.tiers("compile")
    @pytest.mark.parametrize("arch", list(DEVICES))
    def test_gates(self, arch: str, dtype: torch.dtype) -> None:
        """Compiled for every GPU: nothing spills, everything fits, memory moves little more than once."""
        shape = self.info.op.shape
        for channels_last in (False, True):
            if channels_last:
                shape = (shape[0], 3, *shape[2:])
            reports = inspect.inspect(self.info.op.name, arch, dtype, shape, channels_last=channels_last)
            assert len(reports) == (sum(self.info.launches) if dtype.is_floating_point else self.info.launches[0])
            for r in reports:
                assert (r.spills, r.stack_bytes) == (0, 0), r
                assert r.shared_bytes <= DEVICES[arch].shared_bytes, r
                assert r.registers <= 255, r
                assert r.loop_instructions > 0, r
                # what fits into the last cache is fetched once, whoever reads it again
                assert 1.0 <= r.traffic <= (1.05 if r.bytes_least > DEVICES[arch].l2_bytes else 1.25), r

    @pytest.mark.tiers("compile")
    @pytest.mark.parametrize("padding_mode", ["reflect", "circular", "zeros", "constant"])
    def test_borders_cost_no_launch_and_no_spill(self, padding_mode: str) -> None:
        if not any("padding_mode" in s.kwargs for s in self.info.samples):
            pytest.skip("the op has no border modes")
        plain = inspect.inspect(self.info.op.name, "sm_90", torch.float32)
        for r, p in zip(
            inspect.inspect(self.info.op.name, "sm_90", torch.float32, padding_mode=padding_mode), plain, strict=True
        ):
            assert (r.spills, r.stack_bytes) == (0, 0), r
            assert r.loop_instructions <= 1.5 * p.loop_instructions, (r, p)
            assert r.bytes_moved == p.bytes_moved

    @pytest.mark.tiers("compile")
    def test_launcher_allocates_nothing_but_the_output(self) -> None:
        """No padded copy: below the operator, where dispatch modes see it, one empty tensor is all."""
        sample = self.info.samples[0]
        dispatched: list[str] = []

        class Spy(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if not hasattr(torch.ops.torchops, func._schema.name.partition("::")[2]):
                    dispatched.append(str(func))
                    return func(*args, **(kwargs or {}))
                with self:
                    return self.info.implementation(*args)

        inputs = self.inputs(sample, torch.float32, torch.device("cpu"))
        spy = Spy()
        spy.info = self.info  # type: ignore[attr-defined]
        with record(DEVICES["sm_90"]) as launches, torchops.use_backend("triton"), spy:
            self.call(inputs, sample)
        assert len(launches) == self.info.launches[0]
        assert dispatched == ["aten.empty.memory_format"]


def test_every_layout_has_the_values_it_says() -> None:
    x = torch.randn(2, 3, 4, 5)
    for layout in LAYOUTS:
        expected = x[:1].expand(x.shape) if layout == "expanded" else x
        assert torch.equal(laid_out(x, layout), expected), layout
