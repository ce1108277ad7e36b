"""Wrong solutions of lesson 6, and what their students must be told."""

from torchops.course.lesson import Wrong

PIXELS = "m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)"
A_MASK = "a_mask = (m < M)[:, None] & (j < J)[None, :]"
B_MASK = "b_mask = (j < J)[:, None] & (k < K)[None, :]"
Y_MASK = "y_mask = (m < M)[:, None] & (k < K)[None, :]"
A, B, Y = "a = tl.load(a_ptr", "b = tl.load(b_ptr", "tl.store(y_ptr + m[:, None] * K"
DOT = 'acc = tl.dot(a, b, acc, input_precision="ieee")'
PIXEL = "n, p, q = m // (P * Q), m // Q % P, m % Q"
TERM = "c, r, s = j // (R * S), j // S % R, j % S"
ROW = "h = (p * STRIDE - PADDING)[:, None] + (r * DILATION)[None, :]"
COLUMN = "w = (q * STRIDE - PADDING)[:, None] + (s * DILATION)[None, :]"
INSIDE = "inside = (n < N)[:, None] & (c < C)[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)"
X = "a = tl.load(x_ptr"
GOES = "y_ptrs = y_ptr + plane * P * Q + (p * Q + q)[:, None]"
STORED = "tl.store(y_ptrs"

WRONG = (
    Wrong("rows_beyond_a", "oob_read", "behind the end of `a_ptr`", ((A_MASK, "a_mask = (j < J)[None, :]"),), A),
    Wrong("terms_beyond_a", "oob_read", "behind the end of `a_ptr`", ((A_MASK, "a_mask = (m < M)[:, None]"),), A),
    Wrong("terms_beyond_b", "oob_read", "behind the end of `b_ptr`", ((B_MASK, "b_mask = (k < K)[None, :]"),), B),
    Wrong("columns_beyond_b", "oob_read", "behind the end of `b_ptr`", ((B_MASK, "b_mask = (j < J)[:, None]"),), B),
    Wrong("columns_beyond_y", "oob_write", "behind the end of `y_ptr`", ((Y_MASK, "y_mask = (m < M)[:, None]"),), Y),
    Wrong("rows_beyond_y", "oob_write", "behind the end of `y_ptr`", ((Y_MASK, "y_mask = (k < K)[None, :]"),), Y),
    Wrong("sum_forgotten", "values", "forgets those before", ((DOT, 'acc = tl.dot(a, b, input_precision="ieee")'),)),
    Wrong("sum_added_twice", "values", "adds `acc` twice", ((DOT, DOT.replace("tl.dot", "acc + tl.dot")),)),
    Wrong("rows_of_all_channels", "values", "Your r goes on", ((TERM, TERM.replace("j // S % R", "j // S")),)),
    Wrong("element_by_element", "compile", "64 and 16", ((DOT, "acc += a * b"),), "acc += a * b"),
    Wrong("b_times_a", "compile", "tl.dot(b, a", ((DOT, DOT.replace("a, b", "b, a")),), "tl.dot(b, a"),
    Wrong("neither_columns_nor_rows", "compile", "64 and 16", ((A_MASK, "a_mask = (m < M) & (j < J)"),), "a_mask = (m"),
    Wrong("addresses_of_32_bits", "far", "2^31",
          ((f"{PIXELS}\n", f"{PIXELS}\n".replace(".to(tl.int64)", "")),), A),
    Wrong("image_of_a_row", "unwritten", "is no program there for it", ((PIXEL, "n, p, q = m // Q, m // Q % P, m % Q"),)),
    Wrong("rows_go_on", "oob_write", "behind the end of `y_ptr`", ((PIXEL, "n, p, q = m // (P * Q), m // Q, m % Q"),), STORED),
    Wrong("channels_fastest", "values", "j counts c slowest", ((TERM, "c, r, s = j % C, j // C // S, j // C % S"),)),
    Wrong("padding_forgotten", "values", "Yours begins at pixel (0, 0)",
          ((ROW, ROW.replace(" - PADDING", "")), (COLUMN, COLUMN.replace(" - PADDING", "")))),
    Wrong("pixels_in_a_row", "compile", "64 and 16", ((ROW, "h = p * STRIDE - PADDING + (r * DILATION)[None, :]"),), "h = p"),
    Wrong("edges_read", "oob_read", "before the start of `x_ptr`",
          ((INSIDE, "inside = (n < N)[:, None] & (c < C)[None, :]"),), X),
    Wrong("terms_beyond_the_filter", "oob_read", "behind the end of `x_ptr`",
          ((INSIDE, INSIDE.replace(" & (c < C)[None, :]", "")),), X),
    Wrong("images_beyond_x", "oob_read", "behind the end of `x_ptr`",
          ((INSIDE, INSIDE.replace("(n < N)[:, None] & ", "")),), X),
    Wrong("channels_last", "values", "Yours stores the channels of a pixel side by side",
          ((GOES, "y_ptrs = y_ptr + m[:, None] * K + k[None, :]"),)),
    Wrong("images_forgotten_in_y", "lanes", "within one program",
          ((GOES, "y_ptrs = y_ptr + k[None, :] * P * Q + (p * Q + q)[:, None]"),), STORED),
)  # fmt: skip
