"""Which implementation runs, and what is said about it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import torchops
from torchops import backend, catalog


def test_auto_serves_cpu_tensors_with_aten() -> None:
    explanation = torchops.explain(torchops.sobel, torch.rand(1, 3, 8, 8))
    assert explanation.implementation == "aten"
    assert explanation.launches == ()
    assert "auto" in str(explanation)


@pytest.mark.tiers("interpreter")
def test_explain_names_kernel_and_config_and_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchops.kernels import sobel

    monkeypatch.setattr(sobel.sobel_fwd_kernel, "run", None, raising=False)
    explanation = torchops.explain("sobel", torch.rand(1, 3, 8, 40))
    assert explanation.implementation == "triton"
    assert [name for name, _, _ in explanation.launches] == ["sobel_fwd_kernel"]
    assert "block=64" in str(explanation)
    # a modelled time means nothing here
    assert explanation.modelled == (None,)
    assert "modelled" not in str(explanation)


@pytest.mark.parametrize("name", ["sobel", "conv2d"])
def test_explain_says_how_long_a_gpu_should_take(name: str) -> None:
    from torchops.kernels.hardware import DEVICES
    from torchops.kernels.launch import record

    op = catalog.OPS[name]
    with record(DEVICES["sm_90"]), torchops.use_backend("triton"):
        explanation = torchops.explain(name, *op.inputs((2, 64, 56, 56), torch.float32), **op.kwargs)
    ((microseconds, bound),) = explanation.modelled  # type: ignore[misc]
    assert 0 < microseconds < 1000
    assert bound == ("DRAM" if name == "sobel" else "tensor")
    assert str(explanation).endswith(f", modelled {microseconds:.1f} us, bound by {bound}")


def test_explain_rejects_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"`op` must be one of sobel, .* got 'relu'"):
        torchops.explain(torch.relu, torch.rand(3))
    with pytest.raises(ValueError, match=r"`args` must hold the tensors"):
        torchops.explain("sobel")


def test_use_backend_nests_and_restores() -> None:
    assert torchops.get_backend() == "auto"
    with torchops.use_backend("aten"):
        with torchops.use_backend("triton"):
            assert torchops.get_backend() == "triton"
        assert torchops.get_backend() == "aten"
    with pytest.raises(ZeroDivisionError), torchops.use_backend("aten"):
        raise ZeroDivisionError
    assert torchops.get_backend() == "auto"


def test_use_backend_rejects_unknown() -> None:
    with pytest.raises(ValueError, match=r"`backend` must be one of auto, triton, aten, got 'cuda'"):  # noqa: SIM117
        with torchops.use_backend("cuda"):  # type: ignore[arg-type]
            pass


def test_triton_on_cpu_tensors_raises_without_the_interpreter() -> None:
    with torchops.use_backend("triton"), pytest.raises(RuntimeError, match=r"input is on cpu: .* TRITON_INTERPRET=1"):
        torchops.sobel(torch.rand(1, 3, 8, 8))


def test_missing_triton_raises_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_has_triton", lambda: False)
    with pytest.raises(RuntimeError, match=r"cuda.* need triton, .* pip install triton, or set TORCHOPS_BACKEND=aten"):
        backend.choose(torch.device("cuda"))
    assert backend.choose(torch.device("cpu")).implementation == "aten"


@pytest.mark.parametrize("value", ["aten", "triton", "nonsense"])
def test_environment_variable(value: str) -> None:
    code = "import torchops; print(torchops.get_backend())"
    env = {**os.environ, "TORCHOPS_BACKEND": value}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if value == "nonsense":
        assert done.returncode != 0
        assert "TORCHOPS_BACKEND must be one of auto, triton, aten, got 'nonsense'" in done.stderr
    else:
        assert done.stdout.strip() == value


def test_aten_backend_serves_gradients_too() -> None:
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    with torchops.use_backend("aten"):
        torchops.sobel(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_keeps_the_dtype_of_the_image(dtype: torch.dtype) -> None:
    x = torch.rand(1, 1, 5, 5)
    with torch.autocast("cpu", dtype):
        assert torchops.sobel(x).dtype == torch.float32
        assert torchops.sobel(x.to(dtype)).dtype == dtype
