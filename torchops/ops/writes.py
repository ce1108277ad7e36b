"""Writes to tensors that torch does not count, and who has to hear of them: what keeps something that it made of a tensor.

Most writes are counted, by the tensor's version. Some are not: those to `p.data`, those through memory that NumPy shares, those
of `torch.distributed.broadcast`, and those of a fused optimizer, whose steps are heard of here.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from typing import Any, Protocol

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


class Keeper(Protocol):
    """Keeps what it made of tensors."""

    def drop(self, of: Collection[int] | None = None) -> None:
        """Forget what was made of the tensors of these identities, or of all."""


_lock = threading.Lock()
_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def tell(keeper: Keeper) -> None:
    """Have a keeper told of such writes, as long as it lives."""
    with _lock:
        _keepers.add(keeper)


def _drop(of: Collection[int] | None) -> None:
    with _lock:
        alive = list(_keepers)
    for keeper in alive:
        keeper.drop(of)


def forget() -> None:
    """Have everything made anew that torchops keeps of weights: what compiled models compute of them alone, and packed ones.

    For writes to Parameters that torch does not count: to `p.data`, to memory that NumPy or another library shares, by
    `torch.distributed.broadcast`, or by a CUDA graph; and to a vector that `torch.nn.utils.vector_to_parameters` was given, in
    which Parameters then lie. Steps of torch's optimizers need no such call.

    >>> import torch, torchops
    >>> layer = torchops.nn.Conv2d(3, 8, 3).eval()
    >>> layer.weight.data[0, 0, 0, 0] = 1.0
    >>> torchops.forget()
    """
    _drop(None)


def _forget_steps(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Forget what is kept of an optimizer's Parameters: a fused step of Adam does not count as a write to them."""
    _drop({id(t) for group in optimizer.param_groups for t in group["params"]})


register_optimizer_step_post_hook(_forget_steps)
