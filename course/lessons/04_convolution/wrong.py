"""Wrong solutions of lesson 4, and what their students must be told."""

from torchops.course.lesson import Wrong

ROW = "h = p * STRIDE + r * DILATION  #"
COLUMN = "w = q * STRIDE + s * DILATION  #"
ADDED = "acc += x * tap"
SIZE = "(n + 2 * padding - dilation * (taps - 1) - 1) // stride + 1"
OWNERS = "n, k = plane // K, plane % K"
PLANE = "x_ptr + (n * C + c) * H * W"
FILTER = "w_ptr + (k * C + c) * R * S"
INSIDE = "inside = mask & (h >= 0) & (h < H) & (w >= 0) & (w < W)"
GRID = "grid = (N * K, triton.cdiv(P * Q, block))"
LOADED = "acc += tl.load(x_plane"


def both(row, column):
    """Lines 1a, otherwise."""
    return (ROW, f"h = {row}  #"), (COLUMN, f"w = {column}  #")


WRONG = (
    Wrong("turned", "values", "turns the filter by 180 degrees",
          both("p * STRIDE + (R - 1 - r) * DILATION", "q * STRIDE + (S - 1 - s) * DILATION")),
    Wrong("last_tap", "values", "keeps what the last tap adds", ((ADDED, "acc = x * tap"),)),
    Wrong("filter_left_out", "values", "adds up the pixels as they are", ((ADDED, "acc += x"),)),
    Wrong("centred", "oob_read", "before the start of `x_ptr`",
          both("p * STRIDE + (r - R // 2) * DILATION", "q * STRIDE + (s - S // 2) * DILATION"), "x = tl.load(x_ptr"),
    Wrong("rows_for_columns", "values", "r and s the wrong way round",
          both("p * STRIDE + s * DILATION", "q * STRIDE + r * DILATION")),
    Wrong("column_of_p", "values", "Your column comes of p", both("p * STRIDE + r * DILATION", "p * STRIDE + s * DILATION")),
    Wrong("an_if_on_a_block", "compile", "An `if` takes one value",
          ((ADDED, "if mask:\n                acc += x * tap"),), "if mask:"),
    Wrong("still_step_1", "values", "what step 1 asked for", both("p + r", "q + s")),
    Wrong("stride_for_dilation", "values", "wrong way round", both("p * DILATION + r * STRIDE", "q * DILATION + s * STRIDE")),
    Wrong("stride_of_taps", "oob_read", "behind the end of `x_ptr`",
          both("(p + r * DILATION) * STRIDE", "(q + s * DILATION) * STRIDE"), "x = tl.load(x_ptr"),
    Wrong("size_of_stride_1", "says", "can stand on 0, 2, 4", ((SIZE, "n + 2 * padding - dilation * (taps - 1)"),)),
    Wrong("size_rounded_up", "says", "size(8, 3, 2, 0, 1) is 4, expected 3",
          ((SIZE, "-(-(n + 2 * padding - dilation * (taps - 1) - 1) // stride) + 1"),)),
    Wrong("size_divided_by_a_slash", "says", "size gives 3, a float",
          ((SIZE, "(n + 2 * padding - dilation * (taps - 1) - 1) / stride + 1"),)),
    Wrong("image_for_filter", "oob_read", "behind the end of `x_ptr`", ((OWNERS, "n, k = plane // C, plane % C"),), LOADED),
    Wrong("channel_forgotten", "values", "reads channel 0 of the image again",
          ((PLANE, "x_ptr + n * C * H * W"),)),
    Wrong("taps_of_channel_0", "values", "takes the taps of channel 0", ((FILTER, "w_ptr + k * C * R * S"),)),
    Wrong("filter_forgotten", "values", "that of filter 0", ((FILTER, "w_ptr + c * R * S"),)),
    Wrong("bias_for_every_channel", "values", "once a channel of the image",
          (("acc = tl.zeros((BLOCK,), tl.float32) + tl.load(bias_ptr + k)", "acc = tl.zeros((BLOCK,), tl.float32)"),
           ("    for c in range(C):\n", "    for c in range(C):\n        acc += tl.load(bias_ptr + k)\n"))),
    Wrong("mask_of_pixels_only", "oob_read", "before the start of `x_ptr`", ((INSIDE, "inside = mask"),), LOADED),
    Wrong("row_not_asked", "oob_read", "before the start of `x_ptr`",
          ((INSIDE, "inside = mask & (w >= 0) & (w < W)"),), LOADED),
    Wrong("column_not_asked", "oob_read", "1 element before the start of `x_ptr`",
          ((INSIDE, "inside = mask & (h >= 0) & (h < H)"),), LOADED),
    Wrong("first_row_left_out", "values", "It lacks what row 1 of the filter adds",
          ((INSIDE, INSIDE.replace("h >= 0", "h > 0")),)),
    Wrong("one_image", "unwritten", "is no program there for it", ((GRID, "grid = (K, triton.cdiv(P * Q, block))"),)),
    Wrong("planes_of_x", "oob_read", "behind the end of `x_ptr`",
          ((GRID, "grid = (N * C, triton.cdiv(P * Q, block))"),), LOADED),
    Wrong("one_block", "unwritten", "is no program there for it", ((GRID, "grid = (N * K, 1)"),)),
)  # fmt: skip
