"""The specification of the drawn tests: against results that were computed by hand, and against the other specification."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torchops import reference

from . import independent

COUNTING = torch.arange(1.0, 10.0).double().view(1, 1, 3, 3)
ONE = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
POOL = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}


def _image(*values: list[float]) -> Tensor:
    return torch.tensor([[values]], dtype=torch.float64)


def test_by_hand() -> None:
    corner = _image([1, 0], [0, 10])
    sums = independent.conv2d(COUNTING, corner, torch.tensor([100.0]).double(), **ONE)
    assert torch.equal(sums, _image([151, 162], [184, 195]))
    padded = independent.conv2d(COUNTING, corner, **{**ONE, "stride": (2, 2), "padding": (1, 0, 1, 0)})
    assert torch.equal(padded, _image([10, 30], [70, 95]))
    wrapped = independent.conv2d(COUNTING, corner, **{**ONE, "padding": (1, 0, 0, 0)}, padding_mode="circular")
    assert torch.equal(wrapped, _image([43, 51, 62], [76, 84, 95]))
    mirrored = independent.conv2d(COUNTING, corner, **{**ONE, "padding": (1, 0, 0, 0)}, padding_mode="reflect")
    assert torch.equal(mirrored[..., 0], torch.tensor([[[42.0, 75.0]]]).double())
    dilated = independent.conv2d(COUNTING, corner, **{**ONE, "dilation": (2, 2)}, activation="relu6")
    assert torch.equal(dilated, _image([6]))
    copies = independent.conv_transpose2d(
        _image([1, 2]), corner, **{**ONE, "stride": (2, 1), "padding": (0, 1)}, output_padding=(1, 0)
    )
    assert torch.equal(copies, _image([2], [10], [0]))


def test_pools_by_hand() -> None:
    pool = {**POOL, "ceil_mode": True}
    image = _image([1, 5, 2], [5, 3, 2], [torch.nan, torch.nan, 0])
    y, positions = independent.max_pool2d(image, **pool, dilation=(1, 1), return_indices=True)
    torch.testing.assert_close(y, _image([5, 2], [torch.nan, 0]), equal_nan=True)
    assert positions.tolist() == [[[[1, 2], [7, 8]]]]
    y, offsets = independent.max_pool2d(image, **pool, dilation=(1, 1), return_indices="offset", smallest=True)
    torch.testing.assert_close(y, _image([1, 2], [torch.nan, 0]), equal_nan=True)
    assert offsets.tolist() == [[[[0, 0], [1, 0]]]]
    assert torch.equal(independent.avg_pool2d(COUNTING, **pool), _image([3, 4.5], [7.5, 9]))
    padded = {**pool, "padding": (1, 1), "ceil_mode": False}
    assert torch.equal(independent.avg_pool2d(COUNTING, **padded), _image([0.25, 1.25], [2.75, 7]))
    inside = independent.avg_pool2d(COUNTING, **padded, count_include_pad=False)
    assert torch.equal(inside, _image([1, 2.5], [5.5, 7]))
    # two point to the same pixel, and the later stays
    x, indices = _image([1, 2, 3]), torch.tensor([[[[4, 0, 4]]]])
    back = independent.max_unpool2d(x, indices, **POOL, dilation=(1, 1), output_size=(2, 3))
    assert torch.equal(back, _image([2, 0, 0], [0, 3, 0]))
    spread = independent.avg_unpool2d(
        _image([1, 3]), kernel_size=(1, 2), stride=(1, 1), padding=(0, 0), output_size=(1, 4)
    )
    assert torch.equal(spread, _image([1, 2, 3, 0]))


def test_as_many_windows_by_hand() -> None:
    line = _image([1, 3, 2, 4, 8])
    torch.testing.assert_close(independent.adaptive_avg_pool2d(line, (1, 2)), _image([2, 14 / 3]))
    assert torch.equal(independent.adaptive_avg_pool2d(COUNTING, (2, 1)), _image([3.5], [6.5]))
    assert torch.equal(independent.adaptive_avg_pool2d(_image([1, 2]), (2, 3)), _image([1, 1.5, 2], [1, 1.5, 2]))
    y, positions = independent.adaptive_max_pool2d(_image([1, 5, 5], [torch.nan, 0, 7]), (1, 2))
    torch.testing.assert_close(y, _image([torch.nan, 7]), equal_nan=True)
    assert positions.tolist() == [[[[3, 5]]]]
    assert torch.equal(independent.interpolate(_image([1, 2]), (2, 3)), _image(*[[1, 1, 1, 2, 2, 2]] * 2))


def test_edges_by_hand() -> None:
    gradient = independent.spatial_gradient(COUNTING, False)
    assert torch.equal(gradient[0, 0, :, 1], torch.tensor([[4.0, 8.0, 4.0], [24.0, 24.0, 24.0]]).double())
    assert torch.equal(independent.sobel(COUNTING, True, 0.0)[0, 0, 1, 1], torch.tensor(10.0).double().sqrt())


@pytest.mark.parametrize(
    ("op", "sizes", "kwargs"),
    [
        ("conv2d", [(2, 6, 9, 8), (8, 3, 3, 2), (8,)], {"stride": (2, 1), "padding": (2, 1), "dilation": (1, 3), "groups": 2}),
        ("conv2d", [(2, 4, 5, 8), (4, 1, 4, 2)], {**ONE, "padding": "same", "groups": 4, "padding_mode": "reflect"}),
        ("conv2d", [(1, 2, 5, 8), (3, 2, 1, 5)], {**ONE, "padding": (3, 0, 1, 2), "padding_mode": "replicate"}),
        ("conv2d", [(1, 2, 5, 8), (3, 2, 3, 3)], {**ONE, "padding": (2, 2), "padding_mode": "constant", "padding_value": 0.5}),
        *(("conv2d", [(2, 3, 4, 4), (2, 3, 1, 1)], {**ONE, "activation": name}) for name in independent.ACTIVATIONS),
        ("conv_transpose2d", [(2, 6, 5, 4), (6, 3, 3, 2), (9,)],
         {"stride": (2, 3), "padding": (1, 2), "output_padding": (1, 0), "dilation": (1, 2), "groups": 3}),
        ("avg_pool2d", [(2, 3, 9, 8)], {**POOL, "kernel_size": (3, 4), "padding": (1, 2), "ceil_mode": True}),
        ("avg_pool2d", [(2, 3, 9, 8)], {**POOL, "padding": (1, 0), "ceil_mode": False, "count_include_pad": False}),
        ("avg_unpool2d", [(2, 3, 4, 5)], {**POOL, "kernel_size": (3, 3), "padding": (1, 0), "output_size": (8, 11)}),
        *(("adaptive_avg_pool2d", [(2, 3, 9, 4)], {"output_size": size}) for size in ((1, 1), (3, 2), (4, 7), (12, 3))),
        ("sobel", [(2, 3, 5, 6)], {"padding_mode": "reflect"}),
        ("spatial_gradient", [(2, 3, 5, 1)], {"padding_mode": "circular", "normalized": False}),
    ],
)  # fmt: skip
def test_agrees_with_the_reference(op: str, sizes: list[tuple[int, ...]], kwargs: dict[str, Any]) -> None:
    tensors = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    results = [getattr(module, op)(*tensors, **kwargs) for module in (independent, reference)]
    torch.testing.assert_close(*results)
    grad = torch.randn_like(results[0])
    for a, b in zip(*(torch.autograd.grad(y, tensors, grad) for y in results), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("indices", [True, "offset"])
@pytest.mark.parametrize("op", ["max_pool2d", "min_pool2d"])
def test_maxima_agree_with_the_reference(op: str, indices: bool | str) -> None:
    kwargs = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)}
    x = torch.tensor([-1.0, 0.0, 1.0, torch.inf, torch.nan]).double()[torch.randint(5, (2, 3, 8, 9))]
    y, found = independent.max_pool2d(x, **kwargs, ceil_mode=True, return_indices=indices, smallest=op[:3] == "min")
    expected, places = getattr(reference, op)(x, **kwargs, ceil_mode=True, return_indices=indices)
    torch.testing.assert_close(y, expected, equal_nan=True)
    assert torch.equal(found, places.long())
    back = [m.max_unpool2d(y, places, **kwargs, output_size=(8, 9)) for m in (independent, reference)]
    torch.testing.assert_close(*back, equal_nan=True)


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (12, 20)])
def test_maxima_of_as_many_windows_agree_with_the_reference(size: tuple[int, int]) -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, torch.inf, torch.nan]).double()[torch.randint(5, (2, 3, 8, 9))]
    y, found = independent.adaptive_max_pool2d(x, size)
    expected, places = reference.adaptive_max_pool2d(x, size, return_indices=True)
    torch.testing.assert_close(y, expected, equal_nan=True)
    assert torch.equal(found, places)


def test_enlarged_images_agree_with_the_reference() -> None:
    x = torch.randn(2, 3, 4, 5).double()
    assert torch.equal(independent.interpolate(x, (3, 2)), reference.interpolate(x, scale_factor=(3, 2)))
