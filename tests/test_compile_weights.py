"""What the backend computes of Parameters alone: once, and again when one of them changes."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.networks import with_statistics
from torchops.compile import Backend, GraphReport, forget
from torchops.compile.once import Once

from .conformance import close
from .networks import image
from .test_fusion import conv, sequential

pytestmark = pytest.mark.usefixtures("fresh_compiler")

_X = image(1, 4, 6, 6)


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    model = sequential(conv(), nn.BatchNorm2d(4), nn.ReLU())
    assert isinstance(model, nn.Sequential)
    return model


def _compiled(model: nn.Module, **options: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[], GraphReport]]:
    """A function that checks what the compiled model says, and one that returns the first report."""
    backend = Backend(rest="eager", **options)
    run = torch.compile(model, backend=backend)

    def checked(x: Tensor) -> Tensor:
        with torch.no_grad():
            y: Tensor = run(x)
            close(y, copy.deepcopy(model).double()(x.double()), x.dtype, 10)
        return y

    return checked, lambda: backend.reports[0]


def _load(model: Any) -> None:
    model.load_state_dict({name: t + 0.5 for name, t in model.state_dict().items()})


def _replace(model: Any) -> None:
    model[0].weight = nn.Parameter(torch.rand_like(model[0].weight))


def _replace_data(model: Any) -> None:
    model[0].weight.data = torch.rand_like(model[0].weight)


def _step(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(_X).sum().backward()
    optimizer.step()


def _write(model: Any) -> None:
    with torch.no_grad():
        model[1].running_var.mul_(2)


def _swap(model: Any) -> None:
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.flip(0))


CHANGES: dict[str, Callable[[Any], None]] = {
    "load_state_dict": _load, "replaced": _replace, "data_replaced": _replace_data, "step": _step, "buffer_written": _write,
    "permuted": _swap,
}  # fmt: skip


@pytest.mark.parametrize("which", CHANGES)
@pytest.mark.parametrize("weights", ["guarded", "in_graph"])
def test_changes_are_seen(which: str, weights: str) -> None:
    model = _model()
    run, report = _compiled(model, weights=weights)
    run(_X)
    run(_X)
    assert report().recomputed() == (weights == "guarded")
    CHANGES[which](model)
    run(_X)
    run(_X)
    assert report().recomputed() <= 2


def test_writes_to_data_are_seen_in_the_graph_alone() -> None:
    model = _model()
    run, _ = _compiled(model, weights="in_graph")
    run(_X)
    model[0].weight.data.mul_(2)
    run(_X)
    # nobody counts these, which is said in the documentation
    model = _model()
    backend = Backend(rest="eager")
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        before = compiled(_X)
        model[0].weight.data.mul_(2)
        assert torch.equal(compiled(_X), before)


def test_forget_has_them_computed_again() -> None:
    model = _model()
    run, report = _compiled(model)
    run(_X)
    model[0].weight.data.mul_(2)
    forget()
    run(_X)
    assert report().recomputed() == 2


def test_memory_that_was_freed_between_is_told_apart() -> None:
    model = sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    run, _ = _compiled(model)
    for _ in range(10):
        for _ in range(2):
            # the allocator hands the memory of the first to the second
            parameters = [*model.parameters()]
            nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(parameters) * 0.9, parameters)
        run(_X)


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}], ids=["fused", "foreach"])
def test_steps_of_optimizers_are_seen(optimizer: str, options: Any) -> None:
    model = _model()
    run, _ = _compiled(model)
    steps = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1, **options)
    for _ in range(3):
        run(_X)
        steps.zero_grad()
        model(_X).sum().backward()
        steps.step()
    run(_X)


def test_steps_of_other_optimizers_change_nothing() -> None:
    teacher, student = _model(), conv()
    run, report = _compiled(teacher)
    steps = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(3):
        run(_X)
        student(_X).sum().backward()
        steps.step()
    assert report().recomputed() == 1


def test_reports_do_not_keep_weights() -> None:
    model, backend = _model(), Backend(rest="eager")
    run = torch.compile(model, backend=backend)
    before = {id(o) for o in gc.get_objects() if type(o) is Once}
    with torch.no_grad():
        run(_X)
    torch.compiler.reset()
    del run, model
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is Once and id(o) not in before]
    assert backend.reports[0].recomputed() == 1


def test_a_shift_that_leaves_float16_is_not_folded() -> None:
    class Shifts(nn.Module):
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.register_buffer("shift", torch.full((1, 1, 1), 4e4))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x) + self.shift
            return y

    model = Shifts()
    with torch.no_grad():
        model.conv.weight.fill_(1.0)
        model.conv.bias.fill_(4e4)  # type: ignore[union-attr]
        y = torch.compile(model.half(), backend=Backend(rest="eager"))(torch.full((1, 1, 2, 2), -6e4).half())
    assert torch.equal(y, torch.full((1, 1, 2, 2), 2e4).half())


def test_models_of_one_class_have_weights_of_their_own() -> None:
    models = [_model() for _ in range(3)]
    for i, model in enumerate(models):
        with torch.no_grad():
            model[0].weight.mul_(i + 1)
    backend = Backend(rest="eager")
    runs = [torch.compile(model, backend=backend) for model in models]
    for _ in range(3):
        for model, run in zip(models, runs, strict=True):
            with torch.no_grad():
                close(run(_X), model(_X), torch.float32, 10)
    assert sum(report.recomputed() for report in backend.reports) == 3


def test_weights_of_inference_mode_are_folded_in_the_graph() -> None:
    with torch.inference_mode():
        model = _model()
    backend = Backend(rest="eager")
    run = torch.compile(model, backend=backend)
    with torch.inference_mode():
        for _ in range(2):
            close(run(_X), model(_X), torch.float32, 10)
            model[0].weight.mul_(2)
    assert list(backend.reports[0].fused.values()) == ["conv2d + batch_norm + relu"]
    assert backend.reports[0].recomputed() == 0


def test_a_model_called_in_inference_mode() -> None:
    model = _model()
    backend = Backend(rest="eager")
    run = torch.compile(model, backend=backend)
    for _ in range(2):
        with torch.inference_mode():
            close(run(_X), model(_X), torch.float32, 10)
        _write(model)
    assert backend.reports[0].recomputed() == 2


class Counts(nn.Module):
    """It writes to one of its buffers in every call."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = conv(), nn.BatchNorm2d(4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.bn(self.conv(x)) * self.calls


