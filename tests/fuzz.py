"""Ten times the examples of the drawn tests of all ops, other ones every time: `python -m tests.fuzz [seed]`.

3,000 problems an op on ATen, 400 in the interpreter, 100 in the IR, 30 of what machine code does to constants. A run with
the printed seed draws the same problems; one that fails becomes an `@example` of its test.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .tiers import has_gpu, run, summary


def main(seed: int) -> int:
    print(f"seed {seed}", flush=True)
    tiers = ["ir", "interpreter", "aten", "compile", *(["gpu"] if has_gpu() else [])]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        diaries = {tier: Path(folder) / tier for tier in tiers}

        def fuzz(tier: str) -> tuple[str, int, int, float]:
            options = (
                "-k",
                "fuzz or TestProperties",
                "--fuzz",
                f"--hypothesis-seed={seed}",
                f"--diary={diaries[tier]}",
            )
            return run(tier, options=options)

        results = list(pool.map(fuzz, tiers))
        print()
        for tier, diary in diaries.items():
            tell(tier, diary)
    return summary(results)


def tell(tier: str, diary: Path) -> None:
    """A line an op: how many examples passed and failed, those on the way to the smallest included."""
    entries = [line.split("\t") for line in diary.read_text().splitlines()] if diary.exists() else []
    count = Counter((verdict, family) for verdict, family, *_ in entries)
    for family in dict.fromkeys(family for _, family, *_ in entries):
        print(f"{tier:<12} {family:<18} {count['passed', family]:>6} passed {count['failed', family]:>6} failed")
    if entries and entries[-1][0] == "tries":
        print(f"{tier:<12} ended in this example of {entries[-1][1]}: {entries[-1][2]}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(2**32)))
