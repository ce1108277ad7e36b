"""Every example in the documentation runs and prints what it says."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import torchops
from torchops import backend, conversion, nn
from torchops.conversion import fusion, overrides
from torchops.functional import convolution, edges, pooling
from torchops.inspect import explanations
from torchops.models import checkpoints, diffusion, lenet, unet

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "module",
    [
        torchops,
        backend,
        conversion,
        convolution,
        edges,
        fusion,
        explanations,
        nn,
        overrides,
        pooling,
        checkpoints,
        diffusion,
        lenet,
        unet,
        sys.modules["torchops.models.resnet"],
    ],
    ids=lambda m: m.__name__,
)
def test_docstring_examples(module: ModuleType) -> None:
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_examples() -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_names_targets_that_exist() -> None:
    named = set(re.findall(r"(?:^\$ |`)make ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= named <= known


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "bench/README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
            assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), (page, target)
