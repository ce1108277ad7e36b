"""The command line as a user meets it: real files of many formats, and everything that can be wrong with them."""

from __future__ import annotations

import ast
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
from typer.testing import Result

import torchops
from torchops import files
from torchops.cli.console import in_flags

from . import shell
from .shell import invoke


def refused(result: Result, match: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error."""
    shell.refused(result, match)
    assert result.stdout == ""


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
    result = invoke("sobel", tmp_path / name, tmp_path / "edges.png", "--raw")
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


def test_a_padding_value_is_told_as_it_was_given(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "in.png")
    result = invoke("sobel", tmp_path / "in.png", tmp_path / "out.png", "--padding-value", 0.5)
    assert result.exit_code == 2
    assert result.stderr == "torchops: --padding-value 0.5 needs --padding-mode 'constant', got 'replicate'\n"


class TestBrightness:
    """A ramp of 1 a pixel, with a step in the midst, where gradients are (160 - 8) / 2 and (161 - 9) / 2."""

    @pytest.fixture
    def ramp(self, tmp_path: Path) -> Path:
        row = np.where(np.arange(20) < 10, 0, 160) + np.arange(20) % 10
        Image.fromarray(np.tile(row.astype(np.uint8), (12, 1))).save(tmp_path / "in.png")
        return tmp_path / "in.png"

    def drawn(self, file: Path, *arguments: object) -> tuple[list[int], str]:
        result = invoke("sobel", file, file.parent / "out.png", *arguments)
        assert result.exit_code == 0, result.output
        with Image.open(file.parent / "out.png") as edges:
            (line,) = result.stdout.splitlines()
            return np.array(edges)[5, 4:11].tolist(), line.removeprefix(f"{file.parent / 'out.png'}: ")

    def test_by_itself_the_strongest_are_white(self, ramp: Path) -> None:
        edges, said = self.drawn(ramp)
        assert edges == [3, 3, 3, 3, 3, 255, 255]
        assert said == (
            "20 x 12, gray, 8 bits a channel; edges 3.36 times as bright, which makes the strongest hundredth white"
        )

    def test_raw(self, ramp: Path) -> None:
        assert self.drawn(ramp, "--raw") == (
            [1, 1, 1, 1, 1, 76, 76],
            "20 x 12, gray, 8 bits a channel; edges as they are computed",
        )

    @pytest.mark.parametrize(
        ("gain", "edges"),
        [("2", [2, 2, 2, 2, 2, 152, 152]), ("8", [8, 8, 8, 8, 8, 255, 255]), ("0.5", [0, 0, 0, 0, 0, 38, 38])],
    )
    def test_gain(self, gain: str, edges: list[int], ramp: Path) -> None:
        assert self.drawn(ramp, "--gain", gain) == (
            edges,
            f"20 x 12, gray, 8 bits a channel; edges {gain} times as bright",
        )

    @pytest.mark.parametrize("shade", [0, 90])
    def test_a_plain_surface_stays_black(self, shade: int, tmp_path: Path) -> None:
        Image.new("L", (20, 12), shade).save(tmp_path / "in.png")
        edges, said = self.drawn(tmp_path / "in.png")
        assert not any(edges)
        assert said == "20 x 12, gray, 8 bits a channel; no edges: all of it is black"

    def test_sixteen_bits_stay(self, tmp_path: Path) -> None:
        _sixteen_bits().save(tmp_path / "in.png")
        result = invoke("sobel", tmp_path / "in.png", tmp_path / "out.png")
        assert "120 x 100, gray, 16 bits a channel" in result.stdout
        with Image.open(tmp_path / "out.png") as edges:
            values = np.array(edges)
        assert values.max() == 65535
        assert 0.01 <= (values == 65535).mean() < 0.02

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--gain", "2", "--raw"), "--raw leaves edges as they are computed, and --gain brightens them: give one"),
            (("--gain", "0"), r"--gain 0 must be positive and finite"),
            (("--gain", "-1.5"), r"--gain -1.5 must be positive and finite"),
            (("--gain", "nan"), r"--gain nan must be positive and finite"),
            (("--gain", "inf"), r"--gain inf must be positive and finite"),
        ],
    )
    def test_what_contradicts_is_refused(self, arguments: tuple[str, ...], said: str, ramp: Path) -> None:
        refused(invoke("sobel", ramp, ramp.parent / "out.png", *arguments), said)
        assert not (ramp.parent / "out.png").exists()


def test_background_and_frames(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (20, 12), (0, 0, 0, 0))
    clear.paste((255, 255, 255, 255), (0, 0, 10, 12))
    clear.save(tmp_path / "in.png", save_all=True, append_images=[clear.rotate(180)])
    white = invoke("sobel", tmp_path / "in.png", tmp_path / "out.png")
    assert "no edges: all of it is black" in white.stdout
    assert white.stdout.endswith("; the first of 2 frames\n")
    black = invoke("sobel", tmp_path / "in.png", tmp_path / "out.png", "--background", "black")
    assert "edges 2 times as bright" in black.stdout


def test_names_are_printed_as_they_are(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "in.png")
    result = invoke("sobel", tmp_path / "in.png", tmp_path / "[b]a[red] :cat:\x1b.png")
    assert result.stdout.startswith(f"{tmp_path}/[b]a[red] :cat:\\x1b.png: 160 x 128, colour, 8 bits")


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
        refused(invoke("sobel", tmp_path, tmp_path / "out.png"), r"is a directory, not a file")

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("hello")
        refused(
            invoke("sobel", tmp_path / "text.png", tmp_path / "out.png"),
            r"no image of a format that is read: PNG, JPEG",
        )

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        refused(invoke("sobel", tmp_path / "empty.jpg", tmp_path / "out.png"), r"empty\.jpg: is empty$")

    @pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
    def test_truncated(self, suffix: str, photo: Image.Image, tmp_path: Path) -> None:
        whole = tmp_path / f"whole.{suffix}"
        photo.save(whole)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        result = invoke("sobel", whole, tmp_path / "out.png")
        refused(result, r"whole\.\w+: (cannot be read: .+|is broken, .*)")

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

    def test_larger_than_the_limit_and_the_memory(self, tmp_path: Path) -> None:
        # a bitmap whose header promises 200000 x 200000 pixels
        (tmp_path / "huge.pgm").write_bytes(b"P5 200000 200000 255\n")
        arguments = ("sobel", tmp_path / "huge.pgm", tmp_path / "out.png")
        refused(
            invoke(*arguments), r"200000 x 200000 pixels are more than --max-pixels 178956970, which can be raised$"
        )
        refused(
            invoke(*arguments, "--max-pixels", 10**11),
            r"200000 x 200000 pixels need 596\.0 GiB of memory, \d+\.\d GiB are free",
        )

    def test_torch_out_of_memory(self, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photo.save(tmp_path / "in.png")

        def exhausted(*args: object, **kwargs: object) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory:\n you tried to allocate 9 bytes.")

        monkeypatch.setattr("torchops.sobel", exhausted)
        refused(invoke("sobel", tmp_path / "in.png", tmp_path / "out.png"), r"can't allocate memory: you tried")

    def test_disk_full(self, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photo.save(tmp_path / "in.png")

        def disk_full(self: Path, content: bytes) -> None:
            with self.open("wb") as file:
                file.write(content[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", disk_full)
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
    files = [file for folder in ("course", "kernels", "models", "torchops") for file in (root / folder).rglob("*.py")]
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
