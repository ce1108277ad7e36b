"""Weights of convolutions that oneDNN has reordered once, where it would reorder them in every call.

oneDNN computes with a layout of its own, and ATen hands it the weight as it is. For inference in float32 on a CPU a copy in
that layout is kept beside the weight, as large as the weight: of those weights alone that somebody declares to be constant,
and only where ATen would ask oneDNN and where the copy gives the same bits.

A copy belongs to the memory of its weight, and goes with it; it is no part of the tensor, so that nothing copies, pickles or
saves it. It is used as long as the weight is the same tensor, counts no write, lies in the same place with the same strides,
and 32 of its elements, spread evenly, have the bits that they had; `torchops.ops.writes` has copies dropped besides.

What goes unseen is a write that torch does not count and that leaves those elements as they were: one to a part of `p.data`,
or of memory that NumPy shares. After one, call `torchops.forget`. A tensor that was made in inference mode counts no
writes, and is never packed.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from torchops.ops.memory import is_channels_last
from torchops.ops.shortcut import is_bare, is_quiet
from torchops.ops.writes import tell
from torchops.torch_internals import asks_onednn, onednn_is_exact, version_of

_PROBES = 32
"""How many elements of a weight are compared in every call, which takes 0.2 us."""
_SIZES = 64
"""For so many kinds of calls of one weight it is known whether they take a copy."""
_COPIES = 4
"""So many of a weight are made at most: for two formats, and for two sets of numbers."""
_LARGE = 1 << 15
"""Elements of a weight from which on it takes longer to reorder it than to ask whether it is what it was."""
_LARGE_CONTIGUOUS = 1 << 18
"""The same for contiguous results, into which the operator for a packed weight takes longer to reorder them."""

_NEW = object()
"""Stands for a kind of call of which nothing is known."""

_Run = Callable[[Tensor, Tensor | None], Tensor | None]
"""Computes a convolution of an image and a bias; None if that bias is not the one that it knows."""


class _Declared:
    """A weight that somebody has declared to be constant, and its copies.

    It has no reference to the tensor: `torch.utils.swap_tensors` would refuse to swap one that is referred to weakly.
    """

    def __init__(self, weight: Tensor) -> None:
        key = id(weight)
        # the memory may outlive the tensor, whose identity another may get: that one has another state, or the same contents
        self._storage = weakref.ref(weight.untyped_storage(), lambda _: declared.pop(key, None))
        self._state = _state(weight)
        n = weight.numel()
        words = (ctypes.c_uint32 * n).from_address(weight.data_ptr())
        # with a divisor in common it would be the same taps or channels again and again
        step = next(step for step in range(max(n // _PROBES, 1), 0, -1) if math.gcd(step, n) == 1)
        self._probe = memoryview(words).cast("B").cast("I")[::step]
        self._probed = self._probe.tobytes()
        self.was_met = False
        self.copies: dict[Any, _Run | None] = {}
        self.kinds: dict[Any, _Run | None] = {}

    def is_unchanged(self, weight: Tensor) -> bool:
        # while this is held, the addresses of the probes are the storage's
        storage = self._storage()
        if storage is None or weight.is_inference():
            return False
        return self._state == _state(weight) and self._probe.tobytes() == self._probed


class _Cache:
    """Forgets copies when it is told of a write."""

    def drop(self, of: Collection[int] | None = None) -> None:
        for key in list(declared) if of is None else of:
            declared.pop(key, None)


declared: dict[int, _Declared] = {}
"""The weights that somebody has declared to be constant, by their identity."""
_cache = _Cache()
tell(_cache)


def _state(weight: Tensor) -> tuple[Any, ...]:
    return version_of(weight), weight.data_ptr(), weight.shape, weight.stride(), weight.dtype


def drop(weight: Tensor) -> None:
    """Take back that a weight is constant."""
    declared.pop(id(weight), None)


def declare(weight: Tensor) -> None:
    """Say that a weight is constant enough for a copy to be made of it: it is not being trained."""
    if id(weight) in declared or weight.numel() < _LARGE or weight.dtype != torch.float32:
        return
    if not is_bare(weight) or weight.is_inference() or weight.is_neg() or weight.dim() != 4:
        return
    # zeros that torch knows to be zeros, and wrappers, have no memory. Of a single product oneDNN rounds the sum with the bias
    # once, or the product before, as its algorithm has it
    if weight.data_ptr() and _is_dense(weight) and weight.shape[1:] != (1, 1, 1):
        declared[id(weight)] = _Declared(weight)


def held(weight: Tensor) -> int:
    """How many copies there are of a weight."""
    known = declared.get(id(weight))
    return 0 if known is None else sum(run is not None for run in known.copies.values())


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor | None:
    """torch's convolution, bit for bit, with a copy of the weight; None if there is none, and torch has to compute it.

    The first call with a declared weight is torch's. So is the second, or the first of its kind, after which a copy is made.
    """
    known = declared.get(id(weight))
    if known is None or torch.is_grad_enabled():
        return None
    numbers = stride, padding, dilation, groups
    # torch has checked the arguments of a kind that is known
    kind = x.shape, x.stride(), None if bias is None else bias.shape, torch.get_num_threads(), numbers
    try:
        run: Any = known.kinds.get(kind, _NEW)
    except TypeError:
        # a dictionary does not take numbers in a list
        return None
    if run is None or not _is_served(x, bias):
        return None
    if not known.is_unchanged(weight):
        drop(weight)
        return None
    if run is _NEW:
        if known.was_met:
            return _first_of_its_kind(known, kind, x, weight, bias)
        # a weight that is another one in every call is never copied
        known.was_met = True
        return None
    y: Tensor | None = run(x, bias)
    if y is None:
        known.kinds[kind] = None
    return y


def _is_served(x: Tensor, bias: Tensor | None) -> bool:
    """Whether a call is a plain one in float32, and oneDNN does what it does by default."""
    return (
        is_quiet(x) and (bias is None or _is_read_as_it_lies(bias)) and x.dtype == torch.float32 and onednn_is_exact()
    )


def _is_read_as_it_lies(bias: Tensor) -> bool:
    return is_bare(bias) and bias.dtype == torch.float32 and bias.is_contiguous() and not bias.is_neg()


def _first_of_its_kind(known: _Declared, kind: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """torch's own convolution, which refuses what is wrong with the arguments. From the next one on a copy of the weight may be
    used, which is made here and tried."""
    *_, numbers = kind
    y = torch.conv2d(x, weight, bias, *numbers)
    if len(known.kinds) >= _SIZES:
        known.kinds.clear()
    known.kinds[kind] = None
    stride, padding, dilation, groups = numbers
    if x.dim() != 4 or not _is_dense(x) or isinstance(padding, str):
        return y
    by, around, apart = ((n, n) if isinstance(n, int) else (*n, *n)[:2] for n in (stride, padding, dilation))
    if not asks_onednn(x, weight, bias, by, around, apart, groups):
        return y
    channels_last = is_channels_last(x) or is_channels_last(weight)
    if not channels_last and weight.numel() < _LARGE_CONTIGUOUS:
        return y
    which = channels_last, by, around, apart, groups
    if which not in known.copies:
        if len(known.copies) >= _COPIES:
            # whoever computes with a weight in ever new ways gains nothing
            return y
        make = _for_channels_last if channels_last else _for_contiguous
        run = make(weight, bias, x.shape, by, around, apart, groups)
        found = run(x, bias)
        # a CPU that takes another algorithm for it may add in another order
        known.copies[which] = run if found is not None and _is_same(found, y) else None
    known.kinds[kind] = known.copies[which]
    return y


def _is_dense(t: Tensor) -> bool:
    """Whether a tensor lies in the order that its format promises, also where it has one element in a dimension: oneDNN takes
    other strides there for another format."""
    _, c, h, w = t.shape
    return t.stride() in ((c * h * w, h * w, w, 1), (c * h * w, 1, w * c, c))


def _is_same(y: Tensor, z: Tensor) -> bool:
    """Whether two results have the same strides and the same bits."""
    return y.stride() == z.stride() and torch.equal(y.view(torch.int32), z.view(torch.int32))


def _for_channels_last(
    weight: Tensor, bias: Tensor | None, size: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: int
) -> _Run:
    reorder = torch.ops.aten.mkldnn_reorder_conv2d_weight.default
    packed = reorder(weight.detach().to_mkldnn(), padding, stride, dilation, groups, size)
    convolve = torch.ops.mkldnn._convolution_pointwise.default

    def run(x: Tensor, bias: Tensor | None) -> Tensor:
        # with its own relu oneDNN would make 0 of NaN
        y: Tensor = convolve(x, packed, bias, padding, stride, dilation, groups, "none", [], "")
        return y

    return run


def _for_contiguous(
    weight: Tensor, bias: Tensor | None, size: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: int
) -> _Run:
    """The operator above makes a channels_last result of a packed weight, with other bits. This one does not, but keeps a
    bias, whose bits are compared in every call, and keeps the weight that it is given, to be pickled with."""
    operators = torch.ops.mkldnn_prepacked
    given = weight.detach().clone()
    own = None if bias is None else bias.detach().clone()
    packed = operators.conv2d_prepack.default(given, own, stride, padding, dilation, groups, size, "none")
    # nobody pickles it, and so the memory may go
    given.untyped_storage().resize_(0)
    convolve, known = operators.conv2d_run.default, _bytes(own)

    def run(x: Tensor, bias: Tensor | None) -> Tensor | None:
        if _bytes(bias) != known:
            return None
        y: Tensor = convolve(x, packed)
        return y

    return run


def _bytes(t: Tensor | None) -> bytes:
    """The memory of a contiguous tensor; nothing of none, and of zeros that have none."""
    address = 0 if t is None else t.data_ptr()
    return ctypes.string_at(address, 4 * t.numel()) if t is not None and address else b""
