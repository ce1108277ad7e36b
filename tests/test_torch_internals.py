"""torch's private names still do what `torchops.torch_internals` says of them, with the torch that is installed."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from torchops import torch_internals as internals

from .internals import Questions
from .internals_of_modules import ABOUT_MODULES

ROOT = Path(__file__).parent.parent
_QUESTIONS = Questions(internals)
_QUESTIONS.asked |= ABOUT_MODULES.asked
_about = _QUESTIONS.about


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
@pytest.mark.parametrize("name", _QUESTIONS.said)
def test_does_what_is_said(name: str) -> None:
    assert _QUESTIONS.said[name].endswith(".")
    _QUESTIONS.asked[name]()


def test_no_question_is_left_over() -> None:
    assert _QUESTIONS.asked.keys() == _QUESTIONS.said.keys()


@_about("CHECKED")
def _versions() -> None:
    """Those that are installed for `make test` and `make oldest`."""
    pinned = [(ROOT / name).read_text() for name in ("constraints-oldest.txt", "constraints.txt")]
    assert [re.findall(r"^torch==(.*)$", text, re.MULTILINE) for text in pinned] == [[v] for v in internals.CHECKED]


def _private(tree: ast.Module) -> Iterator[str]:
    """torch's private names in a file: what is imported, and what is reached by dots."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [f"{getattr(node, 'module', '')}.{alias.name}".lstrip(".") for alias in node.names]
        else:
            names = [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
        yield from (n for n in names if re.match(r"(torch|nn|forward_ad)\.(?!ops\.)(.*\.)?_[a-zA-Z]", n))


def _attributes(tree: ast.Module) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)}


def test_no_other_file_has_private_names() -> None:
    files = {file for folder in ("torchops", "kernels", "models", "course") for file in (ROOT / folder).rglob("*.py")}
    # what students read shows how torch tells them
    shown = ROOT / "course" / "lessons"
    trees = {str(f.relative_to(ROOT)): ast.parse(f.read_text()) for f in files if not f.is_relative_to(shown)}
    gathered = [trees.pop(f"torchops/{name}_internals.py") for name in ("torch", "compiler")]
    assert all(len(set(_private(tree))) > 9 for tree in gathered)
    attributes = set().union(*map(_attributes, gathered))
    assert not {name: found for name, tree in trees.items() if (found := {*_private(tree)})}
    assert not {name: found for name, tree in trees.items() if (found := _attributes(tree) & attributes)}


@_about("KeySet", "key", "key_set", "keys_of")
def _keys() -> None:
    t = torch.ones(2)
    assert isinstance(internals.keys_of(t), internals.KeySet)
    assert internals.keys_of(t) == internals.key_set("CPU", "AutogradCPU", "AutocastCPU", "ADInplaceOrView")
    assert internals.keys_of(torch._neg_view(t)) != internals.keys_of(t)
    assert internals.key_set("CPU").has(internals.key("CPU"))
    assert not internals.key_set("CPU").has(internals.key("CUDA"))
    assert internals.key_set("CPU", "AutogradCPU") != internals.key_set("CPU")


@_about("keys_in_force")
def _keys_in_force() -> None:
    at_rest = internals.keys_in_force()
    seen: list[Any] = []
    torch.func.vmap(lambda t: seen.append(internals.keys_in_force()) or t)(torch.ones(2))
    with internals.TorchDispatchMode():
        seen.append(internals.keys_in_force())
    assert at_rest == internals.key_set("BackendSelect", "ADInplaceOrView")
    assert at_rest not in seen


@_about("device_in_keys")
def _device_in_keys() -> None:
    assert [internals.device_in_keys(device) for device in ("cpu", "cuda")] == ["CPU", "CUDA"]


@_about("plugged_in_device")
def _plugged_in_device() -> None:
    """It is a device, whether something is plugged in or not."""
    assert torch.device(internals.plugged_in_device()).type == internals.plugged_in_device()


class _Counting(TorchFunctionMode):
    """Notes every function that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class _Operators(internals.TorchDispatchMode):
    """Notes every operator that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


