"""Which pixels a program writes, and which it reads for them.

A convolution is a gather: pixel (p, q) of image n is a sum over taps (t_h, t_w), each of which reads one position of x. There
are three maps from pixels to positions, MAP:

    forward      position (p stride - top + t_h dilation, ...): the convolution itself
    transposed   the gradient in its input. A stride of s makes s * s problems of stride 1 of it, its phases: pixels p of one
                 remainder of p + padding modulo s share the taps that reach them
    ring         the same gradient on the ring of padding around the image (see ring.py), in units of 1/stride: only positions
                 that are multiples of the stride are pixels
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import load_or_pad, load_tile

from .ring import ring_pixel, ring_size


@triton.jit
def _first_tap(phase, dilation, stride, TAPS: tl.constexpr):
    """The first of the taps that reach outputs of this phase; TAPS if none does."""
    first = TAPS
    for i in tl.static_range(TAPS):
        first = tl.where((phase - (TAPS - 1 - i) * dilation) % stride == 0, TAPS - 1 - i, first)
    return first


@triton.jit
def _forward(number, cols, stride, sides):
    """Row and column of pixel `number` of a plane; the position that its first tap reads."""
    stride_h, stride_w = stride
    left, _right, top, _bottom = sides
    p, q = number // cols, number % cols
    return p, q, p * stride_h - top, q * stride_w - left


@triton.jit
def _transposed(number, cols, phase_h, phase_w, stride, sides, dilation, R: tl.constexpr, S: tl.constexpr):
    """Row and column of pixel `number` of a phase; the first tap that reaches it; the position that this tap reads."""
    stride_h, stride_w = stride
    left, _right, top, _bottom = sides
    dil_h, dil_w = dilation
    p, q = number // tl.maximum(cols, 1), number % tl.maximum(cols, 1)
    r0, s0 = _first_tap(phase_h + top, dil_h, stride_h, R), _first_tap(phase_w + left, dil_w, stride_w, S)
    h0, w0 = p + (phase_h + top - r0 * dil_h) // stride_h, q + (phase_w + left - s0 * dil_w) // stride_w
    return phase_h + p * stride_h, phase_w + q * stride_w, r0, s0, h0, w0


@triton.jit
def _ring(number, P, Q, sides):
    """The position that the first tap of pixel `number` of the ring reads."""
    left, _right, top, _bottom = sides
    p, q = ring_pixel(number, P, Q, sides)
    return p + top, q + left


@triton.jit
def output_tile(
    N, P, Q, groups, tiles_n, stride, sides, dilation,
    R: tl.constexpr, S: tl.constexpr, MAP: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """The tile of this program: its number among the tiles of channels; its group; its pixels, each as image, row and column of
    what is written (a ring is one row), and which of them there are; the first tap (r0, s0) to reach them, and the positions
    (h0, w0) that this one reads.

    Tiles of channels are counted fastest: programs that share pixels run together, and read them from L2."""
    stride_h, stride_w = stride
    phases_h, phases_w = 1, 1
    if MAP == "transposed":
        phases_h, phases_w = stride_h, stride_w
    largest = tl.cdiv(P, phases_h) * tl.cdiv(Q, phases_w)
    if MAP == "ring":
        largest = ring_size(P, Q, sides)
    if WIDE:
        largest = tl.cast(largest, tl.int64)
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(N * largest, BLOCK_M)
    pid_m, rest = pid // tiles_n % tiles_m, pid // tiles_n // tiles_m
    phase_h, phase_w = rest // groups // phases_w, rest // groups % phases_w
    rows, cols = tl.cdiv(P - phase_h, phases_h), tl.cdiv(Q - phase_w, phases_w)
    plane = rows * cols
    if MAP == "ring":
        plane = largest
    m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    exists = m < N * plane
    # lanes beyond the last pixel read it again; where a phase has no pixel they read pixel 0, which memory has
    m = tl.maximum(tl.minimum(m, N * plane - 1), 0)
    n, number = m // tl.maximum(plane, 1), (m % tl.maximum(plane, 1)).to(tl.int32)
    r0, s0 = 0, 0
    if MAP == "ring":
        h0, w0 = _ring(number, P, Q, sides)
        p, q = number * 0, number
    elif MAP == "transposed":
        p, q, r0, s0, h0, w0 = _transposed(number, cols, phase_h, phase_w, stride, sides, dilation, R, S)
    else:
        p, q, h0, w0 = _forward(number, cols, stride, sides)
    return pid % tiles_n, rest % groups, (n, p, q), exists, r0, s0, h0, w0


@triton.jit
def turned(w_ptr, w_sr, w_ss, sides, R: tl.constexpr, S: tl.constexpr, MAP: tl.constexpr):
    """Padding at the left and at the top, and the filter as a pointer and two strides: with stride 1 an input gradient is a
    convolution whose filter is turned by 180 degrees."""
    left, _right, top, _bottom = sides
    if MAP == "transposed":
        left, top = S - 1 - left, R - 1 - top
        w_ptr += (R - 1) * w_sr + (S - 1) * w_ss
        w_sr, w_ss = -w_sr, -w_ss
    return left, top, w_ptr, w_sr, w_ss


@triton.jit
def strip_of(number, P, Q, rows, WIDE: tl.constexpr, COLUMNS: tl.constexpr):
    """Strip `number` of P x Q images, `rows` high and COLUMNS wide: its image, columns, first row, and where rows end."""
    tiles_q, strips = tl.cdiv(Q, COLUMNS), tl.cdiv(P, rows)
    q, strip = number % tiles_q * COLUMNS + tl.arange(0, COLUMNS), number // tiles_q
    n, first = tl.cast(strip // strips, tl.int64 if WIDE else tl.int32), strip % strips * rows
    return n, q, first, tl.minimum(first + rows, P)


@triton.jit
def read(h, w, x_size, sh, sw, stride, BORDER: tl.constexpr, MAP: tl.constexpr):
    """Offsets of the pixels that positions (h, w) stand for, and which of these lie inside the image."""
    H, W = x_size
    if MAP == "ring":
        stride_h, stride_w = stride
        whole = (h % stride_h == 0) & (w % stride_w == 0) & (h >= 0) & (w >= 0)
        h, w = h // stride_h, w // stride_w
        return h * sh + w * sw, whole & (h < H) & (w < W)
    if BORDER == "constant":
        return h * sh + w * sw, in_range(h, H) & in_range(w, W)
    return (
        border_index(h, H, BORDER, False) * sh + border_index(w, W, BORDER, False) * sw,
        tl.full(h.shape, True, tl.int1),
    )


@triton.jit
def inside_bits(h0, w0, x_size, step, R: tl.constexpr, S: tl.constexpr):
    """Bit t_h*S + t_w says whether that tap lies inside the image: the loop tests it with one instruction."""
    H, W = x_size
    step_h, step_w = step
    row = 0
    for s in tl.static_range(S):
        row |= in_range(w0 + s * step_w, W).to(tl.int32) << s
    bits = 0
    for r in tl.static_range(R):
        bits |= tl.where(in_range(h0 + r * step_h, H), row << (r * S), 0)
    return bits


@triton.jit
def load_pixels(
    x_ptr, offs, lanes, x_sc, there, exists, mask_c, pad_ptr,
    ALONG: tl.constexpr, PAD_BY_ADDRESS: tl.constexpr, VEC: tl.constexpr,
):  # fmt: skip
    """Load a tile [pixels, channels] of x; a pixel not `there` reads as 0, or as the border's value if there is a pad_ptr."""
    if PAD_BY_ADDRESS:
        return load_or_pad(x_ptr, offs, lanes, there, exists, mask_c, pad_ptr, VEC)
    x = load_tile(x_ptr, offs, lanes * x_sc, there & exists, mask_c, ALONG)
    if pad_ptr is not None:
        x = tl.where(mask_c[None, :] & (exists & ~there)[:, None], tl.load(pad_ptr), x)
    return x
