"""What the dispatcher does for torch's own operators: a call that skips it for speed has to come to the same.

    keys of tensors      negative and conjugate bits, zeros without memory, functional and batched wrappers
    types of tensors     subclasses with a `__torch_dispatch__`, fake tensors
    modes                `__torch_dispatch__`, tracers, the profiler, inference mode
    autograd             saved-tensor hooks, anomaly mode
    alerts               deterministic algorithms, tensors of two devices

Transforms and batched gradients are asked about in `transforms.py`, autocast and fake tensors in `operator.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from tests.opinfo import Sample

from .base import EVERY_TIER, OPERATOR, Questions, close


def negative_view(x: Tensor) -> Tensor:
    """x, as a view of the negative of its memory: what the imaginary part of a Fourier transform's conjugate is."""
    view = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert view.is_neg()
    return view


class Logged(TorchDispatchMode):
    """Notes the names of the operators that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


class Wrapped(Tensor):
    """A tensor that has no memory of its own, only another tensor inside."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> Wrapped:
        wrapper = Tensor._make_wrapper_subclass(
            cls, inside.shape, strides=inside.stride(), dtype=inside.dtype, device=inside.device
        )
        wrapper.inside = inside
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Wrapped, lambda t: t.inside, (args, kwargs or {}))
        return tree_map_only(Tensor, Wrapped, func(*args, **kwargs))


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


class Dispatch(Questions):
    def results(self, inputs: Any, sample: Sample, grad: Tensor | None = None) -> tuple[Tensor, ...]:
        """The result and all gradients."""
        leaves = self.with_grad(inputs)
        out = self.call(leaves, sample)
        torch.manual_seed(1)
        return (out, *self.grads(out, leaves, torch.randn_like(out) if grad is None else grad))

    def compare(self, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
        for a, e in zip(actual, expected, strict=True):
            close(a, e, torch.float32, factor=4)

    @EVERY_TIER
    def test_negative_views(self, device: torch.device) -> None:
        """Of every tensor, and of the incoming gradient."""
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        expected = self.results(inputs, sample)
        for i, x in enumerate(inputs):
            if x.is_floating_point():
                self.compare(self.results((*inputs[:i], negative_view(x), *inputs[i + 1 :]), sample), expected)
                with torch.no_grad():
                    close(
                        self.call((*inputs[:i], negative_view(x), *inputs[i + 1 :]), sample), expected[0], torch.float32
                    )
        torch.manual_seed(1)
        grad = torch.randn_like(expected[0])
        self.compare(self.results(inputs, sample, negative_view(grad)), expected)

    @OPERATOR
    def test_conjugate_views(self, device: torch.device) -> None:
        """Parts of a conjugate are ordinary views, with ordinary and with negative bits."""
        sample = self.info.samples[0]
        first, *rest = self.inputs(sample, torch.float32, device)
        spectrum = torch.complex(first, first.flip(-1)).conj()
        for part in (spectrum.real, spectrum.imag, torch.view_as_real(spectrum.resolve_conj())[..., 1]):
            self.compare(self.results((part, *rest), sample), self.results((part.clone(), *rest), sample))

    @OPERATOR
    def test_zero_tensors(self, device: torch.device) -> None:
        """Zeros without memory, which autograd makes, count as zeros."""
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        for i, x in enumerate(inputs):
            if x.is_floating_point():
                zeros = torch._efficientzerotensor(x.shape, device=device)
                assert zeros._is_zerotensor()
                before, after = inputs[:i], inputs[i + 1 :]
                expected = self.call((*before, torch.zeros_like(x), *after), sample)
                close(self.call((*before, zeros, *after), sample), expected, torch.float32)

    @OPERATOR
    def test_functional_wrappers(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        out = self.call(tuple(map(torch._to_functional_tensor, inputs)), sample)
        assert torch._is_functional_tensor(out)
        close(torch._from_functional_tensor(out), self.call(inputs, sample), torch.float32)

    @OPERATOR
    def test_wrapper_subclasses(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        out = self.call(tuple(map(Wrapped, inputs)), sample)
        assert isinstance(out, Wrapped)
        assert torch.equal(out.inside, self.call(inputs, sample))
        mixed = self.call((inputs[0], *map(Wrapped, inputs[1:])), sample)
        assert isinstance(mixed, Wrapped) == (len(inputs) > 1)

    @OPERATOR
    def test_modes_see_the_operator(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        expected = self.results(inputs, sample)
        with Logged() as log:
            out, *grads = self.results(inputs, sample)
        assert all(torch.equal(a, e) for a, e in zip((out, *grads), expected, strict=True))
        assert {name for name in log.names if name.startswith("torchops::")} == {
            f"torchops::{name}" for name in self.info.registered
        }

    @OPERATOR
    @pytest.mark.filterwarnings("ignore::UserWarning")  # of the profiler, where there is no GPU
    def test_profiler_sees_the_operator(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            self.results(inputs, sample)
        seen = {event.key for event in profile.key_averages()}
        assert {f"torchops::{name}" for name in self.info.registered} <= seen

    @OPERATOR
    def test_inference_mode(self, device: torch.device) -> None:
        """Inside, results are inference tensors; outside, these serve where nothing has to be kept of them."""
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        with torch.inference_mode():
            inside = self.call(inputs, sample)
            copies = tuple(x.clone() for x in inputs)
            again = self.call(copies, sample)
        assert inside.is_inference()
        assert not self.call(inputs, sample).is_inference()
        assert torch.equal(inside, self.call(inputs, sample))
        assert torch.equal(again, inside)
        assert torch.equal(self.call(copies, sample), inside)

    @OPERATOR
    def test_saved_tensor_hooks(self, device: torch.device) -> None:
        """All that is kept goes through them: what they change changes the gradient, as it does behind the dispatcher."""
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)

        def swapped(t: Tensor) -> Tensor:
            return t * 2 if t.is_floating_point() else t

        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, swapped):
            direct = self.results(inputs, sample)
            with Logged():
                dispatched = self.results(inputs, sample)
        self.compare(direct, dispatched)
        with torch.autograd.graph.save_on_cpu():
            self.compare(self.results(inputs, sample), self.results(inputs, sample))

    @OPERATOR
    @pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
    @pytest.mark.filterwarnings("ignore:Error detected in")
    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter's numpy
    def test_anomaly_mode(self, device: torch.device) -> None:
        """It names the function whose gradient is NaN."""
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        out = self.call(inputs, sample)
        with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"Backward.*returned nan values"):
            self.results(inputs, sample, torch.full_like(out, torch.nan))

    @OPERATOR
    def test_deterministic_algorithms(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        expected = self.results(inputs, sample)
        with deterministic():
            runs = [self.results(inputs, sample) for _ in range(2)]
        for run in runs:
            assert all(torch.equal(a, e) for a, e in zip(run, expected, strict=True))

    @OPERATOR
    def test_two_devices_are_refused(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        if len(inputs) == 1:
            pytest.skip("the op takes one tensor")
        for i in range(1, len(inputs)):
            with pytest.raises(RuntimeError, match="device"):
                self.call((*inputs[:i], inputs[i].to("meta"), *inputs[i + 1 :]), sample)
