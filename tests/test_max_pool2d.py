"""max_pool2d and min_pool2d: samples and rejections for the questions of `conformance`, values and indices against ATen."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor

import torchops
from torchops import catalog, reference
from torchops.functional import sizes
from torchops.kernels import geometry
from torchops.ops import max_pool2d as ops
from torchops.ops.cpu import tiles, unpooling

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import LAYOUTS, OpInfo, Rejection, Sample, laid_out
from .windows import Window, windows

SAMPLES = (
    Sample((2, 3, 9, 13), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Sample((2, 3, 8, 16), {"kernel_size": 2}),
    Sample((2, 8, 9, 11), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    Sample((1, 5, 7, 13), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}),
    Sample((1, 17, 9, 9), {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2}),
    Sample((2, 3, 7, 8), {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
    Sample((1, 3, 5, 6), {"kernel_size": 1}),
    Sample((2, 3, 1, 1), {"kernel_size": 2, "padding": 1}),
    Sample((2, 4, 7, 7), {"kernel_size": 7}),
    Sample((1, 1, 10, 11), {"kernel_size": (4, 5), "stride": 3}),
)

ARCHS = ("sm_90", "sm_120")
"""Every config is compiled for sm_80, sm_90, sm_100 and gfx942 by test_pooling_compile.py."""


def rejections_of_windows(function: Callable[..., Any]) -> tuple[Rejection, ...]:
    x = torch.rand(1, 3, 6, 7)
    return (
        Rejection("not_a_tensor", lambda: function([1.0], 2), TypeError, r"`input` must be a tensor, got list"),
        Rejection("rank", lambda: function(x[0, 0], 2), ValueError, r"`input` must have shape .* got \(6, 7\)"),
        Rejection("integers", lambda: function(x.long(), 2), TypeError, r"`input` must be floating .* torch\.int64"),
        Rejection("sparse", lambda: function(x.to_sparse(), 2), TypeError, r"`input` .* layout torch\.sparse_coo"),
        Rejection("no_pixels", lambda: function(x[:, :, :0], 2), ValueError, r"`input` .* got shape \(1, 3, 0, 7\)"),
        Rejection("no_channels", lambda: function(x[:, :0], 2), ValueError, r"`input` .* got shape \(1, 0, 6, 7\)"),
        Rejection("kernel_0", lambda: function(x, 0), ValueError, r"`kernel_size` must be positive, got 0"),
        Rejection("kernel_float", lambda: function(x, 2.0), TypeError, r"`kernel_size` .* got 2\.0"),
        Rejection("kernel_three", lambda: function(x, (2, 2, 2)), TypeError, r"`kernel_size` .* got \(2, 2, 2\)"),
        Rejection("stride_0", lambda: function(x, 2, 0), ValueError, r"`stride` must be positive, got 0"),
        Rejection("padding_negative", lambda: function(x, 2, 2, -1), ValueError, r"`padding` must not be .* got -1"),
        Rejection(
            "padding_more_than_half",
            lambda: function(x, (2, 5), 2, (1, 3)),
            ValueError,
            r"`padding` \(=\(1, 3\)\) must be at most half of `kernel_size` \(=\(2, 5\)\)",
        ),
        Rejection(
            "larger_than_the_image",
            lambda: function(x, 8),
            ValueError,
            r"`kernel_size` \(8, 8\) .* is larger than the padded `input`, 6 x 7 pixels",
        ),
        Rejection("ceil_mode", lambda: function(x, 2, ceil_mode="yes"), TypeError, r"`ceil_mode` .* got 'yes'"),
    )


def _rejections_of_extrema(function: Callable[..., Any]) -> tuple[Rejection, ...]:
    x = torch.rand(1, 3, 40, 40)
    return (
        *rejections_of_windows(function),
        Rejection(
            "windows_beside_the_image",
            lambda: function(x[:, :, :2], (2, 1), 1, (1, 0), (3, 1)),
            ValueError,
            r"`dilation` \(3, 1\) with `padding` \(1, 0\) leaves windows without a pixel of the image, which has 2 rows",
        ),
        Rejection("dilation_0", lambda: function(x, 2, dilation=0), ValueError, r"`dilation` must be positive, got 0"),
        Rejection(
            "indices", lambda: function(x, 2, return_indices="flat"), ValueError, r"`return_indices` .* got 'flat'"
        ),
        Rejection(
            "indices_list", lambda: function(x, 2, return_indices=[1]), ValueError, r"`return_indices` .* got \[1\]"
        ),
        Rejection(
            "offsets_of_a_large_window",
            lambda: function(x, (16, 17), return_indices="offset"),
            ValueError,
            r"`return_indices` 'offset' .* at most 256 pixels, got `kernel_size` \(16, 17\)",
        ),
    )


class TestMaxPool2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["max_pool2d"],
        archs=ARCHS,
        samples=SAMPLES,
        rejections=_rejections_of_extrema(torchops.max_pool2d),
        module=(torchops.nn.MaxPool2d, {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True}),
        registered=("max_pool2d_with_indices", "max_unpool2d"),
    )


class TestMinPool2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["min_pool2d"],
        archs=("sm_90",),
        samples=SAMPLES,
        rejections=_rejections_of_extrema(torchops.min_pool2d),
        module=(torchops.nn.MinPool2d, {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True}),
        registered=("max_pool2d_with_indices", "max_unpool2d"),
    )


def _aten(x: Tensor, smallest: bool, **kwargs: Any) -> tuple[Tensor, Tensor]:
    if not smallest:
        return F.max_pool2d(x, **kwargs, return_indices=True)
    y, indices = F.max_pool2d(-x, **kwargs, return_indices=True)
    return -y, indices


def hard_images(shape: tuple[int, ...]) -> Tensor:
    """Ties, NaN, several of them in a window, infinities, windows of nothing else, and zeros of both signs."""
    x = torch.randint(-3, 4, shape).float()
    x[torch.rand(shape) < 0.1] = torch.nan
    x[torch.rand(shape) < 0.1] = -torch.inf
    x[torch.rand(shape) < 0.1] = torch.inf
    x[torch.rand(shape) < 0.1] = -0.0
    x[:, 0] = -torch.inf
    x[:, -1] = torch.inf
    return x


FUNCTIONS = {False: torchops.max_pool2d, True: torchops.min_pool2d}


def check_against_aten(x: Tensor, smallest: bool, **kwargs: Any) -> None:
    """Values and indices, bit for bit; offsets that stand for the same pixels."""
    expected = _aten(x.cpu(), smallest, **kwargs)
    y, positions = FUNCTIONS[smallest](x, **kwargs, return_indices=True)
    torch.testing.assert_close(y.cpu(), expected[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(positions.cpu(), expected[1])
    torch.testing.assert_close(FUNCTIONS[smallest](x, **kwargs), y, rtol=0, atol=0, equal_nan=True)
    assert (positions.stride(), positions.dtype) == (y.stride(), torch.int64)
    taps = kwargs["kernel_size"]
    if (taps[0] * taps[1] if isinstance(taps, tuple) else taps * taps) > ops.OFFSETS:
        return
    again, offsets = FUNCTIONS[smallest](x, **kwargs, return_indices="offset")
    torch.testing.assert_close(again, y, rtol=0, atol=0, equal_nan=True)
    assert (offsets.stride(), offsets.dtype) == (y.stride(), torch.uint8)
    w = Window.of(**kwargs)
    as_positions = unpooling.positions_of(x.shape[2:], offsets.shape[2:], w.geometry, torch.device("cpu"))
    assert torch.equal(as_positions(offsets.cpu()), expected[1])


class TestIndices:
    @EVERY_TIER
    @pytest.mark.parametrize("smallest", [False, True], ids=["max", "min"])
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.id)
    def test_match_aten(self, sample: Sample, smallest: bool, device: torch.device) -> None:
        check_against_aten(hard_images(sample.shape).to(device), smallest, **sample.kwargs)

    @EVERY_TIER
    @pytest.mark.parametrize("layout", list(LAYOUTS))
    def test_match_aten_in_any_layout(self, layout: str, device: torch.device) -> None:
        check_against_aten(laid_out(hard_images((2, 8, 9, 13)).to(device), layout), False, **SAMPLES[0].kwargs)

    @EVERY_TIER
    @pytest.mark.parametrize("smallest", [False, True], ids=["max", "min"])
    def test_match_aten_in_every_dtype(self, smallest: bool, device: torch.device, tier: str) -> None:
        for dtype in (torch.float16, torch.float64 if tier == "interpreter" else torch.bfloat16):
            check_against_aten(hard_images((2, 8, 9, 13)).to(device, dtype), smallest, **SAMPLES[0].kwargs)

    @OPERATOR
    def test_last_nan_wins(self, device: torch.device) -> None:
        x = torch.tensor([[[1.0, torch.nan, torch.nan, 9.0]]], device=device)
        y, positions = torchops.max_pool2d(x, (1, 4), return_indices=True)
        assert y.isnan().all()
        assert positions.item() == 2

    @OPERATOR
    def test_window_of_nothing_but_infinity_points_into_the_image(self, device: torch.device) -> None:
        x = torch.full((1, 1, 4, 4), -torch.inf, device=device)
        positions = torchops.max_pool2d(x, 3, 2, 1, return_indices=True)[1]
        assert positions.flatten().tolist() == [0, 1, 4, 5]

    @EVERY_TIER
    def test_gradient_with_either_kind(self, device: torch.device) -> None:
        x = torch.randn(2, 3, 9, 13, device=device)
        grads = []
        for kind in (False, True, "offset"):
            leaf = x.clone().requires_grad_()
            y = torchops.max_pool2d(leaf, 3, 2, 1, return_indices=kind)
            y = y if kind is False else y[0]
            grads.append(torch.autograd.grad(y, leaf, torch.arange(y.numel(), device=device).view(y.shape).float())[0])
        assert torch.equal(grads[0], grads[1])
        assert torch.equal(grads[0], grads[2])

    @OPERATOR
    def test_indices_have_no_gradient(self, device: torch.device) -> None:
        x = torch.randn(1, 1, 4, 4, device=device, requires_grad=True)
        for kind in (True, "offset"):
            y, indices = torchops.max_pool2d(x, 2, return_indices=kind)
            assert y.requires_grad
            assert not indices.requires_grad

    @OPERATOR
    @pytest.mark.parametrize("kind", [True, "offset"])
    def test_compile_with_indices(self, kind: Any, device: torch.device) -> None:
        torch._dynamo.reset()

        def there_and_back(x: Tensor) -> Tensor:
            y, indices = torchops.max_pool2d(x, 2, return_indices=kind)
            return torchops.max_unpool2d(y, indices, 2, output_size=x.shape)

        x = torch.randn(2, 3, 7, 9, device=device, requires_grad=True)
        compiled = torch.compile(there_and_back, backend="aot_eager", fullgraph=True)
        out, expected = compiled(x), there_and_back(x)
        assert torch.equal(out, expected)
        grad = torch.randn_like(out)
        assert torch.equal(torch.autograd.grad(out, x, grad)[0], torch.autograd.grad(expected, x, grad)[0])

    @OPERATOR
    @pytest.mark.parametrize("kind", [True, "offset"])
    def test_vmap_with_indices(self, kind: Any, device: torch.device) -> None:
        x = torch.randn(3, 2, 3, 8, 8, device=device)
        mapped = torch.vmap(lambda t: torchops.max_pool2d(t, 2, return_indices=kind))(x)
        whole = torchops.max_pool2d(x.flatten(0, 1), 2, return_indices=kind)
        for a, b in zip(mapped, whole, strict=True):
            assert torch.equal(a.flatten(0, 1), b)

    @pytest.mark.tiers("aten")
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
    def test_the_operator_without_indices(self) -> None:
        """What an exported inference graph calls; its gradient looks for the indices again."""
        constants = ([3, 3], [2, 2], [1, 1], [1, 1], [5, 7], False)
        for form in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(2, 3, 9, 13).contiguous(memory_format=form).requires_grad_()
            torch.library.opcheck(torch.ops.torchops.max_pool2d.default, (x, *constants))
            y = torch.ops.torchops.max_pool2d(x, *constants)
            expected = F.max_pool2d(x, 3, 2, 1)
            assert torch.equal(y, expected)
            grad = torch.randn_like(y)
            close(torch.autograd.grad(y, x, grad)[0], torch.autograd.grad(expected, x, grad)[0], torch.float32)


def test_windows_without_a_pixel_are_found_without_going_through_them() -> None:
    for n, step, before, apart in itertools.product(range(1, 7), range(1, 9), range(9), range(1, 12)):
        window = geometry.Window((1, 1), (step, 1), (before, 0), (apart, 1))
        steps_over = any(begin % apart >= n for begin in range(-before, 0, step))
        if apart <= n or not steps_over:
            sizes._check_windows((n, n), window)
            continue
        with pytest.raises(ValueError, match=rf"leaves windows without a pixel of the image, which has {n} rows"):
            sizes._check_windows((n, n), window)
    # a loop would take minutes
    with pytest.raises(ValueError, match="leaves windows without a pixel"):
        torchops.max_pool2d(torch.rand(1, 1, 1), 2**31 - 1, 1, 2**30 - 1, 2)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of checks, whose answer the trace keeps
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_jit_trace() -> None:
    x = torch.randn(2, 3, 8, 8)
    for function in (
        lambda t: torchops.max_pool2d(t, 2),
        lambda t: torchops.avg_pool2d(t, 3, 2, 1),
        lambda t: torchops.avg_pool2d(t, t.shape[-2:]),
        lambda t: torchops.min_pool2d(t[0], t.shape[2] // 2, padding=t.shape[1] // 2),
        lambda t: torchops.avg_unpool2d(t, 2),
        lambda t: torchops.max_unpool2d(*torchops.max_pool2d(t, 2, return_indices="offset"), 2, output_size=t.shape),
    ):
        assert torch.equal(torch.jit.trace(function, (x,))(x), function(x))


def test_symbolic_trace_of_functions_and_modules() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.unpool = torchops.nn.MaxPool2d(2, return_indices="offset"), torchops.nn.MaxUnpool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            y, indices = self.pool(x)
            return torchops.avg_pool2d(torchops.functional.min_pool2d(self.unpool(y, indices), 3, 1, 1), 2)

    x = torch.randn(2, 3, 8, 8)
    traced = torch.fx.symbolic_trace(Net())
    assert torch.equal(traced(x), Net()(x))
    called = {node.target for node in traced.graph.nodes if node.op == "call_function"}
    assert {torchops.avg_pool2d, torchops.min_pool2d, torchops.max_unpool2d} <= called


def test_numbers_of_numpy() -> None:
    np = pytest.importorskip("numpy")
    x = torch.randn(1, 2, 7, 8)
    assert torch.equal(torchops.max_pool2d(x, np.int64(2), np.int64(3)), F.max_pool2d(x, 2, 3))
    assert torch.equal(torchops.max_pool2d(x, 2, []), F.max_pool2d(x, 2, []))


@EVERY_TIER
def test_a_hundred_runs_give_the_same_bits(device: torch.device, tier: str) -> None:
    x = torch.randn(2, 4, 9, 13, device=device, requires_grad=True)
    first = None
    for _ in range(100 if tier in ("aten", "gpu") else 10):
        y, indices = torchops.max_pool2d(x, 3, 2, 1, return_indices=True)
        back = torchops.max_unpool2d(y, indices, 3, 2, 1, output_size=x.shape)
        run = (y, indices, back, *torch.autograd.grad(back, x, torch.ones_like(back)))
        first = first or run
        assert all(torch.equal(a, b) for a, b in zip(run, first, strict=True))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    x, outer, found = torch.randn(2, 16, 130, 126).round().requires_grad_(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            y, indices = torchops.max_pool2d(x, 3, 2, 1, return_indices=True)
            grad = torch.autograd.grad(y, x, torch.arange(y.numel()).view_as(y).sin())
            found.append((y, indices, *grad, torchops.max_unpool2d(y, indices, 3, 2, 1, (130, 126))))
    finally:
        torch.set_num_threads(outer)
    for run in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, found[0], strict=True))


@EVERY_TIER
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_windows_of_more_than_256_pixels(channels_last: bool, device: torch.device) -> None:
    """Too many for a byte: the gradient keeps positions."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    hard = hard_images((1, 3, 20, 19)).contiguous(memory_format=form)
    check_against_aten(hard.to(device), False, kernel_size=17, stride=3, padding=8)
    x = torch.randn(1, 3, 20, 19).contiguous(memory_format=form)
    ours, atens = x.to(device).requires_grad_(), x.clone().requires_grad_()
    y, expected = torchops.max_pool2d(ours, 17, 3, 8), F.max_pool2d(atens, 17, 3, 8)
    grad = torch.randn(y.shape)
    close(
        torch.autograd.grad(y, ours, grad.to(device))[0], torch.autograd.grad(expected, atens, grad)[0], torch.float32
    )


