"""FLOP counters: a convolution of torchops counts as torch's own does, forward and backward, whichever was imported first."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import torchops

from .conformance import OPERATOR
from .networks import as_torch_has_it, small


def _flops(function: Callable[..., Any], *args: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


def _passes(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """What the forward counts, and what the backward does, with the gradients of the input and of all parameters."""
    y: list[Tensor] = []
    # the counter's hooks on modules take no leaf
    forward = _flops(lambda: y.append(module(x.clone().requires_grad_() * 1)))
    return forward, _flops(y[0].sum().backward)


def _converted(module: nn.Module) -> nn.Module:
    return torchops.convert(copy.deepcopy(module), inplace=True)[0]


BORDERS = [{"padding": (1, 2), "padding_mode": mode} for mode in ("zeros", "reflect", "replicate", "circular")]
FURTHER: list[dict[str, Any]] = [
    {}, {"groups": 2}, {"groups": 6}, {"stride": 2}, {"dilation": 2}, {"bias": False},
    {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 2},
]  # fmt: skip


@OPERATOR
class TestAsTorch:
    @pytest.mark.parametrize("kwargs", [*FURTHER, *BORDERS, {"padding": "same"}, {"padding": "valid"}], ids=str)
    def test_convolution(self, kwargs: dict[str, Any], device: torch.device) -> None:
        module, x = nn.Conv2d(6, 12, (1, 3), **kwargs, device=device), torch.rand(2, 6, 9, 11, device=device)
        expected = _passes(module, x)
        assert min(expected) > 0
        assert _passes(_converted(module), x) == expected

    @pytest.mark.parametrize(
        "kwargs", [*FURTHER, {"padding": 1}, {"stride": 2, "padding": 1, "output_padding": 1}], ids=str
    )
    def test_transposed_convolution(self, kwargs: dict[str, Any], device: torch.device) -> None:
        module, x = nn.ConvTranspose2d(6, 12, (2, 3), **kwargs, device=device), torch.rand(2, 6, 5, 7, device=device)
        expected = _passes(module, x)
        assert min(expected) > 0
        assert _passes(_converted(module), x) == expected

    @pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
    def test_one_gradient_alone(self, wanted: str, device: torch.device) -> None:
        module, x = nn.Conv2d(6, 12, 3, groups=2, device=device), torch.rand(2, 6, 9, 11, device=device)
        for name, t in (("x", x), *module.named_parameters()):
            t.requires_grad_(name == wanted)
        expected = _flops(module(x).sum().backward)
        assert _flops(_converted(module)(x).sum().backward) == expected
        assert (expected == 0) == (wanted == "bias")

    def test_double_backward(self, device: torch.device) -> None:
        """Six products for two. (ATen splits the second backward of groups, and computes more of a strided one.)"""
        module, x = nn.Conv2d(6, 12, 3, padding=1, device=device), torch.rand(2, 6, 9, 11, device=device)

        def twice(module: nn.Module) -> int:
            y = module(x.clone().requires_grad_() * 1)
            grads = torch.autograd.grad(y.square().sum(), list(module.parameters()), create_graph=True)
            return _flops(sum(g.square().sum() for g in grads).backward)

        assert twice(_converted(module)) == twice(module) > 0


def test_a_network_by_its_modules() -> None:
    model, x = small(), torch.rand(2, 3, 16, 16)
    by_module = []
    for m in (model, _converted(model)):
        with as_torch_has_it(), FlopCounterMode(display=False) as counter:
            m(x).sum().backward()
        counts = counter.get_flop_counts()
        by_module.append({name: sum(flops.values()) for name, flops in counts.items()})
    assert by_module[0] == by_module[1]
    assert len(by_module[0]) > 2


@pytest.mark.parametrize("way", ["fused", "override", "meta", "exported", "compiled"])
def test_every_way_to_run_it(way: str) -> None:
    model, x = small().eval(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        with as_torch_has_it():
            expected = _flops(model, x)
        if way == "override":
            with torchops.override():
                found = _flops(model, x)
        elif way == "fused":
            found = _flops(torchops.fuse(model)[0], x)
        elif way == "meta":
            found = _flops(_converted(model).to("meta"), x.to("meta"))
        elif way == "exported":
            found = _flops(torch.export.export(_converted(model), (x,)).module(), x)
        else:
            converted = _converted(model)
            converted.compile(backend="aot_eager")
            found = _flops(converted, x)
    assert found == expected > 0


_OURS, _COUNTER = "import torchops", "from torch.utils.flop_counter import FlopCounterMode"


@pytest.mark.parametrize(
    "imports",
    [(_OURS, _COUNTER), (_COUNTER, _OURS), ("import sys; sys.modules['triton'] = None", _OURS, _COUNTER)],
    ids=["ours first", "ours last", "without triton"],
)
def test_found_in_any_order_of_imports(imports: tuple[str, ...]) -> None:
    lines = (
        "import torch",
        *imports,
        "with FlopCounterMode(display=False) as counter:",
        "    torchops.conv2d(torch.rand(2, 3, 5, 5), torch.rand(4, 3, 3, 3))",
        "print(counter.get_total_flops())",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(2 * (2 * 4 * 3 * 3) * (3 * 3 * 3)), done.stderr
