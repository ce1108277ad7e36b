"""What the convolution kernels become for GPUs that are not there: every config that can be picked, and the named layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from torchops import inspect
from torchops.kernels import conv2d as kernels
from torchops.kernels.conv2d_config import Config, Problem, candidates, pick_config
from torchops.kernels.hardware import DEVICES, Device
from torchops.kernels.launch import Launch, record

pytestmark = pytest.mark.tiers("compile")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Pass:
    """One call of a launcher, as hard on registers as it gets: a border by index, a residual, the longest activation."""

    name: str
    what: str
    """"fwd", "input_grad" or "weight_grad"."""
    channels: tuple[int, int]
    groups: int = 1
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding_mode: str = "reflect"
    value: float = 0.0
    channels_last: bool = True
    activation: str = "gelu"
    """After a bias and, unless it is a ReLU, a residual; "none" without either."""
    dtype: torch.dtype = torch.bfloat16
    tf32: bool = True

    def launch(self) -> None:
        c, k = self.channels

        def tensor(*size: int) -> Tensor:
            form = torch.channels_last if self.channels_last else torch.contiguous_format
            return torch.empty(size, dtype=self.dtype, memory_format=form)

        p, q = (57 - 1) // self.stride[0] + 1, (59 - 1) // self.stride[1] + 1
        x, w, y = tensor(8, c, 57, 59), tensor(k, c // self.groups, 3, 3), tensor(8, k, p, q)
        bias = torch.empty(k if self.what == "fwd" else c, dtype=self.dtype)
        top, left = self.dilation
        geometry = self.stride, (top, left), self.dilation, self.groups, self.padding_mode
        with torch.backends.cudnn.flags(allow_tf32=self.tf32):
            if self.what == "fwd":
                residual = y if self.activation == "gelu" else None
                kernels.conv2d_fwd(x, w, bias, residual, y, *geometry, self.value, self.activation)
            elif self.what == "input_grad":
                further = None if self.activation == "none" else bias
                sides = left, left, top, top
                kernels.conv2d_input_grad(
                    y, w, further, x, self.stride, sides, self.dilation, self.groups, self.padding_mode
                )
            else:
                kernels.conv2d_weight_grad(y, x, w, None, *geometry, self.value)


def _passes() -> Iterator[Pass]:
    wide, odd, few, narrow = (128, 128), (72, 136), (3, 64), (128, 128)
    for what in ("fwd", "input_grad", "weight_grad"):
        yield Pass("gemm", what, wide)
        yield Pass("planes", what, odd, channels_last=False)
        yield Pass("depthwise", what, narrow, groups=128)
        yield Pass("grouped", what, narrow, groups=32)
        yield Pass("tf32", what, wide, dtype=torch.float32)
        yield Pass("ieee", what, wide, dtype=torch.float32, tf32=False)
        yield Pass("float64", what, wide, dtype=torch.float64)
    for what in ("fwd", "weight_grad"):
        yield Pass("flat", what, few, padding_mode="circular")
        yield Pass("value", what, odd, padding_mode="constant", value=0.5)
    # what is lean gets larger tiles
    yield Pass("lean", "fwd", (256, 256), padding_mode="zeros", activation="relu")
    yield Pass("lean", "input_grad", (256, 256), padding_mode="zeros", activation="none")
    yield Pass("lean-tf32", "fwd", (256, 256), padding_mode="zeros", activation="relu", dtype=torch.float32)
    yield Pass("lean-flat", "fwd", few, padding_mode="zeros", activation="relu", stride=(2, 2))
    yield Pass("lean-odd", "fwd", (72, 264), padding_mode="zeros", activation="relu")
    yield Pass("strided", "input_grad", (264, 72), padding_mode="zeros", stride=(2, 2), activation="none")
    yield Pass("dilated", "input_grad", wide, padding_mode="zeros", dilation=(12, 12))
    yield Pass("flat", "input_grad", few[::-1], padding_mode="replicate")


PASSES = tuple(_passes())


def _with_every_config(
    launch: Callable[[], None], device: Device, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Config, Launch]]:
    """All launches of a pass, each with all configs that its problem may get."""
    problems: list[Problem] = []
    chosen: dict[Problem, Config] = {}

    def pick(problem: Problem, device: Device) -> Config:
        problems.append(problem)
        return chosen.get(problem) or pick_config(problem, device)

    monkeypatch.setattr(kernels, "pick_config", pick)
    with record(device):
        launch()
    for number, problem in enumerate(tuple(problems)):
        for config in candidates(problem, device):
            chosen[problem] = config
            with record(device) as launches:
                launch()
            yield config, launches[number]
        del chosen[problem]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("one", PASSES, ids=lambda p: f"{p.name}-{p.what}")
def test_every_config_fits(one: Pass, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No spill, no stack, no more shared memory than there is; matrix instructions wherever a tile is multiplied."""
    count = 0
    for config, launch in _with_every_config(one.launch, DEVICES[arch], monkeypatch):
        r = inspect.report(launch)
        assert (r.spills, r.stack_bytes) == (0, 0), r
        assert r.shared_bytes <= DEVICES[arch].shared_bytes, r
        assert launch.config.block_m == config.block_m
        if launch.cost.flops and one.dtype.itemsize == 2:
            assert r.matrix_instructions > 0, r
        count += 1
    assert count
