"""Work in processes that may die: what becomes of an item that takes its process with it, and of the rest."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import torch

from torchops import catalog, workers
from torchops.inspect import check
from torchops.workers import Apart, Failure, run


def work(item: Any) -> Any:
    workers.doing(f"begun {item}")
    if item == "raise":
        raise ValueError("bad\nnews")
    if item == "exit":
        os._exit(7)
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        time.sleep(600)
    return item, os.getpid()


def lose_the_gpu(item: str) -> str:
    """As an illegal access: what was asked of the GPU fails, and so does all that follows."""
    if item == "illegal access":
        workers.gpu_is_lost = lambda: True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return item


def test_one_item_dies_and_the_rest_goes_on() -> None:
    items = ["a", "raise", "exit", "crash", "b", "c"]
    found = dict(run(work, items, processes=2))
    assert [found[n][0] for n in (0, 4, 5)] == ["a", "b", "c"]
    assert found[1].reason == "ValueError: bad news"
    assert "in work" in found[1].trace
    assert found[2] == Failure("the process ended with exit code 7", doing="begun exit")
    assert found[3] == Failure("the process was killed by SIGSEGV", doing="begun crash")


def test_a_process_serves_many_items_and_is_gone_afterwards() -> None:
    found = [result for _, result in run(work, list("abcd"))]
    assert [item for item, _ in found] == list("abcd")
    (pid,) = {pid for _, pid in found}
    assert pid != os.getpid()
    assert not os.path.exists(f"/proc/{pid}")


def test_what_does_not_end_is_stopped() -> None:
    found = dict(run(work, ["a", "hang", "b"], processes=2, seconds=15))
    assert found[1] == Failure("stopped after 15 s: no answer", doing="begun hang")
    assert [found[n][0] for n in (0, 2)] == ["a", "b"]


def test_when_the_time_is_out_nothing_more_is_begun() -> None:
    found = dict(run(work, ["a", "hang", "b"], until=time.monotonic() + 15))
    assert found[0][0] == "a"
    assert found[1].reason.endswith("the time was out")
    assert found[1].late
    assert 2 not in found
    assert list(run(work, ["a"], until=time.monotonic() - 1)) == []


def test_after_a_lost_gpu_comes_a_fresh_process() -> None:
    first, second, third = (result for _, result in run(lose_the_gpu, ["a", "illegal access", "b"]))
    assert (first, third) == ("a", "b")
    assert second.reason == "RuntimeError: CUDA error: an illegal memory access was encountered"


def test_apart_goes_on_in_a_fresh_process() -> None:
    with Apart(work, seconds=60) as apart:
        (_, pid), (_, same) = apart("a"), apart("b")
        assert pid == same
        assert apart("crash").reason == "the process was killed by SIGSEGV"
        item, other = apart("c")
        assert (item, other != pid) == ("c", True)
    assert not os.path.exists(f"/proc/{other}")


def test_without_a_gpu_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not workers.gpu_is_lost()

    def fail() -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert workers.gpu_is_lost()


def checked(backend: str, device: str, label: str, item: tuple[str, torch.dtype]) -> check.Row:
    """In place of a check on a GPU, which one op in one dtype loses."""
    if item == ("conv2d", torch.float16):
        os._exit(workers.GPU_LOST)
    return check.Row(item[0], str(item[1]).removeprefix("torch."), label, 0.0, 0.0, 1.0, "ok")


def test_a_check_that_loses_the_gpu_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_check", checked)
    rows = check.check_gpu()
    assert len(rows) == sum(len(op.dtypes) for op in catalog.OPS.values())
    (lost,) = (row for row in rows if row.verdict != "ok")
    assert (lost.op, lost.dtype, lost.verdict) == ("conv2d", "float16", "FAILED: the process ended with exit code 86")
