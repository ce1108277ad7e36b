"""max_unpool2d: both kinds of indices, the rule for duplicates, and indices that no pool made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import torchops
from torchops import catalog, reference
from torchops.kernels import max_unpool2d as kernels
from torchops.ops import max_unpool2d as ops
from torchops.ops import tiling

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import LAYOUTS, OpInfo, Rejection, Sample, laid_out
from .test_avg_pool2d import unpool_rejections
from .test_max_pool2d import ARCHS
from .windows import Window, windows

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
        implementation=ops._max_unpool2d,
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
        implementation=ops._max_unpool2d,
        launches=(2, 2),
        reports=True,
        indices="position",
        module=(torchops.nn.MaxUnpool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
        registered=("max_unpool2d", "max_unpool2d_backward"),
        further=True,
        format_of_all=False,
    )


def sequential(x: Tensor, positions: Tensor, size: tuple[int, ...]) -> Tensor:
    """What a program of one thread does."""
    y = torch.zeros(*x.shape[:2], size[0] * size[1], dtype=x.dtype)
    for plane, values, where in zip(y.flatten(0, 1), x.flatten(0, 1), positions.flatten(0, 1), strict=True):
        for value, position in zip(values.flatten(), where.flatten(), strict=True):
            plane[position] = value
    return y.unflatten(2, size)


def sequential_backward(dy: Tensor, positions: Tensor) -> Tensor:
    """The gradient goes to the value that stayed."""
    dx = torch.zeros(positions.shape, dtype=dy.dtype)
    planes = zip(dx.flatten(0, 1), dy.flatten(0, 1), positions.flatten(0, 1), strict=True)
    for out, grad, where in planes:
        winner = {int(position): k for k, position in enumerate(where.flatten())}
        for position, k in winner.items():
            out.view(-1)[k] = grad.flatten()[position]
    return dx


class TestDuplicates:
    """The last window in row-major order wins, forward and backward."""

    @EVERY_TIER
    @pytest.mark.parametrize("layout", list(LAYOUTS))
    def test_positions_that_point_anywhere(self, layout: str, device: torch.device) -> None:
        for shape, size in (((2, 3, 6, 7), (12, 14)), ((1, 8, 9, 5), (18, 10))):
            x = laid_out(torch.randn(shape), layout)
            # a quarter of the pixels: most are hit more than once
            positions = laid_out(torch.randint(0, size[0] * size[1] // 4, shape), layout)
            self.check(x, positions, size, device, kernel_size=2)

    @EVERY_TIER
    def test_few_strays_among_windows(self, device: torch.device) -> None:
        shape, size = (2, 3, 8, 8), (16, 16)
        w = Window.of(kernel_size=2)
        positions = pool_made(shape, size, w, "position", torch.Generator().manual_seed(1))
        positions[1, 2, 3, 4] = positions[1, 2, 0, 0]
        positions[0, 1, 0, 0] = positions[0, 1, 7, 7]
        self.check(torch.randn(shape), positions, size, device, kernel_size=2)

    @EVERY_TIER
    def test_overlapping_windows(self, device: torch.device) -> None:
        image = torch.randn(2, 8, 11, 13).round()
        positions = F.max_pool2d(image, 3, 2, 1, return_indices=True)[1]
        assert positions[0, 0].unique().numel() < positions[0, 0].numel()
        # a decoder has changed the values: those that came from one pixel are no longer equal
        self.check(torch.randn(positions.shape), positions, (11, 13), device, kernel_size=3, stride=2, padding=1)

    @EVERY_TIER
    def test_windows_outside_the_output(self, device: torch.device) -> None:
        """A smaller output than usual: the last windows lie beyond it, and point back into it."""
        x, positions = torch.randn(1, 2, 3, 3), torch.randint(0, 30, (1, 2, 3, 3))
        self.check(x, positions, (5, 6), device, kernel_size=1, stride=3, output_size=(5, 6))

    def check(self, x: Tensor, positions: Tensor, size: tuple[int, ...], device: torch.device, **kwargs: Any) -> None:
        kwargs = {"output_size": size, **kwargs}
        leaf = x.to(device).detach().requires_grad_()
        y = torchops.max_unpool2d(leaf, positions.to(device), **kwargs)
        assert torch.equal(y.cpu(), sequential(x, positions, size))
        dy = torch.randn(y.shape)
        (dx,) = torch.autograd.grad(y, leaf, dy.to(device), retain_graph=True)
        assert torch.equal(dx.cpu(), sequential_backward(dy, positions))

    @EVERY_TIER
    def test_same_bits_a_hundred_times(self, device: torch.device, tier: str) -> None:
        x = torch.randn(2, 3, 8, 9, device=device)
        positions = torch.randint(0, 50, x.shape, device=device)
        first = torchops.max_unpool2d(x, positions, 2)
        for _ in range(100 if tier in ("aten", "gpu") else 3):
            assert torch.equal(torchops.max_unpool2d(x, positions, 2), first)

    @pytest.mark.tiers("aten")
    def test_threads_do_not_change_it(self) -> None:
        x, positions = torch.randn(1, 2, 64, 64), torch.randint(0, 999, (1, 2, 64, 64))
        before = torch.get_num_threads()
        results = []
        try:
            for count in (1, 2, 4):
                torch.set_num_threads(count)
                forms = [x, x.contiguous(memory_format=torch.channels_last)]
                results += [torchops.max_unpool2d(form, positions, 2) for form in forms]
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(result, results[0]) for result in results)

    @pytest.mark.tiers("aten")
    def test_the_way_of_other_devices(self) -> None:
        """Where scatter goes in no order, the winners are found by an integer maximum."""
        positions, pixels = torch.randint(0, 20, (2, 3, 80)), torch.empty(2, 3, 20)
        numbers = ops._numbers(positions, 2)
        none = torch.full(pixels.shape, -1, dtype=numbers.dtype)
        by_order = ops._winners(positions, numbers, pixels, 2)
        hit = none.scatter(2, positions, numbers) >= 0
        assert torch.equal(by_order[hit], none.scatter_reduce(2, positions, numbers, "amax")[hit])


@EVERY_TIER
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_agrees_with_aten_bit_for_bit_without_overlap(layout: str, device: torch.device) -> None:
    # ATen's refuses to run otherwise: it leaves duplicates to chance
    torch.use_deterministic_algorithms(False)
    image = torch.randn(2, 8, 9, 14)
    for kwargs in ({"kernel_size": 2}, {"kernel_size": (3, 2)}, {"kernel_size": 2, "stride": 3}):
        image_here = laid_out(image, layout)
        y, positions = F.max_pool2d(image_here, **kwargs, return_indices=True)
        expected = F.max_unpool2d(y, positions, **kwargs, output_size=image.shape)
        for kind in (True, "offset"):
            pooled = torchops.max_pool2d(image_here.to(device), **kwargs, return_indices=kind)
            assert torch.equal(torchops.max_unpool2d(*pooled, **kwargs, output_size=image.shape).cpu(), expected)
        # ATen's indices here, ours there
        assert torch.equal(
            torchops.max_unpool2d(y.to(device), positions.to(device), **kwargs, output_size=image.shape).cpu(), expected
        )
        ours = torchops.max_pool2d(image_here.to(device), **kwargs, return_indices=True)
        assert torch.equal(F.max_unpool2d(ours[0].cpu(), ours[1].cpu(), **kwargs, output_size=image.shape), expected)


class TestHostileIndices:
    """Nothing is written outside the output, and nothing read: the IR tier fails at the first access out of bounds."""

    GEOMETRY = ((3, 3), (2, 2), (1, 1), (1, 1))
    HOSTILE = (-1, -(2**63), 2**63 - 1, 2**32, 2**31, 77, 78)

    @pytest.mark.tiers("interpreter", "ir", "gpu")
    @pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
    @pytest.mark.parametrize("kind", [torch.int64, torch.uint8], ids=["positions", "offsets"])
    def test_point_to_nothing(self, kind: torch.dtype, channels_last: bool, device: torch.device) -> None:
        form = torch.channels_last if channels_last else torch.contiguous_format

        def dense(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device).contiguous(memory_format=form)

        x, y, dy, dx = dense(2, 8, 4, 6), dense(2, 8, 7, 11), dense(2, 8, 7, 11), dense(2, 8, 4, 6)
        x.copy_(torch.randn(x.shape))
        dy.copy_(torch.randn(dy.shape))
        indices = dense(2, 8, 4, 6, dtype=kind)
        if kind == torch.uint8:
            # most point beyond the window, and 0 of the first windows into the padding
            indices.copy_(torch.randint(0, 256, x.shape))
            positions = ops._positions_of(indices.cpu(), (7, 11), self.GEOMETRY)
        else:
            indices.copy_(torch.tensor(self.HOSTILE)[torch.randint(0, len(self.HOSTILE), x.shape)])
            indices[0, :, 1, 1] = 5
            positions = indices.cpu()
        inside = (positions >= 0) & (positions < 77)
        kernels.max_unpool2d_fwd(x, indices, y, self.GEOMETRY, False)
        kernels.max_unpool2d_bwd(dy, indices, dx, self.GEOMETRY, False)
        # those that point to nothing go to a pixel of their own, which is cut off
        somewhere = torch.where(inside, positions, 77)
        expected = sequential(x.cpu(), somewhere, (1, 78))[..., :77].reshape(y.shape)
        assert torch.equal(y.cpu(), expected)
        grads = torch.cat((dy.cpu().flatten(2), torch.zeros(2, 8, 1)), dim=2)
        assert torch.equal(dx.cpu(), sequential_backward(grads, somewhere))

    @pytest.mark.tiers("ir", "gpu")
    def test_are_ignored_on_a_gpu_unless_checks_are_on(
        self, device: torch.device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = torch.ones(1, 1, 2, 2, device=device)
        positions = torch.tensor([[[[-1, 99], [16, 2]]]], device=device)
        y = torchops.max_unpool2d(x, positions, 2)
        assert y.cpu().flatten().nonzero().flatten().tolist() == [2]
        monkeypatch.setenv("TORCHOPS_CHECK_INDICES", "1")
        with pytest.raises(RuntimeError, match=r"`indices` must lie in \[0, 16\), .* got -1"):
            torchops.max_unpool2d(x, positions, 2)


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


class TestProperties:
    @EVERY_TIER
    def test_any_window(self, device: torch.device, tier: str) -> None:
        """Both kinds of indices, and positions that point anywhere, against the reference; gradients too."""
        dtypes = [torch.float32, torch.float16, *([torch.bfloat16] if tier in ("aten", "ir", "gpu") else [])]
        kinds = st.sampled_from(["offset", "position", "anywhere"])

        @given(
            windows(dilated=True), st.sampled_from(dtypes), st.booleans(), kinds,
            st.tuples(st.floats(0, 1), st.floats(0, 1)), st.integers(0, 2**16),
        )  # fmt: skip
        def check(
            w: Window, dtype: torch.dtype, channels_last: bool, kind: str, place: tuple[float, float], seed: int
        ) -> None:
            generator = torch.Generator().manual_seed(seed)
            size, form = w.output_size(place), torch.channels_last if channels_last else torch.contiguous_format
            shape = w.pooled_shape
            if min(size) < 1:
                return
            if kind == "anywhere":
                indices = torch.randint(0, size[0] * size[1], shape, generator=generator)
            else:
                if (reference._positions(size, w.pooled, *w.geometry) < 0).all(-1).any():
                    return  # a window beyond the output has no index
                indices = pool_made(shape, size, w, kind, generator)
            x = torch.randn(shape, generator=generator).to(device, dtype).contiguous(memory_format=form)
            x.requires_grad_()
            exact = x.detach().double().cpu().requires_grad_()
            window = *w.geometry[:3], size
            y = torchops.max_unpool2d(x, indices.to(device), *window, dilation=w.dilation)
            expected = reference.max_unpool2d(exact, indices, *window, dilation=w.dilation)
            assert torch.equal(y.double().cpu(), expected)
            grad = torch.randn(y.shape, generator=generator).to(device, dtype)
            (dx,) = torch.autograd.grad(y, x, grad)
            assert torch.equal(dx.double().cpu(), torch.autograd.grad(expected, exact, grad.double().cpu())[0])

        check()


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize("kind", [True, "offset"])
@pytest.mark.parametrize(
    ("shape", "stride"),
    [((1, 1, 4, 3), (0, 0, 2**30, 1)), ((1, 1, 2, 4), (0, 0, 1, 2**30)), ((1, 4, 2, 3), (0, 2**30, 3, 1))],
    ids=["rows", "columns", "planes"],
)
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
    monkeypatch.setattr(tiling, "PART", chunk)
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
