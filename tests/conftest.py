"""Tiers: which tests run in this process, on which tensors. `python -m tests.tiers` runs them all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from hypothesis import HealthCheck, settings

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
_EXAMPLES = {"aten": 2000, "interpreter": 300, "ir": 100, "compile": 30, "gpu": 300}
"""What `make fuzz` draws for a property test that does not say; `make test` draws a tenth, the same every time."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=TIERS, default="aten", help="which tier of proof to run (default: aten)")
    parser.addoption("--fuzz", action="store_true", help="ten times the examples of property tests, new every time")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tiers(*names): the tiers that run this test (default: aten)")
    tier = config.getoption("--tier")
    # of xdist, which need not be installed
    config.addinivalue_line("markers", "xdist_group(name): run in one process")
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
        "gpu": (torch.cuda.is_available() or config.getoption("collectonly")) and not interpreted,
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
    config.hook.pytest_deselected(items=others)
    items[:] = wanted


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every question of `conformance.py` about what the op's test class declares."""
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


@pytest.fixture(scope="session")
def device(tier: str) -> torch.device:
    return torch.device("cuda" if tier == "gpu" else "cpu")


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
    if tier == "gpu":
        # several processes share it
        torch.cuda.empty_cache()
