"""torch's compilers still do what `torchops.compiler_internals` says of them, with the torch that is installed."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from torchops import compiler_internals as internals
from torchops.torch_internals import FakeTensor

from .internals import Questions

_QUESTIONS = Questions(internals)
_about = _QUESTIONS.about


@pytest.mark.parametrize("name", _QUESTIONS.said)
def test_does_what_is_said(name: str) -> None:
    assert _QUESTIONS.said[name].endswith(".")
    torch.compiler.reset()
    _QUESTIONS.asked[name]()


def test_no_question_is_left_over() -> None:
    assert _QUESTIONS.asked.keys() == _QUESTIONS.said.keys()


class _Counts(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.layer(x)
        return y


def _compiled(seen: Any, dynamic: bool = False) -> _Counts:
    """Compile and run a module, with `seen` of Dynamo's graph and its inputs."""

    def backend(gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        seen(gm, example_inputs)
        return gm.forward

    model = _Counts()
    with torch.no_grad():
        torch.compile(model, backend=backend, dynamic=dynamic)(torch.ones(3, 2))
    return model


def _placeholders(gm: fx.GraphModule) -> list[fx.Node]:
    return [n for n in gm.graph.nodes if n.op == "placeholder"]


@_about("OpOverload")
def _operators() -> None:
    assert isinstance(torch.ops.aten.relu.default, internals.OpOverload)
    assert not isinstance(torch.relu, internals.OpOverload)


@_about("fake_mode_of", "python_dispatcher")
def _fake_values() -> None:
    with FakeTensorMode() as mode:
        t = torch.ones(2)
    assert internals.fake_mode_of([3, t]) is mode
    assert internals.fake_mode_of([3]) is None
    with mode, internals.python_dispatcher():
        assert isinstance(t + 1, FakeTensor)


@_about("is_transformed")
def _transformed() -> None:
    seen: list[bool] = []
    torch.func.vmap(lambda t: seen.append(internals.is_transformed(t)) or t)(torch.ones(2))
    assert seen == [True]
    assert not internals.is_transformed(torch.ones(2))


@_about("size_hint")
def _size_hint() -> None:
    hints: list[Any] = []
    _compiled(
        lambda gm, given: hints.extend(internals.size_hint(n) for n in given if isinstance(n, torch.SymInt)), True
    )
    assert 3 in hints
    assert internals.size_hint(5) == 5


@_about("is_marked_static", "mark_static", "dynamo_example")
def _inputs_of_dynamo() -> None:
    found: dict[str, tuple[bool, Any]] = {}

    def seen(gm: fx.GraphModule, example_inputs: list[Any]) -> None:
        for n in _placeholders(gm):
            found[n.name] = internals.is_marked_static(n), internals.dynamo_example(n)
        (x,) = [n for n in _placeholders(gm) if not internals.is_marked_static(n)]
        internals.mark_static(x)
        assert internals.is_marked_static(x)

    model = _compiled(seen)
    static = [t for is_static, t in found.values() if is_static]
    assert len(static) == 3
    assert {id(t) for t in static} == {id(t) for t in (*model.parameters(), *model.buffers())}
    assert internals.dynamo_example(fx.Graph().placeholder("x")) is None


@_about("through_aot_autograd", "boxed", "mutated_inputs")
def _functional() -> None:
    graphs: list[tuple[fx.GraphModule, list[bool]]] = []

    def compiler(gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        graphs.append((gm, [i in internals.mutated_inputs() for i in range(len(example_inputs))]))

        def run(args: list[Any]) -> Any:
            given = list(args)
            args.clear()
            return gm(*given)

        return internals.boxed(run)

    assert not internals.mutated_inputs()
    model = _Counts()
    run = torch.compile(model, backend=lambda gm, given: internals.through_aot_autograd(gm, given, compiler))
    with torch.no_grad():
        assert torch.equal(run(torch.ones(3, 2)), model.layer(torch.ones(3, 2)))
    assert int(model.calls) == 1
    ((gm, mutated),) = graphs
    assert mutated.count(True) == 1
    assert all(isinstance(n.target, internals.OpOverload) for n in gm.graph.nodes if n.op == "call_function")


@_about("context_of_its_own")
def _context() -> None:
    def seen(gm: fx.GraphModule, example_inputs: list[Any]) -> None:
        outside = torch._guards.TracingContext.try_get()
        with internals.context_of_its_own(example_inputs):
            inside = torch._guards.TracingContext.try_get()
            assert inside is not outside
            assert inside is not None
            assert inside.fake_mode is internals.fake_mode_of(example_inputs)
        assert torch._guards.TracingContext.try_get() is outside

    _compiled(seen)


@_about("inductor", "settings_of_mode", "inductor_settings")
def _inductor() -> None:
    assert internals.settings_of_mode("reduce-overhead") == {"triton.cudagraphs": True}
    assert "triton.cudagraphs" in internals.inductor_settings()
    gm = fx.symbolic_trace(nn.ReLU())
    with torch.no_grad():
        run = internals.inductor(gm, [torch.ones(2)], {"max_autotune": False})
        assert torch.equal(run(-torch.ones(2)), torch.zeros(2))


@_about("compile_package", "load_package")
def _packages() -> None:
    """To compile one takes long: tests/test_export_aten.py does."""
    import torch._inductor

    for name in ("aoti_compile_and_package", "aoti_load_package"):
        assert callable(getattr(torch._inductor, name))
    assert "package_path" in inspect.signature(torch._inductor.aoti_compile_and_package).parameters
