"""Being mapped, differentiated forward, and functionalised: `torch.func`, forward mode, batched gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.opinfo import Sample

from .base import EVERY_TIER, OPERATOR, Questions, close, differentiable, exact


class Transforms(Questions):
    def of_floats(self, inputs: Any, sample: Sample, function: Callable[..., Tensor] | None = None) -> Any:
        """The op, or `function`, of its floating-point tensors, which come first, and these."""
        function = function or self.info.op.function
        floats = differentiable(inputs)
        return lambda *args: function(*args, *inputs[len(floats) :], **sample.kwargs), floats

    @EVERY_TIER
    def test_jvp_matches_reference(self, sample: Sample, device: torch.device) -> None:
        inputs = self.inputs(sample, torch.float32, device)
        call, primals = self.of_floats(inputs, sample)
        tangents = tuple(torch.randn_like(p) for p in primals)
        out, tangent = torch.func.jvp(call, primals, tangents)
        call, primals = self.of_floats(exact(inputs), sample, self.info.op.reference)
        expected, expected_tangent = torch.func.jvp(call, primals, exact(tangents))
        close(out, expected, torch.float32)
        close(tangent, expected_tangent, torch.float32, factor=4)

    @OPERATOR
    def test_jvp_of_each_tensor(self, device: torch.device) -> None:
        """What has no tangent is a constant."""
        inputs = self.inputs(self.info.samples[0], torch.float32, device)
        call, primals = self.of_floats(inputs, self.info.samples[0])
        tangents = tuple(torch.randn_like(p) for p in primals)
        zeros = tuple(torch.zeros_like(p) for p in primals)
        for i in range(len(primals)):
            alone = torch.func.jvp(
                lambda x, i=i: call(*primals[:i], x, *primals[i + 1 :]), (primals[i],), (tangents[i],)
            )
            among = torch.func.jvp(call, primals, (*zeros[:i], tangents[i], *zeros[i + 1 :]))
            close(alone[1], among[1], torch.float32)

    @OPERATOR
    def test_jvp_in_autocast(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        call, primals = self.of_floats(self.inputs(sample, torch.float32, device), sample)
        tangents = tuple(torch.randn_like(p) for p in primals)
        with torch.autocast(device.type, dtype=torch.float16):
            out, tangent = torch.func.jvp(call, primals, tangents)
        assert out.dtype == tangent.dtype == (torch.float16 if self.info.lowers_in_autocast else torch.float32)
        close(tangent, torch.func.jvp(call, primals, tangents)[1], torch.float16, factor=4)

    @pytest.mark.tiers("aten")
    def test_hessian(self, costly_sample: Sample, device: torch.device) -> None:
        """Forward over reverse, reverse over reverse, and the vectorized ways of torch.autograd."""
        inputs = self.inputs(self.small(costly_sample, 3), torch.float64, device)
        call, primals = self.of_floats(inputs, self.small(costly_sample, 3))
        weights = torch.randn_like(call(*primals))

        def loss(x: Tensor) -> Tensor:
            return (weights * call(x, *primals[1:]).sin()).sum()

        expected = torch.func.jacrev(torch.func.jacrev(loss))(primals[0])
        close(torch.func.hessian(loss)(primals[0]), expected, torch.float64, factor=10)
        for strategy in ({}, {"vectorize": True}, {"vectorize": True, "outer_jacobian_strategy": "forward-mode"}):
            close(torch.autograd.functional.hessian(loss, primals[0], **strategy), expected, torch.float64, factor=10)

    @OPERATOR
    def test_batched_gradients(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        out = self.call(leaves, sample)
        grads = torch.randn(3, *out.shape, device=device)
        batched = self.grads(out, leaves, grads, is_grads_batched=True, retain_graph=True)
        singly = zip(*(self.grads(out, leaves, grad, retain_graph=True) for grad in grads), strict=True)
        for b, s in zip(batched, singly, strict=True):
            close(b, torch.stack(s), torch.float32, factor=4)

    @OPERATOR
    def test_vmap(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample.resized((3, *sample.shape[1:])), torch.float32, device)
        stacked = (torch.stack((inputs[0], inputs[0].flip(0)), dim=1), *inputs[1:])
        mapped = torch.vmap(lambda *args: self.call(args, sample), in_dims=(1, *(None for _ in inputs[1:])))(*stacked)
        for i in range(2):
            # a matrix product of other sizes may add in another order
            close(mapped[i], self.call((stacked[0][:, i], *inputs[1:]), sample), torch.float32)

    @OPERATOR
    def test_func_grad_under_vmap(self, device: torch.device) -> None:
        """Gradients image by image: vmap over the backward op."""
        sample = self.info.samples[0]
        first, *rest = self.with_grad(self.inputs(sample, torch.float32, device))
        # indices go with their images
        dims = 0, *(0 if self.info.op.offsets else None for _ in rest)
        images = torch.vmap(torch.func.grad(lambda *args: self.call(args, sample).sum()), in_dims=dims)(first, *rest)
        (whole,) = torch.autograd.grad(self.call((first, *rest), sample).sum(), first)
        close(images, whole, torch.float32)

    @OPERATOR
    def test_func_grad_in_autocast(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        everything = tuple(i for i, t in enumerate(leaves) if t.is_floating_point())
        with torch.autocast(device.type, dtype=torch.float16):
            grads = torch.func.grad(lambda *args: self.call(args, sample).sum(), argnums=everything)(*leaves)
            out = self.call(leaves, sample).sum()
        for a, e in zip(grads, torch.autograd.grad(out, differentiable(leaves)), strict=True):
            assert a.dtype == torch.float32
            close(a, e, torch.float16)

    @OPERATOR
    def test_functionalize(self, device: torch.device) -> None:
        """Innermost, outermost, and of the gradient; and into a graph."""
        from torch.fx.experimental.proxy_tensor import make_fx

        sample = self.info.samples[0]
        call, primals = self.of_floats(self.inputs(sample, torch.float32, device), sample)

        def loss(*args: Tensor) -> Tensor:
            return call(*args).square().sum()

        functionalize, grad = torch.func.functionalize, torch.func.grad
        assert torch.equal(functionalize(call)(*primals), call(*primals))
        expected = grad(loss)(*primals)
        assert torch.equal(functionalize(grad(loss))(*primals), expected)
        assert torch.equal(grad(functionalize(loss))(*primals), expected)
        assert torch.equal(make_fx(functionalize(grad(loss)))(*primals)(*primals), expected)

    @pytest.mark.tiers("aten")
    @pytest.mark.parametrize("transform", ["grad", "jvp", "hessian"])
    def test_transforms_are_compiled(self, transform: str, device: torch.device) -> None:
        torch._dynamo.reset()
        sample = self.small(self.info.samples[0], 3)
        call, primals = self.of_floats(self.inputs(sample, torch.float64, device), sample)
        tangent = torch.randn_like(primals[0])

        def loss(x: Tensor) -> Tensor:
            return call(x, *primals[1:]).sin().sum()

        transformed: Callable[[Tensor], Tensor] = {
            "grad": torch.func.grad(loss),
            "jvp": lambda x: torch.func.jvp(loss, (x,), (tangent,))[1],
            "hessian": torch.func.hessian(loss),
        }[transform]
        compiled = torch.compile(transformed, backend="aot_eager", fullgraph=True)
        close(compiled(primals[0]), transformed(primals[0]), torch.float64)
