"""gpu-check: what its smoke checks cover, and whether they see a wrong value."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch

import torchops.kernels
from bench import launches
from bench.gpu_check import smoke
from bench.rehearsal import rehearsing
from torchops import catalog
from torchops.kernels.planning.hardware import find

ROOT = Path(__file__).parent.parent


class TestSmoke:
    def test_names_are_their_own(self) -> None:
        names = [one.name for one in smoke.checks()]
        assert len(set(names)) == len(names)

    def test_every_op_and_every_kernel_is_among_them(self) -> None:
        """And what was reported against PyTorch's own, with 4 and with 8 warps, in every precision."""
        found = smoke.checks()
        assert {one.op for one in found} == set(catalog.OPS)
        launched = {launch.name for launch in launches.smoke_launches(find("H100"))}
        kernels = {
            name
            for module in pkgutil.iter_modules(torchops.kernels.__path__)
            for name in vars(importlib.import_module(f"torchops.kernels.{module.name}"))
            if name.endswith("_kernel")
        }
        # no op picks the kernels of lesson size: tests of the tier gpu ask them
        assert kernels - launched == {"canary_kernel", "sobel_plain_kernel"}
        reported = {(one.warps, one.dtype, one.tf32, one.channels_last) for one in found if "173068" in one.label}
        assert len(reported) == 16
        for family in {one.family for one in found}:
            assert {one.how for one in found if one.family == family} == {"eager", "graph", "autocast"}

    def test_an_op_without_checks_of_its_own_is_shown_as_in_the_catalog(self) -> None:
        found = list(smoke._shown(set(catalog.OPS) - {"avg_pool2d"}))
        assert {(one.op, str(one.kwargs)) for one in found} == {("avg_pool2d", "{'kernel_size': 2}")}
        layouts = {(one.dtype, one.channels_last) for one in found}
        assert layouts == set(itertools.product(catalog.OPS["avg_pool2d"].dtypes, (False, True)))
        assert smoke.run(found[-1], "cpu", None).verdict == "ok"

    def test_warps_are_forced(self) -> None:
        for one in smoke.checks():
            if one.warps:
                with rehearsing(find("H100")) as found:
                    smoke.run(one, "cpu", find("H100"))
                assert {x.meta["num_warps"] for x in found if x.problem is not None} == {one.warps}
                break

    def test_what_is_right_is_computed_where_the_inputs_lie(self) -> None:
        """The specification makes tensors of its own, which belong on the GPU too."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        for one in {(one.op, one.indices, str(one.kwargs)): one for one in smoke.checks()}.values():
            inputs, kwargs = smoke._inputs(one, "cpu")
            with FakeTensorMode():

                def on_gpu(t: torch.Tensor, exact: bool = False) -> torch.Tensor:
                    dtype = torch.float64 if exact or t.is_floating_point() else t.dtype
                    return torch.empty_strided(t.shape, t.stride(), dtype=dtype, device="cuda")

                fakes = [on_gpu(t, exact=not place) for place, t in enumerate(inputs)]
                further = {k: on_gpu(v) if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
                found = smoke.expected_of(catalog.OPS[one.op], fakes, further)
                assert {t.device.type for t in found} == {"cuda"}

    def test_a_wrong_value_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the result, and in the gradient alone."""
        one = next(c for c in smoke.checks() if c.op == "sobel" and c.dtype == torch.float32)
        right = catalog.OPS["sobel"].function
        assert smoke.run(one, "cpu", None).verdict == "ok"

        class Bent(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, y: torch.Tensor) -> torch.Tensor:
                return y.clone()

            @staticmethod
            def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:
                return dy * 1.001

        for wrong in (
            lambda x, **kwargs: right(x, **kwargs) * 1.0001,
            lambda x, **kwargs: right(x, **kwargs) + torch.nan,
            lambda x, **kwargs: Bent.apply(right(x, **kwargs)) + 0 * x.detach(),
            lambda x, **kwargs: Bent.apply(right(x, **kwargs)),
        ):
            op = catalog.Op(**{**vars(catalog.OPS["sobel"]), "function": wrong})
            monkeypatch.setitem(catalog.OPS, "sobel", op)
            assert smoke.run(one, "cpu", None).verdict == "WRONG"
