"""Does the assembler that Triton uses here for NVIDIA's GPUs keep constants? kernels/canary.py says which do not, and why.

Without a GPU the canary is compiled and its machine code read; on one it is run. `torchops check` shows the answer.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from torchops.backend import _has_triton

if TYPE_CHECKING:
    from . import LaunchReport

SOUND, FAULTY, NOT_AFFECTED = "sound", "FAULTY", "not affected"


@dataclass(frozen=True)
class Verdict:
    """What came of the canary for GPUs of one architecture."""

    arch: str
    verdict: str
    """"sound", "FAULTY", "not affected" (the GPU has no such instruction) or "not asked: " with the reason."""
    path: str = ""
    """Path of the ptxas that Triton uses for this architecture."""
    version: str = ""
    remedy: str | None = None
    """A sound ptxas in the same wheel, where this one is faulty and there is one."""

    @property
    def variable(self) -> str:
        """The environment variable that names another ptxas to Triton: kernels are then compiled anew."""
        return "TRITON_PTXAS_BLACKWELL_PATH" if _number(self.arch) >= 100 else "TRITON_PTXAS_PATH"

    @property
    def advice(self) -> str:
        """What to set where it is faulty."""
        if self.remedy:
            return f"set {self.variable}={self.remedy}, which is sound"
        return f"this triton brings no sound one: set {self.variable} to a ptxas of CUDA 13.1 or newer"

    def __str__(self) -> str:
        which = f"{self.version} for {self.arch}" if self.version else self.arch
        return f"{which}: {self.verdict}"


def _number(arch: str) -> int:
    return int(arch.removeprefix("sm_"))


def is_asked() -> bool:
    """Whether Triton assembles for NVIDIA's GPUs in this environment."""
    if not _has_triton() or torch.version.hip:
        return False
    from triton.backends import backends

    return "nvidia" in backends


def _version(path: str) -> str:
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\bV(\d[\d.]*)", text)
    return version[1] if version else "of unknown version"


def _in_force(arch: str) -> tuple[str, str]:
    """Path and version of the ptxas that Triton uses for an architecture."""
    from triton.backends.nvidia.compiler import get_ptxas

    path = str(get_ptxas(_number(arch)).path)
    return path, _version(path)


def _keeps_constants(ptxas: Path, ptx: str) -> bool:
    """Whether a ptxas assembles the canary as it is written."""
    from .machine_code import disassemble, dropped_constants

    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert target
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder) / "canary.ptx", Path(folder) / "canary.cubin"
        source.write_text(ptx)
        command = [str(ptxas), f"--gpu-name={target[1]}", str(source), "-o", str(cubin)]
        # a ptxas that does not know the target or the version of this PTX is no remedy
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return False
        return not dropped_constants(disassemble(cubin))


def _remedy(path: str, ptx: str) -> str | None:
    import triton

    beside = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    others = (other for other in sorted(beside.glob("ptxas*")) if other != Path(path))
    return next((str(other) for other in others if _keeps_constants(other, ptx)), None)


def compiled(arch: str) -> Verdict:
    """Compile the canary for GPUs of an architecture, which need not be there, and read the machine code.

    Args:
        arch: one of :func:`torchops.inspect.inspect`'s of NVIDIA.
    """
    if _number(arch) < 90:
        return Verdict(arch, NOT_AFFECTED)
    path = version = ""
    try:
        from torchops.kernels import canary
        from torchops.kernels.launch import record
        from torchops.kernels.planning.hardware import find

        from . import report

        path, version = _in_force(arch)
        with record(find(arch)) as launches:
            canary.values("cpu")
        found = report(launches[0])
        if not found.dropped_constants:
            return Verdict(arch, SOUND, path, version)
        return Verdict(arch, FAULTY, path, version, _remedy(path, found.code["ptx"]))
    except Exception as error:  # the assembler may not be there, or kernels may be interpreted
        return Verdict(arch, f"not asked: {' '.join(str(error).split())[:200]}", path, version)


def executed(device: torch.device | str = "cuda") -> Verdict:
    """Run the canary on an NVIDIA GPU, and compare its values.

    Args:
        device: the GPU.
    """
    major, minor = torch.cuda.get_device_capability(device)
    arch = f"sm_{major}{minor}"
    if major < 9:
        return Verdict(arch, NOT_AFFECTED)
    path = version = ""
    try:
        from torchops.kernels import canary

        path, version = _in_force(arch)
        found, right = canary.values(device)
        if torch.equal(found, right):
            return Verdict(arch, SOUND, path, version)
        # the remedy is sought with a listed architecture that the same ptxas assembles for
        return Verdict(arch, FAULTY, path, version, compiled("sm_90" if major == 9 else "sm_100").remedy)
    except Exception as error:
        return Verdict(arch, f"not asked: {' '.join(str(error).split())[:200]}", path, version)


def here() -> list[Verdict]:
    """On the GPU of this machine; without one, for each ptxas that Triton has. Empty where Triton has none."""
    if not is_asked():
        return []
    if torch.cuda.is_available():
        return [executed()]
    return [compiled("sm_90"), compiled("sm_100")]


def warning(verdicts: Iterable[Verdict]) -> list[str]:
    """What to know and to do about those that are faulty, line by line; empty if none is."""
    faulty = [v for v in verdicts if v.verdict == FAULTY]
    if not faulty:
        return []
    return [
        "ptxas drops constants of packed 16-bit additions: a kernel that has such may compute wrong values (pytorch#173068). "
        "GPUs older than sm_90 have no such instruction. No kernel of torchops is known to be hit, and torchops inspect looks "
        "at each it compiles; PyTorch's own and others' may be.",
        *(f"{v.version} for {v.arch}: {v.advice}" for v in faulty),
    ]


def hit(reports: Iterable[LaunchReport]) -> list[str]:
    """What to know and to do about kernels that lost constants, line by line; empty if none did."""
    lost = [r for r in reports if r.dropped_constants]
    if not lost:
        return []
    kernels = ", ".join(dict.fromkeys(f"{r.kernel} for {r.arch}" for r in lost))
    archs = dict.fromkeys(r.arch for r in lost)
    return [
        f"ptxas dropped constants of {kernels}: what it computes there is wrong (see kernels/canary.py).",
        *(f"{v.version} for {v.arch}: {v.advice}" for v in map(compiled, archs) if v.verdict == FAULTY),
    ]
