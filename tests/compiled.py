"""Compiling a model with torchops's backend, and comparing it with the model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from torchops.compile import Backend, GraphReport

from .conformance import close
from .networks import image


def leaves(result: Any) -> list[Tensor]:
    """The tensors of a result, in whatever containers they are."""
    return [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, Tensor)]


def compiled_as_before(
    model: nn.Module, x: Tensor | None = None, rest: str = "eager", backend: Backend | None = None,
    dtype: torch.dtype = torch.float64,
) -> GraphReport:  # fmt: skip
    """The report on the first graph of the compiled model, which gives the model's results, leaves its input as the model does,
    and its buffers too."""
    backend = backend or Backend(rest=rest, channels_last=False)
    x = (image(2, 4, 9, 8) if x is None else x).to(dtype)
    model = model.to(dtype)
    theirs = copy.deepcopy(model)
    torch.compiler.reset()
    given, left = x.clone(), x.clone()
    with torch.no_grad():
        torch.manual_seed(0)
        expected = theirs(given)
        torch.manual_seed(0)
        actual = torch.compile(model, backend=backend)(left)
    for one, other in zip(leaves(actual), leaves(expected), strict=True):
        assert one.dtype == other.dtype
        close(one, other, dtype, 10)
    close(left, given, dtype, 1)
    for one, other in zip(model.state_dict().values(), theirs.state_dict().values(), strict=True):
        close(one, other, dtype, 1)
    return backend.reports[0]
