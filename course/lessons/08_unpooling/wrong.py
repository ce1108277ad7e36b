"""Wrong solutions of lesson 8, and what their students must be told."""

from torchops.course.lesson import Wrong

SCATTERED = "tl.store(y_ptr + plane * H * W + h * W + w, x, mask=mask)"
EXISTS = "exists = (p >= 0) & (p < P) & (q >= 0) & (q < Q)  #: 3a is there such a window?"
CHOSEN = "y = tl.where(over & (tap == r * KERNEL + s), x, y)  #: 3b its value, where its tap points here"
GATHERED = "y, mask=w < W)"
LAUNCHED = "gather_kernel[grid](x, tap, y, P, Q, H, W, KERNEL=kernel, STRIDE=stride, OVER=over, BLOCK=block)"
LOADED = "x = tl.load(x_ptr + k, mask=over, other=0)"

WRONG = (
    Wrong("scatter_mask_forgotten", "oob_write", "12 elements behind the end of `y_ptr`",
          ((SCATTERED, SCATTERED.replace(", mask=mask", "")),), "+ h * W + w, x)"),
    Wrong("scatter_not_zeroed", "unwritten", "12 of 16 elements were never written",
          (("x.new_zeros(N", "x.new_empty(N"),)),
    Wrong("scatter_plane_forgotten", "race", "Programs (0, 0, 0) and (2, 0, 0) both store to element 0 of `y_ptr`",
          ((SCATTERED, "tl.store(y_ptr + h * W + w, x, mask=mask)"),), "y_ptr + h * W"),
    Wrong("scatter_rows_for_columns", "oob_write", "behind the end of `y_ptr`",
          (("p, q = k // Q, k % Q", "p, q = k // P, k % P"),), SCATTERED),
    Wrong("scatter_tap_turned", "values", "row first",
          (("STRIDE + tap // KERNEL", "STRIDE + tap % KERNEL"),
           ("w = q * STRIDE + tap % KERNEL", "w = q * STRIDE + tap // KERNEL"))),
    Wrong("gather_block_start_forgotten", "unwritten", "is no program there for it",
          (("w = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)", "w = tl.arange(0, BLOCK)"),)),
    Wrong("gather_by_torch", "nokernel", "no kernel of yours",
          ((LAUNCHED, "from torchops import reference\n\n    y = reference.max_unpool2d(x, tap, kernel, stride)"),)),
    Wrong("gather_first_wins", "values", "keeps the first one's value",
          ((CHOSEN, "y = tl.where(over & (tap == r * KERNEL + s) & (y == 0), x, y)"),)),
    Wrong("gather_largest", "values", "keeps the largest",
          ((CHOSEN, "y = tl.maximum(y, tl.where(over & (tap == r * KERNEL + s), x, 0))"),)),
    Wrong("gather_from_nowhere", "values", "`other` gave them tap 0",
          ((CHOSEN, "y = tl.where(tap == r * KERNEL + s, x, y)"),)),
    Wrong("gather_hangs", "timeout", "Does the loop end?",
          ((CHOSEN, f"{CHOSEN}\n    while h >= 0:\n        y += 1"),), "while h >= 0:"),
    Wrong("gather_holes_in_store", "unwritten", "12 of 16 elements were never written",
          ((GATHERED, "y, mask=(w < W) & (y != 0))"),)),
    Wrong("gather_if_on_a_block", "compile", "An `if` takes one value",
          ((CHOSEN, "if over & (tap == r * KERNEL + s):\n            y = x"),), "if over"),
    Wrong("gather_one_window", "values", "looks at one window a pixel",
          (("over = triton.cdiv(kernel, stride)", "over = 1"),)),
    Wrong("gather_still_scatters", "lanes", "within one program",
          ((LAUNCHED, "grid = (N * C, triton.cdiv(P * Q, block))\n    y.zero_()\n"
                      "    scatter_kernel[grid](x, tap, y, P, Q, H, W, KERNEL=kernel, STRIDE=stride, BLOCK=block)"),),
          SCATTERED),
    Wrong("gather_store_unmasked", "oob_write", "behind the end of `y_ptr`",
          ((GATHERED, "y)"),), "h * W + w, y)"),
    Wrong("gather_summed", "values", "the gradient of pooling",
          ((CHOSEN, "y += tl.where(over & (tap == r * KERNEL + s), x, 0)"),)),
    Wrong("gather_tap_outside", "values", "the pixel is nobody's",
          (("over = exists & (r < KERNEL) & (s < KERNEL)", "over = exists"),)),
    Wrong("gather_windows_before", "oob_read", "before the start of `x_ptr`",
          ((EXISTS, "exists = (p >= 0) & (p < P) & (q < Q)"),), LOADED),
    Wrong("gather_windows_beyond", "oob_read", "behind the end of `x_ptr`",
          ((EXISTS, "exists = (p >= 0) & (q >= 0) & (q < Q)"),), LOADED),
)  # fmt: skip
