"""max_unpool2d: both kinds of indices, the rule for duplicates, and indices that no pool made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import catalog, reference
from torchops.ops.cpu import tiles

from .conformance import OPERATOR, Conformance, close
from .opinfo import OpInfo, Rejection, Sample, laid_out
from .test_avg_pool2d import unpool_rejections
from .test_max_pool2d import ARCHS
from .windows import Window

SAMPLES = (
    Sample((2, 3, 4, 8), {"kernel_size": 2}),
    Sample((2, 3, 5, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Sample((2, 8, 5, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "output_size": (10, 11)}),
    Sample((1, 5, 6, 6), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}),
    Sample((1, 17, 5, 5), {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2}),
    Sample((2, 3, 3, 4), {"kernel_size": 2, "stride": 3, "output_size": (2, 3, 9, 12)}),
    Sample((1, 3, 5, 6), {"kernel_size": 1}),
    Sample((2, 4, 1, 1), {"kernel_size": 7}),
)


def _unpool(input: Any, *args: Any) -> Tensor:
    indices = torch.zeros(input.shape, dtype=torch.uint8) if isinstance(input, Tensor) else None
    return torchops.max_unpool2d(input, indices, *args)  # type: ignore[arg-type]


def _rejections() -> tuple[Rejection, ...]:
    x, image = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 8, 10)
    positions = torch.zeros(1, 3, 4, 5, dtype=torch.int64)
    unpool = torchops.max_unpool2d
    offsets = torchops.max_pool2d(image, 2, return_indices="offset")[1]
    return (
        *unpool_rejections(_unpool),
        Rejection("floats", lambda: unpool(x, x, 2), TypeError, r"`indices` must be int64 .* got torch\.float32"),
        Rejection("int32", lambda: unpool(x, positions.int(), 2), TypeError, r"`indices` .* got torch\.int32"),
        Rejection("none", lambda: unpool(x, None, 2), TypeError, r"`indices` must be a tensor, got NoneType"),  # type: ignore[arg-type]
        Rejection(
            "another_shape",
            lambda: unpool(x, positions[:, :, :3], 2),
            ValueError,
            r"`indices` must have the shape of `input`, \(1, 3, 4, 5\), got \(1, 3, 3, 5\)",
        ),
        Rejection(
            "beyond_the_output",
            lambda: unpool(x, positions + 80, 2),
            RuntimeError,
            r"`indices` must lie in \[0, 80\), the pixels of a 8 x 10 output, got 80",
        ),
        Rejection("negative", lambda: unpool(x, positions - 1, 2), RuntimeError, r"`indices` .* got -1"),
        Rejection(
            "not_truncated", lambda: unpool(x, positions + 2**32, 2), RuntimeError, r"`indices` .* got 4294967296"
        ),
        Rejection(
            "offset_of_no_pixel",
            lambda: unpool(x, (positions + 4).to(torch.uint8), 2),
            RuntimeError,
            r"`indices` must be offsets that point into the 8 x 10 output from windows of \(2, 2\), got 4",
        ),
        Rejection(
            "offset_into_the_padding",
            lambda: unpool(x, positions.to(torch.uint8), 3, 2, 1),
            RuntimeError,
            r"`indices` must be offsets that point into the 7 x 9 output from windows of \(3, 3\), got 0",
        ),
        Rejection(
            "offsets_in_a_large_window",
            lambda: unpool(x, positions.to(torch.uint8), 17),
            ValueError,
            r"offsets point into a window of at most 256 pixels, got `kernel_size` \(17, 17\)",
        ),
        Rejection(
            "windows_beside_the_image",
            lambda: unpool(x[..., :1, :1], positions[..., :1, :1], (1, 2), 1, (0, 1), dilation=(1, 4)),
            ValueError,
            r"`dilation` \(1, 4\) with `padding` \(0, 1\) leaves windows without a pixel of the image, which has 3 columns",
        ),
        Rejection(
            "offsets_of_other_windows",
            lambda: unpool(x, offsets, 3, 2, 1),
            ValueError,
            r"offsets in windows of kernel_size \(2, 2\), .* got `kernel_size` \(3, 3\), `stride` \(2, 2\), `padding` \(1, 1\)",
        ),
        Rejection(
            "dilation_0", lambda: unpool(x, positions, 2, dilation=0), ValueError, r"`dilation` must be positive"
        ),
    )


def _window(sample: Sample) -> tuple[Window, tuple[int, ...]]:
    """The window of a sample, and the size of the image that comes out."""
    kwargs = {**sample.kwargs}
    output_size = kwargs.pop("output_size", None)
    w = Window.of(**kwargs)
    return w, tuple(reference._unpooled(sample.shape[2:], *w.geometry[:3], output_size, w.dilation))


def pool_made(
    shape: tuple[int, ...], size: tuple[int, ...], w: Window, kind: Any, generator: torch.Generator
) -> Tensor:
    """Indices of the maxima of random windows; where the image ends before a window does, of its first pixel in it."""
    positions = reference._positions(size, shape[2:], *w.geometry)
    pixels = torch.where(positions >= 0, torch.rand((*shape, positions.shape[-1]), generator=generator), -1.0)
    tap = pixels.argmax(-1, keepdim=True)
    return (
        tap.squeeze(-1).to(torch.uint8)
        if kind == "offset"
        else positions.expand(pixels.shape).gather(-1, tap).squeeze(-1)
    )


class _Unpool(Conformance):
    """Indices are those of a pool of an image of the size that comes out."""

    kind: Any

    def inputs(
        self,
        sample: Sample,
        dtype: torch.dtype,
        device: torch.device,
        layout: str = "contiguous",
        parameter_layout: str = "contiguous",
    ) -> Any:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(sample.shape, generator=generator).to(dtype)
        w, size = _window(sample)
        indices = pool_made(sample.shape, size, w, self.kind, generator)
        return laid_out(x.to(device), layout), laid_out(indices.to(device), parameter_layout)


class TestOffsets(_Unpool):
    kind = "offset"
    info = OpInfo(
        op=catalog.OPS["max_unpool2d"],
        archs=ARCHS,
        samples=SAMPLES,
        rejections=_rejections(),
        module=(torchops.nn.MaxUnpool2d, {"kernel_size": 2, "stride": 3}),
        registered=("max_unpool2d", "max_unpool2d_backward"),
        further=True,
        format_of_all=False,
    )


class TestPositions(_Unpool):
    kind = "position"
    info = OpInfo(
        op=catalog.OPS["max_unpool2d"],
        archs=ARCHS,
        samples=SAMPLES[1:],
        rejections=(),
        launches=(2, 2),
        reports=True,
        indices="position",
        module=(torchops.nn.MaxUnpool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
        registered=("max_unpool2d", "max_unpool2d_backward"),
        further=True,
        format_of_all=False,
    )


class TestOffsetsKnowTheirWindows:
    def test_a_tensor_that_lost_it_is_believed(self) -> None:
        y, offsets = torchops.max_pool2d(torch.randn(1, 1, 6, 6), 2, return_indices="offset")
        with pytest.raises(ValueError, match="offsets in windows of"):
            torchops.max_unpool2d(y, offsets, 2, 3)
        torchops.max_unpool2d(y, offsets.clone(), 2, 3)

    def test_so_is_one_that_was_written_to(self) -> None:
        image = torch.randn(1, 1, 6, 6)
        y, offsets = torchops.max_pool2d(image, 2, return_indices="offset")
        others = torchops.max_pool2d(image, (2, 1), 2, return_indices="offset")[1]
        others.copy_(offsets)
        assert torch.equal(torchops.max_unpool2d(y, others, 2), torchops.max_unpool2d(y, offsets, 2))

    def test_inference_mode_has_no_versions(self) -> None:
        with torch.inference_mode():
            y, offsets = torchops.max_pool2d(torch.randn(1, 1, 6, 6), 2, return_indices="offset")
            assert torchops.max_unpool2d(y, offsets, 2).shape == (1, 1, 6, 6)

    def test_positions_may_go_to_other_windows(self) -> None:
        y, positions = torchops.max_pool2d(torch.randn(1, 1, 8, 8), 2, return_indices=True)
        same = torchops.max_unpool2d(y, positions, 3, 2, 1, output_size=(8, 8))
        assert torch.equal(same, torchops.max_unpool2d(y, positions, 2))


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize("kind", [True, "offset"])
@pytest.mark.parametrize(
    ("shape", "stride"),
    [((1, 1, 4, 3), (0, 0, 2**30, 1)), ((1, 1, 2, 4), (0, 0, 1, 2**30)), ((1, 4, 2, 3), (0, 2**30, 3, 1))],
    ids=["rows", "columns", "planes"],
)
@pytest.mark.xdist_group("large")
def test_offsets_beyond_31_bits(shape: Any, stride: Any, kind: Any, device: torch.device) -> None:
    """Memory that is addressed but hardly touched: the system maps only the pages that are written."""
    image = torch.randn(*shape[:2], 2 * shape[2], 2 * shape[3], device=device, dtype=torch.float16)
    y, indices = torchops.max_pool2d(image, 2, return_indices=kind)
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    torch.utils.deterministic.fill_uninitialized_memory = False
    far = torch.empty(reach, dtype=torch.float16, device=device).as_strided(shape, stride).copy_(y)
    assert torch.equal(torchops.max_unpool2d(far, indices, 2), torchops.max_unpool2d(y, indices, 2))


@OPERATOR
def test_segnet_keeps_indices_on_the_way_down(device: torch.device) -> None:
    """Two levels down and up again; the gradient of every layer is finite and nothing is lost."""
    x = torch.randn(1, 4, 12, 20, device=device, requires_grad=True)
    a, first = torchops.max_pool2d(x, 2, return_indices="offset")
    b, second = torchops.max_pool2d(a, 2, return_indices="offset")
    up = torchops.max_unpool2d(torchops.max_unpool2d(b, second, 2), first, 2)
    assert up.shape == x.shape
    (grad,) = torch.autograd.grad(up.sum(), x)
    assert int(grad.count_nonzero()) == b.numel()
    close(up[up != 0], b.flatten()[b.flatten().argsort()][up[up != 0].argsort().argsort()], torch.float32)


@pytest.mark.tiers("aten")
@pytest.mark.parametrize("chunk", [1, 100, 500, 1 << 18])
def test_parts_of_any_size_give_the_same(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, or channels of one image, a few at a time."""
    monkeypatch.setattr(tiles, "PART", chunk)
    for form in (torch.contiguous_format, torch.channels_last):
        image = torch.randn(3, 5, 8, 10).contiguous(memory_format=form)
        y, offsets = torchops.max_pool2d(image, 2, return_indices="offset")
        positions = F.max_pool2d(image, 2, return_indices=True)[1]
        expected = reference.max_unpool2d(y, positions, 2)
        assert torch.equal(torchops.max_unpool2d(y, positions, 2), expected)
        assert torch.equal(torchops.max_unpool2d(y, offsets, 2), expected)
        leaf = y.clone().requires_grad_()
        (dx,) = torch.autograd.grad(torchops.max_unpool2d(leaf, positions, 2), leaf, image)
        assert torch.equal(dx, image.flatten(2).gather(2, positions.flatten(2)).view_as(y))
