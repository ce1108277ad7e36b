"""Do the tests notice? `python -m tests.mutants [name ...]` breaks the kernels in ways that are easy to get wrong, one at a
time, in a copy of the sources, and runs a tier on each. A mutant that no test notices is a hole in the tests: exit code 1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .tiers import PROCESSES, ROOT, clean_environment

STORE = "tl.store(y_row + cols, y.to(y_ptr.dtype.element_ty), mask=mask)"


@dataclass(frozen=True)
class Mutant:
    """One mistake, as (file, old, new) edits, and the tier and tests that have to notice."""

    name: str
    tier: str
    tests: str
    edits: tuple[tuple[str, str, str], ...]
    file: str = "test_sobel.py"


SOBEL, BORDERS = "kernels/sobel.py", "kernels/device/borders.py"
GATHER, SHIFT, WEIGHT_GRAD = "kernels/conv2d/gemm.py", "kernels/conv2d/shift.py", "kernels/conv2d/weight_grad.py"
EPILOGUE, TILES = "kernels/conv2d/epilogue.py", "test_conv2d_tiles.py"
WINDOWS, MAX_POOL, MAX_UNPOOL = "kernels/device/windows.py", "kernels/max_pool2d.py", "kernels/max_unpool2d.py"
BIAS = "tl.load(bias_ptr + offs_c, mask=mask_c, other=0).to(ACC)[None, :]"
MUTANTS = (
    Mutant("mask forgotten", "ir", "test_matches_reference", ((SOBEL, STORE, STORE.replace(", mask=mask", "")),)),
    Mutant(
        "wrong border",
        "interpreter",
        "test_matches_reference",
        ((BORDERS, "tl.where(i < 0, -i, i)", "tl.where(i < 0, -i - 1, i)"),),
    ),
    # a strip also writes the first row of the next, and writes it wrong: whoever comes last wins, and the interpreter, which
    # runs programs in order, never sees it
    Mutant(
        "race",
        "ir",
        "test_tiles_of_the_kernels_join",
        (
            (SOBEL, "for h in range(h0, h1):", "for h in range(h0, tl.minimum(h1 + 1, H)):"),
            (SOBEL, "gy = (smooth2 - smooth0) * SCALE", "gy = (smooth2 - smooth0) * tl.where(h < h1, SCALE, 1.0)"),
        ),
    ),
    Mutant(
        "missing widening",
        "interpreter",
        "test_offsets_beyond_31_bits",
        ((SOBEL, "border_index(h, H, MODE).to(tl.int64) * sh", "border_index(h, H, MODE) * sh"),),
    ),
    Mutant(
        "bfloat16 truncated",
        "ir",
        "test_rounds_once_in_every_dtype",
        (
            (
                SOBEL,
                STORE,
                "y = (y.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True) "
                "if y_ptr.dtype.element_ty == tl.bfloat16 else y\n            " + STORE,
            ),
        ),
    ),
    Mutant(
        "wide loads lost",
        "compile",
        "test_contiguous_columns_move_128_bits",
        ((SOBEL, "mask = q0 + cols < ROW", "mask = w < W"),),
    ),
    Mutant(
        "corners not folded",
        "interpreter",
        "test_tiles_of_the_kernels_join and flat-reflect",
        ((EPILOGUE, "found &= ~(in_range(i, P) & in_range(j, Q))", "found &= in_range(i, P) ^ in_range(j, Q)"),),
        TILES,
    ),
    Mutant(
        "wrong first tap",
        "interpreter",
        "test_matches_reference",
        ((GATHER, "(phase - (TAPS - 1 - i) * dilation) % stride", "(phase + (TAPS - 1 - i) * dilation) % stride"),),
        "test_conv_transpose2d.py",
    ),
    Mutant(
        "channels not masked",
        "ir",
        "test_tiles_of_the_kernels_join and gemm-constant",
        ((GATHER, "if EVEN_I else lanes < I - i0", "if EVEN_I else lanes >= 0"),),
        TILES,
    ),
    Mutant(
        "shifted the wrong way",
        "interpreter",
        "test_taps_of_a_row_share_a_load and channels_last and zeros",
        ((SHIFT, "in_range(c + SHIFT, W), lane + SHIFT", "in_range(c + SHIFT, W), lane - SHIFT"),),
        TILES,
    ),
    Mutant(
        "tiles do not overlap",
        "interpreter",
        "test_taps_of_a_row_share_a_load and channels_last and replicate",
        ((SHIFT, "m = pid_m * (BLOCK_M - SPAN) - BEFORE", "m = pid_m * (BLOCK_M - SPAN)"),),
        TILES,
    ),
    Mutant(
        "constant border not chosen",
        "ir",
        "test_tiles_of_the_kernels_join and gemm-constant",
        (("kernels/device/tiles.py", "tl.where(inside_0, ptr + offs_0, pad_ptr)", "ptr + offs_0"),),
        TILES,
    ),
    Mutant(
        "bias after rounding",
        "interpreter",
        "test_rounds_once_in_every_dtype",
        ((EPILOGUE, f"acc += {BIAS}", f"acc = acc.to(y_ptr.dtype.element_ty).to(ACC) + {BIAS}"),),
        "test_conv2d.py",
    ),
    Mutant(
        "carry dropped",
        "interpreter",
        "test_tiles_of_the_kernels_join and flat-constant",
        ((WEIGHT_GRAD, " + tl.where(w >= w_end, step_h, 0)", ""),),
        TILES,
    ),
    Mutant(
        "last range dropped",
        "interpreter",
        "test_tiles_of_the_kernels_join and flat-constant",
        ((WEIGHT_GRAD, "split < splits, e < size", "split < splits - 1, e < size"),),
        TILES,
    ),
    Mutant(
        "NaN dropped",
        "interpreter",
        "TestIndices and test_match_aten",
        ((MAX_POOL, " | (x != x)", ""),),
        "test_max_pool2d.py",
    ),
    Mutant(
        "index in the padding",
        "interpreter",
        "TestIndices and test_match_aten",
        ((MAX_POOL, "(tl.maximum(-w0, 0) + DIL_W - 1) // DIL_W", "w0 * 0"),),
        "test_max_pool2d.py",
    ),
    Mutant(
        "first duplicate wins",
        "interpreter",
        "test_overlapping_windows",
        ((MAX_UNPOOL, "y = tl.where(mask & here, x, y)", "y = tl.where(mask & here & (y == 0), x, y)"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "strays not reported",
        "interpreter",
        "test_positions_that_point_anywhere",
        ((MAX_UNPOOL, "tl.max(tl.max(strays.to(tl.int32), axis=1), axis=0)", "0"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "hostile offset followed",
        "ir",
        "TestHostileIndices and offsets",
        ((MAX_UNPOOL, "found = mask & (tap < R * S) & in_range(h, H) & in_range(w, W)", "found = mask"),),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "hostile position followed",
        "ir",
        "TestHostileIndices and positions",
        (
            (
                "kernels/max_unpool2d_anywhere.py",
                "found = (idx >= 0) & (idx < PIXELS) & ~lost",
                "found = (idx < PIXELS) & ~lost",
            ),
        ),
        "test_max_unpool2d_indices.py",
    ),
    Mutant(
        "padding counted beyond its end",
        "interpreter",
        "test_matches_aten_in_every_mode",
        (
            (
                "kernels/avg_pool2d.py",
                "tl.minimum(size + 2 * WINDOW.padding[DIM] - p * WINDOW.stride[DIM], R)",
                "p * 0 + R",
            ),
        ),
        "test_avg_pool2d.py",
    ),
    Mutant(
        "last pixel of an adaptive window left out",
        "interpreter",
        "test_matches_aten",
        (("kernels/device/adaptive.py", "* size_in + size - 1) // size", "* size_in) // size"),),
        "test_adaptive_avg_pool2d.py",
    ),
    Mutant(
        "maximum of the last lane, not the first",
        "interpreter",
        "test_last_nan_wins_and_the_first_of_equals",
        (
            (
                "kernels/adaptive_max_pool2d.py",
                "tl.min(tl.where(best == number[:, None], pixel, none)",
                "tl.max(tl.where(best == number[:, None], pixel, 0)",
            ),
        ),
        "test_adaptive_max_pool2d.py",
    ),
    Mutant(
        "channels not told to lie together",
        "compile",
        "test_channels_that_are_no_multiple_of_16_stay_wide",
        ((WINDOWS, "w = tl.max_constancy(w, VEC_IN)", "w = w + 0"),),
        "test_pooling_compile.py",
    ),
    Mutant(
        "batch norm alone",
        "aten",
        "test_two_processes_train_as_one and unet",
        (("models/distributed.py", "module.__class__ = SyncBatchNorm2d", "pass"),),
        "models/test_training.py",
    ),
    # as it would come from LLVM: kernels/canary.py says what becomes of it; a ptxas of CUDA 13.1 or newer lets it escape
    Mutant(
        "constant that ptxas drops",
        "compile",
        "test_picked_configs_move_wide and max_pool-2x2-offsets and bfloat16 and nchw",
        (
            (
                MAX_POOL,
                "store_tile(idx_ptr, tap, rows",
                "store_tile(idx_ptr, tl.inline_asm_elementwise("
                '"{ .reg .b32 c, t; mov.b32 c, 65531; add.s16x2 t, $1, c; cvt.s32.s16 $0, t; }", '
                '"=r,r", [tap], dtype=tl.int32, is_pure=True, pack=1), rows',
            ),
        ),
        "test_pooling_compile.py",
    ),
)


def run(mutant: Mutant) -> tuple[Mutant, str | None]:
    """Run the mutant's tier until a test fails; return the test, or None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("kernels", "models", "torchops", "tests"):
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        for file, old, new in mutant.edits:
            source = (copy / file).read_text()
            if old not in source:
                raise SystemExit(f"mutant {mutant.name!r}: {file} no longer holds {old!r}")
            (copy / file).write_text(source.replace(old, new))
        extra, command = PROCESSES[mutant.tier]
        env = {**clean_environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": folder, **extra}
        arguments = [
            *command,
            f"tests/{mutant.file}",
            "--tier",
            mutant.tier,
            "-k",
            mutant.tests,
            "-x",
            "-q",
            "-rfE",
            "-p",
            "no:faulthandler",
        ]
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    if done.returncode == 0:
        return mutant, None
    # what is held to a gate after its end is an error
    failed = re.search(r"^(?:FAILED|ERROR) \S*::(\S+)", done.stdout, re.M)
    if failed:
        return mutant, failed[1]
    if done.returncode < 0:
        return mutant, f"the process died of signal {-done.returncode}"
    raise SystemExit(f"mutant {mutant.name!r}: the tests could not run\n{done.stdout[-3000:]}")


def main(names: list[str]) -> int:
    chosen = [m for m in MUTANTS if not names or m.name in names]
    if len(chosen) < len(names):
        print(f"unknown mutant in {names}; known: {[m.name for m in MUTANTS]}")
        return 2
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(run, chosen))
    for mutant, test in results:
        print(f"{mutant.name:<20} {mutant.tier:<12} {f'caught by {test}' if test else 'ESCAPED'}")
    escaped = sum(test is None for _, test in results)
    print(f"\n{len(results) - escaped} passed, {escaped} failed")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