@_about("onednn_is_enabled", "asks_onednn")
def _onednn() -> None:
    """ATen has a kernel of its own for a small image, and for all if oneDNN is off."""
    weight = torch.ones(64, 64, 3, 3)

    def asked(pixels: int) -> bool:
        x = torch.ones(1, 64, pixels, pixels)
        return internals.asks_onednn(x, weight, torch.ones(64), (1, 1), (1, 1), (1, 1), 1)

    assert internals.onednn_is_enabled() == torch.backends.mkldnn.enabled
    assert (asked(4), asked(32)) == (False, torch.backends.mkldnn.is_available())
    torch.backends.mkldnn.enabled = False
    assert not internals.onednn_is_enabled()
    assert not asked(32)
    torch.backends.mkldnn.enabled = True


@_about("onednn_precision", "onednn_is_exact")
def _onednn_precision() -> None:
    backend: Any = torch.backends.mkldnn
    for precision in ("bf16", "ieee", "none"):
        backend.conv.fp32_precision = precision
        assert internals.onednn_precision("mkldnn", "conv") == backend.conv.fp32_precision == precision
        assert internals.onednn_is_exact() == (precision in ("none", "ieee"))


@_about("below_autograd")
def _below_autograd() -> None:
    x = torch.ones(2, requires_grad=True)
    with internals.below_autograd():
        y = x.exp()
    assert not y.requires_grad
    assert x.exp().requires_grad


@_about("AFTER_AUTOGRAD")
def _after_autograd() -> None:
    keys = internals.key_set("CPU", "AutogradCPU")
    assert keys & internals.AFTER_AUTOGRAD == internals.key_set("CPU")
    x = torch.ones(2, requires_grad=True)
    y = torch.ops.aten.exp.default.redispatch(keys & internals.AFTER_AUTOGRAD, x)
    assert not y.requires_grad


@_about("without_keys")
def _without_keys() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with internals.without_keys(internals.key_set("AutocastCPU")):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


@_about("schema_of")
def _schema() -> None:
    schema, in_place = (internals.schema_of(op) for op in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default))
    assert (schema.name, in_place.name) == ("aten::relu", "aten::relu_")
    assert (schema.is_mutable, in_place.is_mutable) == (False, True)
    assert [(a.name, str(a.type)) for a in schema.arguments] == [("self", "Tensor")]


@_about("SingleLevelFunction", "single_level_functions", "are_transforms_active")
def _single_level_function() -> None:
    """Under a transform it may be applied inside that block only, and the level that it is applied at differentiates it."""
    active = []

    class Tripled(internals.SingleLevelFunction):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            active.append(internals.are_transforms_active())
            return 3 * x

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Tensor:
            return 3 * dy

    def allowed(x: Tensor) -> Tensor:
        with internals.single_level_functions():
            y: Tensor = Tripled.apply(x)
        return y.sum()

    x = torch.ones(2)
    assert torch.autograd.grad(Tripled.apply(x.requires_grad_()).sum(), x)[0].tolist() == [3, 3]
    with pytest.raises(RuntimeError):
        torch.func.grad(lambda x: Tripled.apply(x).sum())(x.detach())
    assert active == [False]
    torch.func.grad(allowed)(x.detach())
    assert active == [False, True]


@_about("any_requires_grad")
def _any_requires_grad() -> None:
    x, constant = torch.ones(2, requires_grad=True), torch.ones(2)
    assert internals.any_requires_grad(None, 3, constant, (1, 2), "zeros", x)
    assert not internals.any_requires_grad(None, 3, constant, (1, 2), "zeros", x.detach())


@_about("in_forward_mode", "forward_mode")
def _forward_mode() -> None:
    assert not internals.in_forward_mode()
    with forward_ad.dual_level():
        assert internals.in_forward_mode()
        x = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        with internals.forward_mode(False):
            assert forward_ad.unpack_dual(x.exp()).tangent is None
            with internals.forward_mode(True):
                assert forward_ad.unpack_dual(x.exp()).tangent is not None
    assert not internals.in_forward_mode()
    torch.func.jvp(lambda x: x.exp() if internals.in_forward_mode() else None, (torch.ones(2),), (torch.ones(2),))


