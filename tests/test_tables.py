"""Tables of block sizes: what is wrong with a file is said, and the rest holds."""

from __future__ import annotations

import copy
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import model
from torchops.kernels.planning import conv2d as conv2d_config
from torchops.kernels.planning import conv2d_candidates, tables
from torchops.kernels.planning.conv2d import (
    Config,
    Problem,
    candidates,
    choices,
    model_config,
    pick_config,
    prefer,
    row,
)
from torchops.kernels.planning.hardware import DEVICES, GPUS, Device

H100 = GPUS["H100"]
PROBLEM = Problem(
    kind="gather", m=12544, k=96, c=64, taps=9, row=3, phases=1, groups=1, itemsize=2, tf32=False, coalesced=True, span=2,
    lean=True, bytes_least=0,
)  # fmt: skip
OTHER = next(c for c in choices(PROBLEM, H100) if c != model_config(PROBLEM, H100))
GRADIENT = replace(PROBLEM, kind="weight_grad", lean=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, empty; what was read before is forgotten."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHOPS_CONFIG_DIR", str(tmp_path))
    conv2d_config.forget_tables()
    yield tmp_path
    conv2d_config.forget_tables()


def content(config: Config = OTHER, source: str = "measured") -> dict[str, Any]:
    return {"gpu": "H100-SXM5", "sms": 132, "rows": [row(PROBLEM, config, source, "test")]}


def write(folder: Path, found: Any, name: str = "H100.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(found if isinstance(found, str) else json.dumps(found))
    return folder / name


def test_a_row_is_picked(folder: Path) -> None:
    write(folder, content())
    assert pick_config(PROBLEM, H100) == OTHER


def _change(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: Any) -> None:
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value

    return change


def _remove(*path: Any) -> Callable[[dict[str, Any]], None]:
    def remove(found: Any) -> None:
        for step in path[:-1]:
            found = found[step]
        del found[path[-1]]

    return remove


_CONFIG, _PROBLEM = ("rows", 0, "config"), ("rows", 0, "problem")
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "wrong-gpu": (_change("gpu", value="RTX 4090"), "of the GPU 'RTX 4090'"),
    "gpu-no-name": (_change("gpu", value=7), "of the GPU 7"),
    "wrong-sms": (_change("sms", value=114), "114 multiprocessors, not 132"),
    "sms-no-number": (_change("sms", value="132"), "'132' multiprocessors"),
    "no-sms": (_remove("sms"), "no object of gpu, sms and rows"),
    "no-rows": (_remove("rows"), "no object of gpu, sms and rows"),
    "rows-no-list": (_change("rows", value={"a": 1}), "rows are no list"),
    "row-no-object": (_change("rows", 0, value=[1, 2]), "row 1: no object with a source"),
    "unknown-source": (_change("rows", 0, "source", value="guessed"), "row 1: no object with a source"),
    "source-no-word": (_change("rows", 0, "source", value=["measured"]), "row 1: no object with a source"),
    "no-config": (_remove(*_CONFIG), "config is no object"),
    "no-problem": (_remove(*_PROBLEM), "problem is no object"),
    "missing-field": (_remove(*_CONFIG, "splits"), "missing or unknown: splits"),
    "unknown-field": (_change(*_CONFIG, "cluster", value=2), "missing or unknown: cluster"),
    "unknown-field-of-problem": (_change(*_PROBLEM, "layout", value="NHWC"), "missing or unknown: layout"),
    "float": (_change(*_CONFIG, "block_m", value=128.0), "block_m of config is 128.0"),
    "word": (_change(*_CONFIG, "num_warps", value="8"), "num_warps of config is '8'"),
    "truth-for-number": (_change(*_CONFIG, "taps", value=True), "taps of config is True"),
    "null": (_change(*_PROBLEM, "m", value=None), "m of problem is None"),
    "number-for-truth": (_change(*_PROBLEM, "tf32", value=0), "tf32 of problem is 0"),
    "no-power-of-two": (_change(*_CONFIG, "block_n", value=96), "may be picked"),
    "too-much-shared-memory": (_change(*_CONFIG, "num_stages", value=64), "may be picked"),
    "no-warps": (_change(*_CONFIG, "num_warps", value=0), "may be picked"),
    "splits-of-a-gather": (_change(*_CONFIG, "splits", value=4), "may be picked"),
    "negative": (_change(*_CONFIG, "block_k", value=-64), "block_k of config is -64"),
    "huge": (_change(*_PROBLEM, "m", value=10**30), "m of problem is 1000"),
    "infinite": (_change(*_CONFIG, "block_m", value=float("inf")), "block_m of config is inf"),
    "no-pixels": (_change(*_PROBLEM, "m", value=0), "is none"),
    "unknown-kind": (_change(*_PROBLEM, "kind", value="scatter"), "is none"),
    "broken-rows-of-taps": (_change(*_PROBLEM, "row", value=2), "is none"),
    "no-image-to-slide-down": (_change(*_PROBLEM, "slides", value=1), "is none"),
}
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not JSON"),
    "binary": (bytes(range(256)), "not JSON"),
    "truncated": (json.dumps(content()).encode()[:-40], "not JSON"),
    "list": (b"[1, 2, 3]", "no object of gpu, sms and rows"),
    "null": (b"null", "no object of gpu, sms and rows"),
    "deep": (b"[" * 200_000, "not JSON"),
    "utf-16": (json.dumps(content()).encode("utf-16")[:-1], "not JSON"),
}


