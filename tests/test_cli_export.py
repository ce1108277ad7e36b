"""torchops export as a user meets it: files for other runtimes, and one line for every mistake."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

import torchops
from torchops.files import targets
from torchops.models import load

from .test_cli import invoke, refused


def trained(folder: Path, net: str, *options: object) -> Path:
    result = invoke("train", net, "--epochs", 1, *options, "--out", folder / net)
    assert result.exit_code == 0, result.output
    return folder / net


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), "lenet", "--examples", 10, "--size", 16, "--norm", "before")


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("--size", 32, "--width", 4, "--depth", 2, "--crops", 1, "--unpool", "max")
    return trained(tmp_path_factory.mktemp("runs"), "unet", *options)


def of_onnx(file: Path, *args: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    feed = {node.name: t.numpy() for node, t in zip(session.get_inputs(), args, strict=True)}
    return torch.from_numpy(session.run(None, feed)[0])


def of_program(file: Path, *args: torch.Tensor) -> torch.Tensor:
    program = torch.export.load(file)
    assert not [node for node in program.graph.nodes if "torchops" in str(node.target)]
    return program.module()(*args)


@pytest.mark.parametrize("options", [(), ("--no-fuse", "--static", "--batch", 1)], ids=["default", "static"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_classes(suffix: str, options: tuple[object, ...], lenet: Path, tmp_path: Path) -> None:
    file = tmp_path / f"lenet{suffix}"
    file.write_text("is replaced")
    result = invoke("export", lenet, file, *options)
    assert result.exit_code == 0, result.output
    size = "1x1x16x16" if options else "2x1x16x16"
    assert re.search(
        rf"lenet{suffix}: .* differs from torch.* by \S+e-0[5-9] at most|by 0\.0e\+00 at most", result.output
    )
    assert f"for inputs of {size}" in result.output
    x = torch.rand(1 if options else 5, 1, 16, 16)
    y = (of_onnx if suffix == ".onnx" else of_program)(file, x)
    with torch.no_grad():
        torch.testing.assert_close(y, load(lenet)(x), atol=1e-5, rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_masks_of_any_size(suffix: str, unet: Path, tmp_path: Path) -> None:
    file = tmp_path / f"unet{suffix}"
    assert invoke("export", unet, file, "--size", 24).exit_code == 0
    for x in (torch.rand(2, 1, 24, 24), torch.rand(1, 1, 33, 19)):
        with torch.no_grad():
            y = (of_onnx if suffix == ".onnx" else of_program)(file, x)
            torch.testing.assert_close(y, load(unet)(x), atol=1e-5, rtol=1e-5)


def test_noise(tmp_path: Path) -> None:
    """What a diffusion model says of images at a time."""
    run = trained(tmp_path, "diffusion", "--width", 8, "--depth", 1, "--steps", 5)
    assert invoke("export", run, tmp_path / "diffusion.onnx").exit_code == 0
    x, t = torch.rand(3, 1, 8, 8), torch.tensor([0, 3, 4])
    with torch.no_grad():
        torch.testing.assert_close(of_onnx(tmp_path / "diffusion.onnx", x, t), load(run)(x, t), atol=1e-5, rtol=1e-5)


def test_a_package(lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers are asked in tests/test_export_aten.py."""

    programs = {}
    monkeypatch.setattr(
        torchops.compiler_internals, "compile_package", lambda program, path: programs.update({path: program})
    )
    monkeypatch.setattr(torchops.compiler_internals, "load_package", lambda path: programs[path].module())
    result = invoke("export", lenet, tmp_path / "lenet.pt2", "--aoti")
    assert result.exit_code == 0, result.output
    assert "lenet.pt2: machine code, without torchops; differs from torchops by" in result.output


def test_mistakes(lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.onnx"
    refused(invoke("export", lenet, tmp_path / "x.pt"), r"x\.pt: must end in \.onnx or \.pt2")
    refused(invoke("export", "nowhere", file), "nowhere: no such file")
    refused(invoke("export", lenet, tmp_path / "no" / "x.pt2"), "the folder .*no does not exist")
    refused(invoke("export", lenet, file, "--aoti"), r"x\.onnx: --aoti writes a \.pt2")
    refused(invoke("export", lenet, file, "--batch", 1), "--batch must be 2 or more, or --static")
    refused(invoke("export", lenet, file, "--size", 20), "--size 20: lenet takes no such images: mat1 and mat2")
    (tmp_path / "folder.pt2").mkdir()
    refused(invoke("export", lenet, tmp_path / "folder.pt2"), "folder.pt2: is a directory, not a file to write")
    with monkeypatch.context() as patch:
        patch.setattr(targets.os, "access", lambda path, mode: path != tmp_path)
        refused(invoke("export", lenet, file), "cannot be written to")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        refused(invoke("export", lenet, file), r"x\.onnx: write_onnx needs onnxruntime: pip install 'torchops\[onnx\]'")
    with monkeypatch.context() as patch:

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(torch.export, "save", full)
        refused(invoke("export", lenet, tmp_path / "x.pt2"), "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.pt2"]
