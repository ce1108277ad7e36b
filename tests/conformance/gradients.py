"""Gradients of the first and second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.opinfo import Sample, laid_out

from .base import EVERY_TIER, OPERATOR, Questions, close


class Gradients(Questions):
    def compare_grads(
        self, inputs: Any, sample: Sample, dtype: torch.dtype, lay_out: Callable[[Tensor], Tensor] = lambda grad: grad
    ) -> None:
        """The gradient of every tensor against the reference's, for a random incoming gradient."""
        leaves = self.with_grad(inputs)
        out = self.call(leaves, sample)
        grad = lay_out(torch.randn_like(out))
        actual, expected = self.grads(out, leaves, grad), self.expected_grads(inputs, grad, sample)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            close(a, e, dtype, factor=4)

    def small(self, sample: Sample, limit: int) -> Sample:
        """A sample for finite differences: fewer pixels, where the op has no tensors that fit only its own."""
        if self.info.further:
            return sample
        if "kernel_size" in sample.kwargs:
            # a window has to fit
            return sample.resized((1, 1, *sample.shape[2:]))
        return sample.resized((1, 1, *(min(s, limit) for s in sample.shape[2:])))

    @EVERY_TIER
    def test_grad_matches_reference(self, sample: Sample, device: torch.device) -> None:
        self.compare_grads(self.inputs(sample, torch.float32, device), sample, torch.float32)

    @EVERY_TIER
    def test_grad_in_every_dtype(self, float_dtype: torch.dtype, device: torch.device) -> None:
        sample = self.info.samples[0]
        self.compare_grads(self.inputs(sample, float_dtype, device), sample, float_dtype)

    @EVERY_TIER
    def test_strided_gradient(self, layout: str, device: torch.device, tier: str) -> None:
        """gradcheck feeds contiguous gradients only; autograd feeds these. Inputs and weights in both formats, mixed."""
        sample = self.info.samples[0]

        def lay_out(grad: Tensor) -> Tensor:
            shape, flat = grad.shape, grad.flatten(2, -2)
            return laid_out(flat, layout).unflatten(2, shape[2:-1]) if grad.dim() > 4 else laid_out(grad, layout)

        formats = ("contiguous", "channels_last")
        for input_layout in formats:
            for parameter_layout in formats if self.info.further else formats[:1]:
                if tier == "ir" and input_layout != parameter_layout:
                    continue  # compiled for each: the interpreter has seen the mixtures
                inputs = self.inputs(sample, torch.float32, device, input_layout, parameter_layout)
                self.compare_grads(inputs, sample, torch.float32, lay_out)

    @OPERATOR
    def test_gradient_of_sum(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        leaves = self.with_grad(inputs)
        out = self.call(leaves, sample)
        out.sum().backward()
        close(leaves[0].grad, self.expected_grads(inputs, torch.ones_like(out), sample)[0], torch.float32, factor=4)

    @OPERATOR
    def test_gradcheck(self, costly_sample: Sample, device: torch.device, tier: str) -> None:
        small = self.small(costly_sample, 4)
        leaves = self.with_grad(self.inputs(small, torch.float64, device))
        fast = tier == "interpreter" or sum(t.numel() for t in leaves) > 100
        assert torch.autograd.gradcheck(
            lambda *args: self.call(args, small), leaves, fast_mode=fast,
            check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True,
        )  # fmt: skip

    @OPERATOR
    def test_gradgradcheck(self, costly_sample: Sample, device: torch.device, tier: str) -> None:
        small = self.small(costly_sample, 3)
        leaves = self.with_grad(self.inputs(small, torch.float64, device))
        fast = tier == "interpreter" or sum(t.numel() for t in leaves) > 100
        assert torch.autograd.gradgradcheck(
            lambda *args: self.call(args, small), leaves, fast_mode=fast, atol=1e-4,
            check_fwd_over_rev=True, check_batched_grad=tier != "interpreter",
        )  # fmt: skip

    @OPERATOR
    def test_create_graph_keeps_the_graph(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        out = self.call(leaves, sample)
        grads = self.grads(out, leaves, torch.ones_like(out, requires_grad=True), create_graph=True)
        assert all(g.requires_grad for g in grads)