def ignored(file: Path, complaint: str) -> None:
    """One warning, which names the file and the reason; the model's choice."""
    with pytest.warns(UserWarning, match=re.escape(str(file))) as caught:
        assert pick_config(PROBLEM, H100) == model_config(PROBLEM, H100)
    (warning,) = caught
    assert complaint in str(warning.message)
    with warnings.catch_warnings():  # once is enough, for all problems
        warnings.simplefilter("error")
        assert pick_config(GRADIENT, H100) == model_config(GRADIENT, H100)


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_field_is_reported_and_ignored(name: str, folder: Path) -> None:
    change, complaint = CHANGES[name]
    found = content()
    change(found)
    ignored(write(folder, found), complaint)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_table_is_reported_and_ignored(name: str, folder: Path) -> None:
    data, complaint = FILES[name]
    (folder / "H100.json").write_bytes(data)
    ignored(folder / "H100.json", complaint)


def test_a_folder_in_its_place_is_reported_and_ignored(folder: Path) -> None:
    (folder / "H100.json").mkdir()
    ignored(folder / "H100.json", "not a file")


def test_a_pipe_in_its_place_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "H100.json")
    ignored(folder / "H100.json", "not a file")


def test_a_link_to_itself_is_reported_and_ignored(folder: Path) -> None:
    (folder / "H100.json").symlink_to(folder / "H100.json")
    ignored(folder / "H100.json", "symbolic links")


def test_a_file_that_may_not_be_read_is_reported_and_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = write(folder, content()), Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == file:  # root may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    ignored(file, "Permission denied")


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("TORCHOPS_CONFIG_DIR", str(tmp_path / "plain"))
    ignored(tmp_path / "plain" / "H100.json", "Not a directory")


def test_good_rows_stay_beside_bad_ones(folder: Path) -> None:
    found = content()
    broken = copy.deepcopy(found["rows"][0])
    broken["config"]["block_m"] = 100
    found["rows"] = [broken, found["rows"][0], 7]
    write(folder, found)
    with pytest.warns(UserWarning, match=r"2 of 3 rows are ignored; row 1: .* may be picked"):
        assert pick_config(PROBLEM, H100) == OTHER


def test_a_weight_gradient_gets_no_splits_but_the_models(folder: Path) -> None:
    allowed = choices(GRADIENT, H100)[-1]
    found = {**content(), "rows": [row(GRADIENT, allowed, "measured", "test")]}
    write(folder, found)
    assert pick_config(GRADIENT, H100) == allowed
    conv2d_config.forget_tables()
    found["rows"][0]["config"]["splits"] = 100_000
    write(folder, found)
    with pytest.warns(UserWarning, match="may be picked"):
        assert pick_config(GRADIENT, H100) == model_config(GRADIENT, H100)


