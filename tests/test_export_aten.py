"""Programs in ATen's operators alone: what they keep of a program, and where they run."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

import torchops
from bench.networks import untrained
from torchops.compiler_internals import compile_package, load_package
from torchops.export import to_aten
from torchops.models import LeNet, UNet

ROOT = Path(__file__).parent.parent


def operators(program: ExportedProgram) -> set[str]:
    return {str(node.target).split(".")[0] for node in program.graph.nodes if node.op == "call_function"}


def small_unet(unpool: str, **options: Any) -> nn.Module:
    return untrained(lambda: UNet(classes=3, width=4, depth=2, unpool=unpool, **options))


_OPEN = {0: Dim("batch", max=16), **{d: Dim(name, min=9, max=4096) for d, name in ((2, "height"), (3, "width"))}}


@pytest.mark.parametrize(("unpool", "mode"), [("max", "zeros"), ("avg", "reflect"), ("transpose", "circular")])
def test_a_network_of_any_size(unpool: str, mode: str) -> None:
    net = small_unet(unpool, padding_mode=mode)
    program = export(net, (torch.rand(2, 1, 20, 24),), dynamic_shapes=(_OPEN,))
    assert "torchops" in operators(program)
    made = to_aten(program)
    assert "torchops" not in operators(made)
    assert made.range_constraints == program.range_constraints
    assert list(made.state_dict) == list(program.state_dict)
    for size in ((2, 1, 20, 24), (1, 1, 33, 31), (3, 1, 9, 10)):
        x = torch.rand(size)
        torch.testing.assert_close(made.module()(x), net(x))
        assert made.module()(x).stride() == net(x).stride()


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11's own
def test_it_is_saved_and_loaded() -> None:
    net, x = untrained(LeNet), torch.rand(2, 1, 28, 28)
    file = io.BytesIO()
    torch.export.save(to_aten(export(net, (x,))), file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(x), net(x))


def test_it_runs_where_torchops_is_not(tmp_path: Path) -> None:
    net, x = small_unet("max"), torch.rand(2, 1, 21, 19)
    torch.export.save(to_aten(export(net, (x,), dynamic_shapes=(_OPEN,))), tmp_path / "unet.pt2")
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, torch\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torchops', 'triton'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "torch.save(torch.export.load('unet.pt2').module()(torch.load('x.pt')), 'y.pt')\n"
        "assert 'torchops' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), net(x))


def test_parameters_keep_their_names_and_buffers_their_updates() -> None:
    """Of a program in training mode, whose batch norm writes its statistics."""

    class Net(nn.Module):
        count: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = torchops.nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return self.norm(self.conv(x))

    torch.manual_seed(0)
    net, x = Net(), torch.rand(2, 2, 5, 6)
    # a program's buffers are those of its module
    made = to_aten(export(copy.deepcopy(net), (x,)))
    assert set(made.state_dict) == set(net.state_dict())
    assert "count" in made.graph_signature.buffers_to_mutate.values()
    module = made.module()
    y = module(x)
    torch.testing.assert_close(y, net(x))
    torch.testing.assert_close(dict(module.named_buffers())["norm.running_mean"], net.norm.running_mean)
    assert dict(module.named_buffers())["count"] == 1


def test_it_can_be_differentiated() -> None:
    torch.manual_seed(0)
    layer, x = (
        torchops.nn.Conv2d(2, 3, 3, padding_mode="circular", padding=1, activation="gelu"),
        torch.rand(2, 2, 5, 6),
    )
    module = to_aten(export(copy.deepcopy(layer), (x,))).module()
    for each in (module, layer):
        each(x).square().sum().backward()
    torch.testing.assert_close(module.get_parameter("weight").grad, layer.weight.grad)


def test_parts_that_are_chosen_at_run_time() -> None:
    def edges(x: Tensor) -> Tensor:
        return torch.ops.torchops.sobel(x, True, 1e-6, "replicate", 0.0)

    def means(x: Tensor) -> Tensor:
        return torch.ops.torchops.avg_pool2d(x, [3, 3], [1, 1], [1, 1], x.shape[2:], "padded", 1, False)

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, edges, means, (x,))

    x = torch.rand(1, 2, 5, 6)
    made = to_aten(export(Net(), (x,)))
    for image, function in ((x, edges), (-x, means)):
        torch.testing.assert_close(made.module()(image), function(image))


def test_halves_are_rounded_once() -> None:
    torch.manual_seed(0)
    layer, x = torchops.nn.Conv2d(8, 8, 3, padding=1, activation="silu").bfloat16(), torch.randn(2, 8, 9, 9).bfloat16()
    skip = torch.randn(2, 8, 9, 9).bfloat16()
    made = to_aten(export(layer, (x, skip))).module()
    assert torch.equal(made(x, skip), layer(x, skip))


@pytest.mark.parametrize("given", [None, nn.Identity(), "program"], ids=["None", "module", "text"])
def test_what_is_no_program(given: Any) -> None:
    with pytest.raises(TypeError, match=r"`program` must be a torch\.export\.ExportedProgram, got \w+"):
        to_aten(given)


class Tiny(nn.Module):
    """A little of everything that a network for images is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torchops.nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect", activation="relu")
        self.pool, self.unpool = torchops.nn.MaxPool2d(2, return_indices=True), torchops.nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y, indices = self.pool(self.conv(x))
        return self.unpool(y, indices)


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")  # torch 2.11's own
def test_a_package_for_cpp(tmp_path: Path) -> None:
    """Compiled by AOTInductor; what loads it here runs the code that C++ would."""
    torch.manual_seed(0)
    net, x = Tiny(), torch.rand(2, 1, 8, 10)
    sizes = {0: Dim("batch", max=16), 2: 2 * Dim("rows", min=3, max=99), 3: 2 * Dim("columns", min=3, max=99)}
    with torch.no_grad():
        program = to_aten(export(net, (x,), dynamic_shapes=(sizes,)))
        run: Callable[..., Tensor] = load_package(compile_package(program, str(tmp_path / "tiny.pt2")))
        for image in (x, torch.rand(3, 1, 12, 6)):
            torch.testing.assert_close(run(image), net(image))
