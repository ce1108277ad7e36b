"""Two-dimensional tiles of tensors with any strides, for kernels that multiply matrices."""

import triton
import triton.language as tl


@triton.jit
def widened(a, b, c, d):
    """The same four strides in 64 bits: whatever is multiplied by one then is wide as well."""
    return tl.cast(a, tl.int64), tl.cast(b, tl.int64), tl.cast(c, tl.int64), tl.cast(d, tl.int64)


@triton.jit
def load_tile(ptr, offs_0, offs_1, mask_0, mask_1, ALONG: tl.constexpr):
    """[len(offs_0), len(offs_1)] elements, 0 where a mask is off.

    ALONG is the dimension whose elements lie back to back: neighbouring lanes load along it.
    """
    if ALONG == 1:
        mask = mask_0[:, None] & mask_1[None, :]
        return tl.load(ptr + offs_0[:, None] + offs_1[None, :], mask=mask, other=0)
    mask = mask_1[:, None] & mask_0[None, :]
    return tl.load(ptr + offs_1[:, None] + offs_0[None, :], mask=mask, other=0).T


@triton.jit
def store_tile(ptr, offs_0, offs_1, values, mask_0, mask_1, ALONG: tl.constexpr):
    """Store [len(offs_0), len(offs_1)] values where both masks are on, rounded to the dtype of ptr."""
    values = values.to(ptr.dtype.element_ty)
    if ALONG == 1:
        tl.store(ptr + offs_0[:, None] + offs_1[None, :], values, mask=mask_0[:, None] & mask_1[None, :])
    else:
        tl.store(ptr + offs_1[:, None] + offs_0[None, :], values.T, mask=mask_1[:, None] & mask_0[None, :])


@triton.jit
def load_or_pad(ptr, offs_0, offs_1, inside_0, mask_0, mask_1, pad_ptr, VEC: tl.constexpr):
    """`load_tile` along dimension 1, back to back there in units of VEC, and rows that are not inside from pad_ptr.

    To choose an address leaves a copy asynchronous; to choose between values, after the load, would not.
    """
    rows = tl.where(inside_0, ptr + offs_0, pad_ptr)
    rows = tl.multiple_of(rows, VEC * ptr.dtype.element_ty.primitive_bitwidth // 8)
    return tl.load(rows[:, None] + offs_1[None, :], mask=mask_0[:, None] & mask_1[None, :], other=0)
