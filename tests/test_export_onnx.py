"""Files of ONNX: onnxruntime computes from them what torch does, in sizes other than the example's too."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, export

import torchops
from bench.networks import NETWORKS, untrained
from torchops.activations import ACTIVATIONS
from torchops.export import Written, to_aten, write_onnx
from torchops.export import onnx as written_onnx
from torchops.models import UNet

ROOT = Path(__file__).parent.parent


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def run(path: Path, *args: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {node.name: t.numpy() for node, t in zip(session.get_inputs(), args, strict=True)}
    return [torch.from_numpy(out) for out in session.run(None, feed)]


# multiples of two, which pools of two halve evenly: so torch is sure of what they give
_OPEN = {0: Dim("batch"), 2: 2 * Dim("rows", min=3, max=99), 3: 2 * Dim("columns", min=3, max=99)}
_BATCH = {0: Dim("batch", min=1)}
_T = torchops


_BIAS, _WEIGHT, _PLANES = (
    torch.linspace(-1, 1, 6),
    torch.linspace(-2, 1, 162).sin().view(6, 3, 3, 3),
    torch.ones(3, 1, 2, 2),
)


def _back(x: Tensor, indices: Any, *window: int) -> Tensor:
    y, where = _T.max_pool2d(x, *window, return_indices=indices)
    return _T.max_unpool2d(y, where, *window, output_size=x.shape[2:])


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    **{
        f"conv2d-{mode}": lambda x, mode=mode: _T.conv2d(
            x, _WEIGHT, _BIAS, 2, (1, 2, 0, 1), padding_mode=mode, padding_value=0.5 * (mode == "constant")
        )
        for mode in ("zeros", "reflect", "replicate", "circular", "constant")
    },
    "conv2d-activation": lambda x: [
        _T.conv2d(x, _PLANES, None, 1, "same", 1, 3, activation=name) for name in ACTIVATIONS
    ],
    "conv_transpose2d": lambda x: _T.conv_transpose2d(x, _WEIGHT.transpose(0, 1), _BIAS, 2, 1, 1),
    "max_pool2d": lambda x: _T.max_pool2d(x, 3, 2, 1, return_indices=True),
    "max_pool2d-ceil": lambda x: _T.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max_pool2d-dilated": lambda x: _T.max_pool2d(x, (2, 3), (1, 2), (1, 0), (2, 1), return_indices=True),
    "max_pool2d-offset": lambda x: _T.max_pool2d(x, 3, 2, 1, return_indices="offset"),
    "min_pool2d": lambda x: _T.min_pool2d(x, 3, 2, 1, return_indices=True),
    "avg_pool2d": lambda x: _T.avg_pool2d(x, 3, 2, 1),
    "avg_pool2d-inside": lambda x: _T.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool2d-ceil": lambda x: _T.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "avg_pool2d-divisor": lambda x: _T.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "max_unpool2d": lambda x: _back(x, True, 2),
    "max_unpool2d-offset": lambda x: _back(x, "offset", 2),
    "max_unpool2d-overlap": lambda x: _back(x, True, 3, 2, 1),
    "max_unpool2d-overlap-offset": lambda x: _back(x, "offset", 3, 2, 1),
    "avg_unpool2d": lambda x: _T.avg_unpool2d(x, 2),
    "avg_unpool2d-overlap": lambda x: _T.avg_unpool2d(x, 3, 2, 1),
    "avg_unpool2d-apart": lambda x: _T.avg_unpool2d(x, 2, 3),
    "interpolate": lambda x: _T.interpolate(x, scale_factor=(3, 2)),
    "adaptive_avg_pool2d-one": lambda x: _T.adaptive_avg_pool2d(x, 1),
    "adaptive_avg_pool2d": lambda x: _T.adaptive_avg_pool2d(x, (4, 5)),
    "adaptive_max_pool2d-one": lambda x: _T.adaptive_max_pool2d(x, 1, return_indices=True),
    "adaptive_max_pool2d": lambda x: _T.adaptive_max_pool2d(x, (4, 5), return_indices=True),
    "sobel": lambda x: _T.sobel(x, padding_mode="circular"),
    "spatial_gradient": lambda x: _T.spatial_gradient(x, padding_mode="constant", padding_value=0.3),
}  # fmt: skip


def _modules() -> Iterator[Any]:
    """Functions of a family in one file, since a file takes seconds; in another, what is written otherwise for known sizes."""
    families = (("conv", "conv"), ("max_pools", "m(ax|in)_pool2d"), ("avg_pools", "avg_pool2d"), ("unpools", "max_unpool2d"),
                ("means", "avg_unpool2d|interpolate"), ("adaptive", "adaptive"), ("edges", "sobel|spatial"))  # fmt: skip
    names = [name for _, names in families for name in FUNCTIONS if re.match(names, name)]
    assert sorted(names) == sorted(FUNCTIONS)
    for family, names_of in families:
        yield pytest.param([name for name in names if re.match(names_of, name)], True, id=family)
    known = "conv2d-zeros", "max_unpool2d", "avg_pool2d-divisor", "adaptive_avg_pool2d", "adaptive_max_pool2d"
    yield pytest.param(known, False, id="static")


@pytest.mark.parametrize(("names", "dynamic"), [*_modules()])
def test_every_operator(names: Sequence[str], dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    # few values, so that many of a window are equal
    x = torch.randint(-3, 4, (2, 3, 10, 14)).float()
    shapes = ((_OPEN,),) if dynamic else None
    call = Call(lambda x: [FUNCTIONS[name](x) for name in names])
    written = write_onnx(call, (x,), tmp_path / "call.onnx", dynamic_shapes=shapes)
    assert written.difference is not None
    assert written.difference < 1e-5
    assert len(written.sizes) == 1 + dynamic
    assert written.sizes[0] == ((2, 3, 10, 14),)
    assert not dynamic or written.sizes[1] == ((3, 3, 12, 16),)


def test_bytes(tmp_path: Path) -> None:
    x = torch.randint(0, 256, (1, 3, 9, 8), dtype=torch.uint8)
    assert write_onnx(Call(_T.sobel), (x,), tmp_path / "sobel.onnx").difference < 1e-4  # type: ignore[operator]


def test_halves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, x = torchops.nn.Conv2d(3, 4, 3, activation="silu").half(), torch.randn(2, 3, 7, 8).half()
    assert write_onnx(layer, (x,), tmp_path / "half.onnx").difference < 2e-3  # type: ignore[operator]


def test_of_several_values_for_a_pixel_the_last_stays(tmp_path: Path) -> None:
    """Indices from outside may point anywhere, and to one pixel more than once."""
    torch.manual_seed(0)
    x, indices = torch.randn(2, 3, 4, 5), torch.randint(0, 80, (2, 3, 4, 5))
    indices[:, :, 1:3] = 7
    path = tmp_path / "unpool.onnx"
    written = write_onnx(Call(lambda x, indices: _T.max_unpool2d(x, indices, 2)), (x, indices), path)
    assert written.difference == 0
    (y,) = run(path, x, indices)
    assert torch.equal(y, _T.max_unpool2d(x, indices, 2))
    assert torch.equal(y.flatten(2)[..., 7], x[:, :, 2, 4])


_IMAGES = {0: Dim("batch"), 2: Dim("height", min=9), 3: Dim("width", min=9)}


@pytest.mark.parametrize(
    ("build", "size", "open_sizes", "fused"),
    [
        *(
            pytest.param(
                lambda unpool=unpool: UNet(classes=3, width=2, depth=1, unpool=unpool),
                (2, 1, 10, 12),
                _IMAGES,
                unpool != "max",
                id=f"unet-{unpool}",
            )
            for unpool in ("max", "avg", "transpose")
        ),
        pytest.param(NETWORKS["resnet18"], (2, 3, 32, 32), _BATCH, True, id="resnet18"),
    ],
)
def test_networks(
    build: Callable[[], nn.Module], size: tuple[int, ...], open_sizes: Any, fused: bool, tmp_path: Path
) -> None:
    """One of each decoder and one of residuals, converted or fused; tests/test_cli_export.py exports others."""
    model = untrained(build)
    model, _ = torchops.fuse(model) if fused else torchops.convert(model)
    torch.manual_seed(0)
    written = write_onnx(model, (torch.rand(size),), tmp_path / "net.onnx", dynamic_shapes=(open_sizes,))
    assert written.difference is not None
    assert written.difference < 2e-5
    # an odd height and width are padded, and cut off again
    larger = tuple(n + (dim in open_sizes) for dim, n in enumerate(size))
    assert written.sizes == ((size,), (larger,))
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_program(tmp_path: Path) -> None:
    net, x = torchops.nn.Conv2d(1, 2, 3), torch.rand(2, 1, 5, 6)
    program = export(net, (x,), dynamic_shapes=(_BATCH,))
    for given in (program, to_aten(program)):
        written = write_onnx(given, (x,), str(tmp_path / "layer.onnx"))
        assert isinstance(written, Written)
        assert (written.path, written.opset) == (tmp_path / "layer.onnx", 18)
        assert len(written.sizes) == 2
    (y,) = run(tmp_path / "layer.onnx", torch.rand(5, 1, 5, 6))
    assert y.shape == (5, 2, 3, 4)


def test_it_need_not_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    layer, x = torchops.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 5, 5)
    written = write_onnx(layer, (x,), tmp_path / "layer.onnx", check=False)
    assert (written.difference, written.sizes) == (None, ())
    written = write_onnx(layer.bfloat16(), (x.bfloat16(),), tmp_path / "bfloat16.onnx", check=False)
    assert written.path.exists()


def test_sizes_of_negative_quotients(tmp_path: Path) -> None:
    """ONNX's division of integers drops the fraction, Python's takes the next lower number."""

    def padded(x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        return F.pad(x, (0, -(w // -4) * 4 - w, 0, (h // 4 + 1) * 4 - h))

    sizes = {2: Dim("h", min=3, max=99), 3: Dim("w", min=3, max=99)}
    path = tmp_path / "padded.onnx"
    write_onnx(Call(padded), (torch.rand(1, 1, 8, 8),), path, dynamic_shapes=((sizes,),))
    for h, w in ((7, 9), (8, 12), (11, 3)):
        x = torch.rand(1, 1, h, w)
        assert torch.equal(run(path, x)[0], padded(x))


class TestRefuses:
    layer, x = torchops.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 5, 5)

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path: Path) -> Any:
        (tmp_path / "x.onnx").write_text("before")
        yield
        assert [file.name for file in tmp_path.iterdir()] == ["x.onnx"]
        assert (tmp_path / "x.onnx").read_text() == "before"

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_without_the_extra(self, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        message = rf"write_onnx needs {package}: pip install 'torchops\[onnx\]'"
        with pytest.raises(ModuleNotFoundError, match=message) as caught:
            write_onnx(self.layer, (self.x,), tmp_path / "x.onnx")
        assert caught.value.name == package

    def test_what_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(
            TypeError, match=r"`model` must be a module or a torch\.export\.ExportedProgram, got function"
        ):
            write_onnx(F.relu, (self.x,), tmp_path / "x.onnx")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`args` must be a tuple of arguments, got Tensor"):
            write_onnx(self.layer, self.x, tmp_path / "x.onnx")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`check` must be False for bfloat16"):
            write_onnx(torchops.nn.Conv2d(1, 2, 3).bfloat16(), (self.x.bfloat16(),), tmp_path / "x.onnx")
        program = export(self.layer, (self.x,))
        with pytest.raises(ValueError, match="`dynamic_shapes` are for a module: a program has its own"):
            write_onnx(program, (self.x,), tmp_path / "x.onnx", dynamic_shapes=((_BATCH,),))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda y: y + 1, r"differs by 1\.00e"),
            (
                lambda y: y[:, :1],
                r"is of shape \(1, 1, 3, 3\), torch's of \(1, 2, 3, 3\), for inputs of \(1, 1, 5, 5\)",
            ),
            (lambda y: y * np.float32(np.nan), "differs by nan"),
        ],
        ids=["other numbers", "other sizes", "no numbers"],
    )
    def test_another_answer(
        self, change: Callable[[Any], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Session(onnxruntime.InferenceSession):
            def run(self, *args: Any) -> Any:
                return [change(out) for out in super().run(*args)]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        with pytest.raises(RuntimeError, match=message):
            write_onnx(self.layer, (self.x,), tmp_path / "x.onnx")

    def test_no_room_to_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(written_onnx.os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_onnx(self.layer, (self.x,), tmp_path / "x.onnx")
        with pytest.raises(FileNotFoundError):
            write_onnx(self.layer, (self.x,), tmp_path / "nowhere" / "x.onnx")


def test_large_weights_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_onnx, "LARGEST", 0)
    layer, x = torchops.nn.Conv2d(16, 64, 3), torch.rand(1, 16, 5, 5)
    write_onnx(layer, (x,), tmp_path / "layer.onnx")
    assert {file.name for file in tmp_path.iterdir()} == {"layer.onnx", "layer.onnx.data"}
    torch.testing.assert_close(run(tmp_path / "layer.onnx", x)[0], layer(x))


def test_importing_it_needs_no_extra() -> None:
    code = "import sys\nsys.modules |= dict.fromkeys(('onnx', 'onnxscript', 'onnxruntime'))\nimport torchops.export\n"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)
