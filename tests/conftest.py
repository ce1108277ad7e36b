"""Tiers: which tests run in this process, on which tensors. `python -m tests.tiers` runs them all."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from torchops.workers import GPU_LOST, gpu_is_lost

from .drawn import keep_diary
from .gates import no_constant_dropped
from .opinfo import LAYOUTS, OpInfo

_DTYPES = {
    "aten": (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8),
    # the interpreter computes bfloat16 wrongly: that dtype is proven in the IR tier
    "interpreter": (torch.float32, torch.float64, torch.float16, torch.uint8),
    "ir": (torch.float32, torch.bfloat16, torch.float16, torch.uint8),
    "compile": (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8),
    "gpu": (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8),
}
TIERS = tuple(_DTYPES)
_EXAMPLES = {"aten": 3000, "interpreter": 400, "ir": 100, "compile": 30, "gpu": 400}
"""What `make fuzz` draws for a property test that does not say; `make test` draws a tenth, the same every time."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# of torch, in whichever test it happens to be
_FILTERS = (
    # when forward mode is first used: its formulas are scripted
    r"ignore:`torch\.jit\.script` is (deprecated|not supported):FutureWarning",
    r"ignore:`torch\.jit\.script` is deprecated:DeprecationWarning",
    # when torch._inductor is first imported
    r"ignore:`torch\.jit\.script_method` is (deprecated|not supported):DeprecationWarning",
    # when what Dynamo compiled is collected after the globals that it was compiled in; a colon would end the message
    r"ignore:Exception ignored in. <function ExactWeakKeyDictionary\.:pytest.PytestUnraisableExceptionWarning",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=TIERS, default="aten", help="which tier of proof to run (default: aten)")
    parser.addoption(
        "--piece", default="1/1", help="which part of the tier's tests, as 2/3: each once in all parts together"
    )
    parser.addoption("--fuzz", action="store_true", help="ten times the examples of property tests, new every time")
    parser.addoption("--diary", type=Path, help="file that every drawn example is added to before it is tried")
    parser.addoption(
        "--journal", type=Path, help="file that every test's outcome is added to, one as JSON a line, as it comes"
    )
    parser.addoption(
        "--rehearse", metavar="GPU", help="the tier gpu without one: computed by ATen, while launches are recorded"
    )
    parser.addoption("--kernels", type=Path, help="folder for the kernels of a rehearsal, one file a process")


