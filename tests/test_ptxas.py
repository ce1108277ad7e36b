"""The assembler that drops constants: what finds it, what is said of it, and the gate that no kernel of ours passes with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from torchops import inspect
from torchops.backend import _has_triton
from torchops.cli import app
from torchops.inspect import check, machine_code, ptxas
from torchops.inspect.machine_code import MachineCode, dropped_constants
from torchops.inspect.ptxas import FAULTY, SOUND, Verdict
from torchops.kernels import canary
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.hardware import DEVICES

from .gates import no_constant_dropped

LOST = "VIADD.16x2 R0, R2, 0x0"
SASS = f"""
.text.canary_kernel:
        /*0070*/                   VIADD.16x2 R0, R3, 0xfffb ;
        /*0080*/              @!P0 {LOST} ;
        /*0090*/                   VIADD.16x2 R4, R2.reuse, RZ ;
        /*00a0*/                   VIADD.16x2 R5, R2, UR4 ;
        /*00b0*/                   VIADD R6, R2, 0x0 ;
        /*00c0*/                   VIADDMNMX.S16x2 R0, R2, 0x0, R6, !PT ;
        /*00d0*/                   VIADD.16x2 R7, R8, 0x01 ;
"""


def _verdicts() -> list[Verdict]:
    """As on a machine whose ptxas are faulty, one of them with a remedy."""
    return [
        Verdict("sm_90", FAULTY, "/bin/ptxas", "12.9.86", "/bin/ptxas-other"),
        Verdict("sm_100", FAULTY, "/bin/ptxas-blackwell", "12.9.86"),
    ]


class TestReading:
    def test_a_constant_that_became_0x0_is_found(self) -> None:
        assert dropped_constants(SASS) == (LOST,)

    def test_notes_of_the_scheduler_hide_none(self) -> None:
        """As Triton's own disassembly has them, for sm_120."""
        assert dropped_constants("04:-:-:Y:5\tVIADD.16x2 R0,  R2, 0x0        &req={2}  ?WAIT5_END_GROUP;") == (LOST,)

    def test_the_gate_fails_on_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code = {name: MachineCode(name, [], 8, 0, 0, lost, {}) for name, lost in (("good", ()), ("bad", (LOST,)))}
        monkeypatch.setattr(machine_code, "_disassembled", {"before": code["bad"]})
        with no_constant_dropped():
            machine_code._disassembled["hash1"] = code["good"]
        with pytest.raises(AssertionError, match=rf"ptxas dropped constants of bad \(hash2\): {LOST}"):  # noqa: SIM117
            with no_constant_dropped():
                machine_code._disassembled["hash2"] = code["bad"]


