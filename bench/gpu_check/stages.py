"""The stages of the check, each in processes of its own: one that dies takes no result of the others with it.

A stage has a budget in seconds; what one does not use, the last can. Without a GPU each says what can be said without one.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import get_commit_info

from bench import report, results_file, roofs
from bench.harness import Contest, judged
from bench.launches import CASES, TOP, TUNED, of_cases
from bench.telling import FILES, benchmarks, telling
from torchops import precompile, workers
from torchops.inspect import ptxas
from torchops.kernels.planning.hardware import DEVICES, Device
from torchops.precompile import archives
from torchops.workers import Failure

from . import smoke
from .folder import Folder, archive

ROOT = Path(__file__).parent.parent.parent
ARCHIVES = "gpu-check-kernels*.xz"
"""In the checkout: caches of kernels that were compiled where time is cheaper, see `make gpu-kernels`."""
CACHE = ROOT / ".kernel-cache"
ROUNDS = 5
STALLED = 60
"""Seconds after which one check or case is given up."""
REPORT = 15
"""Seconds that are kept for the report."""
ALONE = 40
"""Seconds that are kept for the tests that run alone."""
GRACE = 15
"""Seconds for a command that is stopped to write what it has: pytest-xdist waits for its workers for ten."""


@dataclass(frozen=True)
class Session:
    """A run of the check."""

    folder: Folder
    gpu: Device | None
    """None in a dry run."""


Said = tuple[str, str]
"""A verdict, and the figures in a line."""


def machine(session: Session, until: float) -> Said:
    """Unpack kernels that lie in the checkout, and compile what the next stages lack, on all cores."""
    folder, gpu = session.folder, session.gpu
    said = []
    for file in sorted(ROOT.glob(ARCHIVES)):
        unpacked = _unpacked(file, gpu)
        folder.add("machine", name=file.name, unpacked=unpacked)
        said.append(f"{file.name}: {unpacked}")
    if gpu is None:
        return "ok", "; ".join(said) or "no archive of kernels"
    wanted: dict[precompile.Kernel, None] = {}
    failed, began = 0, time.monotonic()
    for _, kernels in workers.run(partial(_kernels, gpu), ("smoke", "telling", "tune"), processes=3, until=until):
        if isinstance(kernels, Failure):
            folder.add("machine", name="kernels", wrong=kernels.reason, trace=kernels.trace)
            failed += 1
            continue
        wanted |= dict.fromkeys(kernels)
    found = Counter[str](failed=failed)
    for outcome in precompile.compile_all(list(wanted), CACHE, until=until):
        found["failed" if outcome.error else "found" if outcome.found else "compiled"] += 1
        if outcome.error:
            folder.add("machine", name=outcome.kernel.name, wrong=outcome.error)
    counts = {name: found[name] for name in ("found", "compiled", "failed")}
    folder.add("machine", name="kernels", wanted=len(wanted), seconds=time.monotonic() - began, **counts)
    said.append(f"{len(wanted)} kernels: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return ("ok" if not found["failed"] else "FAILED to compile"), "; ".join(said)


def _unpacked(file: Path, gpu: Device | None) -> str:
    """What came of an archive: those of another Triton are of no use here, and no fault."""
    try:
        manifest = archives.unpack(file, CACHE, [gpu.arch] if gpu else [])
    except (archives.ArchiveError, OSError) as error:
        return f"refused: {error}"
    return f"{sum(manifest.archs.values())} kernels, {manifest.launchers} launchers"


def _kernels(gpu: Device, name: str) -> list[precompile.Kernel]:
    return list(CASES[name](gpu))


def smoke_stage(session: Session, until: float) -> Said:
    """The canary first, then every op and every kernel on small problems."""
    folder = session.folder
    canaries = _apart(_canaries, until)
    if isinstance(canaries, Failure):
        folder.add("smoke", name="ptxas", wrong=canaries.reason, trace=canaries.trace)
        canaries = []
    for canary in canaries:
        folder.add("smoke", name="ptxas", **asdict(canary))
    checks = smoke.checks()
    device, processes = ("cuda", min(8, workers.cores())) if session.gpu else ("cpu", 2)
    verdicts = Counter[str]()
    for number, result in workers.run(
        partial(_smoke, device, session.gpu), checks, processes=processes, seconds=STALLED, until=until
    ):
        check = checks[number]
        if isinstance(result, Failure) and result.late:
            continue
        if isinstance(result, Failure):
            folder.add("smoke", name=check.name, family=check.family, wrong=result.reason, trace=result.trace)
            print(f"{check.name}: {result.reason}\n{result.trace}", flush=True)
            verdicts["failed"] += 1
            continue
        wrong = {"wrong": result.verdict} if result.verdict.startswith("WRONG") else {}
        folder.add("smoke", name=check.name, family=check.family, **asdict(result), **wrong)
        if wrong:
            print(f"{check.name}: {result}", flush=True)
        verdicts["wrong" if wrong else "ok" if result.verdict == "ok" else "not run"] += 1
    verdicts["not done"] = len(checks) - verdicts.total()
    # a faulty ptxas is a finding, and no fault of a check
    asked = bool(canaries) and not any(c.verdict.startswith("not asked") for c in canaries)
    good = asked and not (verdicts["failed"] or verdicts["wrong"] or verdicts["not done"])
    return ("ok" if good else "WRONG or failed"), "; ".join([_counted(verdicts), *(f"ptxas {c}" for c in canaries)])


def _apart(function: Callable[[None], Any], until: float) -> Any:
    """The result of a function in a process of its own, or a failure."""
    found = [result for _, result in workers.run(function, [None], seconds=STALLED, until=until)]
    return found[0] if found else Failure("not begun: the time is out")


def _canaries(_: None) -> list[ptxas.Verdict]:
    return ptxas.here()


def _smoke(device: str, gpu: Device | None, check: smoke.Check) -> smoke.Result:
    return smoke.run(check, device, gpu)


def _counted(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in verdicts.items() if count) or "nothing"


def tests(session: Session, until: float) -> Said:
    """The tier gpu, those that want gigabytes last; in a dry run, which tests it has."""
    command = ["-m", "pytest", "tests", "--tier", "gpu", "-q", "--tb=short"]
    if session.gpu is None:
        code, last = _run(session, [*command, "--collect-only"], until)
        return ("ok" if code == 0 else f"exit code {code}"), last
    command += ["--journal", str(session.folder.results)]
    if find_spec("pytest_timeout"):
        command += ["--timeout", str(2 * STALLED), "--timeout-method", "thread"]
    several = ["-n", str(min(16, workers.cores()))] if find_spec("xdist") else []
    junit = f"--junitxml={session.folder.path / 'tests.xml'}"
    said = [_run(session, [*command, junit, *several, "-m", "not xdist_group"], until - ALONE)]
    # tests that take gigabytes, or start processes of their own, run alone
    said.append(_run(session, [*command, "-m", "xdist_group"], until))
    counted = Counter(row["outcome"] for row in session.folder.rows() if "test" in row)
    codes = [str(code) for code, _ in said if code]
    verdict = f"exit code {', '.join(codes)}" if codes else "ok"
    return verdict, "; ".join([_counted(counted), *(last for _, last in said)])


def _run(session: Session, command: list[str], until: float) -> tuple[int, str]:
    """Run Python with a command; its exit code, and the last line it printed. What does not end in time is stopped."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHOPS_CONFIG_DIR": str(session.folder.path),
        "COLUMNS": "140",
    }  # fmt: skip
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # the process gets a group of its own, to be stopped with all that it starts
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        stopped = False
        try:
            process.wait(max(1.0, until - GRACE - time.monotonic()))
        except subprocess.TimeoutExpired:
            stopped = True
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        text = output.read()
    session.folder.log(f"\n$ python {' '.join(command)}\n{text}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return process.returncode, ("stopped when its time was out; " if stopped else "") + (lines[-1] if lines else "")


def timings(session: Session, until: float) -> Said:
    """The telling cases, a process a file, told as shares of measured roofs too; in a dry run, what they would launch."""
    if session.gpu is None:
        return _rehearsed(session)
    folder = session.folder
    roof = _apart(_roofs, until)
    if isinstance(roof, Failure):
        folder.add("timings", name="roofs", wrong=roof.reason, trace=roof.trace)
        roof, reached = None, f"no roofs: {roof.reason}"
    else:
        folder.add("timings", name="roofs", **asdict(roof))
        reached = f"copy {roof.copy_gb_per_s:.0f} GB/s, product {roof.product_tflops:.0f} TFLOP/s"
    work = [Race(name, case) for name, cases in telling(gpu=True).items() for case in cases]
    counted = Counter[str]()
    for _, group in itertools.groupby(work, key=lambda race: race.file):
        counted += _raced(session, "timings", list(group), until, roof)
    counted["not done"] = len(work) - counted["raced"] - counted["failed"]
    good = roof is not None and counted["raced"] == len(work) and not counted["impossible"]
    return ("ok" if good else "incomplete"), f"{reached}; {_counted(counted)}"


def _roofs(_: None) -> roofs.Roofs:
    return roofs.measure()


def _rehearsed(session: Session) -> Said:
    launches = 0
    for name, cases in telling(gpu=True).items():
        for case in cases:
            found = [launch.name for launch in of_cases(name, [case], DEVICES["sm_90"])]
            session.folder.add("timings", name=f"{name}: {case.name}", launches=found)
            launches += len(found)
    return "ok", f"{launches} launches of telling cases, rehearsed"


@dataclass(frozen=True)
class Race:
    """A case of a file of benchmarks; against Inductor alone, or all others."""

    file: str
    case: Any
    inductor: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.case.name}{', inductor' if self.inductor else ''}"


