"""conv2d: samples and rejections for the questions of `conformance`, and what is particular to the op."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import catalog, reference
from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import Conv2d
from torchops.ops.conv2d import operator as ops

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import LAYOUTS, OpInfo, Rejection, Sample, laid_out, strides

PADDING_MODES = ("zeros", "constant", "reflect", "replicate", "circular")


def problem(shape: tuple[int, ...], weight: tuple[int, ...], bias: bool = True, **kwargs: Any) -> Sample:
    return Sample(shape, kwargs, (weight, (weight[0],)) if bias else (weight,))


SAMPLES = (
    Sample((2, 3, 5, 7), {"padding": 1, "activation": "relu"}),
    problem((1, 3, 7, 6), (5, 3, 3, 3), stride=2, padding=(1, 0)),
    problem((1, 3, 7, 9), (5, 3, 3, 3), bias=False, stride=(3, 1), dilation=(1, 2), padding=2),
    problem((1, 17, 3, 3), (3, 17, 1, 1)),
    problem((2, 4, 4, 5), (6, 2, 3, 3), groups=2, padding=1),
    problem((1, 3, 5, 4), (6, 1, 3, 3), groups=3, padding=1, padding_mode="reflect"),
    problem((1, 1, 3, 9), (2, 1, 1, 7), padding=(0, 3), padding_mode="replicate"),
    problem((1, 2, 9, 2), (1, 2, 7, 1), padding=(3, 0), padding_mode="circular"),
    problem((1, 2, 4, 5), (2, 2, 2, 4), padding="same"),
    problem((1, 2, 4, 5), (2, 2, 4, 2), padding="same", padding_mode="reflect", dilation=(1, 2)),
    problem((1, 1, 3, 3), (1, 1, 3, 3), padding="valid"),
    problem((1, 2, 4, 5), (2, 2, 3, 3), padding=(0, 1, 0, 1), stride=2),
    problem((1, 1, 4, 3), (2, 1, 3, 2), padding=(2, 0, 1, 3), padding_mode="reflect"),
    problem((1, 2, 1, 2), (3, 2, 3, 2), padding=1, dilation=(1, 3)),
    problem((2, 1, 3, 4), (2, 1, 3, 3), padding=2, padding_mode="constant", padding_value=0.75),
    problem((1, 2, 3, 3), (2, 2, 3, 3), padding=3, padding_mode="circular", stride=2),
    problem((1, 1, 1, 1), (1, 1, 3, 3), padding=1, padding_mode="replicate"),
    problem((2, 5, 13, 2), (17, 5, 3, 2), stride=(2, 1), padding=1),
)


def _rejections() -> tuple[Rejection, ...]:
    x, w, b, conv = torch.rand(1, 8, 5, 6), torch.rand(4, 8, 3, 3), torch.rand(4), torchops.conv2d

    def reject(name: str, error: type[Exception], match: str, *args: Any, **kwargs: Any) -> Rejection:
        return Rejection(name, lambda: conv(*args, **kwargs), error, match)

    return (
        reject("list", TypeError, "`input` must be a tensor, got list", [1.0], w),
        reject("no_weight", TypeError, "`weight` must be a tensor, got NoneType", x, None),
        reject("rank", ValueError, r"`input` must have shape .* got \(5, 6\)", x[0, 0], w),
        reject("rank_of_weight", ValueError, r"`weight` must have 4 dimensions, got shape \(8, 3, 3\)", x, w[0]),
        reject("sparse", TypeError, r"`input` .* dense .* torch\.sparse_coo", x.to_sparse(), w),
        reject("integers", TypeError, r"`input` must be floating point .* torch\.int64", x.long(), w),
        reject("dtypes", RuntimeError, r"`weight` .* dtype of `input` .*float32\), got torch\.float64", x, w.double()),
        reject("device", RuntimeError, r"`bias` .* device of `input` \(=cpu\), got meta", x, w, b.to("meta")),
        reject(
            "channels", ValueError, r"`weight` .* takes 7 channels, got `input` of shape \(1, 8, 5, 6\)", x, w[:, :7]
        ),
        reject("groups_0", ValueError, "`groups` must be positive, got 0", x, w, groups=0),
        reject("groups_float", TypeError, r"`groups` must be an integer, got 2\.0", x, w, groups=2.0),
        reject("groups_in", ValueError, r"`groups` \(=3\) must divide `in_channels` \(=8\)", x, w, groups=3),
        reject("groups_out", ValueError, r"`groups` \(=8\) must divide `out_channels` \(=4\)", x, w[:, :1], groups=8),
        reject("groups_bool", TypeError, "`groups` must be an integer, got True", x, w, groups=True),
        reject("padding_bool", TypeError, "`padding` must be an integer or .* got True", x, w, padding=True),
        reject("stride_0", ValueError, "`stride` must be positive, got 0", x, w, stride=0),
        reject(
            "stride_huge",
            ValueError,
            r"`stride` must be smaller than 2\^31, got \(1, 2147483648\)",
            x,
            w,
            stride=(1, 2**31),
        ),
        reject(
            "dilation_huge", ValueError, r"`dilation` must be smaller than 2\^31", x, w[..., :1, :1], dilation=2**31
        ),
        reject("padding_huge", ValueError, r"`padding` must be smaller than 2\^31", x, w, padding=2**31, stride=2**30),
        reject(
            "stride_tensor",
            TypeError,
            r"`stride` must be an integer or .* got tensor\(2\)",
            x,
            w,
            stride=torch.tensor(2),
        ),
        reject("stride_triple", TypeError, r"`stride` .* pair of integers, got \(1, 1, 1\)", x, w, stride=(1, 1, 1)),
        reject("stride_float", TypeError, r"`stride` .* integers, got \(1, 2\.0\)", x, w, stride=(1, 2.0)),
        reject("dilation", ValueError, r"`dilation` must be positive, got \(1, -1\)", x, w, dilation=(1, -1)),
        reject("padding_negative", ValueError, "`padding` must not be negative, got -1", x, w, padding=-1),
        reject("padding_side", ValueError, r"`padding` must not .* got \(0, -1\)", x, w, padding=(0, 1, 0, -1)),
        reject("padding_triple", TypeError, r"`padding` .* pair of integers, got \(1, 1, 1\)", x, w, padding=(1, 1, 1)),
        reject(
            "padding_word", ValueError, "`padding` must be numbers, 'same' or 'valid', got 'full'", x, w, padding="full"
        ),
        reject(
            "same_strided",
            ValueError,
            r"`padding` 'same' needs `stride` 1, got \(2, 2\)",
            x,
            w,
            padding="same",
            stride=2,
        ),
        reject("mode", ValueError, "`padding_mode` must be one of .* got 'mirror'", x, w, padding_mode="mirror"),
        reject(
            "reflect",
            ValueError,
            r"'reflect' .* 5 rows .* 6 x 6 .*\(1, 8, 5, 6\)",
            x,
            w,
            padding=5,
            padding_mode="reflect",
        ),
        reject(
            "circular",
            ValueError,
            r"'circular' .* 6 rows .* 6 x 6 .*\(1, 8, 5, 6\)",
            x,
            w,
            padding=6,
            padding_mode="circular",
        ),
        reject(
            "value_alone",
            ValueError,
            r"`padding_value` \(=2\.0\) needs `padding_mode` 'constant'",
            x,
            w,
            padding_value=2.0,
        ),
        reject(
            "value_word",
            TypeError,
            r"`padding_value` must .* got 'a'",
            x,
            w,
            padding_mode="constant",
            padding_value="a",
        ),
        reject(
            "activation", ValueError, "`activation` must be None or one of relu.* got 'swish'", x, w, activation="swish"
        ),
        reject("bias_length", ValueError, r"`bias` must have shape \(4,\), got \(3,\)", x, w, b[:3]),
        reject("bias_rank", ValueError, r"`bias` must have shape \(4,\), got \(4, 1\)", x, w, b[:, None]),
        reject(
            "residual_shape",
            ValueError,
            r"`residual` .* \(1, 4, 3, 4\), got \(4, 3, 4\)",
            x,
            w,
            residual=torch.rand(4, 3, 4),
        ),
        reject("residual_dtype", RuntimeError, r"`residual` .*float16", x, w, residual=torch.rand(1, 4, 3, 4).half()),
        reject("large_kernel", ValueError, r"`dilation` \(3, 3\) is larger .* 5 x 6 pixels", x, w, dilation=3),
        reject("no_pixels", ValueError, r"`input` .* one pixel, got shape \(1, 8, 0, 6\)", x[:, :, :0], w, padding=2),
        reject("no_channels", ValueError, r"`input` .* one channel", x[:, :0], w),
        reject("empty_kernel", ValueError, r"`weight` .* size 0, got shape \(4, 8, 0, 3\)", x, w[:, :, :0]),
        reject("no_outputs", ValueError, r"`weight` .* size 0, got shape \(0, 8, 3, 3\)", x, w[:0]),
    )


def operands(dtype: torch.dtype = torch.float32, device: Any = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias and residual of a 3x3 convolution with padding 1."""
    x, w, b = catalog.OPS["conv2d"].random_inputs((2, 3, 4, 5), dtype, parameters=((5, 3, 3, 3), (5,)))
    residual = torch.randn(2, 5, 4, 5, dtype=torch.float64).to(dtype)
    return x.to(device), w.to(device), b.to(device), residual.to(device)


