"""What lesson 12 takes from lesson 11: its convolution, registered anew whenever it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchops.course.given import convolution
from torchops.course.lesson import load

META = torch.empty(2, 3, 5, 7, device="meta"), torch.empty(4, 3, 3, 3, device="meta")


def test_the_solution_is_given() -> None:
    conv2d = convolution()
    assert conv2d(*META, (1, 0)).shape == (2, 4, 5, 5)
    assert torch.ops.course.conv2d(*META, (0, 0)).shape == (2, 4, 3, 5)


def test_it_can_be_registered_again() -> None:
    first, again = convolution(), convolution()
    assert first(*META).shape == again(*META).shape == (2, 4, 3, 5)


def test_a_file_of_the_student_is_given(tmp_path: Path) -> None:
    mine = tmp_path / "registration.py"
    fake = "return x.new_empty(size(x, weight, padding))"
    source = load("registration").solution
    assert fake in source
    mine.write_text(source.replace(fake, "return x.new_empty(1, 2, 3, 4)"), encoding="utf-8")
    assert convolution(mine)(*META).shape == (1, 2, 3, 4)
    assert convolution()(*META).shape == (2, 4, 3, 5)


def test_gradients_are_those_of_the_file() -> None:
    conv2d = convolution()
    x, weight = (tensor.clone().requires_grad_() for tensor in META)
    dx, dw = torch.autograd.grad(conv2d(x, weight, (1, 1)).sum(), (x, weight))
    assert dx.shape == x.shape
    assert dw.shape == weight.shape


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`file` \(=.*nowhere\.py\): there is no such file"):
        convolution(tmp_path / "nowhere.py")


@pytest.mark.parametrize("name", ["register", "conv2d"])
def test_a_file_without_an_operator_is_refused(name: str, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        "def register(library): ...\ndef conv2d(x): ...\n".replace(f"def {name}", "def else_"), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=rf"it has no function `{name}`"):
        convolution(other)
