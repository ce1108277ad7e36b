"""The command line as a user meets it: real files of many formats, and everything that can be wrong with them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner, Result

import torchops
from torchops import catalog, files, inspect
from torchops.cli import app
from torchops.cli.console import in_flags
from torchops.inspect import check
from torchops.inspect.machine_code import Instruction, main_loop

runner = CliRunner()


def invoke(*arguments: object) -> Result:
    return runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def refused(result: Result, match: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert re.search(match, line), line


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(data.astronaut()[100:228, 150:310])


def _sixteen_bits() -> Image.Image:
    return Image.fromarray(data.camera().astype(np.uint16)[:100, :120] * 257)


FILES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "photo.jpg": lambda photo: photo,
    "deep.png": lambda photo: _sixteen_bits(),
    "palette.gif": lambda photo: photo.quantize(64),
    "print.tif": lambda photo: photo.convert("CMYK"),
    "alpha.png": lambda photo: photo.convert("RGBA"),
    "bilevel.png": lambda photo: photo.convert("1"),
    "gray.webp": lambda photo: photo.convert("L"),
    "float.tiff": lambda photo: Image.fromarray(np.asarray(photo.convert("L"), np.float32) / 255),
    "one-pixel.png": lambda photo: photo.crop((0, 0, 1, 1)),
}


@pytest.mark.parametrize("name", FILES)
def test_edges_are_kornias(name: str, photo: Image.Image, tmp_path: Path) -> None:
    import kornia

    FILES[name](photo).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        if image.mode.startswith("I"):
            pixels = torch.from_numpy(np.array(image).astype(np.float32) / 65535)[None]
        elif image.mode == "F":
            pixels = torch.from_numpy(np.array(image))[None]
        else:
            converted = image.convert("L" if image.mode in ("1", "L") else "RGB")
            pixels = torch.from_numpy(np.array(converted)).float().div(255)
            pixels = pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels[None]
    expected = kornia.filters.sobel(pixels[None])[0]
    result = invoke("sobel", tmp_path / name, tmp_path / "edges.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "edges.png") as edges:
        assert (edges.width, edges.height) == (pixels.shape[2], pixels.shape[1])
        deep = edges.mode.startswith("I")
        assert deep == (name == "deep.png")
        found = torch.from_numpy(np.array(edges).astype(np.float32)) / (65535 if deep else 255)
    found = found.permute(2, 0, 1) if found.dim() == 3 else found[None]
    torch.testing.assert_close(found, expected.clamp(max=1), rtol=0, atol=1 / 255)


def test_gray_raw_and_borders(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "in.png")
    arguments = ("--gray", "--raw", "--padding-mode", "constant", "--padding-value", "1", "--backend", "aten")
    assert invoke("sobel", tmp_path / "in.png", tmp_path / "out.jpg", *arguments).exit_code == 0
    with Image.open(tmp_path / "out.jpg") as edges:
        assert edges.mode == "L"


def test_photo_is_turned_upright(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif)
    assert invoke("sobel", tmp_path / "turned.jpg", tmp_path / "out.png").exit_code == 0
    with Image.open(tmp_path / "out.png") as edges:
        assert edges.size == (photo.height, photo.width)


class TestBadFiles:
    @pytest.fixture(autouse=True)
    def _nothing_half_written(self, tmp_path: Path) -> object:
        yield
        assert not list(tmp_path.glob("**/out*"))
        assert not list(tmp_path.glob("**/.*"))

    def test_missing(self, tmp_path: Path) -> None:
        refused(invoke("sobel", tmp_path / "no.png", tmp_path / "out.png"), r"no\.png: no such file")

    def test_directory_as_input(self, tmp_path: Path) -> None:
        refused(invoke("sobel", tmp_path, tmp_path / "out.png"), r"is a directory, not an image")

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("hello")
        refused(invoke("sobel", tmp_path / "text.png", tmp_path / "out.png"), r"not an image that Pillow can read")

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        refused(invoke("sobel", tmp_path / "empty.jpg", tmp_path / "out.png"), r"not an image that Pillow can read")

    @pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
    def test_truncated(self, suffix: str, photo: Image.Image, tmp_path: Path) -> None:
        whole = tmp_path / f"whole.{suffix}"
        photo.save(whole)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        result = invoke("sobel", whole, tmp_path / "out.png")
        refused(result, r"whole\.\w+: (cannot be read: .+|.*Pillow can read)")

    def test_output_folder_missing(self, photo: Image.Image, tmp_path: Path) -> None:
        photo.save(tmp_path / "in.png")
        refused(invoke("sobel", tmp_path / "in.png", tmp_path / "no" / "out.png"), r"the folder .*no does not exist")

    def test_output_is_a_directory(self, photo: Image.Image, tmp_path: Path) -> None:
        photo.save(tmp_path / "in.png")
        refused(invoke("sobel", tmp_path / "in.png", tmp_path), r"is a directory, not a file to write")

    @pytest.mark.parametrize("name", ["out", "out.xyz"])
    def test_output_format_unknown(self, name: str, photo: Image.Image, tmp_path: Path) -> None:
        photo.save(tmp_path / "in.png")
        refused(invoke("sobel", tmp_path / "in.png", tmp_path / name), r"no image format that Pillow writes")

    def test_one_pixel_cannot_be_reflected(self, photo: Image.Image, tmp_path: Path) -> None:
        photo.crop((0, 0, 1, 1)).save(tmp_path / "in.png")
        result = invoke("sobel", tmp_path / "in.png", tmp_path / "out.png", "--padding-mode", "reflect")
        refused(result, r"--padding-mode 'reflect' .* at least 2 x 2 pixels")

    def test_larger_than_memory(self, tmp_path: Path) -> None:
        # a bitmap whose header promises 200000 x 200000 pixels
        header = b"P5 200000 200000 255\n"
        (tmp_path / "huge.pgm").write_bytes(header)
        refused(
            invoke("sobel", tmp_path / "huge.pgm", tmp_path / "out.png"),
            r"200000 x 200000 pixels need 596\.0 GiB of memory, \d+\.\d GiB are free",
        )

    def test_torch_out_of_memory(self, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photo.save(tmp_path / "in.png")

        def exhausted(*args: object, **kwargs: object) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory:\n you tried to allocate 9 bytes.")

        monkeypatch.setattr("torchops.sobel", exhausted)
        refused(invoke("sobel", tmp_path / "in.png", tmp_path / "out.png"), r"can't allocate memory: you tried")

    def test_encoder_fails(self, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photo.save(tmp_path / "in.png")

        def disk_full(self: Image.Image, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", disk_full)
        refused(invoke("sobel", tmp_path / "in.png", tmp_path / "out.png"), r"cannot be written: .*No space left")


def test_failure_keeps_the_old_output(photo: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "out.png") as beside:  # noqa: PT012
        beside.write_bytes(b"half")
        raise ZeroDivisionError
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_may_write_over_its_input(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "same.png")
    assert invoke("sobel", tmp_path / "same.png", tmp_path / "same.png").exit_code == 0


def test_backend_comes_from_the_environment(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.save(tmp_path / "in.png")
    monkeypatch.setattr(torchops.backend, "_backend_of_process", torchops.backend._backend_of_process.__wrapped__)
    for value, complaint in (("triton", "TRITON_INTERPRET=1"), ("nonsense", "TORCHOPS_BACKEND must be one of")):
        monkeypatch.setenv("TORCHOPS_BACKEND", value)
        refused(invoke("sobel", tmp_path / "in.png", tmp_path / "out.png"), complaint)


COMMANDS = {
    "--version": "ptxas is asked for its version",
    "--gpu-name=": "ptxas is told what to assemble for",
}
"""Flags that the library may write, since it runs the command whose they are."""


def test_the_library_speaks_of_arguments() -> None:
    """Flags are the shell's: who calls a function from Python is told of its arguments, which the shell translates."""
    root = Path(__file__).parent.parent
    found = {}
    files = [file for folder in ("kernels", "models", "torchops") for file in (root / folder).rglob("*.py")]
    for file in files:
        if root / "torchops" / "cli" in file.parents:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*=?", node.value):
                    found[flag] = f"{file.relative_to(root)}:{node.lineno}"
    assert found.keys() == COMMANDS.keys(), found


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("`lr` must be positive, got -1", "--lr must be positive, got -1"),
        ("`batch_size` must be a multiple of 3", "--batch-size must be a multiple of 3"),
        ("`data` (=photos (1)/new): no such folder", "--data photos (1)/new: no such folder"),
        ("`data` (=a)b): no such folder", "--data (=a)b): no such folder"),
        ("a.png: broken; `skip_corrupt` leaves such files out", "a.png: broken; --skip-corrupt leaves such files out"),
        ("`groups` (=3) must divide `lr` (=8)", "`groups` (=3) must divide --lr 8"),
        ("`lr` (=8) and `lr`", "--lr 8 and --lr"),
    ],
)
def test_arguments_become_flags(said: str, told: str) -> None:
    flags = {"lr": "--lr", "batch_size": "--batch-size", "data": "--data", "skip_corrupt": "--skip-corrupt"}
    assert in_flags(said, flags) == told


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    assert invoke("sobel", "in.png", tmp_path / "out.png", "--padding-mode", "mirror").exit_code == 2
    assert invoke("sobel").exit_code == 2
    assert invoke("inspect", "relu").exit_code == 2


