"""The tests' own tools."""

import torch

from .opinfo import LAYOUTS, laid_out


def test_every_layout_has_the_values_it_says() -> None:
    x = torch.randn(2, 3, 4, 5)
    for layout in LAYOUTS:
        expected = x[:1].expand(x.shape) if layout == "expanded" else x
        assert torch.equal(laid_out(x, layout), expected), layout
