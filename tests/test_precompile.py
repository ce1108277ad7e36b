"""Kernels compiled ahead: what a model would launch, found again by another process, in another folder; and what is refused."""

from __future__ import annotations

import itertools
import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import triton.language as tl
from typer.testing import CliRunner, Result

import torchops
from torchops import catalog, inspect, precompile
from torchops.cli import app
from torchops.kernels.planning.hardware import find
from torchops.precompile import Outcome, archives, kernels_of, launches_of
from torchops.recording import Call, model_calls, module_calls, read_calls, record_calls, write_calls

ROOT = Path(__file__).parent.parent


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["precompile", *map(str, arguments)], catch_exceptions=False)


def few_calls() -> list[Call]:
    """A convolution with its gradients, and a pool."""
    with record_calls("few") as calls:
        x, w = torch.rand(1, 16, 8, 8, requires_grad=True), torch.rand(16, 16, 3, 3, requires_grad=True)
        torchops.max_pool2d(torchops.conv2d(x, w, padding=1), 2).sum().backward()
    return calls


class TestCalls:
    def test_a_call_is_written_and_read(self, tmp_path: Path) -> None:
        calls = few_calls() + model_calls("torchvision:resnet18", (2, 3, 64, 64), fused=True, backward=False)
        write_calls(tmp_path / "calls.jsonl", calls)
        assert read_calls(tmp_path / "calls.jsonl") == calls
        assert any("relu" in call.args for call in calls)

    def test_a_file_may_be_named_by_a_string(self, tmp_path: Path) -> None:
        write_calls(f"{tmp_path}/calls.jsonl", few_calls())
        assert read_calls(f"{tmp_path}/calls.jsonl") == few_calls()

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("nonsense", "line 1 is no call of torchops: Expecting value"),
            ('{"name": "a", "args": []}', "line 1 is no call of torchops: 'operator'"),
            ('{"name": "a", "operator": "conv9d", "args": []}', "torchops has no operator 'conv9d'"),
            (
                '{"name": "a", "operator": "conv2d", "args": [{"shape": [1], "strides": [1], "dtype": "nn"}]}',
                "'nn' is no dtype",
            ),
            ("[1]", "line 1 is no call of torchops"),
        ],
    )
    def test_what_is_no_call_is_refused(self, line: str, complaint: str, tmp_path: Path) -> None:
        (tmp_path / "calls.jsonl").write_text(line)
        with pytest.raises(ValueError, match=re.escape(complaint)):
            read_calls(tmp_path / "calls.jsonl")

    def test_a_module_is_asked_as_on_a_gpu(self) -> None:
        """A pool that is trained keeps indices of one byte there, and of eight on a CPU."""
        module = torch.nn.Sequential(torchops.nn.Conv2d(3, 8, 3), torchops.nn.MaxPool2d(2))
        before = {name: p.clone() for name, p in module.named_parameters()}
        calls = module_calls("net", module, torch.empty(1, 3, 9, 9), backward=True)
        assert [call.operator for call in calls] == [
            "conv2d", "max_pool2d_with_indices", "max_unpool2d", "conv2d_weight_grad",
        ]  # fmt: skip
        assert "offset" in calls[1].args
        assert all(torch.equal(p, before[name]) and p.grad is None for name, p in module.named_parameters())
        with record_calls() as here:
            module(torch.rand(1, 3, 9, 9)).sum().backward()
        assert "position" in here[1].args

    def test_fused_is_for_inference(self) -> None:
        with pytest.raises(ValueError, match="`fused` is for inference"):
            model_calls("torchvision:resnet18", (2, 3, 64, 64), fused=True)


class TestKernels:
    def test_each_once(self) -> None:
        calls = few_calls()
        launches = list(launches_of([*calls, *calls], find("sm_90")))
        kernels = kernels_of([*launches, *launches])
        assert len({(k.name, k.specialization) for k in kernels}) == len(kernels) <= len(launches)
        assert {k.name for k in kernels} == {launch.name for launch in launches}
        assert {(k.arch, k.warp_size) for k in kernels} == {("sm_90", 32)}

    def test_kernels_of_another_gpu_are_others(self) -> None:
        found = {arch: set(kernels_of(launches_of(few_calls(), find(arch)))) for arch in ("sm_90", "gfx942")}
        assert not found["sm_90"] & found["gfx942"]

    def test_compiling_for_one_gpu_hides_nothing_from_another_look(self) -> None:
        """Triton's cache of this process is not asked."""
        launches = list(launches_of(few_calls(), find("sm_90")))
        assert kernels_of(launches) == kernels_of(launches)

    def test_written_and_read(self, tmp_path: Path) -> None:
        kernels = kernels_of(launches_of(few_calls(), find("sm_90")))
        for _ in range(2):
            precompile.write_kernels(tmp_path / "kernels.jsonl", kernels)
        assert precompile.read_kernels([tmp_path / "kernels.jsonl"]) == kernels

    @pytest.mark.tiers("interpreter")
    def test_interpreted_kernels_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match="unset TRITON_INTERPRET"):
            kernels_of(launches_of(few_calls(), find("sm_90")))


