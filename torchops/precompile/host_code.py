"""What launches a kernel from Python, built on a machine that may have no driver.

Triton before 3.7 compiles a small C library for every signature, when a kernel is first launched; later ones have a single
one. Both are linked against NVIDIA's driver, libcuda.so.1. Where there is none, a library of that name whose functions do
nothing will do: what is built with it works with the real one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_DRIVER = """\
/* A libcuda.so.1 that says yes to everything. Every property is the shared memory of an H100; launches are counted. */
static int launches = 0;
int torchops_launches(void) { return launches; }
int cuDeviceGetAttribute(int *value, int name, int device) { *value = 232448; return 0; }
int cuFuncGetAttribute(int *value, int name, void *function) { *value = name == 0 ? 1024 : 0; return 0; }
int cuLaunchKernelEx(void *config, void *function, void **params, void **extra) { launches++; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "none"; return 0; }
"""
_FUNCTION = re.compile(r"\bcu[A-Z]\w+(?=\()")


def are_built_by_signature() -> bool:
    """Whether this Triton compiles a launcher for every signature."""
    try:
        from triton.backends.nvidia import driver
    except ImportError:
        return False
    return hasattr(driver, "make_launcher")


def driver_that_does_nothing() -> ctypes.CDLL:
    """The stub, built into Triton's cache if it is not there, and loaded so that what needs libcuda.so.1 finds it.

    It counts launches: `torchops_launches()`.

    Raises:
        RuntimeError: if there is no C compiler, which Triton needs too.
    """
    from triton import knobs
    from triton.backends.nvidia import driver
    from triton.runtime.cache import get_cache_manager

    sources = Path(driver.dirname, "driver.c").read_text() + Path(driver.__file__).read_text()
    further = set(_FUNCTION.findall(sources)) - set(_FUNCTION.findall(_DRIVER))
    text = _DRIVER + "".join(f"int {name}() {{ return 0; }}\n" for name in sorted(further))
    cache = get_cache_manager(hashlib.sha256(text.encode()).hexdigest())
    if (file := cache.get_file("libcuda.so.1")) is None:
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise RuntimeError("no C compiler for what launches kernels: install gcc or clang, or set CC")
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "stub.c"), Path(folder, "libcuda.so.1")
            source.write_text(text)
            command = [compiler, "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), str(source)]
            subprocess.run(command, check=True, capture_output=True)
            file = cache.put(library.read_bytes(), library.name)
    knobs.nvidia.libcuda_path = os.path.dirname(file)
    return ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)


@functools.cache
def _find_driver() -> None:
    """Have Triton find a driver to link against, and build what every launch needs."""
    from triton.backends.nvidia import driver

    try:
        driver.libcuda_dirs()
    except (AssertionError, OSError, subprocess.CalledProcessError):  # Triton raises these where there is no driver
        driver_that_does_nothing()
    driver.CudaUtils()


def build(compiled: Any) -> None:
    """Build the launcher of a compiled kernel into Triton's cache, if this Triton builds them by signature.

    A single launcher is left to the machine that launches: its key holds where the driver lies there.
    """
    if compiled.metadata.target.backend != "cuda" or not are_built_by_signature():
        return
    from triton.backends.nvidia.driver import CudaLauncher

    _find_driver()
    CudaLauncher(compiled.src, compiled.metadata)
