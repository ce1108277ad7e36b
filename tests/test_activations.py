"""The one table of activations: every row is one function, and the kernels have a branch for each."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
import torch
import triton
import triton.language as tl

import torchops
from torchops.activations import ACTIVATIONS
from torchops.kernels.device import activations as device_code


def values() -> torch.Tensor:
    """All around the kinks, and what has no number."""
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    return torch.cat([grid, torch.tensor([-torch.inf, -1e3, -0.0, 1e-300, 1e3, torch.inf, torch.nan]).double()])


@triton.jit
def activate_kernel(x_ptr, y_ptr, COUNT: tl.constexpr, ACTIVATION: tl.constexpr):
    """One program for all elements."""
    offs = tl.arange(0, COUNT)
    tl.store(y_ptr + offs, device_code.activate(tl.load(x_ptr + offs), ACTIVATION))


def test_kernels_have_a_branch_for_each() -> None:
    """What is in no branch would go through unchanged."""
    tree = ast.parse(inspect.getsource(device_code))
    (activate,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "activate")
    asked = [ast.unparse(node.test) for node in ast.walk(activate) if isinstance(node, ast.If)]
    assert asked == [f"ACTIVATION == {name!r}" for name in ACTIVATIONS]


# NumPy's, of infinity times 0 in the interpreter: ATen too has no number for it
@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply:RuntimeWarning")
@pytest.mark.tiers("interpreter", "ir")
@pytest.mark.parametrize("name", ["none", *ACTIVATIONS])
def test_kernels_compute_the_function(name: str) -> None:
    x = values().float()
    x = torch.cat([x, x[: 1024 - len(x)]])
    y = torch.empty_like(x)
    activate_kernel[(1,)](x, y, COUNT=1024, ACTIVATION=name)
    expected = x.double() if name == "none" else ACTIVATIONS[name].function(x.double())
    torch.testing.assert_close(y.double(), expected, rtol=2e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_row_is_one_function(name: str) -> None:
    row, x = ACTIVATIONS[name], values()
    expected = row.function(x)
    written = x.clone()
    assert row.in_place(written).data_ptr() == written.data_ptr()
    torch.testing.assert_close(written, expected, equal_nan=True)
    layer = row.layer()
    torch.testing.assert_close(layer(x), expected, equal_nan=True)
    assert {setting: getattr(layer, setting) for setting in row.settings} == row.settings


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_is_that_of_what_is_kept(name: str) -> None:
    row = ACTIVATIONS[name]
    x = (values()[:-7] + 1 / 256).requires_grad_()
    y = row.function(x)
    dy = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    (expected,) = torch.autograd.grad(y, x, dy)
    torch.testing.assert_close(row.backward(dy, y if row.keeps == "output" else x), expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rounding_commutes_with_the_exact_ones(name: str) -> None:
    """Two roundings to 8 bits are one, or else somewhere they are not."""
    row, x = ACTIVATIONS[name], torch.linspace(-8, 8, 100_001)
    same = torch.equal(row.function(x.bfloat16().float()).bfloat16(), row.function(x).bfloat16())
    assert same == row.exact


def test_names_are_documented() -> None:
    doc = " ".join((torchops.conv2d.__doc__ or "").split())
    found = re.search(r"None, or (.*?)\. residual:", doc)
    assert found is not None
    assert re.findall(r'"(\w+)"', found[1]) == list(ACTIVATIONS)
    kept = re.search(r"at most four times\. (.*) keep the result .*; (.*) keep what they need", doc)
    assert kept is not None
    for names, what in zip(kept.groups(), ("output", "input"), strict=True):
        assert re.split(r", | and ", names) == [row.name for row in ACTIVATIONS.values() if row.keeps == what]
