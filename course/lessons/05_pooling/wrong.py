"""Wrong solutions of lesson 5, and what their students must be told."""

from torchops.course.lesson import Wrong

BEGINS = 'best = tl.full((BLOCK,), float("-inf"), tl.float32)  #: 1a'
PIXEL = "h, w = h0 + tap // KERNEL, w0 + tap % KERNEL  #: 1b"
LARGER = "best = tl.maximum(best, x)  #: 1c"
OUTSIDE = 'mask=inside, other=float("-inf"))'
BETTER = "better = x > best"
WON = "won = tl.where(better, tap, won)"
TURNED = "y, tap = max_pool_tap(-x, kernel, stride, padding, block)"
BY_TORCH = """from torchops import reference

    y, tap = reference.max_pool2d(-x, kernel, stride, padding, return_indices="offset")"""
SUMMED = "mask=inside, other=0)  #: 4a"
COUNTED = "count += tl.where(inside, 1, 0)"
MEAN = "mean = acc / count"

WRONG = (
    Wrong("begins_with_zero", "values", "Yours never goes below 0",
          ((BEGINS, "best = tl.zeros((BLOCK,), tl.float32)  #: 1a"),)),
    Wrong("rows_and_columns_side_by_side", "oob_read", "behind the end of `x_ptr`",
          ((PIXEL, "h, w = h0 + tap, w0 + tap  #: 1b"),), "+ h * W + w, mask=mask)"),
    Wrong("smaller", "values", "keeps the smaller of both", ((LARGER, "best = tl.minimum(best, x)  #: 1c"),)),
    Wrong("reduced", "values", "pixel (2, 0), which lies outside window (0, 0)",
          ((LARGER, "best = tl.maximum(best, tl.max(x, axis=0))  #: 1c"),)),
    Wrong("outside_is_zero", "values", "lets the padding win", ((OUTSIDE, "mask=inside, other=0)"),)),
    Wrong("outside_is_read", "oob_read", "before the start of `x_ptr`",
          ((OUTSIDE, "mask=mask)"),), "+ h * W + w, mask=mask)  #: 2a"),
    Wrong("last_of_equal", "values", "takes the last", ((BETTER, "better = x >= best"),)),
    Wrong("an_if_on_a_block", "compile", "An `if` takes one value",
          ((WON, "if better:\n            won = tap"),), "if better:"),
    Wrong("compared_too_late", "values", "In window (0, 0) tap 1 wins, which is 31; tap 0 is 23",
          ((BETTER, "best = tl.maximum(best, x)\n        better = x > best"),)),
    Wrong("column_by_column", "values", "column by column",
          ((WON, "won = tl.where(better, tap % KERNEL * KERNEL + tap // KERNEL, won)"),)),
    Wrong("position_for_tap", "values", "where the pixel lies in the image",
          ((WON, "won = tl.where(better, h * W + w, won)"),)),
    Wrong("all_begin_anew", "values", "tap 1 wins, which is 31", ((WON, "won = tl.where(better, tap, 0)"),)),
    Wrong("still_the_largest", "values", "That is the largest.",
          ((TURNED, TURNED.replace("-x", "x")), ("return -y, tap", "return y, tap"))),
    Wrong("smallest_by_torch", "says", "no kernel of yours has run",
          ((TURNED, BY_TORCH),)),
    Wrong("sign_not_turned_back", "values", "with the wrong sign", (("return -y, tap", "return y, tap"),)),
    Wrong("only_turned_back", "values", "with its sign turned", ((TURNED, TURNED.replace("-x", "x")),)),
    Wrong("minus_infinity_in_a_sum", "values", "stays -inf", ((SUMMED, 'mask=inside, other=float("-inf"))  #: 4a'),)),
    Wrong("padding_always_counts", "values", "divides by KERNEL * KERNEL always", ((MEAN, "mean = acc / (KERNEL * KERNEL)"),)),
    Wrong("all_lanes_count", "values", "divides by KERNEL * KERNEL always", ((COUNTED, "count += 1"),)),
    Wrong("counted_by_a_ternary", "compile", "An `if` takes one value",
          ((COUNTED, "count += (1 if inside else 0)"),), "if inside"),
    Wrong("not_divided", "values", "Yours is the sum",
          ((MEAN, "mean = acc"), ("mean = acc / (KERNEL * KERNEL)", "mean = acc"))),
)  # fmt: skip