def test_the_chosen_folder_comes_before_the_cache_and_that_before_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, *_ = choices(PROBLEM, H100)
    monkeypatch.setattr(tables, "PACKAGE", tmp_path / "package")
    for place, config, source in (
        (tmp_path / "package", third, "measured"),
        (tmp_path / "cache" / "torchops" / "configs", second, "measured"),
        (folder, first, "model"),
    ):
        write(place, content(config, source))
        conv2d_config.forget_tables()
        assert pick_config(PROBLEM, H100) == config


def test_measured_rows_come_before_modelled_ones(folder: Path) -> None:
    found = content()
    modelled = row(PROBLEM, model_config(PROBLEM, H100), "model", "test")
    found["rows"] = [modelled, *found["rows"], modelled]
    write(folder, found)
    assert pick_config(PROBLEM, H100) == OTHER


def test_without_a_choice_the_users_folder_is_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHOPS_CONFIG_DIR")
    assert tables.user_folder() == tmp_path / "cache" / "torchops" / "configs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert tables.user_folder() == Path("/home/somebody/.cache/torchops/configs")
    assert tables.folders() == [tables.user_folder(), tables.PACKAGE]


@pytest.mark.parametrize(
    ("name", "sms", "file"),
    [
        ("NVIDIA H100 80GB HBM3", 132, "H100.json"),
        ("NVIDIA H100 PCIe", 114, "NVIDIA-H100-PCIe.json"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 16, "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.json"),
        ("NVIDIA GeForce RTX 4090", 128, "RTX-4090.json"),
        ("Some/../GPU", 3, "Some-..-GPU.json"),
    ],
)
def test_a_gpu_has_one_file(name: str, sms: int, file: str) -> None:
    assert tables.file_name(name, sms) == file


def test_preferred_is_what_the_block_says_and_only_there(folder: Path) -> None:
    write(folder, content())
    third = choices(PROBLEM, H100)[-1]
    with prefer(PROBLEM, third):
        assert pick_config(PROBLEM, H100) == third
        with prefer(GRADIENT, OTHER):
            assert (pick_config(PROBLEM, H100), pick_config(GRADIENT, H100)) == (third, OTHER)
        assert pick_config(GRADIENT, H100) == model_config(GRADIENT, H100)
    assert pick_config(PROBLEM, H100) == OTHER


FLAT = replace(PROBLEM, m=401408, k=64, c=3, taps=49, row=7, coalesced=False, span=0)
"""ResNet's first convolution, in NCHW."""


def test_what_an_older_compiler_spills_is_no_candidate() -> None:
    """The largest flat tiles, of pixels whose channels do not lie back to back: hundreds of registers with triton 3.6."""
    last = replace(FLAT, coalesced=True)
    assert candidates(FLAT, H100, (3, 8)) == candidates(FLAT, H100, (3, 7)) == candidates(last, H100, (3, 6))


@pytest.mark.parametrize(
    ("arch", "problem", "tiles"),
    [
        ("sm_90", FLAT, [(128, 64, 32, 8), (64, 64, 32, 4), (64, 32, 32, 4)]),
        ("sm_100", replace(FLAT, kind="ring", coalesced=True), [(64, 32, 32, 4)]),
        ("sm_89", replace(FLAT, kind="fold", coalesced=True, lean=False), [(128, 32, 32, 4)]),
        ("sm_90", replace(FLAT, kind="weight_grad"), [(64, 32, 32, 4)]),
    ],
)  # fmt: skip
def test_what_is_left_with_an_older_compiler(arch: str, problem: Problem, tiles: list[tuple[int, ...]]) -> None:
    found = candidates(problem, DEVICES[arch], (3, 6))
    assert [(c.block_m, c.block_n, c.block_k, c.num_warps) for c in found] == tiles


@pytest.mark.parametrize("device", model.TABLES.values(), ids=model.TABLES)
def test_tables_of_the_package_are_read_with_an_older_compiler(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it spills is left out, and none of them is warned of: every problem has something left to pick."""
    new = conv2d_config.table(device)
    monkeypatch.setattr(conv2d_candidates, "compiler_version", lambda: (3, 6))
    conv2d_config.forget_tables()
    old = conv2d_config.table(device)
    assert 0.9 * len(new) < len(old) <= len(new)
    assert all(pick_config(problem, device) in choices(problem, device) for problem in new)
