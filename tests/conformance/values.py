"""Values, strides and memory formats of results."""

from __future__ import annotations

import pytest
import torch

from tests.opinfo import LAYOUTS, Rejection, Sample

from .base import EVERY_TIER, OPERATOR, Questions, close, differentiable


class Values(Questions):
    @EVERY_TIER
    def test_matches_reference(self, sample: Sample, device: torch.device) -> None:
        inputs = self.inputs(sample, torch.float32, device)
        close(self.call(inputs, sample), self.expected(inputs, sample), torch.float32)

    @EVERY_TIER
    def test_rounds_once_in_every_dtype(self, dtype: torch.dtype, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, dtype, device)
        out = self.call(inputs, sample)
        assert out.dtype == (dtype if dtype.is_floating_point else torch.float32)
        expected = self.expected(inputs, sample)
        close(out, expected, dtype)
        if dtype in (torch.float16, torch.bfloat16):
            # float32 arithmetic moves hardly any result across a rounding boundary; a second rounding, or none, moves many
            assert (out.cpu() == expected.to(dtype)).double().mean() > 0.98

    @EVERY_TIER
    def test_any_strides(self, layout: str, device: torch.device, tier: str) -> None:
        sample = self.info.samples[0]
        # the IR is compiled for each: two formats of the weight show what it does with strides
        layouts = ("contiguous", "channels_last") if tier == "ir" else tuple(LAYOUTS)
        for parameter_layout in layouts if self.info.further else layouts[:1]:
            inputs = self.inputs(sample, torch.float32, device, layout, parameter_layout)
            close(self.call(inputs, sample), self.expected(inputs, sample), torch.float32)

    @EVERY_TIER
    def test_same_bits_every_run(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        runs = []
        for _ in range(2):
            out = self.call(leaves, sample)
            runs.append((out, *self.grads(out, leaves, torch.ones_like(out))))
        for run in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))

    @pytest.mark.tiers("aten")
    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_same_bits_every_run_of_a_number_of_threads(
        self, threads: int, float_dtype: torch.dtype, device: torch.device
    ) -> None:
        """Of an image that is large enough for ATen to share it among threads."""
        sample = self.info.samples[0].resized((4, self.info.samples[0].shape[1], 66, 62))
        outer = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            for layout in ("contiguous", "channels_last"):
                leaves = self.with_grad(self.inputs(sample, float_dtype, device, layout, layout))
                grad = torch.randn_like(self.call(leaves, sample))
                runs = []
                for _ in range(3):
                    out = self.call(leaves, sample)
                    runs.append((out, *self.grads(out, leaves, grad)))
                for run in runs[1:]:
                    assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
        finally:
            torch.set_num_threads(outer)

    @EVERY_TIER
    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter's numpy
    def test_nan_is_data(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        inputs = self.inputs(sample, torch.float32, device)
        inputs[0].view(-1)[inputs[0].numel() // 2] = torch.nan
        inputs[0].view(-1)[inputs[0].numel() // 3] = torch.inf
        expected = self.expected(inputs, sample)
        assert expected.isnan().any()
        close(self.call(inputs, sample), expected, torch.float32)

    @OPERATOR
    def test_empty_batch(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample.resized((0, *sample.shape[1:])), torch.float32, device))
        out = self.call(leaves, sample)
        assert out.shape[0] == 0
        for grad, leaf in zip(
            torch.autograd.grad(out.sum(), differentiable(leaves)), differentiable(leaves), strict=True
        ):
            assert torch.equal(grad, torch.zeros_like(leaf))

    @OPERATOR
    def test_unbatched(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        first, *rest = self.inputs(sample, torch.float32, device)
        if self.info.op.offsets:
            # indices go with their images
            one, image = [t[0] for t in rest], [t[:1] for t in rest]
        else:
            one = image = rest
        assert torch.equal(self.call((first[0], *one), sample), self.call((first[:1], *image), sample)[0])

    @OPERATOR
    def test_output_never_aliases_input(self, sample: Sample, device: torch.device) -> None:
        inputs = self.inputs(sample, torch.float32, device)
        storage = self.call(inputs, sample).untyped_storage().data_ptr()
        assert all(storage != t.untyped_storage().data_ptr() for t in inputs)

    @OPERATOR
    def test_keeps_memory_format(self, device: torch.device) -> None:
        """channels_last if a tensor is, as ATen."""
        sample = self.info.samples[0]
        layouts = (("contiguous", False), ("channels_last", True), ("sliced_channels_last", True))
        for layout, last in layouts:
            for parameter_layout, last_too in layouts if self.info.further else layouts[:1]:
                out = self.call(self.inputs(sample, torch.float32, device, layout, parameter_layout), sample)
                form = torch.channels_last if out.dim() == 4 else torch.channels_last_3d
                expected = last or (last_too and self.info.format_of_all)
                assert out.is_contiguous(memory_format=form) == expected, (layout, parameter_layout)
                assert out.is_contiguous() != expected, (layout, parameter_layout)

    @OPERATOR
    def test_no_grad_records_nothing(self, device: torch.device) -> None:
        sample = self.info.samples[0]
        leaves = self.with_grad(self.inputs(sample, torch.float32, device))
        with torch.no_grad():
            assert not self.call(leaves, sample).requires_grad

    @OPERATOR
    def test_rejects(self, rejection: Rejection) -> None:
        with pytest.raises(rejection.error, match=rejection.match):
            rejection.call()
