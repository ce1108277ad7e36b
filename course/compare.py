"""A result beside the specification's."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from .lesson import Step
from .memory import Memory
from .report import Finding, Patch

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Of results, relative and absolute; integers are equal."""


def compare(got: Any, want: Any, dtype: torch.dtype, memory: Memory | None = None) -> Finding:
    """A result beside the reference's, which is in float64 where a result is to be `dtype`; a tuple one by one.

    Args:
        got: what a function returned.
        want: what it is to return; a tensor, or a tuple of them.
        dtype: of results that are not whole numbers.
        memory: what is known to be written; where that is not known, NaN is taken for what nobody has written.
    """
    if not isinstance(want, tuple):
        return _compare(got, want, dtype, memory)
    if not isinstance(got, tuple | list) or len(got) != len(want):
        given = f"{len(got)} results" if isinstance(got, tuple | list) else _kind(got)
        return Finding("shape", detail=f"the function returned {given}, expected {len(want)} tensors")
    for n, (one, other) in enumerate(zip(got, want, strict=True), 1):
        found = _compare(one, other, dtype, memory)
        if found.kind != "ok":
            return dataclasses.replace(found, output=f"result {n} of {len(want)}")
    return Finding("ok")


def _kind(got: Any) -> str:
    if got is None:
        return "None: does it end with `return`?"
    return (
        "one tensor"
        if isinstance(got, Tensor)
        else f"{'an' if type(got).__name__[0] in 'aeiou' else 'a'} {type(got).__name__}"
    )


def _compare(got: Any, want: Tensor, dtype: torch.dtype, memory: Memory | None) -> Finding:
    if not isinstance(got, Tensor):
        more = "" if got is None else ", expected a tensor"
        return Finding("shape", detail=f"the function returned {_kind(got)}{more}")
    expected = dtype if want.is_floating_point() else want.dtype
    if got.shape != want.shape:
        given, asked = (_shape(t) for t in (got, want))
        return Finding("shape", detail=f"the function returned a tensor of shape {given}, expected {asked}")
    if got.dtype != expected:
        return Finding("shape", detail=f"the function returned {str(got.dtype)[6:]}, expected {str(expected)[6:]}")
    if got.device != want.device:
        return Finding(
            "shape", detail=f"the function returned a tensor on the device {got.device}, expected {want.device}"
        )
    a, b = got.detach().double(), want.detach().double()
    tolerance = TOLERANCE.get(expected, 0.0)
    bad = ~torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    known = None if memory is None else memory.unwritten(got)
    never = a.isnan() & ~b.isnan() if known is None else known
    if never.any():
        return _finding("unwritten", a, b, never)
    return _finding("values", a, b, bad) if bad.any() else Finding("ok")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "() (one number)"


def _finding(kind: str, got: Tensor, want: Tensor, bad: Tensor) -> Finding:
    first = tuple(int(i) for i in bad.nonzero()[0])
    return Finding(
        kind, wrong=int(bad.sum()), of=want.numel(), first=first, got=float(got[first]), want=float(want[first]),
        patch=_patch(got, want, bad, first),
    )  # fmt: skip


def _patch(got: Tensor, want: Tensor, bad: Tensor, first: tuple[int, ...]) -> Patch:
    """Five rows of seven columns around the first wrong element, of its plane."""
    planes = [t.reshape(*((1,) * (2 - t.dim())), *t.shape)[first[:-2]] for t in (got, want, bad)]
    row, col = (0, 0, *first)[-2:]
    h = max(0, min(row - 2, planes[0].shape[0] - 5))
    w = max(0, min(col - 3, planes[0].shape[1] - 7))
    cut = [plane[h : h + 5, w : w + 7].tolist() for plane in planes]
    return Patch(h, w, *cut)


def recognised(found: Finding, got: Any, want: Any, step: Step, inputs: tuple[Any, ...], dtype: torch.dtype) -> Finding:
    """A finding of wrong values, with the mistake that it is, and words for the first of them."""
    explained = ""
    if step.explain is not None and math.isfinite(found.got):
        explained = step.explain(inputs, found.first, found.got, found.want)
    tolerance = TOLERANCE.get(dtype, 1e-5)
    for mistake in step.mistakes:
        wrong = mistake.formula(*inputs)
        if _same(got, wrong, tolerance) and not _same(wrong, want, tolerance):
            return dataclasses.replace(found, mistake=mistake.name, says=mistake.says, explained=explained)
    return dataclasses.replace(found, explained=explained)


def _same(a: Any, b: Any, tolerance: float) -> bool:
    first, second = (one if isinstance(one, tuple | list) else (one,) for one in (a, b))
    return len(first) == len(second) and all(
        x.shape == y.shape
        and torch.allclose(x.detach().double(), y.detach().double(), rtol=tolerance, atol=tolerance, equal_nan=True)
        for x, y in zip(first, second, strict=True)
    )
