"""Do the gates of the compile tier see what they are there for?"""

from __future__ import annotations

import pytest
import torch

from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.conv2d import Config, prefer
from torchops.kernels.planning.hardware import DEVICES, Device

from .gates import assert_fits
from .test_conv2d_compile import PASSES, Pass

pytestmark = pytest.mark.tiers("compile")


def _launch_with(one: Pass, device: Device, config: Config) -> Launch:
    """The first launch of a pass, with a config that need not be offered."""
    with record(device) as launches:
        one.launch()
    with prefer(launches[0].problem, config), record(device) as launches:
        one.launch()
    return launches[0]


def test_the_gate_sees_what_spills() -> None:
    """A tile whose sums, and addresses of float32 in NCHW, find no registers: it is not offered."""
    one = next(p for p in PASSES if p.name == "lean-stem-planes-4")
    with pytest.raises(AssertionError, match=r"spills to \d+ bytes|spills=\d+"):
        assert_fits(_launch_with(one, DEVICES["sm_90"], Config(64, 64, 32, 4, 1, rows=29)))


def test_the_gate_sees_what_multiplies_without_matrix_units() -> None:
    one = Pass("ieee", "fwd", (128, 128), dtype=torch.float32, tf32=False)
    launch = _launch_with(one, DEVICES["sm_90"], Config(32, 32, 16, 2, 2))
    assert_fits(launch)
    with pytest.raises(AssertionError, match=r"without matrix units|matrix_instructions=0"):
        assert_fits(launch, multiplies=True)


def test_all_registers_are_asked_of_ptxas_alone() -> None:
    """A weight gradient that slides may have them; AMD's compiler does not know the option."""
    one = Pass("stem", "weight_grad", (3, 64), kernel=7, padding_mode="zeros", stride=(2, 2))
    for arch in ("sm_90", "gfx942"):
        launch = _launch_with(one, DEVICES[arch], Config(32, 16, 32, 4, 1, rows=29))
        assert launch.name == "conv2d_weight_grad_flat_slide_kernel"
        assert launch.meta.get("maxnreg") == (255 if arch == "sm_90" else None)
        assert_fits(launch)