def test_traceback_never_reaches_the_user(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torchops", "sobel", str(tmp_path / "no.png"), str(tmp_path / "out.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"torchops: {tmp_path / 'no.png'}: no such file\n"


class TestCheck:
    def test_all_is_well(self) -> None:
        result = invoke("check", "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert {"torch", "triton", "cpu", "gpu"} <= set(found["machine"])
        asked = {(row["op"], row["dtype"], row["backend"]) for row in found["rows"]}
        for op in catalog.OPS.values():
            for dtype in op.dtypes:
                for backend in ("aten, cpu", "triton, interpreted"):
                    assert (op.name, str(dtype).removeprefix("torch."), backend) in asked

    def test_a_wrong_op_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = catalog.Op(**{**vars(catalog.OPS["sobel"]), "function": lambda x: torchops.sobel(x) * 1.001})
        monkeypatch.setattr(catalog, "OPS", {"sobel": broken})
        monkeypatch.setattr(check, "check_interpreted", list)
        result = invoke("check")
        assert result.exit_code == 1
        assert "FAILED" in result.stdout

    def test_nan_is_a_failure(self) -> None:
        broken = catalog.Op(**{**vars(catalog.OPS["sobel"]), "function": lambda x: x * torch.nan})
        assert check.check_op(broken, torch.float32, "cpu", "aten, cpu").verdict == "FAILED"

    def test_an_interpreter_that_cannot_start_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")
        (row,) = check.check_interpreted()
        assert row.verdict.startswith("FAILED")


class TestExplain:
    def test_table(self) -> None:
        result = invoke("explain", "conv2d", "--dtype", "bfloat16", "--channels-last")
        assert result.exit_code == 0, result.output
        words = (
            "H100",
            "forward",
            "input_grad",
            "bias_grad",
            "conv2d_weight_grad_kernel",
            "block_m=",
            "modelled",
            "total",
        )
        for word in (*words, "x 32x64x56x56 bfloat16 channels_last", "w 64x64x3x3 bfloat16"):
            assert word in " ".join(result.stdout.split())

    @pytest.mark.parametrize("width", [80, 99, 160])
    @pytest.mark.parametrize("op", catalog.OPS)
    def test_a_narrow_table_can_be_read(self, op: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        result = invoke("explain", op, "--shape", "2,64,56,56")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= width
        rows = json.loads(invoke("explain", op, "--shape", "2,64,56,56", "--json").stdout)["launches"]
        # a row of each launch: its pass, its kernel in one piece, its numbers
        shown = [line.split() for line in lines if "_kernel" in line]
        assert [line[:3] for line in shown] == [[r["pass"], r["kernel"], str(r["programs"])] for r in rows]
        assert [line[5] for line in shown] == [r["bound"] for r in rows]
        # block sizes take three lines at most
        assert len(lines) < 12 + 4 * len(rows)

    def test_json(self) -> None:
        arguments = ("--dtype", "bfloat16", "--arch", "sm_80", "--set", "padding_mode=reflect", "--set", "bias=None")
        result = invoke("explain", "conv2d", *arguments, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        rows = found["launches"]
        # the input gradient of a border is two launches
        assert [row["pass"] for row in rows[:3]] == ["forward", "input_grad", "input_grad"]
        assert {row["pass"] for row in rows[3:]} == {"weight_grad"}
        assert rows[0]["tensors"]["x"] == {
            "shape": [32, 64, 56, 56], "strides": [200704, 3136, 56, 1], "dtype": "bfloat16"
        }  # fmt: skip
        assert found["total"] == {
            "launches": len(rows),
            "modelled_us": pytest.approx(sum(row["modelled_us"] for row in rows)),
            "bytes_moved": sum(row["bytes_moved"] for row in rows),
        }
        assert "conv2d_bias_grad_kernel" not in {row["kernel"] for row in rows}
        assert sum("gemm" in row["kernel"] or "shift" in row["kernel"] for row in rows) == 3
        for row in rows:
            assert row["modelled_us"] == pytest.approx(row["times_us"][row["bound"]] / row["wave_efficiency"])
            assert row["times_us"].keys() == {"DRAM", "L2", "tensor"}

    @pytest.mark.parametrize("op", catalog.OPS)
    def test_every_op(self, op: str) -> None:
        result = invoke("explain", op, "--shape", "2,6,9,9", "--json")
        assert result.exit_code == 0, result.output
        passes = {row["pass"] for row in json.loads(result.stdout)["launches"]}
        gradients = {
            "conv2d": {"input_grad", "weight_grad", "bias_grad"},
            "conv_transpose2d": {"input_grad", "weight_grad"},
        }
        assert passes == {"forward"} | gradients.get(op, {"backward"})

    def test_weight_and_bias_follow_what_is_set(self) -> None:
        for op, weight in (("conv2d", "32,8,1,5"), ("conv_transpose2d", "16,24,1,5")):
            assert invoke("explain", op, "--shape", "1,16,9,9", "--weight", weight, "--set", "groups=2").exit_code == 0
            # a weight of as many groups
            assert invoke("explain", op, "--shape", "1,16,9,9", "--set", "groups=16").exit_code == 0

    @pytest.mark.parametrize("command", ["explain", "inspect"])
    def test_bad_arguments(self, command: str) -> None:
        def refuse(match: str, *arguments: str, op: str = "conv2d") -> None:
            refused(invoke(command, op, *arguments), match)

        refuse(r"arguments of conv2d must be among bias, stride, padding, .* got 'strides'", "--set", "strides=2")
        refuse(r"must be among normalized, eps, .* got 'stride'", "--set", "stride=2", op="sobel")
        for name in ("input", "weight", "op", "channels_last"):
            refuse(rf"arguments of conv2d must be among .* got '{name}'", "--set", f"{name}=1")
        for setting in ("stride", "=2", ""):
            refuse(rf"--set must be NAME=VALUE, got '{setting}'", "--set", setting)
        refuse(r"--weight must be four positive numbers K,C,R,S, .* got '64,3,3'", "--weight", "64,3,3")
        refuse(r"--weight must be None, since sobel has none", "--weight", "1,1,3,3", op="sobel")
        refuse(r"takes 32 channels", "--weight", "64,32,3,3")
        for groups in ("0", "3", "-1", "100"):
            refuse(rf"`groups` .*{groups}\b", "--set", f"groups={groups}")
        refuse(r"`groups` must be an integer, got 'many'", "--set", "groups=many")
        refuse(r"`activation` must be None or one of relu, .* got 'cosine'", "--set", "activation=cosine")
        refuse(r"`bias` must be a tensor", "--set", "bias=3")


def test_inspect_refuses_a_weight_of_another_rank() -> None:
    for weight in ((64, 64), ()):
        with pytest.raises(ValueError, match=r"`weight` must have 4 sizes, got \("):
            inspect.inspect("conv2d", weight=weight)


def test_main_loop_multiplies_matrices_if_any_does() -> None:
    def loop(label: str, *opcodes: str) -> list[Instruction]:
        return [Instruction("MOV", None, label), *(Instruction(op, None, None) for op in opcodes)] + [
            Instruction("BRA", label, None)
        ]

    products = loop("products", "LDGSTS.E.128", "HMMA.16816.F32")
    adding = loop("adding", *("LDG.E",) * 8)
    assert main_loop(products + adding) == products
    assert main_loop(loop("short", "LDG.E") + adding + loop("arithmetic", *("FFMA",) * 16)) == adding
    assert main_loop(loop("arithmetic", "FFMA")) == []


@pytest.mark.tiers("compile")
class TestInspect:
    def test_table_and_dump(self, tmp_path: Path) -> None:
        arguments = ("inspect", "sobel", "--dtype", "bfloat16", "--shape", "2,3,64,80", "--dump", tmp_path / "code")
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        words = ("sobel_fwd_kernel", "sobel_bwd_kernel", "registers", "modelled time", "H100", "forward", "backward")
        for word in (*words, "2x3x64x80 bfloat16", "contiguous", "total: 2 launches, "):
            assert word in result.stdout
        names = {path.name for path in (tmp_path / "code").iterdir()}
        stages = ("ttir", "ttgir", "llir", "ptx", "sass")
        assert {f"sobel_fwd_kernel.sm_90.{stage}" for stage in stages} <= names
        assert "MUFU.SQRT" in (tmp_path / "code" / "sobel_fwd_kernel.sm_90.sass").read_text()

    @pytest.mark.parametrize("arch", ["sm_80", "sm_120", "gfx942"])
    def test_json(self, arch: str) -> None:
        result = invoke("inspect", "sobel", "--arch", arch, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        forward, backward = found["launches"]
        assert (forward["kernel"], backward["kernel"]) == ("sobel_fwd_kernel", "sobel_bwd_kernel")
        assert (forward["pass"], backward["pass"]) == ("forward", "backward")
        assert found["total"]["modelled_us"] == forward["modelled_us"] + backward["modelled_us"]
        assert forward["arch"] == arch
        assert forward["modelled_us"] > 0

    def test_convolution(self, tmp_path: Path) -> None:
        """Channels innermost, of the weight too: matrix instructions, and loads of 128 bits."""
        arguments = ("--dtype", "bfloat16", "--channels-last", "--set", "padding_mode=reflect", "--dump", tmp_path)
        result = invoke("inspect", "conv2d", *arguments)
        assert result.exit_code == 0, result.output
        for word in ("conv2d_weight_grad_kernel", "DRAM", "tensor", "issue", "waves"):
            assert word in result.stdout
        reports = inspect.inspect("conv2d", dtype=torch.bfloat16, channels_last=True, padding_mode="reflect")
        products = [r for r in reports if r.times_us["tensor"]]
        assert len(products) == 4
        for r in products:
            assert r.matrix_instructions > 0, r
            assert r.loads[128] > 0, r
        # each launch of a kernel has files of its own
        assert len(list(tmp_path.glob("*.sass"))) == len(reports)

    def test_weight_and_settings(self) -> None:
        arguments = ("--shape", "4,16,20,20", "--weight", "16,4,3,5", "--set", "stride=2", "--set", "padding=(1, 2)")
        further = ("--set", "groups=2", "--set", "bias=None", "--dtype", "float16", "--json")
        result = invoke("inspect", "conv_transpose2d", *arguments, *further)
        assert result.exit_code == 0, result.output
        forward = json.loads(result.stdout)["launches"][0]
        # x, weight and the 8 channels of 39 x 39 pixels that they make
        assert forward["bytes_least"] == 2 * (4 * 16 * 20 * 20 + 16 * 4 * 3 * 5 + 4 * 8 * 39 * 39)

    def test_bad_arguments(self, tmp_path: Path) -> None:
        refused(invoke("inspect", "sobel", "--arch", "sm_42"), r"--arch must be one of sm_80, .*, got 'sm_42'")
        refused(invoke("inspect", "sobel", "--dtype", "float31"), r"--dtype must name .* got 'float31'")
        refused(invoke("inspect", "sobel", "--dtype", "int64"), r"--dtype must be one of .* got torch\.int64")
        refused(invoke("inspect", "sobel", "--shape", "3,4"), r"--shape must be four .* got '3,4'")
        refused(invoke("inspect", "sobel", "--shape", f"1,1,1,{10**20}"), r"--shape .* less than 2\^40 elements")
        (tmp_path / "file").touch()
        refused(invoke("inspect", "sobel", "--shape", "1,1,8,8", "--dump", tmp_path / "file"), r"[Ff]ile exists")
