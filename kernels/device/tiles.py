"""Two-dimensional tiles of tensors with any strides, for kernels that multiply matrices."""

import triton
import triton.language as tl


@triton.jit
def hinted(strides, VEC: tl.constexpr, WIDE: tl.constexpr):
    """The strides of (N, C, H, W); the compiler knows from here on that VEC divides all of them but that of channels.

    It moves 128 bits at a time only where it knows what divides an address. WIDE strides have 64 bits: whatever is multiplied
    by one then has as many.
    """
    sn, sc, sh, sw = strides
    sn, sh, sw = sn // VEC * VEC, sh // VEC * VEC, sw // VEC * VEC
    if WIDE:
        sn, sc, sh, sw = tl.cast(sn, tl.int64), tl.cast(sc, tl.int64), tl.cast(sh, tl.int64), tl.cast(sw, tl.int64)
    return sn, sc, sh, sw


@triton.jit
def below(lanes, end, EVEN: tl.constexpr):
    """Which lanes lie below end: all of them, where tiles come out EVEN."""
    if EVEN:
        return tl.full(lanes.shape, True, tl.int1)
    return lanes < end


@triton.jit
def load_tile(ptr, offs_0, offs_1, mask_0, mask_1, ALONG: tl.constexpr):
    """Load [len(offs_0), len(offs_1)] elements, 0 where a mask is off.

    ALONG is the dimension whose elements lie back to back: neighbouring lanes load along it.
    """
    if ALONG == 1:
        mask = mask_0[:, None] & mask_1[None, :]
        return tl.load(ptr + offs_0[:, None] + offs_1[None, :], mask=mask, other=0)
    mask = mask_1[:, None] & mask_0[None, :]
    return tl.load(ptr + offs_1[:, None] + offs_0[None, :], mask=mask, other=0).T


@triton.jit
def load_where(ptr, offs, mask, ALONG: tl.constexpr):
    """Load elements at offsets [M, N] that are no sums of rows and columns, 0 where the mask is off.

    ALONG is what it is for `load_tile`.
    """
    if ALONG == 1:
        return tl.load(ptr + offs, mask=mask, other=0)
    return tl.load(ptr + offs.T, mask=mask.T, other=0).T


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
    """Load as `load_tile` does along dimension 1, in units of VEC elements; rows that are not inside come from pad_ptr.

    A choice between addresses leaves a copy asynchronous; a choice between values, after the load, would not.
    """
    rows = tl.where(inside_0, ptr + offs_0, pad_ptr)
    rows = tl.multiple_of(rows, VEC * ptr.dtype.element_ty.primitive_bitwidth // 8)
    return tl.load(rows[:, None] + offs_1[None, :], mask=mask_0[:, None] & mask_1[None, :], other=0)
