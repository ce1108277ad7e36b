"""Mistakes that are easy to make, as edits of the sources: each of them a mutant that some test has to notice.

A mistake is found by the name of a function and an expression in it, both in the syntax tree. Code may move to another file,
and be laid out anew, without a change here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Edit(NamedTuple):
    """In the function of this name, this expression or statement is replaced by another."""

    function: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One mistake, as edits, and the tier and tests that have to notice."""

    name: str
    tier: str
    tests: str
    edits: tuple[Edit, ...]
    file: str = "test_sobel.py"


MUTANTS = (
    Mutant(
        "mask forgotten",
        "ir",
        "test_matches_reference",
        (
            Edit(
                "sobel_fwd_kernel",
                "tl.store(y_row + cols, y.to(y_ptr.dtype.element_ty), mask=mask)",
                "tl.store(y_row + cols, y.to(y_ptr.dtype.element_ty))",
            ),
        ),
    ),
    Mutant("wrong border", "interpreter", "test_matches_reference", (Edit("border_index", "-i", "-i - 1"),)),
    # a strip also writes the first row of the next, and writes it wrong: whoever comes last wins, and the interpreter, which
    # runs programs in order, never sees it
    Mutant(
        "race",
        "ir",
        "test_tiles_of_the_kernels_join",
        (
            Edit("sobel_fwd_kernel", "range(h0, h1)", "range(h0, tl.minimum(h1 + 1, H))"),
            Edit(
                "sobel_fwd_kernel",
                "(smooth2 - smooth0) * SCALE",
                "(smooth2 - smooth0) * tl.where(h < h1, SCALE, 1.0)",
            ),
        ),
    ),
    Mutant(
        "missing widening",
        "interpreter",
        "test_offsets_beyond_31_bits",
        (Edit("_load_row", "border_index(h, H, MODE).to(tl.int64)", "border_index(h, H, MODE)"),),
    ),
    Mutant(
        "bfloat16 truncated",
        "ir",
        "test_rounds_once_in_every_dtype",
        (
            Edit(
                "sobel_fwd_kernel",
                "y.to(y_ptr.dtype.element_ty)",
                "((y.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True) "
                "if y_ptr.dtype.element_ty == tl.bfloat16 else y).to(y_ptr.dtype.element_ty)",
            ),
        ),
    ),
    Mutant(
        "loads of 128 bits lost",
        "compile",
        "test_contiguous_columns_move_128_bits",
        (
            Edit("sobel_fwd_kernel", "e0 + cols < ROW", "w < W"),
            Edit("spatial_gradient_bwd_kernel", "e0 + cols < ROW", "w < W"),
            Edit("sobel_bwd_kernel", "e0 + cols < ROW", "w < W"),
        ),
    ),
    Mutant(
        "corners not folded",
        "interpreter",
        "test_tiles_of_the_kernels_join and flat-reflect",
        (Edit("fold_ring", "found_j", "found_j & (in_range(i, P) ^ in_range(j, Q))"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "wrong first tap",
        "interpreter",
        "test_matches_reference",
        (Edit("_first_tap", "phase - (TAPS - 1 - i) * dilation", "phase + (TAPS - 1 - i) * dilation"),),
        "test_conv_transpose2d.py",
    ),
    Mutant(
        "channels not masked",
        "ir",
        "test_tiles_of_the_kernels_join and gemm-constant",
        (Edit("conv2d_gemm_kernel", "below(lanes, C - c0, EVEN[0])", "lanes >= 0"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "shifted the wrong way",
        "interpreter",
        "test_taps_of_a_row_share_a_load and channels_last and zeros",
        (Edit("_shifted", "lane + SHIFT", "lane - SHIFT"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "tiles do not overlap",
        "interpreter",
        "test_taps_of_a_row_share_a_load and channels_last and replicate",
        (Edit("conv2d_shift_kernel", "pid_m * (BLOCK_M - SPAN) - BEFORE", "pid_m * (BLOCK_M - SPAN)"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "rows without their last taps",
        "interpreter",
        "test_rows_of_an_image_share_a_load and channels_last and zeros",
        (Edit("conv2d_rows_kernel", "tl.static_range(ROWS + R - 1)", "tl.static_range(ROWS)"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "strips do not join",
        "interpreter",
        "test_strips_that_slide_join and zeros",
        (Edit("conv2d_slide_kernel", "end + WAITING - 1", "end"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "filter not turned around",
        "interpreter",
        "test_strips_that_slide_join and zeros",
        (Edit("turned", "w_sr, w_ss = -w_sr, -w_ss", "w_sr, w_ss = -w_sr, w_ss"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "strips of few channels do not join",
        "interpreter",
        "test_strips_of_few_channels_join and zeros",
        (Edit("conv2d_flat_slide_kernel", "end + WAITING - 1", "end"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "the first rows of a strip are one",
        "interpreter",
        "test_strips_of_few_channels_join and zeros",
        (Edit("conv2d_weight_grad_flat_slide_kernel", "first * STRIDE - top + i", "first * STRIDE - top"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "filter of fewer rows than the stride",
        "interpreter",
        "test_strips_of_few_channels_join and zeros",
        (Edit("conv2d_weight_grad_flat_slide_kernel", "STRIDE if R > STRIDE else R", "STRIDE"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "strips begin too late",
        "interpreter",
        "test_strips_that_slide_join and zeros",
        (Edit("conv2d_slide_transposed_kernel", "first + top - WAITING + 2", "first + top"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "zero times infinity",
        "ir",
        "test_what_is_not_finite_stays_where_taps_take_it",
        (Edit("conv2d_weight_grad_slide_kernel", "(p >= first) & (p < end)", "p <= trip + j"),),
        "test_conv2d_slides.py",
    ),
    Mutant(
        "constant border not chosen",
        "ir",
        "test_tiles_of_the_kernels_join and gemm-constant",
        (Edit("load_or_pad", "tl.where(inside_0, ptr + offs_0, pad_ptr)", "ptr + offs_0"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "bias after rounding",
        "interpreter",
        "test_a_bias_is_added_before_the_one_rounding",
        (
            Edit(
                "finish",
                "acc += tl.load(bias_ptr + offs_k, mask=mask_k, other=0).to(acc.dtype)[None, :]",
                "acc = acc.to(y_ptr.dtype.element_ty).to(acc.dtype) "
                "+ tl.load(bias_ptr + offs_k, mask=mask_k, other=0).to(acc.dtype)[None, :]",
            ),
        ),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "carry dropped",
        "interpreter",
        "test_tiles_of_the_kernels_join and flat-constant",
        (Edit("next_pixels", "tl.where(w >= w_end, step_h, 0)", "0"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "last range dropped",
        "interpreter",
        "test_tiles_of_the_kernels_join and flat-constant",
        (Edit("conv2d_sum_splits_kernel", "split < splits", "split < splits - 1"),),
        "test_conv2d_tiles.py",
    ),
    Mutant(
        "NaN dropped",
        "interpreter",
        "TestIndices and test_match_aten",
        (Edit("is_better", "x != x", "x < x"),),
        "test_max_pool2d.py",
    ),
    Mutant(
        "index in the padding",
        "interpreter",
        "TestIndices and test_match_aten",
        (Edit("max_pool2d_fwd_kernel", "tl.maximum(-w0, 0)", "w0 * 0"),),
        "test_max_pool2d.py",
    ),
    Mutant(
        "row of a strip beyond the image",
        "interpreter",
        "TestIndices and test_match_aten",
        (
            Edit(
                "max_pool2d_slide_kernel",
                "tl.maximum(first_pixel(p, WINDOW, 0) + j, 0)",
                "first_pixel(p, WINDOW, 0) + j",
            ),
        ),
        "test_max_pool2d.py",
    ),
    Mutant(
        "row added to a window that has ended",
        "interpreter",
        "test_means_are_those_of_tiles_that_stay",
        (Edit("avg_pool2d_slide_kernel", "j + STRIDE * k < R", "j + STRIDE * k <= R"),),
        "test_sliding_pools.py",
    ),
    Mutant(
        "last rows of a strip left out",
        "interpreter",
        "test_means_are_those_of_tiles_that_stay",
        (Edit("avg_unpool2d_slide_kernel", "h < h1", "h < h1 - 1"),),
        "test_sliding_pools.py",
    ),
    Mutant(
        "strip begun a row of windows late",
        "interpreter",
        "test_gradients_of_maxima_are_those_of_tiles_that_stay",
        (
            Edit(
                "max_unpool2d_slide_kernel",
                "tl.maximum(h0 + WINDOW[2][0] - R + STRIDE, 0) // STRIDE",
                "tl.maximum(h0 + WINDOW[2][0] - R + 2 * STRIDE, 0) // STRIDE",
            ),
        ),
        "test_sliding_pools.py",
    ),
    Mutant(
        "first duplicate wins",
        "interpreter",
        "test_overlapping_windows",
        (Edit("max_unpool2d_fwd_kernel", "tl.where(mask & here, x, y)", "tl.where(mask & here & (y == 0), x, y)"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "strays not reported",
        "interpreter",
        "test_positions_that_point_anywhere",
        (Edit("_report", "tl.max(tl.max(strays.to(tl.int32), axis=1), axis=0)", "0"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "hostile offset followed",
        "ir",
        "TestHostileIndices and offsets",
        (Edit("max_unpool2d_bwd_kernel", "mask & (tap < R * S) & in_range(h, H) & in_range(w, W)", "mask"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "hostile position followed",
        "ir",
        "TestHostileIndices and positions",
        (Edit("max_unpool2d_replay_kernel", "(idx >= 0) & (idx < PIXELS)", "idx < PIXELS"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "padding counted beyond its end",
        "interpreter",
        "test_matches_aten_in_every_mode",
        (
            Edit(
                "_pixels_share",
                "tl.minimum(size + 2 * WINDOW[2][DIM] - p * WINDOW[1][DIM], R)",
                "p * 0 + R",
            ),
        ),
        "test_avg_pool2d.py",
    ),
    Mutant(
        "last pixel of an adaptive window left out",
        "interpreter",
        "test_matches_aten",
        (
            Edit(
                "end_of",
                "((p + 1).to(tl.int64) if LONG else p + 1) * size_in + size - 1",
                "((p + 1).to(tl.int64) if LONG else p + 1) * size_in",
            ),
        ),
        "test_adaptive_avg_pool2d.py",
    ),
    Mutant(
        "maximum of the last lane, not the first",
        "interpreter",
        "test_last_nan_wins_and_the_first_of_equals",
        (
            Edit(
                "adaptive_max_pool2d_large_kernel",
                "tl.min(tl.where(best == number[:, None], pixel, none), axis=1)",
                "tl.max(tl.where(best == number[:, None], pixel, 0), axis=1)",
            ),
        ),
        "test_adaptive_max_pool2d.py",
    ),
    Mutant(
        "channels not told to lie together",
        "compile",
        "test_channels_that_are_no_multiple_of_16_stay_wide",
        (Edit("_columns", "tl.max_constancy(w, VEC_IN)", "w + 0"),),
        "test_pooling_compile.py",
    ),
    Mutant(
        "batch norm alone",
        "aten",
        "test_two_processes_train_as_one and unet",
        (Edit("synchronized", "module.__class__ = SyncBatchNorm2d", "pass"),),
        "models/test_training.py",
    ),
    # as it would come from LLVM: kernels/canary.py says what becomes of it; a ptxas of CUDA 13.1 or newer lets it escape
    Mutant(
        "constant that ptxas drops",
        "compile",
        "test_picked_configs_move_wide and max_pool-2x2-offsets and bfloat16 and nchw",
        (
            Edit(
                "max_pool2d_fwd_kernel",
                "store_rectangle(idx_ptr, tap, offs_g, offs_e, mask_g, mask_e)",
                "store_rectangle(idx_ptr, tl.inline_asm_elementwise("
                '"{ .reg .b32 c, t; mov.b32 c, 65531; add.s16x2 t, $1, c; cvt.s32.s16 $0, t; }", '
                '"=r,r", [tap], dtype=tl.int32, is_pure=True, pack=1), offs_g, offs_e, mask_g, mask_e)',
            ),
        ),
        "test_pooling_compile.py",
    ),
    # what another call reads as well is taken in by a convolution
    Mutant(
        "read twice",
        "aten",
        "stays_right and (read_twice or reused)",
        (Edit("only_reader", "len(users) == 1 and users[0].op == 'call_function'", "users[0].op == 'call_function'"),),
        file="test_compile.py",
    ),
    # a weight that was written to is not folded anew
    Mutant(
        "stale weights",
        "aten",
        "changes_are_seen",
        (Edit("__call__", "known.state == state", "known.state[0] == state[0]"),),
        file="test_compile_weights.py",
    ),
    # whoever writes to a result writes to the weights of the next call
    Mutant(
        "shared result",
        "aten",
        "returned_may_be_written_to",
        (Edit("part", "_copy_results(graph)", "None"),),
        file="test_compile_weights.py",
    ),
    # a packed weight that was written to is used as it was
    Mutant(
        "writes not counted",
        "aten",
        "part_written",
        (Edit("_state", "version_of(weight)", "0"),),
        file="test_packed_changes.py",
    ),
    Mutant(
        "probes not compared",
        "aten",
        "data_scaled or numpy",
        (Edit("is_unchanged", "self._probe.tobytes() == self._probed", "True"),),
        file="test_packed_changes.py",
    ),
    Mutant(
        "bias packed with its weight",
        "aten",
        "bias_written",
        (Edit("run", "_bytes(bias) != known", "False"),),
        file="test_packed_changes.py",
    ),
    # a band of an image is read as if it began where its windows do
    Mutant(
        "band without its border",
        "aten",
        "maxima_of_large_images",
        (Edit("fill", "band.first - above", "band.first"),),
        file="test_pool_fuzz.py",
    ),
    Mutant(
        "windows above a band",
        "aten",
        "maxima_of_large_images or means_of_large_images",
        (Edit("pieces", "min(first, -(-padding // stride))", "0"),),
        file="test_pool_fuzz.py",
    ),
    Mutant(
        "positions in a band",
        "aten",
        "maxima_of_large_images",
        (Edit("fill_block", "positions.add_(block.row * x.shape[3])", "positions"),),
        file="test_pool_fuzz.py",
    ),
    Mutant(
        "spread without a division",
        "aten",
        "goes_back_to_large_images",
        (Edit("_convolve", "torch.div(sums, divisor, out=image)", "image.copy_(sums)"),),
        file="test_pool_fuzz.py",
    ),
    # a position one column beside its window may be a pixel of the next
    Mutant(
        "position beside its window",
        "aten",
        "positions_surely_differ",
        (Edit("are_apart", "int(largest) < s", "int(largest) <= s"),),
        file="test_max_unpool2d_duplicates.py",
    ),
    Mutant(
        "what lies between rows added to them",
        "aten",
        "reach_the_next_row",
        (Edit("add_adjoint", "t.zero_()", "t"),),
    ),
    Mutant(
        "bands that add to the same rows at once",
        "aten",
        "every_other_band",
        (Edit("tiles", "max(2, limit // (w * lanes))", "max(1, limit // (w * lanes))"),),
        file="test_threads.py",
    ),
)
