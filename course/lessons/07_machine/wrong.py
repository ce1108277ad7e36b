"""Wrong solutions of lesson 7, and what they must be told."""

from torchops.course.lesson import Wrong

ROWS = "p = tl.program_id(1) * ROWS + tl.arange(0, ROWS)"
MASK = "mask = (p < P)[:, None] & (q < Q)[None, :]"
LOAD = "first + r * W + s"
KEY = "key=lambda tile: (-useful(P, Q, *tile), sum(tile))"

WRONG = (
    Wrong("count_nine_loads", "values", "nine loads a pixel", (("3 * (stored + 2)", "9 * stored"),)),
    Wrong("count_without_rim", "values", "leaves out the rim", (("3 * (stored + 2)", "3 * stored"),)),
    Wrong("count_one_row", "values", "counts one row of x", (("3 * (stored + 2)", "stored + 2"),)),
    Wrong("count_full_blocks", "values", "blocks that are full", (("min(block, Q - q)", "block"),)),
    Wrong("count_full_loads", "values", "loads for full blocks", (("3 * (stored + 2)", "3 * (block + 2)"),)),
    Wrong("least_in_pixels", "values", "counts pixels", (("4 * (H * W + P * Q)", "H * W + P * Q"),)),
    Wrong("least_by_hand", "values", "least number of bytes", (("4 * (H * W + P * Q)", "4 * 2 * P * Q"),)),
    Wrong("least_a_float", "says", "two whole numbers", (("4 * (H * W + P * Q)", "4.0 * (H * W + P * Q)"),)),
    Wrong("start_forgotten", "unwritten", "never written", ((ROWS, "p = tl.arange(0, ROWS)"),)),
    Wrong("rows_unmasked", "oob_read", "behind the end of `x_ptr`",
          ((MASK, "mask = (p >= 0)[:, None] & (q < Q)[None, :]"),), at=LOAD),
    Wrong("mask_of_one_axis", "oob_read", "behind the end of `x_ptr`", ((MASK, "mask = (q < Q)[None, :]"),), at=LOAD),
    Wrong("rows_of_y", "values", "Rows of x lie W pixels apart", (("first = p[:, None] * W", "first = p[:, None] * Q"),)),
    Wrong("turned", "compile", "Triton cannot compile",
          (("first = p[:, None] * W + q[None, :]", "first = p[None, :] * W + q[:, None]"),), at=LOAD),
    Wrong("one_row_a_program", "says", "Does one program own ROWS rows?",
          (("triton.cdiv(P, rows), triton.cdiv(Q, cols))", "P, triton.cdiv(Q, cols))"), ("ROWS=rows", "ROWS=1"))),
    Wrong("too_few_programs", "unwritten", "never written", (("triton.cdiv(P, rows), triton.cdiv", "P // rows, triton.cdiv"),)),
    Wrong("smallest_rim_only", "says", "are masked off", ((KEY, "key=sum"),)),
    Wrong("first_of_the_best", "says", "which has the smaller rim?", ((KEY, "key=lambda tile: -useful(P, Q, *tile)"),)),
    Wrong("lanes_of_pixels", "says", "programs a plane there",
          (("triton.cdiv(P, rows) * rows * triton.cdiv(Q, cols) * cols", "triton.cdiv(P * Q, 256) * 256"),)),
    Wrong("no_lanes", "says", "finds no lanes",
          (("triton.cdiv(P, rows) * rows * triton.cdiv(Q, cols) * cols", "P * Q // 256 * 256"),)),
    Wrong("most_idle", "says", "are masked off", ((KEY, "key=lambda tile: (useful(P, Q, *tile), sum(tile))"),)),
    Wrong("tile_of_its_own", "says", "returns one of `tiles`", ((f"min(tiles, {KEY})", "(16, 8)"),)),
)  # fmt: skip