@_about("in_any_autocast", "without_autocast")
def _autocast() -> None:
    x = torch.ones(2, 2)
    assert not internals.in_any_autocast()
    with torch.autocast("cpu", torch.bfloat16):
        assert internals.in_any_autocast()
        with internals.without_autocast():
            assert not internals.in_any_autocast()
            assert (x @ x).dtype == torch.float32
        assert internals.in_any_autocast()


@_about("is_profiling")
def _is_profiling() -> None:
    assert not internals.is_profiling()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True):
        assert internals.is_profiling()
    assert not internals.is_profiling()


@_about("count_function_modes", "pop_function_mode", "push_function_mode")
def _function_modes() -> None:
    """The lower of two is taken off, and the upper one stays as it is."""
    lower, upper = _Counting(), _Counting()
    before = internals.count_function_modes()
    lower.__enter__()
    with upper:
        assert internals.count_function_modes() == before + 2
        assert internals.pop_function_mode() is upper
        assert internals.pop_function_mode() is lower
        internals.push_function_mode(upper)
        assert internals.count_function_modes() == before + 1
        torch.relu(torch.ones(2))
    assert internals.count_function_modes() == before
    assert torch.relu in upper.seen
    assert torch.relu not in lower.seen


@_about("TorchDispatchMode", "count_dispatch_modes")
def _dispatch_mode() -> None:
    x = torch.ones(2)
    assert internals.count_dispatch_modes() == 0
    with _Operators() as mode:
        assert internals.count_dispatch_modes() == 1
        F.relu(x)
    F.relu(x)
    assert mode.seen == [torch.ops.aten.relu.default]


@_about("tree_leaves", "tree_map_only")
def _trees() -> None:
    tree = {"a": [1, (2.0, "b")], "c": None}
    assert internals.tree_leaves(tree) == [1, 2.0, "b", None]
    assert internals.tree_map_only(int, lambda n: n + 1, tree) == {"a": [2, (2.0, "b")], "c": None}


@_about("has_triton")
def _finds_triton() -> None:
    """It remembers what it has found, until it is told to ask again."""
    installed = importlib.util.find_spec("triton") is not None
    internals.has_triton.cache_clear()
    assert internals.has_triton() is installed
    try:
        with mock.patch.dict(sys.modules, {"triton": None}):
            assert internals.has_triton() is installed
            internals.has_triton.cache_clear()
            assert not internals.has_triton()
    finally:
        internals.has_triton.cache_clear()


@_about("FakeTensor", "FunctionalTensor")
def _traced_with() -> None:
    """The function is called for its shapes, for a graph without writes, and at last by nobody but that graph."""
    torch.compiler.reset()
    met: list[type] = []

    @torch.compiler.allow_in_graph
    def function(x: Tensor) -> Tensor:
        met.append(type(x))
        return x.add(1).relu_()

    torch.compile(lambda x: function(x), backend="aot_eager", fullgraph=True)(torch.ones(2))
    assert set(met) == {internals.FakeTensor, internals.FunctionalTensor}


@_about("version_of")
def _version() -> None:
    t = torch.ones(2)
    view = t[:1]
    before = internals.version_of(t)
    view.add_(1)
    assert internals.version_of(t) == internals.version_of(view) == before + 1


@_about("without_modes")
def _without_modes() -> None:
    with FakeTensorMode():
        assert isinstance(torch.ones(2), internals.FakeTensor)
        with internals.without_modes():
            assert type(torch.ones(2)) is Tensor


@_about("nn_builtins")
def _nn_builtins() -> None:
    seen: list[Any] = []

    class Sees(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x = torch.ones(1, 1, 2, 2)
    with Sees():
        internals.nn_builtins.pad(x, (1, 1, 1, 1))
    assert seen == [internals.nn_builtins.pad]
    graphs: list[fx.GraphModule] = []

    def backend(gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        graphs.append(gm)
        return gm.forward

    torch.compile(lambda x: F.pad(x, (1, 1)), backend=backend)(x)
    called = {n.target for n in graphs[0].graph.nodes if n.op == "call_function"}
    assert called & {F.pad, internals.nn_builtins.pad}


@_about("gpu_sleep")
def _gpu_sleep() -> None:
    """It is asked of the GPU in the end, if there is one."""
    cycles: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._C, "_cuda_sleep", cycles.append, raising=False)
        internals.gpu_sleep(1000)
    assert cycles == [1000]
