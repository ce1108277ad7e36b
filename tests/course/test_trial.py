"""Kernels of a student's file, tried out in a notebook."""

import pytest
import torch

from torchops.course import lesson, trial
from torchops.course.machine import machine


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    file = tmp_path_factory.mktemp("trial") / "unpooling.py"
    file.write_text(lesson.load("unpooling").solution)
    return trial.load(file)


def overlap():
    """Windows 15 and 16 point to column 32; they belong to two programs."""
    tap = torch.zeros(1, 1, 1, 32, dtype=torch.uint8)
    tap[..., 15] = 2
    return torch.arange(1.0, 33.0).view(1, 1, 1, 32), tap, 3, 2


@pytest.mark.parametrize(("order", "last"), [("forward", 17), ("backward", 16)])
def test_the_program_that_runs_last_wins_a_race(mine, order, last):
    assert trial.run(mine.unpool_scatter, *overlap(), order=order).value[0, 0, 0, 32] == last


def test_a_race_stops_a_run_of_no_order(mine):
    with pytest.raises(RuntimeError, match=r"(?s)A race.*both store to element 32 of `y_ptr`.*tl.store"):
        trial.run(mine.unpool_scatter, *overlap())


def test_bytes_are_counted_by_launch(mine):
    (launch,) = trial.moved(mine.unpool, torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 2, 2)
    # 4 values and 4 taps come in, 16 pixels go out
    assert (launch.kernel, launch.programs, launch.least) == ("gather_kernel", 4, 4 * 4 + 4 + 16 * 4)


def test_rejects_an_order(mine):
    with pytest.raises(ValueError, match="`order` is 'forward' or 'backward', got 'sideways'"):
        trial.run(mine.unpool, *overlap(), order="sideways")


def test_names_a_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file `.*absent\.py`"):
        trial.load(tmp_path / "absent.py")


def test_triton_is_told_of_a_gpu_in_a_check_alone():
    """What runs in this process afterwards finds the driver that was there, and torch's own answers."""
    from triton.runtime import driver

    there, gpu = object(), torch.cuda.is_available()
    driver.set_active(there)
    try:
        made, pixels = machine("ttsem"), lesson.load("pixels")
        file = pixels.folder / "solution.py"
        brighten = trial.load(file).brighten
        assert made.run(lambda: brighten(torch.ones(3), 2.0, 0.0), file, 5.0).fault is None
        assert driver.active is there
        assert made.far(lambda: brighten(*pixels.steps[1].far()), file) is None
        assert driver.active is there
        assert torch.cuda.is_available() is gpu
    finally:
        driver.set_active(None)
