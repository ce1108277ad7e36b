"""What all questions share."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.opinfo import OpInfo, Sample, laid_out
from torchops.catalog import TOLERANCE

EVERY_TIER = pytest.mark.tiers("aten", "interpreter", "ir", "gpu")
# what concerns the operator and not the kernel: one Triton tier is enough
OPERATOR = pytest.mark.tiers("aten", "interpreter", "gpu")


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype, factor: float = 1.0) -> None:
    """Within the tolerance of the dtype, relative to the largest value (sums of it are what is rounded)."""
    scale = max(1.0, float(expected.detach().nan_to_num(0.0, 0.0, 0.0).abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.double().cpu(), expected.double().cpu(), rtol=0, atol=TOLERANCE[dtype] * scale * factor, equal_nan=True
    )


def exact(inputs: Any) -> tuple[Tensor, ...]:
    """In float64; bytes are an image where they come first, and indices after it."""
    return tuple((t.double() if t.is_floating_point() or t is inputs[0] else t).detach().cpu() for t in inputs)


def differentiable(tensors: Any) -> tuple[Tensor, ...]:
    return tuple(t for t in tensors if t.is_floating_point())


class Questions:
    info: ClassVar[OpInfo]

    def inputs(
        self,
        sample: Sample,
        dtype: torch.dtype,
        device: torch.device,
        layout: str = "contiguous",
        parameter_layout: str = "contiguous",
    ) -> Any:
        first, *rest = self.info.op.random_inputs(sample.shape, dtype, parameters=sample.parameters)
        return (laid_out(first.to(device), layout), *(laid_out(t.to(device), parameter_layout) for t in rest))

    def call(self, inputs: Any, sample: Sample) -> Tensor:
        return self.info.op.function(*inputs, **sample.kwargs)

    def expected(self, inputs: Any, sample: Sample) -> Tensor:
        return self.info.op.reference(*exact(inputs), **sample.kwargs)

    def with_grad(self, inputs: Any) -> Any:
        """The inputs as leaves; indices are no numbers that a gradient could be of."""
        return tuple(t.detach().requires_grad_(t.is_floating_point()) for t in inputs)

    def grads(self, out: Tensor, leaves: Any, grad: Tensor, **kwargs: Any) -> tuple[Tensor, ...]:
        """Gradients of all leaves that have one."""
        return torch.autograd.grad(out, differentiable(leaves), grad, **kwargs)

    def expected_grads(self, inputs: Any, grad: Tensor, sample: Sample) -> Any:
        leaves = self.with_grad(exact(inputs))
        return self.grads(self.info.op.reference(*leaves, **sample.kwargs), leaves, grad.double().cpu())