_journal: Path | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _journal
    # workers of pytest-xdist report to the process that started them
    _journal = None if hasattr(config, "workerinput") else config.getoption("journal")
    keep_diary(config.getoption("--diary"))
    config.addinivalue_line("markers", "tiers(*names): the tiers that run this test (default: aten)")
    tier = config.getoption("--tier")
    # of xdist, which need not be installed
    config.addinivalue_line("markers", "xdist_group(name): run in one process")
    for one in _FILTERS:
        config.addinivalue_line("filterwarnings", one)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    forced = os.environ.get("TORCHOPS_BACKEND") == "triton"
    fuzz = config.getoption("--fuzz")
    settings.register_profile(
        "tier",
        max_examples=_EXAMPLES[tier] // (1 if fuzz else 10),
        derandomize=not fuzz,
        deadline=None,
        database=None,
        # interpreted kernels are
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("tier")
    holds = {
        "aten": not interpreted and not forced,
        "interpreter": interpreted and forced,
        "ir": "ttsem" in sys.modules and forced and not interpreted,
        "compile": not interpreted and not forced,
        # which tests there are can be asked anywhere
        "gpu": (torch.cuda.is_available() or config.getoption("collectonly") or config.getoption("rehearse"))
        and not interpreted,
    }
    if not holds[tier]:
        raise pytest.UsageError(
            f"this process is not set up for the tier {tier}: start it with python -m tests.tiers {tier}"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier = config.getoption("--tier")
    wanted, others = [], []
    for item in items:
        mark = item.get_closest_marker("tiers")
        (wanted if tier in (mark.args if mark else ("aten",)) else others).append(item)
    piece, pieces = map(int, config.getoption("--piece").split("/"))
    start, end = (len(wanted) * n // pieces for n in (piece - 1, piece))
    config.hook.pytest_deselected(items=[*others, *wanted[:start], *wanted[end:]])
    wanted = wanted[start:end]
    # what takes gigabytes comes last, when nothing else wants them
    items[:] = sorted(wanted, key=lambda item: item.get_closest_marker("xdist_group") is not None)


def _with_room(test: Callable[..., Any]) -> Callable[..., Any]:
    """The test, called from a frame so large that all frames it needs lie in one piece of memory.

    CPython 3.11 to 3.13 keeps frames in pieces of 16 KiB, and gives a piece back to the system when its first frame ends. A
    loop whose calls happen to start there maps and unmaps a piece for every call, 20,000 times a second: the drawn tests took
    three times as long in Triton's interpreter.
    """

    @functools.wraps(test)
    def call(*args: Any, **kwargs: Any) -> Any:
        return test(*args, **kwargs)

    # it is counted in pointers: 800 kB, for which a piece of 1 MiB is mapped, and the rest serves the test
    call.__code__ = call.__code__.replace(co_stacksize=100_000)  # type: ignore[attr-defined]
    return call


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    pyfuncitem.obj = _with_room(pyfuncitem.obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """After an illegal access nothing runs on the GPU: the process leaves, and pytest-xdist goes on in a fresh one."""
    report = yield
    if call.excinfo is not None and gpu_is_lost():
        print(f"{item.nodeid} has lost the GPU\n{report.longreprtext}", file=sys.__stderr__, flush=True)
        os._exit(GPU_LOST)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where a run may be cut off, what is known by then is in the journal."""
    journal = _journal
    if journal is None or (report.when != "call" and report.outcome == "passed"):
        return
    row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 3)}
    if report.outcome != "passed":
        row["why"] = report.longreprtext[-4000:]
    with journal.open("a") as file:
        file.write(f"{json.dumps(row)}\n")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every question of the package `conformance` about what the op's test class declares."""
    info: OpInfo | None = getattr(metafunc.cls, "info", None)
    if info is None:
        return
    tier = metafunc.config.getoption("--tier")
    dtypes = [d for d in _DTYPES[tier] if d in info.op.dtypes]
    # finite differences of further tensors: hundreds of launches
    costly = (
        info.samples[:1]
        if tier == "interpreter" and len(info.op.inputs((1, 1, 1, 1), torch.float32)) > 1
        else info.samples
    )
    choices = {
        "sample": (info.samples, [s.id for s in info.samples]),
        "costly_sample": (costly, [s.id for s in costly]),
        "dtype": (dtypes, [str(d).removeprefix("torch.") for d in dtypes]),
        "layout": (tuple(LAYOUTS), None),
        "rejection": (info.rejections, [r.id for r in info.rejections]),
        "operator": (info.registered, None),
        "arch": (info.archs, None),
    }
    floats = [d for d in dtypes if d in _FLOATS]
    choices["float_dtype"] = (floats, [str(d).removeprefix("torch.") for d in floats])
    for name, (values, ids) in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=ids)


@pytest.fixture(scope="session")
def tier(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--tier"))


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing is compiled before or after: Dynamo counts, and gives up after so much. torch.nn's max_unpool2d, which refuses
    deterministic mode, is compiled as well."""
    from .networks import as_torch_has_it

    torch.compiler.reset()
    with as_torch_has_it():
        yield
    torch.compiler.reset()


@pytest.fixture(scope="session")
def device(tier: str, request: pytest.FixtureRequest) -> torch.device:
    return torch.device("cuda" if tier == "gpu" and not request.config.getoption("rehearse") else "cpu")


@pytest.fixture(autouse=True)
def _rehearsal(request: pytest.FixtureRequest, _fresh_memory_is_nan: None) -> Iterator[None]:
    """Record what a test would launch on the GPU that is rehearsed for."""
    gpu, folder = request.config.getoption("rehearse"), request.config.getoption("kernels")
    if gpu is None:
        yield
        return
    from bench.rehearsal import rehearsing
    from torchops.kernels.planning.hardware import find
    from torchops.precompile import kernels_of, write_kernels

    with rehearsing(find(gpu)) as launches:
        yield
    write_kernels(folder / f"{os.getpid()}.jsonl", kernels_of(launches))


@pytest.fixture(autouse=True)
def _no_constant_is_dropped(tier: str) -> Iterator[None]:
    """No test can forget it: the values of kernels for GPUs that are not there are never seen."""
    with no_constant_dropped() if tier == "compile" else nullcontext():
        yield


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan(tier: str) -> Iterator[None]:
    """torch.empty hands out NaN, so that an element nobody wrote shows up in the values."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    # tolerances are those of float32; tests of TF32 ask for it
    torch.backends.cudnn.allow_tf32 = False
    # where nothing is computed, large tensors stay unwritten, and so take no memory
    torch.utils.deterministic.fill_uninitialized_memory = tier != "compile"
    yield
    if tier == "gpu" and torch.cuda.is_available():
        # several processes share it
        torch.cuda.empty_cache()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """ATen asks oneDNN more often where it has several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that went the quick way on a CPU."""
    from .ways import note_quick_calls

    return note_quick_calls(monkeypatch)