def test_a_buffer_that_every_call_writes_to_recomputes_nothing() -> None:
    model = with_statistics(Counts()).eval()
    backend = Backend(rest="eager")
    run = torch.compile(model, backend=backend)
    with torch.no_grad():
        first = run(_X)
        for i in range(2, 5):
            close(run(_X), i * first, torch.float32, 10)
    assert int(model.calls) == 4
    assert backend.reports[0].recomputed() == 1
    assert list(backend.reports[0].fused.values()) == ["conv2d + batch_norm"]


class Returns(nn.Module):
    """It returns what it computes of its Parameters alone, and views of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        doubled = self.conv.weight * 2
        return self.conv(x), doubled, (doubled + 1).view(-1, x.shape[1]), doubled.chunk(2)[0]


@pytest.mark.parametrize("dynamic", [None, True])
def test_what_is_returned_may_be_written_to(dynamic: bool | None) -> None:
    model = Returns().eval()
    run = torch.compile(model, backend=Backend(rest="eager"), dynamic=dynamic)
    with torch.no_grad():
        for _ in range(3):
            results = run(_X)
            for one, other in zip(results, model(_X), strict=True):
                close(one, other, torch.float32, 10)
            for one in results:
                one.zero_()
        # of views of one memory, the one sees what is written to the other
        _, doubled, _, half = run(_X)
        doubled.fill_(3.0)
        assert half.eq(3.0).all()


def test_tied_weights() -> None:
    layer = conv()
    model = sequential(layer, nn.BatchNorm2d(4), layer, nn.BatchNorm2d(4))
    run, report = _compiled(model)
    run(_X)
    assert list(report().fused.values()) == ["conv2d + batch_norm"] * 2
    with torch.no_grad():
        layer.weight.mul_(2)
    run(_X)


def test_a_model_that_is_gone_is_not_kept() -> None:
    model = _model()
    run, _ = _compiled(model)
    run(_X)
    gone = weakref.ref(model[0].weight)
    del model, run
    torch.compiler.reset()
    gc.collect()
    assert gone() is None


def _grow(model: Any) -> None:
    """Folded, weights of about 30 become 1e6, which float16 has no room for; results of small images are of order 100."""
    with torch.no_grad():
        model[0].weight.mul_(200)
        model[0].bias.zero_()
        model[1].running_mean.zero_()
        model[1].running_var.fill_(1e-6)
        model[1].weight.fill_(100.0)


def test_what_would_leave_float16_is_not_folded() -> None:
    model = _model().half()
    _grow(model)
    run, report = _compiled(model)
    run(_X.half() * 1e-4)
    assert list(report().fused.values()) == ["conv2d"]
    assert report().kept["1"].startswith("folded into the weights, it would leave the range of torch.float16")


def test_what_leaves_float16_later_is_taken_back() -> None:
    model = _model().half()
    run, report = _compiled(model)
    run(_X.half())
    assert list(report().fused.values()) == ["conv2d + batch_norm + relu"]
    _grow(model)
    assert run(_X.half() * 1e-4).isfinite().all()


def test_nothing_is_folded_in_float16_where_it_could_not_be_taken_back() -> None:
    run, report = _compiled(_model().half(), weights="in_graph")
    run(_X.half())
    assert list(report().fused.values()) == ["conv2d"]
