"""Memory that nobody has written to: made visible, and remembered until somebody does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKERS = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}


class Memory(TorchFunctionMode):
    """In the block, `torch.empty` and its kin give NaN, or the largest integer; machines note here what kernels store.

    What torch itself writes to is taken for written as a whole: torch counts such writes, and does not say where they go.
    """

    def __init__(self, zeros: bool = False) -> None:
        """Args: zeros: whether lanes that are masked off, and given no value, load 0 instead of :func:`anything`."""
        super().__init__()
        self.zeros = zeros
        self._blank: dict[int, tuple[Tensor, int, np.ndarray]] = {}
        """By where it begins: a tensor, which keeps the memory; how often torch had written to it; which bytes are written."""

    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        # a compiler that traces sees the call above and nothing else
        if not torch.compiler.is_compiling() and getattr(func, "__name__", "") in _MAKERS:
            self._note(made)
        return made

    def _note(self, made: Any) -> None:
        if type(made) is Tensor and made.device.type == "cpu" and made.layout is torch.strided and made.numel():
            with torch.no_grad():
                made.fill_(_blank(made.dtype))
            storage = made.untyped_storage()
            self._blank[storage.data_ptr()] = made, made._version, np.zeros(storage.nbytes(), bool)

    def stored(self, address: int, elements: np.ndarray, itemsize: int) -> None:
        """Note elements of the memory that begins at `address`."""
        written = self._written(address)
        if written is not None:
            written[_bytes(elements, itemsize)] = True

    def missing(self, address: int, elements: np.ndarray, itemsize: int) -> np.ndarray:
        """Those of elements of the memory at `address` that nobody has written."""
        written = self._written(address)
        if written is None:
            return elements[:0]
        return elements[~written[_bytes(elements, itemsize)].all(axis=-1)]

    def forget(self, address: int) -> None:
        """Take the memory at `address` for written, where nobody knows what was stored to it."""
        self._blank.pop(address, None)

    def unwritten(self, tensor: Any) -> Tensor | None:
        """Which elements of a tensor nobody has written; None if that is not known, as of what torch has made."""
        if type(tensor) is not Tensor or not tensor.numel():
            return None
        written = self._written(tensor.untyped_storage().data_ptr())
        if written is None:
            return None
        whole = torch.from_numpy(written.reshape(-1, tensor.element_size()).all(axis=1))
        return ~whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def _written(self, address: int) -> np.ndarray | None:
        made, version, written = self._blank.get(address, (None, 0, None))
        return written if made is not None and made._version == version else None


def _blank(dtype: torch.dtype) -> Any:
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return True if dtype is torch.bool else torch.iinfo(dtype).max


def _bytes(elements: np.ndarray, itemsize: int) -> np.ndarray:
    return np.asarray(elements, np.int64)[..., None] * itemsize + np.arange(itemsize)


def anything(dtype: np.dtype[Any]) -> float:
    """What lanes load that are masked off and given no value: on a GPU it may be anything, here it is no number that fits."""
    if dtype.kind == "f":
        return -999.0
    if dtype.kind == "i":
        return max(-999, int(np.iinfo(dtype).min))
    # of 16 bits, -1000 as ttsem keeps it in bfloat16
    return {"b1": 1, "u1": 165, "u2": 0xC47A}.get(dtype.str[1:], 0xC47AC47A)