def compare_two_orders(call: Any, tensors: list[Tensor]) -> None:
    """The result, its gradients, and the gradients of these; `call(module, *tensors)`, of torchops or of the reference."""
    dtype, leaves = tensors[0].dtype, [t.requires_grad_() for t in tensors]
    exact = [t.detach().double().cpu().requires_grad_() for t in tensors]
    y, expected = call(torchops, *leaves), call(reference, *exact)
    close(y, expected, dtype)
    dy = torch.randn_like(y).requires_grad_()
    exact_dy = dy.detach().double().cpu().requires_grad_()
    grads = torch.autograd.grad(y, leaves, dy, create_graph=True)
    exact_grads = torch.autograd.grad(expected, exact, exact_dy, create_graph=True)
    v = [torch.randn_like(grad) for grad in grads]
    # of a bias no gradient depends
    second = torch.autograd.grad(grads, [*leaves[:2], dy], v)
    exact_second = torch.autograd.grad(exact_grads, [*exact[:2], exact_dy], [t.double().cpu() for t in v])
    for a, e in zip((*grads, *second), (*exact_grads, *exact_second), strict=True):
        assert a.dtype == dtype
        close(a, e, dtype, factor=4)


class TestConv2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["conv2d"],
        samples=SAMPLES,
        rejections=_rejections(),
        launches=(1, 5),  # two gradients, and the sums of the ranges that weight and bias are split into
        streams=False,
        archs=("sm_120",),  # the others: test_conv2d_compile.py
        registered=("conv2d", "conv2d_input_grad", "conv2d_weight_grad"),
        further=True,
        lowers_in_autocast=True,
    )

    @OPERATOR
    def test_module(self, device: torch.device) -> None:
        kwargs = {"padding": 1, "padding_mode": "constant", "padding_value": 0.5, "activation": "silu"}
        x, _, _, residual = operands(device=device)
        module = torchops.nn.Conv2d(3, 5, 3, **kwargs, device=device)
        expected = torchops.conv2d(x, module.weight, module.bias, **kwargs, residual=residual)
        for twin in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(x, residual), expected)
            assert repr(twin) == repr(module)
        assert "padding_mode=constant, padding_value=0.5, activation='silu'" in repr(module)

    @EVERY_TIER
    @pytest.mark.parametrize("with_residual", [False, True], ids=["", "residual"])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_epilogue(self, activation: str, with_residual: bool, device: torch.device) -> None:
        tensors = operands(device=device)[: 4 if with_residual else 3]
        leaves, exact = ([t.detach().to(d).requires_grad_() for t in tensors] for d in (torch.float32, torch.float64))
        exact = [t.detach().cpu().requires_grad_() for t in exact]

        def call(function: Any, x: Tensor, w: Tensor, b: Tensor, residual: Tensor | None = None) -> Tensor:
            out: Tensor = function(x, w, b, padding=1, activation=activation, residual=residual)
            return out

        out, expected = call(torchops.conv2d, *leaves), call(reference.conv2d, *exact)
        close(out, expected, torch.float32)
        grad = torch.randn(out.shape, dtype=torch.float64)
        grads = torch.autograd.grad(out, leaves, grad.to(device, torch.float32))
        for a, e in zip(grads, torch.autograd.grad(expected, exact, grad), strict=True):
            close(a, e, torch.float32, factor=4)

    @EVERY_TIER
    @pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
    def test_epilogue_rounds_once(self, activation: str | None, float_dtype: torch.dtype, device: torch.device) -> None:
        """A large residual: what is lost if the convolution alone is rounded shows."""
        x, w, b, residual = operands(float_dtype, device)
        out = torchops.conv2d(x, w, b, padding=1, activation=activation, residual=8 * residual)
        exact = [t.double().cpu() for t in (x, w, b)]
        expected = reference.conv2d(*exact, padding=1, activation=activation, residual=8 * residual.double().cpu())
        close(out, expected, float_dtype)
        if float_dtype.itemsize == 2:
            # the tails of gelu cancel in float32
            large = expected.abs() > 0.05
            assert (out.cpu() == expected.to(float_dtype))[large].double().mean() > 0.98

    @EVERY_TIER
    @pytest.mark.parametrize(
        ("shape", "weight", "geometry"),
        [
            ((7, 9, 4, 1), (6, 9, 2, 1), (2, 1, 2, 1)),
            ((1, 36, 39, 2), (32, 18, 3, 1), (3, (3, 1), 3, 2)),
            ((2, 3, 1, 3), (3, 1, 1, 2), ((3, 2), (0, 2, 4, 1), (1, 2), 3)),
        ],
        ids=str,
    )
    def test_windows_beyond_the_border(
        self, shape: Any, weight: Any, geometry: Any, float_dtype: torch.dtype, device: torch.device
    ) -> None:
        """A kernel one pixel wide in a padding of one: ATen's own convolution may crash the process there."""
        self.compare_narrow(shape, weight, geometry, float_dtype, device)

    @EVERY_TIER
    @pytest.mark.parametrize(
        ("shape", "weight", "geometry"),
        [
            ((7, 14, 3, 2), (3, 14, 4, 4), ((4, 3), 1, 1, 1)),
            ((2, 3, 8, 1), (16, 3, 4, 1), (4, 0, 1, 1)),
            ((1, 2, 1, 2), (2, 1, 2, 4), ((4, 3), (1, 3), 1, 2)),
            ((3, 6, 6, 3), (12, 1, 3, 2), ((1, 3), 0, 1, 6)),
        ],
        ids=str,
    )
    def test_images_narrower_than_the_stride(
        self, shape: Any, weight: Any, geometry: Any, float_dtype: torch.dtype, device: torch.device
    ) -> None:
        """In bfloat16, ATen's own gradients of such weights, and the last of these results, are garbage on some CPUs."""
        self.compare_narrow(shape, weight, geometry, float_dtype, device)

    def compare_narrow(
        self, shape: Any, weight: Any, geometry: Any, dtype: torch.dtype, device: torch.device
    ) -> None:  # fmt: skip
        x, w, b = self.info.op.random_inputs(shape, dtype, parameters=(weight, weight[:1]))
        tensors = [*(laid_out(t.to(device), "channels_last") for t in (x, w)), b.to(device)]
        compare_two_orders(lambda module, *tensors: module.conv2d(*tensors, *geometry), tensors)

    @pytest.mark.parametrize("with_residual", [False, True], ids=["", "residual"])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_gradgradcheck_of_the_epilogue(self, activation: str, with_residual: bool) -> None:
        tensors = operands(torch.float64)[: 4 if with_residual else 3]

        def call(x: Tensor, w: Tensor, b: Tensor, residual: Tensor | None = None) -> Tensor:
            return torchops.conv2d(x, w, b, padding=1, activation=activation, residual=residual)

        leaves = [t.requires_grad_() for t in tensors]
        assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=2)), ids=str)