class TestProperties:
    @given(windows(dilated=True))
    def test_minimum_is_the_mirrored_maximum(self, w: Window) -> None:
        x = torch.randn(w.shape)
        y, indices = torchops.min_pool2d(x, **w.kwargs, dilation=w.dilation, return_indices=True)
        mirrored = torchops.max_pool2d(-x, **w.kwargs, dilation=w.dilation, return_indices=True)
        assert torch.equal(y, -mirrored[0])
        assert torch.equal(indices, mirrored[1])


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize(
    ("shape", "stride"),
    [((1, 1, 4, 4), (0, 0, 2**30, 1)), ((1, 1, 2, 4), (0, 0, 1, 2**30)), ((1, 4, 2, 4), (0, 2**30, 4, 1))],
    ids=["rows", "columns", "planes"],
)
@pytest.mark.xdist_group("large")
def test_offsets_beyond_31_bits(shape: tuple[int, ...], stride: tuple[int, ...], device: torch.device) -> None:
    """Memory that is addressed but hardly touched: the system maps only the pages that are written."""
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    values = torch.randn(shape, dtype=torch.float16)
    torch.utils.deterministic.fill_uninitialized_memory = False
    far = torch.empty(reach, dtype=torch.float16, device=device).as_strided(shape, stride).copy_(values)
    y, indices = torchops.max_pool2d(far, 2, return_indices="offset")
    expected = reference.max_pool2d(values.double(), 2, return_indices="offset")
    assert torch.equal(y.double().cpu(), expected[0])
    assert torch.equal(indices.cpu(), expected[1])


@pytest.mark.tiers("aten")
def test_minimum_goes_through_many_images_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "PART", 200)
    for form in (torch.contiguous_format, torch.channels_last):
        check_against_aten(hard_images((5, 3, 8, 8)).contiguous(memory_format=form), True, kernel_size=2)


@pytest.mark.tiers("aten")
@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("size", [(1, 2), (2, 1)])
def test_rows_of_one_mode_and_columns_of_the_other(size: tuple[int, int], smallest: bool) -> None:
    """Only the operator by itself may be asked so."""
    x = torch.randn(1, 3, 6, 6, requires_grad=True)
    asked = ((3, 3), (4, 4), (0, 0), (1, 1), size, smallest)
    y = torch.ops.torchops.max_pool2d(x, *asked)
    values, positions = torch.ops.torchops.max_pool2d_with_indices(x, *asked, "position")
    expected = F.max_pool2d(-x if smallest else x, 3, 4, ceil_mode=True)[:, :, : size[0], : size[1]]
    assert torch.equal(y, -expected if smallest else expected)
    assert torch.equal(values, y)
    assert torch.equal(x.flatten(2).gather(2, positions.flatten(2)).view_as(y), y)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert int(dx.count_nonzero()) == y.numel()
