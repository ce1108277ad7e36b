"""Importing: quick, quiet, without triton and without anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_that_torch_does_not() -> None:
    code = """
import sys, torch
before = set(sys.modules)
import torchops
new = set(sys.modules) - before
print(sorted({name.partition(".")[0] for name in new} | {name for name in new if name.startswith("torchops.course")}))
"""
    found = eval(_python(code))
    heavy = {"triton", "numpy", "matplotlib", "rich", "typer", "PIL", "cv2", "kornia", "psutil", "skimage"}
    assert "torchops" in found
    assert not heavy & set(found)
    assert not [name for name in found if name.startswith("torchops.")]


def test_works_without_triton() -> None:
    code = """
import sys
sys.modules["triton"] = None  # as if it were not installed
import torch, torchops
x = torch.rand(1, 3, 8, 8, requires_grad=True)
torchops.sobel(x).sum().backward()
print(x.grad.shape)
"""
    assert _python(code) == "torch.Size([1, 3, 8, 8])"


@pytest.mark.parametrize("missing", ["typer", "rich", "PIL", "numpy", "psutil"])
def test_command_says_which_extra_is_missing(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from torchops.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"torchops: the command line needs {missing}: pip install 'torchops[cli]'\n")
    assert "Traceback" not in done.stderr


def test_kernels_models_and_the_course_are_ours_under_their_long_names_only() -> None:
    import torchops.course
    import torchops.kernels.sobel
    import torchops.models

    assert torchops.course.__name__ == "torchops.course"
    assert torchops.kernels.sobel.__name__ == "torchops.kernels.sobel"
    assert torchops.models.__name__ == "torchops.models"
