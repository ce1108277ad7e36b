"""`python -m bench [options] [pytest options]`: run the benchmarks, and write results and report to bench/results/<name>/.

`python -m bench all` runs all programs of benchmarks for this machine, one after another; `python -m bench report FILE` writes
the report of any results again, or of a folder; `python -m bench compare A B` says what became slower.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from torchops.files import replacing
from torchops.workers import GPU_LOST

FOLDER = Path(__file__).parent


def _run(out: Path, options: list[str]) -> int:
    from .results_file import reduce

    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "results.json") as results, tempfile.TemporaryDirectory() as folder:
        # pytest's own table would repeat ours
        quiet = ["-q", "--benchmark-columns=median", "--benchmark-sort=name", f"--benchmark-json={results}"]
        begun = ["--begun", str(Path(folder) / "begun")]
        command = [
            "-m",
            "pytest",
            str(FOLDER),
            "-o",
            "python_files=bench_*.py",
            "-W",
            "default",
            *quiet,
            *begun,
            *options,
        ]
        kept: dict[str, Any] = {}
        worst = 0
        while True:
            results.write_text("")
            code = _pytest(command)
            worst = worst or code
            # a case that fails is missing; the others' results are worth keeping
            if found := results.read_text():
                new = reduce(json.loads(found))
                kept = {**new, "benchmarks": [*kept.get("benchmarks", ()), *new["benchmarks"]]}
            if code != GPU_LOST:
                break
        if not kept.get("benchmarks"):
            raise SystemExit(worst or 1)  # the old results stay
        results.write_text(json.dumps(kept, separators=(",", ":")))
    return _report(out / "results.json", out, False) or worst


def _pytest(command: list[str]) -> int:
    child = subprocess.Popen([sys.executable, *command])
    # Ctrl-C is pytest's, which then writes what it has
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _report(file: Path, out: Path, kernels: bool) -> int:
    from . import kernel_facts, report
    from .kept import BadFiguresError
    from .results_file import BadRunError, load

    folder = file if file.is_dir() else file.parent
    ran = file / "results.json" if file.is_dir() else file
    try:
        impossible = load(ran).impossible if ran.exists() or not file.is_dir() else ()
        if kernels:
            kernel_facts.write(folder / "kernels.json")
        print("\n".join(f"written: {path}" for path in report.write(file, out)))
        for row in impossible:
            print(f"IMPOSSIBLE, and nothing is concluded from it: {row.case}, {row.impossible}")
    except (BadRunError, BadFiguresError) as error:
        print(error)
        return 2
    return 0


def _compare(arguments: list[str]) -> int:
    from rich.console import Console

    from .compare import compare

    parser = argparse.ArgumentParser("python -m bench compare", description="What became slower, beyond the noise.")
    parser.add_argument("a", type=Path, help="results of the run before")
    parser.add_argument("b", type=Path, help="results of the run after")
    parser.add_argument("--threshold", type=float, default=0.05, help="least share that counts (default: 0.05)")
    chosen = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    return compare(chosen.a, chosen.b, chosen.threshold, console)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    if arguments[:1] == ["all"]:
        from .everything import main as everything

        return everything(arguments[1:])
    again = arguments[:1] == ["report"]
    parser = argparse.ArgumentParser("python -m bench report" if again else "python -m bench", description=__doc__)
    if again:
        parser.add_argument("file", type=Path, help="results.json of a run, or a folder of results")
    parser.add_argument("--out", type=Path, help="folder to write to (default: by machine and day, or the file's)")
    parser.add_argument("--kernels", action="store_true", help="compile every kernel, for a GPU that need not be there")
    if again:
        chosen = parser.parse_args(arguments[1:])
        beside = chosen.file if chosen.file.is_dir() else chosen.file.parent
        return _report(chosen.file, chosen.out or beside, chosen.kernels)
    chosen, options = parser.parse_known_args(arguments)
    from .kept import folder

    out = chosen.out or folder()
    code = _run(out, options)
    return (_report(out / "results.json", out, True) if chosen.kernels else 0) or code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