class TestTelling:
    def test_what_to_set(self) -> None:
        first, second = _verdicts()
        assert first.advice == "set TRITON_PTXAS_PATH=/bin/ptxas-other, which is sound"
        assert second.advice.endswith("set TRITON_PTXAS_BLACKWELL_PATH to a ptxas of CUDA 13.1 or newer")
        assert str(second) == "12.9.86 for sm_100: FAULTY"

    def test_check_warns_and_does_not_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "check_all", list)
        monkeypatch.setattr(ptxas, "here", _verdicts)
        shown = CliRunner().invoke(app, ["check"], catch_exceptions=False)
        assert shown.exit_code == 0
        assert "ptxas  12.9.86 for sm_90: FAULTY; 12.9.86 for sm_100: FAULTY\n" in shown.stdout
        assert "warning: ptxas drops constants" in shown.stdout
        assert "12.9.86 for sm_90: set TRITON_PTXAS_PATH=/bin/ptxas-other, which is sound\n" in shown.stdout
        found = json.loads(CliRunner().invoke(app, ["check", "--json"], catch_exceptions=False).stdout)
        assert found["ptxas"] == [vars(v) for v in _verdicts()]

    def test_check_says_little_of_a_sound_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "check_all", list)
        for verdicts in (
            [Verdict("sm_90", SOUND, "/bin/ptxas", "13.3.33")],
            [Verdict("sm_80", ptxas.NOT_AFFECTED)],
            [],
        ):
            monkeypatch.setattr(ptxas, "here", lambda verdicts=verdicts: verdicts)
            shown = CliRunner().invoke(app, ["check"], catch_exceptions=False).stdout
            assert "warning" not in shown
            assert shown.count("ptxas") == len(verdicts)

    @pytest.mark.parametrize("lacking", ["triton", "its NVIDIA backend", "CUDA"])
    def test_nothing_is_asked_where_triton_does_not_assemble_for_nvidia(
        self, lacking: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert ptxas.is_asked() == (_has_triton() and not torch.version.hip)
        if lacking == "triton":
            monkeypatch.setattr(ptxas, "_has_triton", lambda: False)
        elif lacking == "CUDA":
            monkeypatch.setattr(torch.version, "hip", "7.0")
        else:
            import triton.backends

            monkeypatch.setattr(triton.backends, "backends", {"amd": None})
        assert ptxas.here() == []

    def test_an_assembler_that_is_not_there_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(arch: str) -> tuple[str, str]:
            raise RuntimeError("Cannot find\nptxas")

        monkeypatch.setattr(ptxas, "_in_force", missing)
        assert ptxas.compiled("sm_90") == Verdict("sm_90", "not asked: Cannot find ptxas")
        assert ptxas.warning([ptxas.compiled("sm_90")]) == []

    def test_older_gpus_are_not_affected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
        assert ptxas.executed("cuda") == Verdict("sm_86", "not affected")
        assert ptxas.compiled("sm_89") == Verdict("sm_89", "not affected")

    def test_a_gpu_is_believed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it computes decides, wherever the kernel came from."""
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        monkeypatch.setattr(ptxas, "_in_force", lambda arch: ("/bin/ptxas", "12.9.86"))
        monkeypatch.setattr(ptxas, "compiled", lambda arch: Verdict(arch, FAULTY, remedy=f"/bin/{arch}"))
        x = torch.arange(32)
        monkeypatch.setattr(canary, "values", lambda device: (x, x - 5))
        assert ptxas.executed() == Verdict("sm_90", FAULTY, "/bin/ptxas", "12.9.86", "/bin/sm_90")
        monkeypatch.setattr(canary, "values", lambda device: (x - 5, x - 5))
        assert ptxas.executed() == Verdict("sm_90", SOUND, "/bin/ptxas", "12.9.86")


def _canary(arch: str) -> Launch:
    with record(DEVICES[arch]) as launches:
        canary.values("cpu")
    (launch,) = launches
    return launch


@pytest.fixture
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary is disassembled where the gate of every test does not see it."""
    monkeypatch.setattr(machine_code, "_disassembled", {})


def _drops(version: str) -> bool:
    """Whether a ptxas of this version is known to: see kernels/canary.py."""
    return tuple(map(int, version.split(".")[:2])) < (13, 1)


@pytest.mark.tiers("compile")
@pytest.mark.usefixtures("_apart")
class TestTheCanary:
    @pytest.mark.parametrize("arch", ["sm_90", "sm_100", "sm_120"])
    def test_faults_are_those_of_the_versions_known(self, arch: str) -> None:
        found = ptxas.compiled(arch)
        assert found.verdict == (FAULTY if _drops(found.version) else SOUND), found
        assert os.access(found.path, os.X_OK)

    @pytest.mark.parametrize("arch", ["sm_90", "sm_100"])
    def test_the_gate_notices_it(self, arch: str) -> None:
        faulty = ptxas.compiled(arch).verdict == FAULTY
        machine_code._disassembled.clear()
        lost = pytest.raises(AssertionError, match=r"constants of canary_kernel \(\w+\): VIADD.16x2 \S+ \S+ 0x0$")
        with lost if faulty else nullcontext(), no_constant_dropped():
            assert inspect.report(_canary(arch)).dropped_constants == faulty

    def test_the_gate_is_every_tests(self, request: pytest.FixtureRequest) -> None:
        assert "_no_constant_is_dropped" in request.fixturenames

    def test_the_remedy_is_one(self) -> None:
        """In a process of its own, which finds what this one has compiled in Triton's cache."""
        found = ptxas.compiled("sm_90")
        others = {str(p): ptxas._version(str(p)) for p in Path(found.path).parent.glob("ptxas*")}
        if found.verdict == SOUND or all(map(_drops, others.values())):
            assert found.remedy is None
            assert found.verdict == SOUND or "this triton brings no sound one" in found.advice
            return
        assert found.remedy
        done = subprocess.run(
            [sys.executable, "-c", "from torchops.inspect import ptxas; print(ptxas.compiled('sm_90'))"],
            env={**os.environ, found.variable: found.remedy},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{others[found.remedy]} for sm_90: sound\n"

    def test_inspect_names_what_was_hit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reports = [inspect.report(_canary("sm_90"))]
        monkeypatch.setattr(inspect, "inspect", lambda *args, **kwargs: reports)
        result = CliRunner().invoke(app, ["inspect", "sobel"], catch_exceptions=False)
        assert result.exit_code == 0
        assert "constants dropped" in result.stdout
        verdict = ptxas.compiled("sm_90")
        warned = "ptxas dropped constants of canary_kernel for sm_90" in " ".join(result.stdout.split())
        assert warned == (f"{verdict.version} for sm_90: {verdict.advice}\n" in result.stdout)
        assert warned == (verdict.verdict == FAULTY)
        result = CliRunner().invoke(app, ["inspect", "sobel", "--json"], catch_exceptions=False)
        (row,) = json.loads(result.stdout)["launches"]
        assert row["dropped_constants"] == warned


@pytest.mark.tiers("gpu")
def test_a_gpu_computes_what_the_machine_code_says() -> None:
    """The values of a faulty ptxas are those of the addition left out."""
    found = ptxas.executed("cuda")
    if found.verdict == ptxas.NOT_AFFECTED:
        assert torch.cuda.get_device_capability()[0] < 9
        return
    assert found.verdict == (FAULTY if _drops(found.version) else SOUND), found
    values, right = canary.values("cuda")
    assert torch.equal(values, right + 5 if found.verdict == FAULTY else right)
