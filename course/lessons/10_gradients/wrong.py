"""Wrong solutions of lesson 10, and what their students must be told."""

from torchops.course.lesson import Wrong

EVEN = "even = (row % STRIDE == 0) & (col % STRIDE == 0)"
EXISTS = "exists = (row >= 0) & (p < P) & (col >= 0) & (q < Q)"
ADDED = "acc += dy * tl.load(w_ptr + (k * C + c) * R * S + r * S + s)"
READ = "dy = tl.load(dy_ptr + (n * K + k) * P * Q + p * Q + q"
LOADED = "acc += dy * tl.load(x_ptr"
KEPT = "tl.store(dx_ptr + plane * H * W + i, acc, mask=mask)"
ROW = "h = m // Q * STRIDE - PADDING + r"
SUM = "return tl.sum(acc, axis=0)"
GRID = "grid = (K * C * R * S,)"
TAP = "r, s = e // S % R, e % S"
IMAGES = """    dw = 0.0
    for n in range(N):
        dw += of_image("""
BLOCKS = """    for n in range(N):
        for m0 in"""
BIAS = "acc += tl.load(dy_ptr + (n * K + k) * SIZE + m, mask=m < SIZE, other=0)"

WRONG = (
    Wrong("dx_rounded_down", "values", "only where the division comes out even",
          ((EVEN, "even = mask"),)),
    Wrong("dx_taps_turned", "values", "turned by 180 degrees",
          ((ADDED, "acc += dy * tl.load(w_ptr + (k * C + c) * R * S + (R - 1 - r) * S + S - 1 - s)"),)),
    Wrong("dx_outputs_before", "oob_read", "before the start of `dy_ptr`",
          ((EXISTS, "exists = (p < P) & (q < Q)"),), READ),
    Wrong("dx_outputs_beyond", "oob_read", "behind the end of `dy_ptr`",
          ((EXISTS, "exists = (row >= 0) & (col >= 0)"),), READ),
    Wrong("dx_first_channel", "values", "Due are",
          ((READ, "dy = tl.load(dy_ptr + n * K * P * Q + p * Q + q"),)),
    Wrong("dx_channels_swapped", "oob_read", "behind the end of `w_ptr`",
          ((ADDED, "acc += dy * tl.load(w_ptr + (c * K + k) * R * S + r * S + s + C * K)"),), "w_ptr + (c * K"),
    Wrong("dx_holes_in_store", "unwritten", "never written",
          ((KEPT, "tl.store(dx_ptr + plane * H * W + i, acc, mask=mask & (acc != 0))"),)),
    Wrong("dx_plane_forgotten", "race", "both store to element 0 of `dx_ptr`",
          ((KEPT, "tl.store(dx_ptr + i, acc, mask=mask)"),), "tl.store(dx_ptr + i"),
    Wrong("dw_padding_forgotten", "values", "as if there was no padding",
          ((ROW, "h = m // Q * STRIDE + r"), ("w = m % Q * STRIDE - PADDING + s", "w = m % Q * STRIDE + s"))),
    Wrong("dw_stride_forgotten", "values", "as if STRIDE was 1",
          ((ROW, "h = m // Q - PADDING + r"), ("w = m % Q * STRIDE - PADDING + s", "w = m % Q - PADDING + s"))),
    Wrong("dw_rows_without_padding", "values", "Due are",
          ((ROW, "h = m // Q * STRIDE + r"),)),
    Wrong("dw_not_summed", "compile", "One address takes one value",
          ((SUM, "return acc"),)),
    Wrong("dw_filter_forgotten", "race", "of `dw_ptr`",
          (("tl.store(dw_ptr + e, dw)", "tl.store(dw_ptr + e % (C * R * S), dw)"),), "e % (C * R * S)"),
    Wrong("dw_too_few_programs", "unwritten", "is no program there for it",
          ((GRID, "grid = (K * R * S,)"),)),
    Wrong("dw_too_many_programs", "oob_read", "behind the end of `dy_ptr`",
          ((GRID, "grid = (N * K * C * R * S,)"),), "dy = tl.load(dy_ptr + (n * K + k) * P * Q + m"),
    Wrong("dw_taps_swapped", "values", "row r first",
          ((TAP, "r, s = e % S, e // S % R"),)),
    Wrong("dw_last_image", "values", "the last image alone",
          ((IMAGES, IMAGES.replace("+= of", "= of")),)),
    Wrong("db_mean", "values", "Yours is the mean",
          (("tl.store(db_ptr + k, tl.sum(acc, axis=0))", "tl.store(db_ptr + k, tl.sum(acc, axis=0) / (N * SIZE))"),)),
    Wrong("db_unmasked", "oob_read", "behind the end of `dy_ptr`",
          ((BIAS, "acc += tl.load(dy_ptr + (n * K + k) * SIZE + m)"),), "SIZE + m)"),
    Wrong("db_first_image", "values", "the first image alone",
          ((BIAS, BIAS.replace("(n * K + k)", "k")), (BLOCKS, BLOCKS.replace("(N)", "(1)")))),
    Wrong("db_other_forgotten", "values", "if lanes that are masked off loaded 0",
          ((BIAS, BIAS.replace(", other=0", "")),)),
)  # fmt: skip