def _raced(session: Session, stage: str, work: list[Race], until: float, roof: roofs.Roofs | None) -> Counter[str]:
    """Race cases in a process of their own, and write a row for every provider."""
    counted = Counter[str]()
    rounds = ROUNDS if session.gpu else 2
    for number, contest in workers.run(partial(_contest, rounds), work, seconds=STALLED, until=until):
        race = work[number]
        if isinstance(contest, Failure) and contest.late:
            continue
        if isinstance(contest, Failure):
            session.folder.add(stage, name=str(race), wrong=contest.reason, trace=contest.trace)
            print(f"{race}: {contest.reason}", flush=True)
            counted["failed"] += 1
            continue
        counted["raced"] += 1
        counted["impossible"] += bool(contest.impossible)
        # Inductor's race has torchops once more
        for provider in ("inductor",) if race.inductor else contest.peak_mib:
            shares = roofs.shares(contest, provider, roof) if roof else {}
            us = statistics.median(judged(contest, provider)) * 1e6
            session.folder.add(stage, us=us, **shares, entry=results_file.entry(contest, provider, race.file))
    return counted


def _contest(rounds: int, race: Race) -> Contest:
    return benchmarks(race.file).contest(race.case, rounds, inductor=race.inductor)  # type: ignore[no-any-return]


