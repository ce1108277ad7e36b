"""What students write in lesson 1, and what they must be told."""

from torchops.course.lesson import Wrong

I = "tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  #: 1a"
CLAMPED = "tl.minimum(tl.maximum(gain * x + offset, 0), 255)"
STORE = "tl.store(y_ptr + i, y, mask=mask)"

WRONG = (
    Wrong("lane_forgotten", "unwritten", "11 of 15 elements", ((I, "tl.program_id(0) * BLOCK  #: 1a"),)),
    Wrong("program_forgotten", "unwritten", "The first is (0, 4)", ((I, "tl.arange(0, BLOCK)  #: 1a"),)),
    Wrong(
        "programs_overlap", "unwritten", "The first is (1, 2)", ((I, "tl.program_id(0) + tl.arange(0, BLOCK)  #: 1a"),)
    ),
    Wrong(
        "mask_forgotten",
        "oob_read",
        "1 element behind the end of `x_ptr`",
        (("tl.load(x_ptr + i, mask=mask)", "tl.load(x_ptr + i)"),),
        "tl.load(x_ptr + i)",
    ),
    Wrong("mask_one_too_many", "oob_read", "1 element behind the end", (("i < n", "i <= n"),), "tl.load(x_ptr + i"),
    Wrong(
        "store_unmasked",
        "oob_write",
        "1 element behind the end of `y_ptr`",
        ((STORE, "tl.store(y_ptr + i, y)"),),
        "tl.store(y_ptr + i, y)",
    ),
    Wrong(
        "mask_is_if",
        "compile",
        "use tl.where, or put the condition into the mask",
        (("    mask = i < n", "    if i < n:\n        mask = i < n"),),
        "if i < n",
    ),
    Wrong("a_program_too_few", "unwritten", "is no program there for it", (("triton.cdiv(n, block)", "n // block"),)),
    Wrong(
        "offset_multiplied", "values", "it comes last", (("    y = gain * x + offset", "    y = gain * (x + offset)"),)
    ),
    Wrong(
        "by_torch",
        "nokernel",
        "no kernel of yours",
        (
            ("    return y\n\n\n#", "    return gain * x + offset\n\n\n#"),
            ("    brighten_kernel[(programs,)](x, y, n, gain, offset, BLOCK=block)\n", ""),
        ),
    ),
    Wrong(
        "int32",
        "far",
        "",
        (
            (
                "tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  #: 1a",
                "tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  #: 1a",
            ),
        ),
        "tl.load(x_ptr + i",
    ),
    Wrong(
        "widened_too_late",
        "far",
        "",
        ((I, "(tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)  #: 1a"),),
        "tl.load(x_ptr + i",
    ),
    Wrong("strides_ignored", "values", "In a view they are not", (("h * x_sh + w * x_sw", "h * W + w"),)),
    Wrong(
        "strides_turned",
        "oob_read",
        "behind the end of `x_ptr`",
        (("h * x_sh + w * x_sw", "h * x_sw + w * x_sh"),),
        "tl.load(x_ptr + at",
    ),
    Wrong("not_clamped", "values", "not held between 0 and 255", ((CLAMPED, "gain * x + offset"),)),
    Wrong("not_clamped_below", "values", "values below 0 through", ((CLAMPED, "tl.minimum(gain * x + offset, 255)"),)),
    Wrong("ends_exchanged", "values", "", ((CLAMPED, "tl.maximum(tl.minimum(gain * x + offset, 0), 255)"),)),
)
