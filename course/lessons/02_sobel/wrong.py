"""What students write in lesson 2, and what they must be told."""

from torchops.course.lesson import Wrong

INSIDE = "(h >= 0) & (h < H) & (w >= 0) & (w < W)"
LOAD = "tl.load(x_ptr + h * W + w, mask=inside, other=0)"
GX1 = "            gx += s * (2 - r * r) * x  #: 1b"
GX2 = "            gx += s * (2 - r * r) * x  #: 2a"
GY = "r * (2 - s * s) * x"
ROOT = "tl.sqrt(gx * gx + gy * gy)"
ROW = "tl.minimum(tl.maximum(h, 0), H - 1)"
COLUMN = "tl.minimum(tl.maximum(w, 0), W - 1)"

WRONG = (
    Wrong(
        "mask_forgotten", "oob_read", "before the start of `x_ptr`", ((LOAD, "tl.load(x_ptr + h * W + w)"),), "tl.load"
    ),
    Wrong(
        "mask_of_the_right_only", "oob_read", "before the start of `x_ptr`", ((INSIDE, "(h < H) & (w < W)"),), "tl.load"
    ),
    Wrong(
        "mask_one_too_many",
        "oob_read",
        "1 element behind the end of `x_ptr`",
        ((INSIDE, "(h >= 0) & (h < H) & (w >= 0) & (w <= W)"),),
        "tl.load",
    ),
    Wrong(
        "mask_of_the_plane",
        "values",
        "need not be so in the image",
        ((INSIDE, "(h * W + w >= 0) & (h * W + w < H * W)"),),
    ),
    Wrong(
        "mask_without_parentheses",
        "compile",
        "put every comparison into parentheses",
        ((INSIDE, "h >= 0 & h < H & w >= 0 & w < W"),),
        "inside =",
    ),
    Wrong("rows_for_columns", "values", "That is gy", ((GX1, "            gx += r * (2 - s * s) * x  #: 1b"),)),
    Wrong("signs_turned", "values", "right minus left", ((GX1, "            gx += -s * (2 - r * r) * x  #: 1b"),)),
    Wrong("prewitt", "values", "Prewitt", ((GX1, "            gx += s * x  #: 1b"),)),
    Wrong(
        "weights_of_the_corner",
        "values",
        "yours gives that the weight",
        ((GX1, "            gx += s * (1 + r * r) * x  #: 1b"),),
    ),
    Wrong(
        "last_neighbour_only",
        "values",
        "yours gives that the weight",
        ((GX1, "            gx = s * (2 - r * r) * x  #: 1b"),),
    ),
    Wrong("root_forgotten", "values", "the root is missing", ((ROOT, "gx * gx + gy * gy"),)),
    Wrong(
        "absolute_values", "values", "a diagonal edge becomes 1.4 times as bright", ((ROOT, "tl.abs(gx) + tl.abs(gy)"),)
    ),
    Wrong("gx_twice", "values", "turn those of gy", ((GY, "s * (2 - r * r) * x"),)),
    Wrong(
        "store_unmasked",
        "oob_write",
        "40 elements behind the end of `y_ptr`",
        (("y, mask=w < W)", "y)"),),
        "tl.store(y_ptr",
    ),
    Wrong(
        "plane_forgotten",
        "race",
        "both store",
        (("tl.store(y_ptr + plane * H * W + h * W + w", "tl.store(y_ptr + h * W + w"),),
        "tl.store(y_ptr",
    ),
    Wrong("border_of_zeros", "values", "the frame of the image is an edge", ((ROW, "h"), (COLUMN, "w"))),
    Wrong(
        "border_mirrored",
        "values",
        "Yours mirrors the image",
        (
            (ROW, "tl.where(h < 0, -h, tl.where(h >= H, 2 * H - 2 - h, h))"),
            (COLUMN, "tl.where(w < 0, -w, tl.where(w >= W, 2 * W - 2 - w, w))"),
        ),
    ),
    Wrong("border_goes_round", "values", "Yours goes round", ((ROW, "(h + H) % H"), (COLUMN, "(w + W) % W"))),
    Wrong(
        "border_one_too_far",
        "values",
        "right and bottom are not",
        ((ROW, "tl.minimum(tl.maximum(h, 0), H)"), (COLUMN, "tl.minimum(tl.maximum(w, 0), W)")),
    ),
)
