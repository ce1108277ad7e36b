"""What the kernels become, compiled for GPUs that are not there, and how they are launched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torchops
from torchops import inspect
from torchops.kernels.launch import record
from torchops.kernels.planning.hardware import DEVICES
from torchops.ops.registration import IMPLEMENTATIONS

from .base import Questions


class Compiled(Questions):
    @pytest.mark.tiers("compile")
    def test_gates(self, arch: str, dtype: torch.dtype) -> None:
        """Compiled for every GPU: nothing spills, everything fits, memory moves little more than once."""
        info, shape = self.info, self.info.op.shape
        for channels_last in (False, True):
            if channels_last:
                shape = (shape[0], 3, *shape[2:])
            launches = inspect.plan(info.op.name, arch, dtype, shape, channels_last=channels_last, indices=info.indices)
            assert len(launches[0]) == info.launches[0]
            assert 0 < len(launches[1]) <= info.launches[1] or not dtype.is_floating_point
            for r in map(inspect.report, launches[0] + launches[1]):
                assert (r.spills, r.stack_bytes) == (0, 0), r
                assert r.shared_bytes <= DEVICES[arch].shared_bytes, r
                assert r.registers <= 255 or arch == "gfx942", r
                assert r.traffic >= 1.0, r
                # what fits into the last cache is fetched once, whoever reads it again
                assert r.traffic <= (1.05 if r.bytes_least > DEVICES[arch].l2_bytes else 1.25) or not info.streams, r

    @pytest.mark.tiers("compile")
    @pytest.mark.parametrize("padding_mode", ["reflect", "circular", "zeros", "constant"])
    def test_borders_cost_no_launch_and_no_spill(self, padding_mode: str) -> None:
        """But for the gradient of an input that is padded, which computes what falls on the padding first."""
        if not any("padding_mode" in s.kwargs for s in self.info.samples):
            pytest.skip("the op has no border modes")
        plain = inspect.plan(self.info.op.name, "sm_90", torch.float32)
        bordered = inspect.plan(self.info.op.name, "sm_90", torch.float32, padding_mode=padding_mode)
        assert len(bordered[0]) == len(plain[0])
        assert len(bordered[1]) <= len(plain[1]) + ("padding" in self.info.op.kwargs)
        for launch, other in zip(bordered[0], plain[0], strict=True):
            assert inspect.report(launch).loop_instructions <= 1.5 * inspect.report(other).loop_instructions
            assert launch.cost.bytes_moved == other.cost.bytes_moved
        for launch in bordered[0] + bordered[1]:
            r = inspect.report(launch)
            assert (r.spills, r.stack_bytes) == (0, 0), r

    @pytest.mark.tiers("compile")
    def test_launcher_allocates_nothing_but_the_output(self) -> None:
        """No padded copy: below the operator, where dispatch modes see it, empty tensors for the results are all."""
        sample = self.info.samples[0]
        dispatched: list[str] = []

        class Spy(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                implementation = IMPLEMENTATIONS.get(func._schema.name.partition("::")[2])
                if implementation is None:
                    dispatched.append(str(func))
                    return func(*args, **(kwargs or {}))
                with self:
                    return implementation(*args)

        inputs = self.inputs(sample, torch.float32, torch.device("cpu"))
        with record(DEVICES["sm_90"]) as launches, torchops.use_backend("triton"), Spy():
            self.call(inputs, sample)
        assert len(launches) == self.info.launches[0]
        assert dispatched == ["aten.empty.memory_format"] * (self.info.outputs + self.info.reports)
