"""Windows of pools, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from torchops.kernels.geometry import Pair, conv_transpose_size
from torchops.kernels.geometry import Window as Geometry


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Window:
    """A pool of an (N, C, H, W) image."""

    shape: tuple[int, ...]
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool

    @classmethod
    def of(
        cls, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Window:
        stride = kernel_size if stride is None else stride
        return cls((), *map(_pair, (kernel_size, stride, padding, dilation)), ceil_mode)

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.kernel_size, self.stride, self.padding, self.dilation)

    @property
    def taps(self) -> int:
        return self.kernel_size[0] * self.kernel_size[1]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments of all pools."""
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "ceil_mode")}

    @property
    def pooled(self) -> Pair:
        return self.geometry.output_size(self.shape[2:], self.ceil_mode)

    def output_size(self, place: tuple[float, float]) -> Pair:
        """A size that unpooling takes: from the smallest, at place 0, to the largest, at 1."""
        usual = (
            conv_transpose_size(n, k, s, 2 * p, 0, d)
            for n, (k, s, p, d) in zip(self.pooled, self.geometry.axes(), strict=True)
        )
        h, w = (n - s + 1 + round(part * 2 * (s - 1)) for n, s, part in zip(usual, self.stride, place, strict=True))
        return h, w

    @property
    def pooled_shape(self) -> tuple[int, ...]:
        return (*self.shape[:2], *self.pooled)


@st.composite
def windows(draw: st.DrawFn, dilated: bool = False) -> Window:
    """Any pool, small enough for the interpreter, of an image that it fits into."""
    n, c = draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 4, 8, 17]))
    # most are small, and some larger than the offsets of one byte
    sides = st.one_of(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 18))
    kernel = draw(st.tuples(sides, sides))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    padding = draw(st.tuples(*(st.one_of(st.integers(0, k // 2), st.just(k // 2)) for k in kernel)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if dilated else (1, 1)
    # smaller images than the dilation have windows without a pixel
    least = [max(d, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    more = draw(st.one_of(st.tuples(st.integers(0, 8), st.integers(0, 20)), st.tuples(*(st.integers(0, 1),) * 2)))
    h, w = (n + m for n, m in zip(least, more, strict=True))
    return Window((n, c, h, w), kernel, stride, padding, dilation, draw(st.booleans()))
