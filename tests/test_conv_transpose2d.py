"""conv_transpose2d: samples and rejections for the questions of `conformance`, and what is particular to the op."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchops
from torchops import catalog

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import LAYOUTS, OpInfo, Rejection, Sample, laid_out, strides
from .test_conv2d import compare_two_orders


def problem(shape: tuple[int, ...], weight: tuple[int, ...], **kwargs: Any) -> Sample:
    """weight: (C, K / groups, R, S)."""
    return Sample(shape, kwargs, (weight, (weight[1] * kwargs.get("groups", 1),)))


SAMPLES = (
    Sample((2, 3, 5, 7), {"padding": 1}),
    problem((1, 3, 3, 4), (3, 5, 2, 2), stride=2),
    problem((1, 2, 3, 4), (2, 3, 3, 3), stride=2, padding=1, output_padding=1),
    problem((1, 4, 3, 2), (4, 3, 3, 2), stride=(3, 2), padding=(2, 0), output_padding=(2, 1), groups=2),
    problem((1, 3, 4, 3), (3, 2, 3, 3), groups=3, dilation=(2, 1), padding=1),
    problem((1, 1, 2, 2), (1, 1, 3, 3), dilation=3, output_padding=2, padding=(1, 0)),
    problem((1, 17, 2, 3), (17, 1, 1, 1), stride=3, output_padding=1),
    problem((2, 1, 1, 1), (1, 5, 4, 7), padding=(1, 2)),
    problem((1, 1, 1, 2), (1, 1, 1, 1), stride=5, padding=1, output_padding=3),
)


def _rejections() -> tuple[Rejection, ...]:
    x, w, b, conv = torch.rand(1, 8, 5, 6), torch.rand(8, 4, 3, 3), torch.rand(4), torchops.conv_transpose2d

    def reject(name: str, error: type[Exception], match: str, *args: Any, **kwargs: Any) -> Rejection:
        return Rejection(name, lambda: conv(*args, **kwargs), error, match)

    return (
        reject("list", TypeError, "`input` must be a tensor, got list", [1.0], w),
        reject("rank", ValueError, r"`input` must have shape .* got \(5, 6\)", x[0, 0], w),
        reject("integers", TypeError, r"`weight` must be floating point .* torch\.int64", x, w.long()),
        reject("dtypes", RuntimeError, r"`bias` .* dtype of `input` .*float32\), got torch\.float16", x, w, b.half()),
        reject("channels", ValueError, r"`weight` .* takes 7 channels, got `input` of shape \(1, 8, 5, 6\)", x, w[:7]),
        reject("groups", ValueError, r"`groups` \(=3\) must divide `in_channels` \(=8\)", x, w, groups=3),
        reject("bias", ValueError, r"`bias` must have shape \(8,\), got \(4,\)", x, w, b, groups=2),
        reject("stride", ValueError, "`stride` must be positive, got -1", x, w, stride=-1),
        reject("stride_huge", ValueError, r"`stride` must be smaller than 2\^31, got 2147483648", x, w, stride=2**31),
        reject("padding", ValueError, "`padding` must not be negative, got -1", x, w, padding=-1),
        reject("padding_word", TypeError, "`padding` must be an integer or .* got 'same'", x, w, padding="same"),
        reject("dilation", ValueError, "`dilation` must be positive, got 0", x, w, dilation=0),
        reject(
            "output_padding",
            ValueError,
            r"`output_padding` \(=\(0, 2\)\) must be smaller than `stride` \(=\(2, 2\)\) or `dilation`",
            x,
            w,
            stride=2,
            output_padding=(0, 2),
        ),
        reject(
            "nothing_left", ValueError, r"`padding` \(=\(4, 0\)\) leaves -1 x 8 pixels .*5, 6\)", x, w, padding=(4, 0)
        ),
    )


class TestConvTranspose2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["conv_transpose2d"],
        samples=SAMPLES,
        rejections=_rejections(),
        launches=(1, 4),  # two gradients, and the sum of the ranges that the weight is split into
        streams=False,
        archs=("sm_120",),  # the others: test_conv2d_compile.py
        registered=("conv2d_input_grad", "conv2d", "conv2d_weight_grad"),
        further=True,
        lowers_in_autocast=True,
    )

    @EVERY_TIER
    @pytest.mark.parametrize(
        ("shape", "weight", "geometry"),
        [
            ((3, 6, 4, 2), (6, 5, 2, 1), (2, 1, 0, 1, 2)),
            ((1, 32, 14, 3), (32, 18, 3, 1), (3, (3, 1), (2, 0), 2, 3)),
            ((2, 3, 3, 4), (3, 1, 1, 2), ((1, 2), (1, 3), (0, 1), 3, (1, 2))),
        ],
        ids=str,
    )
    def test_nothing_left_of_the_copies_of_some_pixels(
        self, shape: Any, weight: Any, geometry: Any, float_dtype: torch.dtype, device: torch.device
    ) -> None:
        """All that they add is cut off: where ATen's own gradient, which is a convolution, may crash the process."""
        size = (weight[1] * geometry[3],)
        x, w, b = self.info.op.random_inputs(shape, float_dtype, parameters=(weight, size))
        tensors = [*(laid_out(t.to(device), "channels_last") for t in (x, w)), b.to(device)]
        compare_two_orders(lambda module, *tensors: module.conv_transpose2d(*tensors, *geometry), tensors)

    @OPERATOR
    def test_module(self, device: torch.device) -> None:
        kwargs = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
        x = torch.randn(2, 4, 3, 5, device=device)
        module = torchops.nn.ConvTranspose2d(4, 6, 3, **kwargs, device=device)
        expected = torchops.conv_transpose2d(x, module.weight, module.bias, **kwargs)
        for twin in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(x), expected)
            assert repr(twin) == repr(module)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weight", [(6, 4, 3, 3), (6, 1, 3, 3), (6, 4, 1, 1), (6, 1, 2, 2)], ids=str)
