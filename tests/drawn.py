"""What drawn tests ask of every op, and in which manners they call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from torchops.catalog import TOLERANCE

from .opinfo import REPEATING, VIEWS

# the dtypes that a tier cannot compute, and what stands in for them
STAND_INS = {
    ("interpreter", torch.bfloat16): torch.float16,
    ("ir", torch.float64): torch.float32,
}
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# a (C, H, W) image takes these along
_OF_IMAGES = ("input", "indices", "residual", "grad")

_diary: Path | None = None


def keep_diary(file: Path | None) -> None:
    """Write every example to that file before it is tried, and afterwards what came of it: a crash leaves it without an end."""
    global _diary
    _diary = file


def _note(*words: str) -> None:
    if _diary is not None:
        with _diary.open("a") as file:
            print(*words, sep="\t", file=file)


@contextmanager
def drawn(family: str, example: object) -> Iterator[None]:
    """The trial of an example, with the same random values whenever it is tried."""
    # torch.manual_seed would turn to devices that no value is drawn on
    torch.default_generator.manual_seed(0)
    _note("tries", family, repr(example))
    try:
        yield
    except Exception:
        _note("failed", family)
        raise
    _note("passed", family)


@dataclass(frozen=True)
class Manner:
    """How an op is called, whatever its geometry."""

    dtype: torch.dtype = torch.float32
    views: dict[str, str] = field(default_factory=dict)
    """Of its tensors by name, and of "grad", the incoming gradient; contiguous where it does not say."""
    batched: bool = True
    """Whether images have a batch dimension; they keep one of several."""
    order: int = 1
    """Of the derivatives, in float32 and float64."""
    written: str | None = None
    """The tensor, or the "output", that is written to between forward and backward."""

    def without_repeated(self, name: str) -> Manner:
        """The same, but for a view of that tensor which repeats values."""
        return replace(self, views={**self.views, name: "contiguous"}) if self.views.get(name) in REPEATING else self

    def arranged(self, name: str, t: Tensor) -> Tensor:
        t = {**VIEWS, **REPEATING}[self.views.get(name, "contiguous")](t)
        return t.squeeze(0) if not self.batched and len(t) == 1 and name in _OF_IMAGES else t


@st.composite
def manners(draw: st.DrawFn, *names: str, dtypes: tuple[torch.dtype, ...] = FLOATS) -> Manner:
    """Of an op that takes, or returns, tensors of these names."""
    any_view, own_view = st.sampled_from((*VIEWS, *REPEATING)), st.sampled_from(tuple(VIEWS))
    return Manner(
        draw(st.sampled_from(dtypes)),
        # repeated offsets would point beyond the image
        {name: draw(own_view if name == "indices" else any_view) for name in (*names, "grad")},
        batched=draw(st.sampled_from((True, True, True, False))),
        order=draw(st.sampled_from((1, 1, 1, 2))),
        written=draw(st.sampled_from((None, None, None, "output", *names))),
    )


def _exact(t: Tensor) -> Tensor:
    """Its values, in memory of its own; in float64 where a gradient can be of them."""
    t = t.detach().cpu().clone(memory_format=torch.contiguous_format)
    return t.double() if t.is_floating_point() else t


def _check(what: str, actual: Tensor, expected: Tensor, tolerance: float, unit: float) -> None:
    """Within the tolerance, relative to the largest value expected, or to the unit if that is larger."""
    expected = expected.detach().view(actual.shape)
    finite = expected.nan_to_num(0.0, 0.0, 0.0).abs()
    scale = max(unit, float(finite.max())) if finite.numel() else unit
    # half of the least number above 0 is what rounding to float16 may lose
    torch.testing.assert_close(
        actual.detach().cpu().double(), expected, rtol=0, atol=tolerance * scale + (3e-8 if tolerance else 0.0),
        equal_nan=True, msg=lambda message: f"{what}: {message}",
    )  # fmt: skip


def _leaves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that have a gradient: indices and bytes have none."""
    return {name: t.requires_grad_() for name, t in tensors.items() if t.is_floating_point()}


def _memory(t: Tensor) -> Tensor:
    """What t is a view of: it can be written to also where t overlaps itself."""
    return t if t._base is None else t._base


