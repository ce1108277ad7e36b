"""Convolutions for FLOP counters: `torch.utils.flop_counter` counts those of torchops as it counts torch's.

A formula asks torch's own for the same convolution, whatever that says of groups and borders. What is counted are operators, so
that all backends count alike: in a backward they are those that run, a convolution that is computed once more included.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_COUNTER = "torch.utils.flop_counter"
_aten = torch.ops.aten


def _register_formulas(counter: ModuleType) -> None:
    formulas, register = counter.flop_registry, counter.register_flop_formula

    def conv2d(x: Tensor, weight: Tensor, bias: Any, residual: Any, *args: Any, out_val: Tensor) -> int:
        stride, padding, dilation, groups, *_ = args
        constants = stride, padding, dilation, False, (0, 0), groups
        return formulas[_aten.convolution](x, weight, bias, *constants, out_val=out_val)

    def conv2d_input_grad(dy: Tensor, weight: Tensor, bias: Any, size: Any, *args: Any, out_val: Tensor) -> int:
        stride, padding, dilation, groups, *_ = args
        constants = stride, padding, dilation, True, (0, 0), groups
        return formulas[_aten.convolution](dy, weight, bias, *constants, out_val=out_val)

    def conv2d_weight_grad(dy: Tensor, x: Tensor, size: Any, *args: Any, out_val: tuple[Tensor, Tensor]) -> int:
        stride, padding, dilation, groups, *_ = args
        constants = stride, padding, dilation, False, (0, 0), groups, (False, True, False)
        return formulas[_aten.convolution_backward](dy, x, out_val[0], None, *constants, out_val=(None, *out_val))

    for formula in (conv2d, conv2d_input_grad, conv2d_weight_grad):
        register(getattr(torch.ops.torchops, formula.__name__), get_raw=True)(formula)


class _Finder(MetaPathFinder):
    """Registers the formulas as soon as torch's counter is imported, which imports triton: `import torchops` does not."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == _COUNTER else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register_formulas(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if _COUNTER in sys.modules:
    _register_formulas(sys.modules[_COUNTER])
else:
    sys.meta_path.insert(0, _Finder())