def test_gradcheck_of_the_gradient_ops(padding_mode: str, needs: tuple[bool, bool]) -> None:
    """Each is differentiated by itself, with either cotangent missing."""
    x, w, b = (t.requires_grad_() for t in operands(torch.float64)[:3])
    conv = Conv2d((1, 2), (1, 2, 2, 1), (1, 1), 1, padding_mode, 0.5 if padding_mode == "constant" else 0.0)
    dy = torch.randn_like(ops.conv2d(x, w, b, None, conv, "none"), requires_grad=True)

    def weight_grad(dy: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        found = ops.conv2d_weight_grad(dy, x, (3, 3), conv, True, False)
        return tuple(g for g, need in zip(found, needs, strict=True) if need)

    if any(needs):
        assert torch.autograd.gradgradcheck(weight_grad, (dy, x), fast_mode=True)
        return
    assert torch.autograd.gradgradcheck(
        lambda dy, w, c: ops.conv2d_input_grad(dy, w, c, (4, 5), conv, False),
        (dy, w, torch.randn(3, dtype=torch.float64, requires_grad=True)),
        fast_mode=True,
    )


@EVERY_TIER
def test_example_of_the_deck(device: torch.device) -> None:
    rows = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    x = torch.tensor(rows, dtype=torch.float32, device=device)[None]
    kernel = torch.tensor([[0, 1, 2], [2, 2, 0], [0, 1, 2]], dtype=torch.float32, device=device)[None, None]
    assert torchops.conv2d(x, kernel).tolist() == [[[12, 12, 17], [10, 17, 19], [9, 6, 14]]]


@EVERY_TIER
@pytest.mark.parametrize("kernel", [(33, 3), (1, 4)], ids=str)
def test_filters_of_any_shape(kernel: tuple[int, int], device: torch.device) -> None:
    """More rows than a word has bits; a mirror image further away on one side than on the other."""
    mode = "zeros" if kernel[0] > 2 else "reflect"
    x, w, _ = catalog.OPS["conv2d"].random_inputs((1, 16, 60, 13), torch.float32, parameters=((4, 16, *kernel), (4,)))
    x = x.to(memory_format=torch.channels_last).to(device)
    out = torchops.conv2d(x, w.to(device), padding="same", padding_mode=mode)
    expected = reference.conv2d(x.double().cpu(), w.double(), padding="same", padding_mode=mode)
    close(out, expected, torch.float32)


@EVERY_TIER
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter's numpy
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (17, 1), (4, 2)])
def test_infinity_beyond_the_border_stays_there(
    channels: int, groups: int, layout: str, device: torch.device
) -> None:  # fmt: skip
    """It reaches what reads the border, as infinity, and no more: nothing multiplies it by the zeros that fill a tile."""
    x = laid_out(torch.rand(1, channels, 5, 6, device=device), layout)
    w = torch.rand(2, channels // groups, 3, 3, device=device) + 0.5
    y = torchops.conv2d(x, w, padding=1, groups=groups, padding_mode="constant", padding_value=torch.inf)
    assert y[..., 1:-1, 1:-1].isfinite().all()
    assert (y.isinf().sum(), y.isnan().sum()) == (2 * (5 * 6 - 3 * 4), 0)


@EVERY_TIER
def test_strides_of_a_bias(device: torch.device) -> None:
    """Every other element of a vector, and one element for all channels."""
    x, w, _, _ = operands(device=device)
    for bias in (torch.randn(10, device=device)[::2], torch.randn(1, device=device).expand(5)):
        expected = reference.conv2d(*(t.double().cpu() for t in (x, w, bias)))
        close(torchops.conv2d(x, w, bias), expected, torch.float32)
        y = torchops.conv_transpose2d(x, w.transpose(0, 1).contiguous(), bias)
        expected = reference.conv_transpose2d(*(t.double().cpu() for t in (x, w.transpose(0, 1), bias)))
        close(y, expected, torch.float32)


@EVERY_TIER
@pytest.mark.parametrize("channels", [1, 3, 5, 17])
def test_odd_sizes(channels: int, device: torch.device) -> None:
    """63 x 65 pixels, and channels that are no multiple of anything; values and all gradients."""
    sizes = (1, channels, 63, 65), (channels + 2, channels, 3, 3), (channels + 2,)
    x, w, b = catalog.OPS["conv2d"].random_inputs(sizes[0], torch.float32, parameters=sizes[1:])
    kwargs = {"stride": 2, "padding": 2, "dilation": 3, "padding_mode": "reflect"}
    leaves, exact = ([t.to(d).requires_grad_() for t in (x, w, b)] for d in (device, torch.float64))
    out, expected = torchops.conv2d(*leaves, **kwargs), reference.conv2d(*exact, **kwargs)
    close(out, expected, torch.float32)
    grad = torch.randn(expected.shape, dtype=torch.float64)
    grads = torch.autograd.grad(out, leaves, grad.to(device, torch.float32))
    for a, e in zip(grads, torch.autograd.grad(expected, exact, grad), strict=True):
        close(a, e, torch.float32, factor=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weight", [(4, 6, 3, 3), (6, 1, 3, 3), (4, 6, 1, 1), (1, 6, 3, 3)], ids=str)
def test_strides_of_results_are_atens(weight: tuple[int, ...], dtype: torch.dtype) -> None:
    groups = 6 // weight[1]
    x, w = torch.randn(2, 6, 5, 7).to(dtype), torch.randn(weight).to(dtype)
    for layout, weight_layout in itertools.product(LAYOUTS, ("contiguous", "channels_last", "sliced")):
        leaves = [laid_out(x, layout).requires_grad_(), laid_out(w, weight_layout).requires_grad_()]
        y, expected = torchops.conv2d(*leaves, groups=groups), F.conv2d(*leaves, groups=groups)
        assert strides(y) == strides(expected), (layout, weight_layout)
        grad = torch.randn_like(y)
        for a, e in zip(torch.autograd.grad(y, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True):
            assert strides(a) == strides(e), (layout, weight_layout)


@OPERATOR
@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, ("contiguous", "channels_last"))), ids="-".join)
def test_weight_gradient_of_mixed_layouts(layouts: tuple[str, str], device: torch.device) -> None:
    x, w, _, _ = operands(device=device)
    leaves = [laid_out(t, layout).requires_grad_() for t, layout in zip((x, w), layouts, strict=True)]
    exact = [t.detach().double().cpu().requires_grad_() for t in leaves]
    grad = torch.randn(2, 5, 4, 5, dtype=torch.float64)
    (dw,) = torch.autograd.grad(torchops.conv2d(*leaves, padding=1), leaves[1:], grad.to(device, torch.float32))
    (expected,) = torch.autograd.grad(reference.conv2d(*exact, padding=1), exact[1:], grad)
    close(dw, expected, torch.float32, factor=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_long_sums_neither_overflow_nor_drift(dtype: torch.dtype) -> None:
    """Sums of tens of thousands of terms of the order of 1 pass 65504, the largest float16, on the way to a small result."""
    sign = torch.ones(96 * 96).index_fill_(0, torch.arange(96 * 48, 96 * 96), -1).view(1, 1, 96, 96)
    x = (sign * 4).expand(4, 8, 96, 96).to(dtype).contiguous().requires_grad_()
    w, b = torch.zeros(8, 8, 1, 1, dtype=dtype, requires_grad=True), torch.zeros(8, dtype=dtype, requires_grad=True)
    grad = torch.full((4, 8, 96, 96), 4.0, dtype=dtype)
    dw, db = torch.autograd.grad(torchops.conv2d(x, w, b), (w, b), grad * 0.25)
    assert torch.equal(dw, torch.zeros_like(dw))
    assert torch.equal(db, torch.full_like(db, 4 * 96 * 96))


@EVERY_TIER
def test_padding_value_has_the_dtype_of_the_image(device: torch.device) -> None:
    """float16 does not hold 2049: a pixel would be 2048."""
    x, w = torch.zeros(1, 1, 2, 2, device=device).half(), torch.ones(1, 1, 1, 1, device=device).half()
    y = torchops.conv2d(x, w, None, padding=1, padding_mode="constant", padding_value=2049.0, activation="relu")
    assert y[0, 0, 0].tolist() == [2048.0] * 4