def tune(session: Session, until: float) -> Said:
    """Time the configs of the telling layers, and write the fastest to a table; in a dry run, compile one."""
    command = ["-m", "torchops", "tune"]
    if session.gpu is None:
        layer = ("--case", "deep", "--no-backward", "--top", "1")
        code, last = _run(session, [*command, "--dry-run", "--arch", "sm_90", *layer], until)
        return ("ok" if code == 0 else f"exit code {code}"), last
    cases = [word for name in TUNED for word in ("--case", name)]
    command += ["--top", str(TOP), *cases, "--journal", str(session.folder.results)]
    code, last = _run(session, command, until)
    rows = [row for row in session.folder.rows() if "call" in row]
    wrong = sum("wrong" in row for row in rows)
    verdict = f"{wrong} configs are WRONG" if wrong else "ok" if code == 0 else f"exit code {code}"
    return verdict, f"{len({row['call'] for row in rows})} problems, {len(rows)} configs; {last}"


def bench(session: Session, until: float) -> Said:
    """The rest of the benchmarks, a case of every file in turn, networks after them, Inductor last."""
    if session.gpu:
        entries = [row["entry"]["extra_info"] for row in session.folder.rows() if "entry" in row]
        done = {entry["case"] for entry in entries}
        *ops, networks = (
            [Race(name, case) for case in benchmarks(name).every_case(gpu=True) if case.name not in done]
            for name in FILES
        )
        work = [race for turn in itertools.zip_longest(*ops) for race in turn if race is not None] + networks
        work += [
            Race(name, case, inductor=True)
            for name, cases in telling(gpu=True).items()
            for case in cases
            if "inductor" in getattr(case, "providers", ())
        ]
    else:
        work = [Race("pooling", case) for case in benchmarks("pooling").every_case(gpu=False) if "lenet" in case.name][
            :2
        ]
    counted = _raced(session, "bench", work, until, None)
    # the time is planned to run out here
    counted["not done"] = len(work) - counted["raced"] - counted["failed"]
    return ("ok" if not (counted["failed"] or counted["impossible"]) else "failed or impossible cases"), _counted(
        counted
    )


def write_report(session: Session) -> None:
    """The report of all that was raced, as `make bench` writes it, in one file."""
    entries = [row["entry"] for row in session.folder.rows() if "entry" in row]
    if not entries:
        return
    found = {
        "machine_info": session.folder.machine,
        "commit_info": get_commit_info(),
        "datetime": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "benchmarks": entries,
    }
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results.json"
        results.write_text(json.dumps(results_file.reduce(found), separators=(",", ":")))
        archive(session.folder, [results, *report.write(results, Path(place) / "report")])


@dataclass(frozen=True)
class Stage:
    name: str
    run: Callable[[Session, float], Said]
    """Is given the time of `time.monotonic` at which it has to end."""
    seconds: float
    dry_seconds: float = 240


STAGES = (
    Stage("machine", machine, 45),
    Stage("smoke", smoke_stage, 90),
    Stage("tests", tests, 150),
    Stage("timings", timings, 110),
    Stage("tune", tune, 120),
    Stage("bench", bench, 480),
)
"""In this order. What is over of a stage's time goes to those after it, so that the last one has what all have left."""
TOTAL = 480
"""Seconds of all stages together, with what is kept for the report."""
