"""What students write in lesson 3, and what they must be told."""

from torchops.course.lesson import Wrong

LOAD = "tl.load(x_ptr + h * W + w, mask=inside, other=value)"
LEFT = "tl.where(i < 0, -i, i)"
RIGHT = "tl.where(i >= size, 2 * (size - 1) - i, i)"
STORE = "tl.store(y_ptr + plane * P * Q + p * Q + q, x, mask=q < Q)"
PIXEL = "pixel(x_ptr + plane * H * W, h + r, w + s, H, W, value, REFLECT)"
MEAN = "total / ((2 * N + 1) * (2 * N + 1))"

WRONG = (
    Wrong(
        "mask_forgotten", "oob_read", "before the start of `x_ptr`", ((LOAD, "tl.load(x_ptr + h * W + w)"),), "tl.load"
    ),
    Wrong(
        "other_is_zero",
        "values",
        "holds 0, and not `value`",
        ((LOAD, "tl.load(x_ptr + h * W + w, mask=inside, other=0)"),),
    ),
    Wrong(
        "other_forgotten",
        "values",
        "They load anything, here -999",
        ((LOAD, "tl.load(x_ptr + h * W + w, mask=inside)"),),
    ),
    Wrong("not_moved", "values", "belongs to (n, n)", (("h, w = p - n, q - n", "h, w = p, q"),)),
    Wrong("moved_the_other_way", "values", "It is position", (("h, w = p - n, q - n", "h, w = p + n, q + n"),)),
    Wrong(
        "columns_not_moved", "values", "Yours holds the value of pixel", (("h, w = p - n, q - n", "h, w = p - n, q"),)
    ),
    Wrong(
        "store_unmasked",
        "oob_write",
        "behind the end of `y_ptr`",
        ((STORE, "tl.store(y_ptr + plane * P * Q + p * Q + q, x)"),),
        "tl.store(y_ptr + plane * P",
    ),
    Wrong(
        "only_the_image_is_stored",
        "unwritten",
        "Does your mask leave it out",
        ((STORE, "tl.store(y_ptr + plane * P * Q + p * Q + q, x, mask=(w >= 0) & (w < W))"),),
    ),
    Wrong(
        "plane_forgotten",
        "race",
        "both store",
        ((STORE, "tl.store(y_ptr + p * Q + q, x, mask=q < Q)"),),
        "tl.store(y_ptr + p",
    ),
    Wrong(
        "by_torch",
        "nokernel",
        "no kernel of yours",
        (
            (
                '    pad_kernel[grid](x, y, H, W, P, Q, n, value, REFLECT=mode == "reflect", BLOCK=block)\n    return y\n',
                "    return torch.nn.functional.pad(x, (n, n, n, n), value=value)\n",
            ),
        ),
    ),
    Wrong("nothing_returned", "shape", "returned None", (("    return y\n\n\n# Step 3", "\n\n# Step 3"),)),
    Wrong(
        "block_is_no_power",
        "compile",
        "take the next power of two",
        (
            ("triton.cdiv(Q, block)", "triton.cdiv(Q, 33)"),
            ('n, value, REFLECT=mode == "reflect", BLOCK=block', 'n, value, REFLECT=mode == "reflect", BLOCK=33'),
        ),
    ),
    Wrong(
        "mirror_outside",
        "values",
        "shows that pixel twice",
        ((LEFT, "tl.where(i < 0, -1 - i, i)"), (RIGHT, "tl.where(i >= size, 2 * size - 1 - i, i)")),
    ),
    Wrong(
        "mirror_is_if", "compile", "use tl.where", ((f"    i = {LEFT}", "    if i < 0:\n        i = -i"),), "if i < 0"
    ),
    Wrong(
        "right_one_too_far",
        "values",
        "which stands for pixel (2, 2)",
        ((RIGHT, "tl.where(i >= size, 2 * size - i, i)"),),
    ),
    Wrong("left_only", "values", "right and bottom are not", ((RIGHT, "tl.where(i >= size, size - 1, i)"),)),
    Wrong(
        "repeated",
        "values",
        "Yours repeats the pixel",
        ((LEFT, "tl.where(i < 0, 0, i)"), (RIGHT, "tl.where(i >= size, size - 1, i)")),
    ),
    Wrong(
        "goes_round",
        "values",
        "Yours goes round",
        ((LEFT, "tl.where(i < 0, i + size, i)"), (RIGHT, "tl.where(i >= size, i - size, i)")),
    ),
    Wrong("sum", "values", "not its mean", ((MEAN, "total"),)),
    Wrong(
        "same_neighbour",
        "values",
        "the same pixel every time",
        ((PIXEL, "pixel(x_ptr + plane * H * W, h, w, H, W, value, REFLECT)"),),
    ),
    Wrong(
        "rows_only",
        "values",
        "Its window holds 6 5 6 / 2 1 2 / 6 5 6",
        ((PIXEL, "pixel(x_ptr + plane * H * W, h + r, w, H, W, value, REFLECT)"),),
    ),
    Wrong("precedence", "values", "expected", ((MEAN, "total / (2 * N + 1) * (2 * N + 1)"),)),
)
