"""What a GPU would launch, seen on a machine without one while everything is computed by ATen on the CPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

import torchops
from torchops.kernels.launch import Launch, current_recording, record
from torchops.kernels.planning.hardware import Device
from torchops.ops import registration


class _Here(threading.local):
    inside = False


@contextlib.contextmanager
def rehearsing(device: Device) -> Iterator[list[Launch]]:
    """Operators on CPU tensors record what they would launch on `device`, and are computed by ATen.

    What is launched in another way is recorded and not run. The block is for the whole process, and for nothing else in it.

    Yields:
        The launches so far.
    """
    found: list[Launch] = []
    here = _Here()
    ours = None

    def rehearsed(implementation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            # an operator that is called by another is that one's affair, and what somebody else records is theirs
            if here.inside or current_recording() is not ours:
                return implementation(*args)
            here.inside = True
            try:
                with record(device) as launches, torchops.use_backend("triton"), torch.no_grad(), _unfilled():
                    implementation(*args)
                found.extend(launches)
                with torchops.use_backend("aten"):
                    return implementation(*args)
            finally:
                here.inside = False

        return call

    library = torch.library.Library("torchops", "IMPL")
    for name, implementation in registration.IMPLEMENTATIONS.items():
        library.impl(name, rehearsed(implementation), "CPU")
    # every call goes through the dispatcher if it counts as watched
    watched, registration.is_watched = registration.is_watched, lambda args: True
    try:
        # what is decided before an operator is called is decided as for a GPU
        with record(device) as launches, torchops.use_backend("triton"):
            ours = current_recording()
            yield found
        found.extend(launches)
    finally:
        registration.is_watched = watched
        library._destroy()


@contextlib.contextmanager
def _unfilled() -> Iterator[None]:
    """Fresh memory is not written, and so takes none, where nothing will be computed in it."""
    settings = torch.utils.deterministic
    before, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
