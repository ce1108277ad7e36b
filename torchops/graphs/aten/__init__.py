"""torchops's operators in ATen's, without a write: for programs that run where torchops is not, and for compilers of ATen.

`ATEN` is a table of decompositions. What they trace has the sizes, the dtype and the very strides that the operator's fake
promises, rounds once where the operator does, and stays away from what ATen computes wrongly on a CPU, as `ops/conv2d/aten.py`
does. Sizes may be symbolic: nothing is asked of them that would bind them, unless the operator has asked it already. Where a
question stays open, what is traced is right for every answer.

There is one file an op family. What the families share:

promises.py    dtype and format of a result
borders.py     pads with any border, and their adjoint
windows.py     windows of pools
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torchops.ops  # noqa: F401 (what is decomposed has to be registered)

from . import avg_pools, conv2d, max_pools, sobel

_FAMILIES = (avg_pools, conv2d, max_pools, sobel)

ATEN: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {operator: made for family in _FAMILIES for operator, made in family.ATEN.items()}
)
"""Every operator of torchops as a function that calls ATen's: for `run_decompositions`, `make_fx` and the compilers."""
