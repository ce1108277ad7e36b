"""Autocast: whether it is on, and operators that run in its low precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchops.torch_internals import device_in_keys, key, key_set, plugged_in_device, without_keys


def _lowered(args: tuple[Any, ...], device_type: str) -> tuple[Any, ...]:
    """args as autocast casts them: floating point gets the dtype in force, but float64 stays as it is."""
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(
        a.to(dtype)
        if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != torch.float64 and a.device.type == device_type
        else a
        for a in args
    )


# this is computed once, at import: Dynamo of torch 2.11 cannot trace `is_autocast_available`
_OTHERS = "xpu", "mps", "mtia", "maia", "hpu", "ipu", "xla", plugged_in_device()
_KNOW_AUTOCAST = frozenset(name for name in ("cpu", "cuda", *_OTHERS) if torch.amp.is_autocast_available(name))


def in_autocast(device_type: str) -> bool:
    """Whether autocast is on there; some devices, "meta" for one, know none."""
    return device_type in _KNOW_AUTOCAST and torch.is_autocast_enabled(device_type)


def register_autocast(library: torch.library.Library, operator: Any, device_type: str) -> None:
    """Register as `torch.library.register_autocast` does, but cast to the dtype in force instead of one for good."""
    name = "Autocast" + device_in_keys(device_type)
    keys = key_set(name)

    def kernel(*args: Any) -> Any:
        lowered = _lowered(args, device_type)
        with without_keys(keys):
            return operator(*lowered)

    # tracing looks up the former, the dispatcher the latter
    operator.py_impl(key(name))(kernel)
    library.impl(operator, kernel, name)
