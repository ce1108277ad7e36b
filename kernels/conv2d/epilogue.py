"""What a convolution does with its sums while they are in registers, before the one rounding and the store."""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.activations import activate
from torchops.kernels.device.tiles import load_tile, store_tile

from .ring import fold_ring


@triton.jit
def finish(
    acc, bias_ptr, residual_ptr, ring_ptr, y_ptr,   # bias, residual and ring are added unless None
    pixel, offs_k, exists, mask_k,                  # pixel: image, row, column
    y_size, r_strides, y_strides, sides,            # y_size: K, P, Q
    ACTIVATION: tl.constexpr, FOLD: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """Add what is to be added to the sums [pixels, channels], apply the activation, round once, store."""
    n, p, q = pixel
    r_sn, r_sk, r_sh, r_sw = r_strides
    y_sn, y_sk, y_sh, y_sw = y_strides
    if ring_ptr is not None:
        acc = fold_ring(acc, ring_ptr, pixel, offs_k, exists, mask_k, y_size, sides, FOLD)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + offs_k, mask=mask_k, other=0).to(acc.dtype)[None, :]
    if residual_ptr is not None:
        offs_r = n * r_sn + p * r_sh + q * r_sw
        acc += load_tile(residual_ptr, offs_r, offs_k * r_sk, exists, mask_k, ALONG).to(acc.dtype)
    offs_y = n * y_sn + p * y_sh + q * y_sw
    store_tile(y_ptr, offs_y, offs_k * y_sk, activate(acc, ACTIVATION), exists, mask_k, ALONG)
