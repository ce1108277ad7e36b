"""`python -m bench [pytest options]`: run the benchmarks, write out/bench.json and out/bench.md, print the table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from torchops.files import replacing

from .report import table

FOLDER = Path(__file__).parent


def main(arguments: list[str]) -> int:
    out = Path("out")
    out.mkdir(exist_ok=True)
    with replacing(out / "bench.json") as results:
        # pytest's own table would repeat ours
        options = ["-q", "--benchmark-columns=median", "--benchmark-sort=name", f"--benchmark-json={results}"]
        command = ["-m", "pytest", str(FOLDER), "-o", "python_files=bench_*.py", "-W", "default", *options, *arguments]
        done = subprocess.run([sys.executable, *command], check=False)
        if done.returncode != 0:
            raise SystemExit(done.returncode)  # before the old results are replaced
        text = table(results)
        with replacing(out / "bench.md") as page:
            page.write_text(text + "\n")
    print(f"\n{text}\n\nwritten: {out / 'bench.json'}, {out / 'bench.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