@pytest.mark.tiers("compile")
class TestCache:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, str]:
        """Calls, a cache, its archive, and what the command said."""
        folder = tmp_path_factory.mktemp("precompile")
        calls, cache, file = folder / "calls.jsonl", folder / "cache", folder / "kernels.xz"
        write_calls(calls, few_calls())
        result = invoke("--calls", calls, "--cache", cache, "--pack", file, "--processes", 2)
        assert result.exit_code == 0, result.output
        return calls, cache, file, result.output

    def test_a_second_process_launches_from_what_was_unpacked(
        self, made: tuple[Path, Path, Path, str], tmp_path: Path
    ) -> None:
        """On a driver that does nothing: every kernel is found, in a folder that is not where it was compiled."""
        calls, _, file, _ = made
        manifest = archives.unpack(file, tmp_path / "elsewhere", ["sm_90"])
        env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "elsewhere"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.stub_driver", str(calls)]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        assert found["compiled"] == 0
        assert found["found"] == manifest.archs["sm_90"]
        assert found["launched"] == found["launches"] >= found["found"]

    def test_it_says_how_many(self, made: tuple[Path, Path, Path, str]) -> None:
        calls, cache, file, output = made
        count = archives.read_manifest(file).archs["sm_90"]
        assert re.search(rf"{count} kernels: {count} compiled, 0 found, 0 failed", output)
        assert re.search(rf"kernels.xz: {count} kernels for sm_90, \d+ launchers, triton", output)
        again = invoke("--calls", calls, "--cache", cache)
        assert f"{count} kernels: 0 compiled, {count} found, 0 failed" in again.output

    def test_what_was_unpacked_can_be_inspected(self, made: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
        """Its machine code is there, if not what it came from."""
        calls, _, file, _ = made
        archives.unpack(file, tmp_path / "elsewhere", ["sm_90"])
        code = (
            "import sys; from pathlib import Path; from torchops import inspect, precompile, recording\n"
            "from torchops.kernels.planning.hardware import find\n"
            "calls = recording.read_calls(Path(sys.argv[1]))\n"
            "reports = [inspect.report(x) for x in precompile.launches_of(calls, find('sm_90'))]\n"
            "assert all(set(r.code) == {'sass'} and r.registers > 0 for r in reports), reports\n"
            "print(len(reports))"
        )
        env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "elsewhere"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code, str(calls)], env=env, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 0

    def test_only_what_a_launch_needs_is_packed(self, made: tuple[Path, Path, Path, str]) -> None:
        with tarfile.open(made[2]) as archive:
            names = archive.getnames()
        assert names[0] == "manifest.json"
        assert {name.rpartition(".")[2] for name in names} <= {"json", "cubin", "so"}

    def test_the_same_cache_gives_the_same_file(self, made: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
        archives.pack(made[1], tmp_path / "again.xz")
        assert (tmp_path / "again.xz").read_bytes() == made[2].read_bytes()

    def test_another_gpu_is_refused_with_a_line(self, made: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
        result = invoke("--unpack", made[2], "--cache", tmp_path / "cache", "--arch", "sm_80")
        assert result.exit_code == 2
        (line,) = result.stderr.strip().splitlines()
        assert "holds kernels for sm_90, and none for sm_80" in line
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"triton": "3.5.0"}, "packed for triton 3.5.0, and this is"),
            ({"compiler": "0"}, "other files or another ptxas"),
        ],
        ids=["version", "files"],
    )
    def test_another_triton_is_refused(
        self, change: dict[str, Any], complaint: str, made: tuple[Path, Path, Path, str], tmp_path: Path
    ) -> None:
        file = tmp_path / "changed.xz"
        with tarfile.open(made[2]) as archive, tarfile.open(file, "w:xz") as changed:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None
                data = stream.read()
                if member.name == "manifest.json":
                    data = json.dumps({**json.loads(data), **change}).encode()
                archives._add(changed, member.name, data)
        result = invoke("--unpack", file, "--cache", tmp_path / "cache")
        assert result.exit_code == 2
        assert complaint in result.stderr
        assert not (tmp_path / "cache").exists()

    def test_a_kernel_that_does_not_compile_is_named_and_the_rest_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_calls(tmp_path / "calls.jsonl", few_calls())

        def fail_first(kernels: list[precompile.Kernel], *_: object, **__: object) -> Any:
            yield Outcome(kernels[0], False, 0.0, "PTXASError: too much")
            yield from (Outcome(kernel, False, 1.0) for kernel in kernels[1:])

        monkeypatch.setattr(precompile, "compile_all", fail_first)
        result = invoke("--calls", tmp_path / "calls.jsonl", "--cache", tmp_path / "cache")
        assert result.exit_code == 1
        assert "PTXASError: too much" in result.output
        assert "1 failed" in result.output


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ((), "nothing to do: give --model"),
            (("--model", "resnet50"), "must be torchvision:NAME or timm:NAME"),
            (("--model", "torchvision:resnet18", "--train", "--fuse"), "--fuse is for inference"),
            (("--model", "torchvision:resnet18", "--input", "3x224"), "--input must be four"),
            (("--model", "torchvision:resnet18", "--arch", "sm_1"), "--arch must be one of"),
            (("--model", "torchvision:resnet18", "--dtype", "uint8"), "--dtype must be float16"),
            (("--cases", "nose"), "--cases must be one of smoke, telling, tune, tests, bench, got 'nose'"),
            (("--calls", "/nowhere/calls.jsonl"), "No such file"),
            (("--unpack", "/nowhere/kernels.xz"), "No such file"),
            (("--pack", "/nowhere/kernels.xz", "--cache", "/nowhere"), "No such file"),
        ],
    )
    def test_errors_are_one_line(self, arguments: tuple[str, ...], complaint: str) -> None:
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.strip().splitlines()
        assert complaint in line, line

    @pytest.mark.parametrize("content", [b"", b"text", lzma.compress(b"text")], ids=["empty", "text", "no tar"])
    def test_what_is_no_archive_is_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "file.xz").write_bytes(content)
        result = invoke("--unpack", tmp_path / "file.xz", "--cache", tmp_path / "cache")
        assert result.exit_code == 2
        assert "is no archive of kernels" in result.stderr
        assert not (tmp_path / "cache").exists()

    def test_an_empty_cache_is_not_packed(self, tmp_path: Path) -> None:
        result = invoke("--pack", tmp_path / "kernels.xz", "--cache", tmp_path)
        assert result.exit_code == 2
        assert "holds no kernel" in result.stderr
        assert not (tmp_path / "kernels.xz").exists()

    def test_an_archive_leads_nowhere_else(self, tmp_path: Path) -> None:
        """A name that climbs out of the cache is no file of one."""
        manifest = {
            "triton": metadata.version("triton"), "compiler": "", "extension": "", "archs": {}, "launchers": 0,
        }  # fmt: skip
        manifest["compiler"] = archives._compiler([])
        with tarfile.open(tmp_path / "evil.xz", "w:xz") as archive:
            archives._add(archive, "manifest.json", json.dumps(manifest).encode())
            archives._add(archive, "../escaped.json", b"{}")
        with pytest.raises(archives.ArchiveError, match=r"it holds '\.\./escaped\.json'"):
            archives.unpack(tmp_path / "evil.xz", tmp_path / "cache")
        assert not (tmp_path / "escaped.json").exists()


def _is_plain(value: Any) -> bool:
    """Whether Triton finds it in JSON again as it was: tuples and numbers, and no class of ours."""
    return all(map(_is_plain, value)) if type(value) is tuple else type(value) in (int, float, bool, str, tl.dtype)


@pytest.mark.parametrize("op", catalog.OPS)
def test_constants_of_kernels_survive_json(op: str) -> None:
    for channels_last in (False, True):
        for launch in itertools.chain(*inspect.plan(op, channels_last=channels_last)):
            constants = {name: value for name, value in launch.meta.items() if name.isupper()}
            assert constants
            assert [name for name, value in constants.items() if not _is_plain(value)] == [], launch.name
