"""What is remembered between calls has an end."""

from __future__ import annotations

import functools
import gc
import random
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchops
from torchops import catalog
from torchops.conversion import layers
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.hardware import DEVICES


def shapes(count: int) -> Iterator[tuple[int, ...]]:
    """Sizes of images, hardly ever the same."""
    draw = random.Random(0)
    for _ in range(count):
        yield draw.randint(1, 3), draw.choice((3, 8)), draw.randint(4, 40), draw.randint(4, 40)


def step(op: catalog.Op, shape: tuple[int, ...]) -> None:
    leaves = [t.requires_grad_(t.is_floating_point()) for t in op.random_inputs(shape, torch.float32)]
    y = op.function(*leaves, **op.kwargs)
    y.backward(torch.ones_like(y))


def caches() -> dict[str, int]:
    """How many entries the caches of torchops have, and all that its modules hold by name."""
    found: dict[str, int] = {}
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "torchops"]:
        for name, value in vars(module).items():
            if isinstance(value, (dict, list, set)) and not name.startswith("__"):
                found[f"{module.__name__}.{name}"] = len(value)
    for cached in gc.get_objects():
        # not isinstance: some of other packages' objects answer to that with a warning
        if type(cached) is functools._lru_cache_wrapper and str(cached.__module__).startswith("torchops"):
            limit = cached.cache_parameters()["maxsize"]
            # those that never forget are asked of no shape
            found[f"{cached.__module__}.{cached.__qualname__}"] = (
                cached.cache_info().currsize if limit is None else limit
            )
    return found


def test_calls_of_many_shapes_leave_nothing_behind() -> None:
    ops = list(catalog.OPS.values())
    for shape in shapes(1100):
        step(random.Random(sum(shape)).choice(ops), shape)
    # models that other tests have left go here, and what is kept of their weights
    gc.collect()
    before = caches()
    assert max(before.values()) <= 4096
    assert any("conv_geometry" in name for name in before)
    tracemalloc.start()
    try:
        for number, shape in enumerate(shapes(2000)):
            step(ops[number % len(ops)], (*shape[:2], shape[2] + 40, shape[3]))
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caches() == before
    # the caches of geometries, which are bounded, have other entries
    assert left < 2 << 20


def specialization(launch: Launch) -> Any:
    """What Triton compiles a kernel for."""

    def of(a: Any) -> Any:
        if isinstance(a, (tuple, list)):
            return tuple(map(of, a))
        if isinstance(a, Tensor):
            return a.dtype, a.data_ptr() % 16 == 0
        return (a == 1, a % 16 == 0, abs(a) < 2**31) if isinstance(a, int) else type(a)

    return launch.name, tuple((name, str(value)) for name, value in launch.meta.items()), of(launch.args)


@pytest.mark.parametrize("name", ["sobel", "conv2d", "max_unpool2d"])
def test_launches_of_many_shapes_need_few_kernels(name: str) -> None:
    kernels: list[int] = []
    seen: set[Any] = set()
    with record(DEVICES["sm_90"]) as launches, torchops.use_backend("triton"):
        for number, shape in enumerate(shapes(1000), 1):
            step(catalog.OPS[name], shape)
            seen.update(map(specialization, launches))
            launches.clear()
            if number % 500 == 0:
                kernels.append(len(seen))
    # few more after twice as many shapes
    assert kernels[1] < 1.4 * kernels[0] < 400


def test_a_class_made_at_run_time_goes_with_the_users() -> None:
    class Mine(nn.Conv2d):
        pass

    model = nn.Sequential(Mine(3, 4, 3), Mine(3, 4, 3))
    torchops.convert(model, inplace=True)
    # one for both
    assert type(model[0]) is type(model[1]) is not Mine
    assert isinstance(model[0], (torchops.nn.Conv2d, Mine))
    classes = [weakref.ref(cls) for cls in (Mine, type(model[0]))]
    before = len(layers._made)
    del model, Mine
    # the one that was made, and then what it was remembered by
    gc.collect()
    gc.collect()
    assert [ref() for ref in classes] == [None, None]
    assert len(layers._made) == before - 1