def examine(
    function: Callable[..., Any],
    specified: Callable[..., Any],
    tensors: dict[str, Tensor],
    manner: Manner,
    device: torch.device,
    tier: str,
    *,
    factors: tuple[float, float] = (1, 4),
    unit: float = 1.0,
    smooth: Callable[..., Tensor] | None = None,
) -> None:
    """A call's values and gradients against a specification in float64, and what it does to the memory of its tensors.

    Args:
        function, specified: of the tensors by name; each returns a tensor, or one and indices.
        tensors: (N, C, H, W) images and others; numbers in float64.
        factors: of the dtype's tolerance, for values and for gradients; 0 where nothing is computed.
        unit: what the op makes of a sum of ones, where that is no number of the order of 1.
        smooth: whether the function can be differentiated where the specification stands, of the same tensors.
    """
    dtype = STAND_INS.get((tier, manner.dtype), manner.dtype)
    # bytes and indices are what they are
    views = {
        name: manner.arranged(name, t.to(device, dtype if t.is_floating_point() else t.dtype))
        for name, t in tensors.items()
    }
    # a leaf of autograd, but in the memory of the view
    mine = {name: t.detach() for name, t in views.items()}
    before = {name: _exact(t) for name, t in mine.items()}
    exact = {name: t.view(tensors[name].shape).clone() for name, t in before.items()}
    leaves, exact_leaves = _leaves(mine), _leaves(exact)
    if mine["input"].dtype == torch.uint8:
        exact["input"] = exact["input"].double()

    def check_memory(*results: Tensor) -> None:
        for name, t in mine.items():
            assert torch.equal(_exact(t).nan_to_num(), before[name].nan_to_num()), f"{name} was written to"
        taken = {t.untyped_storage().data_ptr() for t in mine.values()} - {0}
        assert taken.isdisjoint(t.untyped_storage().data_ptr() for t in results), "a result lies in an input's memory"

    out, *places = _as_tuple(function(**mine))
    expected, *expected_places = _as_tuple(specified(**exact))
    assert out.dtype == (dtype if leaves else torch.float32)
    assert out.dim() == mine["input"].dim() + expected.dim() - 4
    _check("output", out, expected, TOLERANCE[out.dtype] * factors[0], unit)
    for place, wanted in zip(places, expected_places, strict=True):
        assert torch.equal(place.cpu().long(), wanted.view(place.shape)), "indices"
    check_memory(out, *places)
    if not leaves:
        assert not out.requires_grad
        return
    if tier == "aten":
        # who asks for no gradient may be answered in another way
        with torch.no_grad():
            inferred, *found_places = _as_tuple(function(**mine))
        _check("output without a gradient", inferred, expected, TOLERANCE[out.dtype] * factors[0], unit)
        assert inferred.stride() == out.stride()
        assert all(map(torch.equal, found_places, places))

    grad = torch.randn(expected.shape, dtype=torch.float64)
    if smooth is not None:
        grad *= smooth(**{name: t.detach() for name, t in exact.items()})
        # of repeated values, those that have to be 0 would be others
        manner = manner.without_repeated("grad")
    grad = manner.arranged("grad", grad.to(device, dtype)).detach()
    exact_grad = _exact(grad).view(expected.shape)
    writable = {name: _memory(t) for name, t in views.items()}
    writable.update(zip(("output", "indices"), (out, *places), strict=False))
    written = writable.get(manner.written)
    if written is not None:
        # indices stay indices
        written.mul_(-2 if written.is_floating_point() or written.is_complex() else 0)
        expected = expected * -2 if written is out else expected
    twice = manner.order == 2 and dtype in (torch.float32, torch.float64) and written is None and smooth is None
    if twice:
        grad.requires_grad_()
        exact_grad.requires_grad_()
    try:
        found = torch.autograd.grad(out, list(leaves.values()), grad, create_graph=twice)
    except RuntimeError as error:
        if written is None or "modified by an inplace operation" not in str(error):
            raise
        return
    wanted = torch.autograd.grad(expected, list(exact_leaves.values()), exact_grad, create_graph=twice)
    for name, a, e in zip(leaves, found, wanted, strict=True):
        assert a.dtype == dtype
        assert a.shape == leaves[name].shape
        _check(f"gradient of {name}", a, e, TOLERANCE[dtype] * factors[1], unit)
    if written is None:
        check_memory(*found)
        assert torch.equal(_exact(grad), exact_grad.detach().view(grad.shape)), "the incoming gradient was written to"
    if twice:
        sources, exact_sources = {**leaves, "grad": grad}, [*exact_leaves.values(), exact_grad]
        along = [_exact(torch.randn(e.shape).to(dtype)) for e in wanted]
        mine_along = [v.to(device, dtype).view(a.shape) for v, a in zip(along, found, strict=True)]
        # what is linear in a tensor has no second derivative in it
        unused = {"allow_unused": True, "materialize_grads": True}
        found = torch.autograd.grad(found, list(sources.values()), mine_along, **unused)
        wanted = torch.autograd.grad(wanted, exact_sources, along, **unused)
        for name, a, e in zip(sources, found, wanted, strict=True):
            _check(f"second gradient of {name}", a, e, TOLERANCE[dtype] * factors[1] * 4, unit)


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
