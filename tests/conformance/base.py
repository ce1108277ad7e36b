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
        return self.info.op.reference(*(t.detach().double().cpu() for t in inputs), **sample.kwargs)

    def with_grad(self, inputs: Any) -> Any:
        return tuple(t.detach().requires_grad_() for t in inputs)

    def expected_grads(self, inputs: Any, grad: Tensor, sample: Sample) -> Any:
        leaves = self.with_grad(t.double().cpu() for t in inputs)
        out = self.info.op.reference(*leaves, **sample.kwargs)
        return torch.autograd.grad(out, leaves, grad.double().cpu())
