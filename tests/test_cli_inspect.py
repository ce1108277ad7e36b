"""The commands that look inside: check, explain and inspect."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import torchops
from torchops import catalog, inspect
from torchops.inspect import check
from torchops.inspect.machine_code import Instruction, main_loop

from .test_cli import invoke, refused


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
        result = invoke("check", "--json")
        assert result.exit_code == 1
        found = json.loads(result.stdout)
        assert found["machine"]["torchops"] == torchops.__version__
        assert "FAILED" in {row["verdict"] for row in found["rows"]}

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
            assert row["modelled_us"] == pytest.approx(row["times_us"][row["bound"]] / row["utilization"])
            assert row["times_us"].keys() == {"DRAM", "L2", "tensor", "issue"}
            # the sum of ranges of pixels is no convolution
            assert (row["times_us"]["issue"] > 0) == ("sum_splits" not in row["kernel"])

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
        for word in ("conv2d_weight_grad_kernel", "DRAM", "tensor", "issue", "bound by"):
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
