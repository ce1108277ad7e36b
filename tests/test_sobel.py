"""Sobel: samples and rejections for the questions of `tests/conformance`, and what is particular to the op."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchops
from torchops import catalog, reference
from torchops.functional import PADDING_MODES
from torchops.kernels import sobel as kernels
from torchops.kernels.geometry import Border
from torchops.kernels.launch import record
from torchops.kernels.planning import strips
from torchops.kernels.planning.hardware import DEVICES
from torchops.ops import sobel as ops

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .gates import assert_fits
from .opinfo import OpInfo, Rejection, Sample
from .pieces import Pieces
from .traffic import count_traffic


def _samples(**kwargs: Any) -> tuple[Sample, ...]:
    return (
        Sample((2, 3, 5, 17), {"padding_mode": "replicate", **kwargs}),
        Sample((2, 3, 5, 17), {"padding_mode": "reflect", **kwargs}),
        Sample((2, 3, 5, 17), {"padding_mode": "circular", **kwargs}),
        Sample((2, 3, 5, 17), {"padding_mode": "zeros", **kwargs}),
        Sample((2, 3, 5, 17), {"padding_mode": "constant", "padding_value": 0.7, **kwargs}),
        Sample((1, 1, 1, 1), {"padding_mode": "circular", **kwargs}),
        Sample((1, 3, 5, 1), {"padding_mode": "replicate", **kwargs}),
        Sample((1, 5, 1, 5), {"padding_mode": "constant", "padding_value": -1.5, **kwargs}),
        Sample((3, 1, 2, 2), {"padding_mode": "reflect", **kwargs}),
        Sample((1, 1, 7, 65), {"normalized": False, **kwargs}),
    )


def _rejections(function: Any) -> tuple[Rejection, ...]:
    x = torch.rand(1, 3, 4, 5)
    return (
        Rejection("not_a_tensor", lambda: function([1.0]), TypeError, r"`input` must be a tensor, got list"),
        Rejection("rank", lambda: function(x[0, 0]), ValueError, r"`input` must have shape .* got \(4, 5\)"),
        Rejection("int64", lambda: function(x.long()), TypeError, r"`input` must be uint8 or floating .* torch\.int64"),
        Rejection("complex", lambda: function(x + 0j), TypeError, r"`input` must be .* got torch\.complex64"),
        Rejection("sparse", lambda: function(x.to_sparse()), TypeError, r"`input` .* layout torch\.sparse_coo"),
        Rejection("no_pixels", lambda: function(x[..., :0]), ValueError, r"`input` .* pixel, got shape \(1, 3, 4, 0\)"),
        Rejection("mode", lambda: function(x, padding_mode="mirror"), ValueError, r"`padding_mode` .* got 'mirror'"),
        Rejection(
            "reflect_one_pixel",
            lambda: function(x[..., :1], padding_mode="reflect"),
            ValueError,
            r"`padding_mode` 'reflect' with a padding of 1 rows and 1 columns .*\(1, 3, 4, 1\)",
        ),
        Rejection(
            "value_without_constant",
            lambda: function(x, padding_value=2.0),
            ValueError,
            r"`padding_value` \(=2\.0\) needs `padding_mode` 'constant', got 'replicate'",
        ),
    )


class TestSobel(Conformance):
    info = OpInfo(
        op=catalog.OPS["sobel"],
        samples=(*_samples(), Sample((1, 2, 5, 6), {"eps": 0.25})),
        rejections=(
            *_rejections(torchops.sobel),
            Rejection("eps", lambda: torchops.sobel(torch.rand(1, 3, 3), eps=-1.0), ValueError, r"`eps` .* got -1\.0"),
            Rejection(
                "eps_nan", lambda: torchops.sobel(torch.rand(1, 3, 3), eps=torch.nan), ValueError, r"`eps` .* got nan"
            ),
        ),
        module=(torchops.nn.Sobel, {"padding_mode": "constant", "padding_value": 0.5, "normalized": False, "eps": 0.1}),
        registered=("sobel", "sobel_backward"),
    )

    @EVERY_TIER
    def test_flat_patch_with_eps_0_has_gradient_0(self, device: torch.device) -> None:
        x = torch.ones(1, 2, 5, 6, device=device)
        x[:, 1] = torch.randn(5, 6)
        x.requires_grad_()
        (grad,) = torch.autograd.grad(torchops.sobel(x, eps=0.0).sum(), x)
        assert torch.equal(grad[0, 0], torch.zeros(5, 6, device=device))
        assert grad[0, 1].isfinite().all()
        assert grad[0, 1].any()

    @OPERATOR
    def test_flat_patch_with_default_eps_has_finite_second_gradient(self, device: torch.device) -> None:
        x = torch.ones(1, 1, 4, 4, device=device, requires_grad=True)
        (grad,) = torch.autograd.grad(torchops.sobel(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((grad + x).square().sum(), x)
        assert second.isfinite().all()

    @EVERY_TIER
    def test_bytes_do_not_wrap(self, device: torch.device) -> None:
        x = torch.tensor([[[0, 255, 0, 255, 255]] * 3], dtype=torch.uint8, device=device)
        close(torchops.sobel(x), torchops.sobel(x.float()), torch.float32)
        assert torchops.sobel(x).max() > 100


class TestSpatialGradient(Conformance):
    info = OpInfo(
        op=catalog.OPS["spatial_gradient"],
        samples=_samples(),
        rejections=_rejections(torchops.spatial_gradient),
        registered=("spatial_gradient", "spatial_gradient_backward"),
    )


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_values_and_gradients_are_kornias(normalized: bool, eps: float) -> None:
    import kornia

    ours = torch.rand(2, 3, 31, 33, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    edges, expected = torchops.sobel(ours, normalized, eps), kornia.filters.sobel(theirs, normalized, eps)
    torch.testing.assert_close(edges, expected, rtol=1e-6, atol=1e-6)
    # where a patch is nearly flat, rounding alone may turn the direction of its gradient: it counts as much as there is of it
    grad = torch.randn_like(edges) * edges.detach()
    (dx,), (expected_dx,) = torch.autograd.grad(edges, ours, grad), torch.autograd.grad(expected, theirs, grad)
    torch.testing.assert_close(dx, expected_dx, rtol=1e-6, atol=1e-6 * float(expected_dx.abs().max()))
    torch.testing.assert_close(
        torchops.spatial_gradient(ours, normalized),
        kornia.filters.spatial_gradient(theirs, normalized=normalized),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("shape", [(2, 3, 13, 17), (1, 5, 2, 23), (3, 1, 23, 2), (1, 2, 1, 40), (1, 2, 40, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float16])
@pytest.mark.parametrize("threads", [1, 3])
def test_tiles_of_the_cpu_path_join(
    shape: tuple[int, ...], padding_mode: str, channels_last: bool, dtype: torch.dtype, threads: int
) -> None:
    """Images far larger than a tile: bands, and the frame around them."""
    if padding_mode == "reflect" and 1 in shape[2:]:
        padding_mode = "zeros"
    kwargs = {"padding_mode": padding_mode, "padding_value": 0.3 if padding_mode == "constant" else 0.0}
    (x,) = catalog.OPS["sobel"].random_inputs(shape, dtype)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    exact = x.double().requires_grad_()
    for name in ("sobel", "spatial_gradient"):
        op = catalog.OPS[name]
        expected = op.reference(exact, **kwargs)
        leaf = x.detach().requires_grad_(dtype.is_floating_point)
        with Pieces(32, threads).of_any_image():
            out = op.function(leaf, **kwargs)
            close(out, expected, dtype)
            if dtype.is_floating_point:
                grad = torch.randn_like(out)
                (actual,) = torch.autograd.grad(out, leaf, grad)
        if dtype.is_floating_point:
            close(actual, torch.autograd.grad(expected, exact, grad.double())[0], dtype, factor=4)


@pytest.mark.tiers("aten")
@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("col", [0, 1, 15, 16])
def test_what_no_number_is_does_not_reach_the_next_row(bad: float, col: int) -> None:
    """The end of a row and the start of the next are neighbours in memory."""
    x = torch.randn(1, 2, 13, 17)
    x[0, 1, 6, col] = bad
    found = []
    for elements in (4 * 17, 1 << 16):
        with Pieces(elements, 1).of_any_image():
            leaf = x.clone().requires_grad_()
            y = torchops.sobel(leaf)
            found.append((y.detach(), *torch.autograd.grad(y, leaf, torch.ones_like(y))))
    (y, dx), (expected_y, expected_dx) = found
    assert torch.equal(y.isfinite(), expected_y.isfinite())
    assert 0 < int(y.isfinite().logical_not().sum()) <= 8
    assert torch.equal(dx.isfinite(), expected_dx.isfinite())
    torch.testing.assert_close(y, expected_y, equal_nan=True)
    torch.testing.assert_close(dx, expected_dx, equal_nan=True)


@pytest.mark.tiers("aten")
@pytest.mark.parametrize("value", [0.5, 255.0, 256.0, -1.0])
def test_borders_of_bytes_of_any_value(value: float) -> None:
    x = torch.randint(0, 256, (1, 2, 9, 11), dtype=torch.uint8)
    kwargs = {"padding_mode": "constant", "padding_value": value}
    for elements in (32, 1 << 16):
        with Pieces(elements, 1).of_any_image():
            close(torchops.sobel(x, **kwargs), reference.sobel(x.double(), **kwargs), torch.float32)


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding_mode", ["replicate", "reflect", "circular", "constant"])
def test_tiles_of_the_kernels_join(padding_mode: str, channels_last: bool, device: torch.device) -> None:
    """Blocks and strips far smaller than the image, in both directions."""
    config = strips.Config(block=16, rows=2, num_warps=1)
    x = torch.randn(1, 2, 5, 19, device=device)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    exact = x.double().cpu().requires_grad_()
    expected = reference.sobel(exact, padding_mode=padding_mode)
    y, dx, dy = torch.empty_like(x), torch.empty_like(x), torch.randn_like(x)
    kernels.sobel_fwd(x, y, 0.125, 1e-6, Border(padding_mode), config=config)
    close(y, expected, torch.float32)
    kernels.sobel_bwd(dy, x, dx, 0.125, 1e-6, Border(padding_mode), config=config)
    close(dx, torch.autograd.grad(expected, exact, dy.double().cpu())[0], torch.float32, factor=4)
    expected = reference.spatial_gradient(exact, padding_mode=padding_mode)
    g, dg = ops._empty_spatial_gradient(x), torch.randn(1, 2, 2, 5, 19, device=device)
    kernels.spatial_gradient_fwd(x, g, 0.125, Border(padding_mode), config=config)
    close(g, expected, torch.float32)
    kernels.spatial_gradient_bwd(dg, dx, 0.125, Border(padding_mode), config=config)
    close(dx, torch.autograd.grad(expected, exact, dg.double().cpu())[0], torch.float32, factor=4)


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64], ids=str)
def test_the_plain_kernel_computes_the_same(
    dtype: torch.dtype, padding_mode: str, channels_last: bool, device: torch.device
) -> None:
    """Blocks smaller than a row, and a last one that is not full."""
    border = Border(padding_mode, 0.7 if padding_mode == "constant" else 0.0)
    (x,) = catalog.OPS["sobel"].random_inputs((2, 3, 5, 19), dtype)
    x = x.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    y = ops._empty_sobel(x)
    kernels.sobel_fwd(x, y, 0.125, 1e-6, border, config=kernels.PlainConfig(16, num_warps=1))
    close(y, reference.sobel(x.double().cpu(), padding_mode=border.mode, padding_value=border.value), dtype)


@pytest.mark.tiers("interpreter", "gpu")
def test_the_plain_kernel_weighs_nothing_with_0(device: torch.device) -> None:
    """An infinite pixel is no part of the difference that runs along it, in which it would be 0 times infinity."""
    x = torch.zeros(1, 1, 5, 5, device=device)
    x[..., 2, 2] = torch.inf
    y = torch.empty_like(x)
    kernels.sobel_fwd(x, y, 0.125, 1e-6, Border("zeros"), config=kernels.PlainConfig(8, num_warps=1))
    assert torch.equal(y, torchops.sobel(x, padding_mode="zeros"))


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((1, 1, 4, 3), (0, 0, 2**30, 1)),
        ((1, 1, 2, 4), (0, 0, 1, 2**30)),
        ((1, 4, 2, 3), (0, 2**30, 3, 1)),
        ((1, 2, 1, 160), (2**32, 2**23, 2**32, 2**24)),
    ],
    ids=["rows", "columns", "planes", "lanes"],
)
@pytest.mark.xdist_group("large")
def test_offsets_beyond_31_bits(shape: tuple[int, ...], stride: tuple[int, ...], device: torch.device) -> None:
    """Memory that is addressed but hardly touched: the system maps only the pages that are written."""
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    values = torch.randint(0, 256, shape, dtype=torch.uint8)
    torch.utils.deterministic.fill_uninitialized_memory = False
    far = torch.empty(reach, dtype=torch.uint8, device=device).as_strided(shape, stride).copy_(values)
    close(torchops.sobel(far), reference.sobel(values.double()), torch.float32)


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize("step", [2**30, 1], ids=["rows", "columns"])
@pytest.mark.xdist_group("large")
def test_gradient_offsets_beyond_31_bits(step: int, device: torch.device) -> None:
    shape, stride = (1, 1, 4, 4), (0, 0, step, 2**30 + 1 - step)
    torch.utils.deterministic.fill_uninitialized_memory = False
    grad = torch.randn(shape, dtype=torch.float16)
    memory = torch.empty(3 * (2**30 + 1) + 1, dtype=torch.float16, device=device)
    far = memory.as_strided(shape, stride).copy_(grad)
    x = torch.rand(shape, device=device, dtype=torch.float16)
    magnitude, gradients = ops.sobel_backward, ops.spatial_gradient_backward
    near = magnitude(grad.to(device), x, True, 1e-6, Border("reflect"))
    assert torch.equal(magnitude(far, x, True, 1e-6, Border("reflect")), near)
    near = gradients(grad.to(device).unsqueeze(2).expand(1, 1, 2, 4, 4), True, Border("reflect"))
    assert torch.equal(gradients(far.unsqueeze(2).expand(1, 1, 2, 4, 4), True, Border("reflect")), near)


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize("kwargs", [{"padding_mode": "constant", "padding_value": 0.7}, {"eps": 0.1}], ids=str)
def test_constants_keep_the_precision_of_float64(kwargs: dict[str, Any], device: torch.device) -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, device=device)
    x[:, 1] = 1
    close(torchops.sobel(x, **kwargs), reference.sobel(x.cpu(), **kwargs), torch.float64)


_IMAGES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 40))


class TestProperties:
    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    @given(_IMAGES)
    def test_mirrored_image_has_mirrored_edges(self, shape: tuple[int, ...]) -> None:
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(torchops.sobel(x.flip(-1)), torchops.sobel(x).flip(-1))
        torch.testing.assert_close(torchops.sobel(x.mT), torchops.sobel(x).mT)

    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    @given(_IMAGES)
    def test_adjoint_is_the_adjoint(self, shape: tuple[int, ...]) -> None:
        x, v = torch.randn(shape, dtype=torch.float64), torch.randn(*shape[:2], 2, *shape[2:], dtype=torch.float64)
        ours = torch.ops.torchops
        forth = (ours.spatial_gradient(x, True, "replicate", 0.0) * v).sum()
        back = (x * ours.spatial_gradient_backward(v, True, "replicate")).sum()
        torch.testing.assert_close(forth, back)


def _problem(planes: int, height: int, row: int, lanes: int = 1, **further: int) -> strips.Problem:
    """The forward pass of an image in float32, or what differs from it."""
    numbers = {"bytes_in": 4, "bytes_halo": 8, "bytes_out": 4, "extra_trips": 0, "columns_a_thread": 4, **further}
    return strips.Problem(planes=planes, height=height, row=row, lanes=lanes, **numbers)


class TestConfigs:
    """The choice of block sizes."""

    @pytest.mark.tiers("compile")
    @pytest.mark.parametrize("arch", list(DEVICES))
    def test_every_config_compiles_within_the_gates(self, arch: str) -> None:
        device, border = DEVICES[arch], Border("replicate")
        x, g = torch.empty(1, 1, 256, 1024), torch.empty(1, 1, 2, 256, 1024)
        with record(device) as launches:
            for config in strips.candidates(_problem(1, 256, 1024), device):
                kernels.sobel_fwd(x, x, 0.125, 1e-6, border, config=config)
            for config in strips.candidates(_problem(1, 256, 1024, columns_a_thread=2), device):
                kernels.sobel_bwd(x, x, x, 0.125, 1e-6, border, config=config)
                kernels.spatial_gradient_bwd(g, x, 0.125, border, config=config)
            kernels.sobel_fwd(x, x, 0.125, 1e-6, border, config=kernels.PlainConfig(128))
        assert len(launches) == 46
        for launch in launches:
            assert_fits(launch)

    @pytest.mark.tiers("compile")
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_contiguous_columns_move_128_bits(self, channels_last: bool) -> None:
        from torchops.inspect import inspect

        forward, _ = inspect("sobel", "sm_90", shape=(8, 3, 1080, 1920), channels_last=channels_last)
        assert forward.loads[128] >= 1
        assert set(forward.stores) == {128}

    def test_pick_is_pure_and_fills_small_problems(self) -> None:
        device = DEVICES["sm_90"]
        small, large = _problem(1, 256, 256), _problem(64, 2160, 3840)
        assert strips.pick_config(small, device) == strips.pick_config(small, device)
        assert strips.pick_config(small, device).rows < strips.pick_config(large, device).rows
        many_lanes = _problem(64, 256, 256 * 256, 256)
        assert strips.pick_config(many_lanes, device) in strips.candidates(many_lanes, device)
        assert strips.cost(large, strips.pick_config(large, device)).bytes_moved <= 1.05 * 64 * 2160 * 3840 * 8


def test_matrices_of_the_docstring_are_the_filters() -> None:
    """Rows that end in one backslash instead of two would be one row."""
    matrices = re.findall(r"begin{pmatrix}(.*?).end{pmatrix}", torchops.spatial_gradient.__doc__ or "")
    written = [[[float(n) for n in row.split("&")] for row in matrix.split(r"\\")] for matrix in matrices]
    impulse = torch.zeros(1, 3, 3)
    impulse[0, 1, 1] = 1
    # what an impulse leaves is the filter, turned by 180 degrees
    filters = torchops.spatial_gradient(impulse, normalized=False, padding_mode="zeros")[0].flip(-2, -1)
    assert torch.equal(torch.tensor(written), filters)


@pytest.mark.tiers("interpreter")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_is_touched_as_often_as_the_cost_says(
    channels_last: bool, backward: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count, program by program, the distinct elements that are read and written, and compare with the bytes of `cost`."""
    elements = count_traffic(monkeypatch)
    config = strips.Config(block=32, rows=4, num_warps=1)
    x = torch.randn(1, 2, 9, 40)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    planes, row, lanes = (1, 80, 2) if channels_last else (2, 40, 1)
    if backward:
        kernels.sobel_bwd(torch.randn_like(x), x, torch.empty_like(x), 0.125, 1e-6, Border("replicate"), config=config)
        problem = _problem(planes, 9, row, lanes, bytes_in=8, bytes_halo=24, extra_trips=2, columns_a_thread=2)
    else:
        kernels.sobel_fwd(x, torch.empty_like(x), 0.125, 1e-6, Border("replicate"), config=config)
        problem = _problem(planes, 9, row, lanes)
    promised = strips.cost(problem, config)
    assert elements["written"] == x.numel()
    counted = 4 * (elements["read"] + elements["written"])
    # the corners of tiles are all that the cost leaves out
    assert promised.bytes_least < counted <= (1.1 if backward else 1.03) * promised.bytes_moved, (counted, promised)