def test_strides_of_results_are_atens(weight: tuple[int, ...], dtype: torch.dtype) -> None:
    x, w = torch.randn(2, 6, 5, 7).to(dtype), torch.randn(weight).to(dtype)
    for layout, weight_layout in itertools.product(LAYOUTS, ("contiguous", "channels_last", "sliced")):
        leaves = [laid_out(x, layout).requires_grad_(), laid_out(w, weight_layout).requires_grad_()]
        y, expected = torchops.conv_transpose2d(*leaves), F.conv_transpose2d(*leaves)
        assert strides(y) == strides(expected), (layout, weight_layout)


@EVERY_TIER
def test_is_the_gradient_of_conv2d(device: torch.device) -> None:
    x = torch.randn(1, 3, 6, 5, device=device, requires_grad=True)
    w = torch.randn(2, 3, 3, 2, device=device)
    y = torchops.conv2d(x, w, stride=(2, 3), padding=1)
    grad = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, grad)
    close(torchops.conv_transpose2d(grad, w, None, (2, 3), 1, (1, 2)), dx, torch.float32)


@pytest.mark.parametrize("output_size", [(9, 13), [10, 14], (2, 6, 10, 13)], ids=str)
def test_output_size_and_state_dict_are_torchs(output_size: Any) -> None:
    kwargs = {"stride": 2, "padding": 1, "groups": 2}
    ours, theirs = torchops.nn.ConvTranspose2d(4, 6, 3, **kwargs), nn.ConvTranspose2d(4, 6, 3, **kwargs)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(ours(x, output_size), theirs(x, output_size))
    with pytest.raises(ValueError, match="requested an output size"):
        ours(x, (20, 20))


@pytest.mark.parametrize(
    "geometry", list(itertools.product((1, 2, 5), (0, 1, 3), (0, 1, 3), (1, 2, 5), (1, 2, 3))), ids=str
)
def test_any_geometry_is_atens(geometry: tuple[int, ...]) -> None:
    stride, padding, output_padding, dilation, kernel = geometry
    kwargs = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation, "groups": 2}
    for size in (1, 2, 4):
        x, w, b = torch.randn(2, 4, size, 3), torch.randn(4, 3, kernel, kernel), torch.randn(6)
        leaves, twins = ([t.double().detach().requires_grad_() for t in (x, w, b)] for _ in range(2))
        try:
            expected = F.conv_transpose2d(*twins, **kwargs)
        except RuntimeError:
            with pytest.raises(ValueError, match=r"`output_padding`|leaves"):
                torchops.conv_transpose2d(*leaves, **kwargs)
            continue
        out = torchops.conv_transpose2d(*leaves, **kwargs)
        close(out, expected, torch.float64)
        grad = torch.randn_like(out)
        for a, e in zip(
            torch.autograd.grad(out, leaves, grad), torch.autograd.grad(expected, twins, grad), strict=True
        ):
            close(a, e, torch.float64, factor=4)


@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2)])
def test_gradients_of_the_third_and_fourth_order_with_output_padding(stride: int, dilation: int) -> None:
    """ATen's own end at the second."""
    leaves = [torch.randn(size, dtype=torch.float64).requires_grad_() for size in ((1, 2, 2, 3), (2, 3, 3, 2), (3,))]

    def second(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        y = torchops.conv_transpose2d(x, w, b, stride, 1, (0, 1), dilation=dilation)
        grads = torch.autograd.grad(y.pow(4).sum(), (x, w, b), create_graph=True)
        return torch.autograd.grad([grad.square().sum() for grad in grads], (x, w, b), create_graph=True)

    assert torch.autograd.gradcheck(second, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(second, leaves, fast_mode=True)
