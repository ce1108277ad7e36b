"""Ten times the examples of the property tests of convolutions and pools, other ones every time: `python -m tests.fuzz [seed]`.

2,000 problems a pass on ATen, 300 in the interpreter, 100 in the IR, 30 of what machine code does to constants. A run with
the printed seed draws the same problems; one that fails becomes an `@example` of its test.
"""

from __future__ import annotations

import functools
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from .tiers import has_gpu, run, summary


def main(seed: int) -> int:
    print(f"seed {seed}", flush=True)
    options = ("-k", "fuzz or TestProperties", "--fuzz", f"--hypothesis-seed={seed}", "--hypothesis-show-statistics")
    fuzz = functools.partial(run, options=options)
    tiers = ["ir", "interpreter", "aten", "compile", *(["gpu"] if has_gpu() else [])]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return summary(list(pool.map(fuzz, tiers)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(2**32)))
