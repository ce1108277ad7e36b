"""What a run goes on from."""

from __future__ import annotations

import math

import pytest
import torch

from torchops.models.state import finite


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_finite(dtype: torch.dtype) -> None:
    largest = torch.full((2, 3), torch.finfo(dtype).max, dtype=dtype)
    assert finite({"a": largest, "b": torch.ones(2, dtype=torch.int64)}, None, {"c": torch.empty(0)})
    for bad in ([math.nan], [math.inf], [-math.inf], [math.inf, -math.inf], [math.nan, math.inf]):
        spoiled = largest.clone()
        spoiled.view(-1)[: len(bad)] = torch.tensor(bad, dtype=dtype)
        assert not finite({"a": largest}, {"b": spoiled})
