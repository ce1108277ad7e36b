"""Which machine runs the kernels of a student's file here."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torchops._version import __version__

from .report import Fault, Ran

MACHINES = ("ttsem", "standin")


class Machine(Protocol):
    """Runs functions that launch kernels, with everything watched."""

    name: str
    """What it is called in reports."""

    def prepare(self) -> None:
        """Before a student's file is imported: what `import triton` gives it."""

    def run(self, call: Callable[[], Any], file: Path, limit: float, *, order: str = "", zeros: bool = False) -> Ran:
        """Call; lines of `file` are the student's. It is stopped after `limit` seconds. With an `order`, "forward" or
        "backward", programs run first to last or last to first, and a race does not stop them. With `zeros`, lanes that are
        masked off and given no value load 0."""

    def far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        """Call with arguments on the device "meta": whether the first, the middle and the last programs of its launches
        address what they were given."""


class Lack(NamedTuple):
    """Why Triton's compiler and ttsem cannot run here."""

    why: str
    remedy: str
    """What to do about it; "" where nothing can be done."""


def machine(name: str | None = None) -> Machine:
    """ "ttsem" or "standin"; the first that can run here if not given.

    Raises:
        ValueError: if there is no such machine.
        RuntimeError: if the one that is asked for cannot run here; the message says what to install.
    """
    if name not in (None, *MACHINES):
        raise ValueError(f"`engine` (={name}): must be one of {', '.join(MACHINES)}")
    lack = None if name == "standin" else lacking()
    if name != "standin" and lack is None:
        from .semantics import Semantics

        return Semantics()
    if name == "ttsem" and lack is not None:
        raise RuntimeError(f"`engine` (=ttsem): {'; '.join(filter(None, lack))}")
    from .standin import StandIn

    return StandIn()


def lacking() -> Lack | None:
    """Why the stand-in has to run the kernels; None if Triton's compiler and ttsem can."""
    again = "pip install 'torchops[course]'"
    triton, ttsem = version("triton"), version("ttsem")
    if sys.platform != "linux":
        return Lack(f"triton has no wheels for {platform.system()}", "")
    if triton is None:
        return Lack("triton is not installed", again)
    if ttsem is None:
        if sys.version_info < (3, 12):
            return Lack(
                f"ttsem asks for Python 3.12, and this is {platform.python_version()}", f"a newer Python; {again}"
            )
        return Lack("ttsem is not installed", again)
    bound = _bound_to()
    if bound is not None and triton.partition("+")[0] != bound:
        return Lack(f"ttsem {ttsem} reads what triton {bound} writes, and triton {triton} is installed", again)
    try:
        knobs = importlib.import_module("triton").knobs
        importlib.import_module("ttsem.sanitize")
    except Exception as error:  # whatever an installation that is broken raises
        return Lack(f"triton or ttsem cannot be imported: {error}", again)
    if knobs.runtime.interpret:
        return Lack("TRITON_INTERPRET is set, so that nothing is compiled", "unset TRITON_INTERPRET")
    return None


def version(name: str) -> str | None:
    """Of an installed distribution, or of this torchops; None if there is none."""
    if name == "torchops":
        # what an editable installation says of itself is of the day when it was installed
        return __version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """What a verdict may depend on."""
    names = ("torchops", "torch", "triton", "ttsem", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _bound_to() -> str | None:
    """The triton that ttsem was made for, as its extra of that name says."""
    pins = (re.match(r"triton==([\w.]+)", asked) for asked in importlib.metadata.requires("ttsem") or ())
    return next((pin[1] for pin in pins if pin), None)
