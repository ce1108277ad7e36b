"""Files of weights: what is written is read, and of whatever else a file may hold, one line says what is wrong."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from torchops.cli import app
from torchops.files.images import MAX_PIXELS
from torchops.models import Checkpoint, CheckpointError, LeNet, build, load
from torchops.models.checkpoints import read
from torchops.models.data import Preprocess
from torchops.models.validation import FIELDS, LARGEST_IMAGE, PREPROCESS

OPTIONS: dict[str, Any] = {"classes": 3, "channels": 1, "size": 16, "widths": [2, 3], "hidden": 4, "norm": "before"}


def tiny(**changed: Any) -> Checkpoint:
    """A checkpoint of a LeNet of 100 numbers, with fields that are changed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        state = build("lenet", **OPTIONS).state_dict()
    preprocess = {"channels": 1, "size": 16, "mean": (0.5,), "std": (0.5,), "background": "white"}
    found = Checkpoint("lenet", dict(OPTIONS), dict(state), ["a", "b", "c"], preprocess)
    return dataclasses.replace(found, **changed)


def content(**changed: Any) -> dict[str, Any]:
    """The same as torch finds it in the file, whatever the fields are changed to."""
    checkpoint = tiny()
    fields = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    return {"torchops": 1, **fields, **changed}


def refused(path: Path, match: str) -> None:
    """The file is refused where it is read or where its network is made, in one line."""
    with pytest.raises(CheckpointError, match=match) as caught:
        Checkpoint.load(path).model()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400 + len(str(path))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = tiny(values=[0, 128, 255], colours=[[0, 0, 0], [1, 2, 3], [255, 0, 9]], training={"step": 3})
    for name in ("one.pt", "other.pt"):
        written.save(tmp_path / name)
    found = Checkpoint.load(tmp_path / "one.pt")
    assert all(torch.equal(found.state[k], v) for k, v in written.state.items())
    assert dataclasses.replace(found, state={}) == dataclasses.replace(written, state={})
    # the same content is the same file, whatever its name
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()
    os.mkdir(tmp_path / "run")
    written.save(tmp_path / "run" / "best.pt")
    assert all(torch.equal(v, written.state[k]) for k, v in load(tmp_path / "run").state_dict().items())


def test_the_tables_know_every_field() -> None:
    assert {"net", *FIELDS} == {f.name for f in dataclasses.fields(Checkpoint)}
    assert PREPROCESS.keys() == {f.name for f in dataclasses.fields(Preprocess)}
    Preprocess(size=LARGEST_IMAGE)
    assert (LARGEST_IMAGE + 1) ** 2 > MAX_PIXELS


def test_the_format_before_archives_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(content(), path, _use_new_zipfile_serialization=False)
    assert isinstance(load(path), LeNet)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content(), tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert isinstance(load(tmp_path / "a.pt"), LeNet)


def test_a_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    """torch reads it without a word."""
    path = tmp_path / "a.pt"
    state = {"a": torch.arange(64.0)}
    torch.save(state, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(state["a"].numpy().tobytes()) + 7] ^= 0x40
    path.write_bytes(raw)
    assert not torch.equal(torch.load(path)["a"], state["a"])
    with pytest.raises(CheckpointError, match="is no file of weights, or broken"):
        read(path)


def bomb(path: Path) -> None:
    """An archive with a record of 64 MiB of zeros, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        with archive.open("a/data/0", "w", force_zip64=True) as record:
            for _ in range(64):
                record.write(bytes(2**20))


def test_what_unpacks_to_more_than_there_is_is_refused(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match=r"unpacks to 64\.0 MiB from \d+\.\d KiB: files of weights are not compr"):
        read(tmp_path / "bomb.pt")


class Storage:
    """Pickled as the storage of so many numbers, of which the file has none."""

    def __init__(self, count: int) -> None:
        self.count = count


class Rebuilt:
    def __init__(self, count: int) -> None:
        self.count = count

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (Storage(self.count), 0, (self.count,), (1,), False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", thing.count, None) if isinstance(thing, Storage) else None


def test_storages_of_the_old_format_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    raw = io.BytesIO()
    torch.save({}, raw, _use_new_zipfile_serialization=False)
    start = raw.getvalue()[: raw.getvalue().index(pickle.dumps({}, 2), 100)]
    with path.open("wb") as file:
        file.write(start)
        Pickler(file, 2).dump({"a": Rebuilt(10**9)})
        pickle.dump(["0"], file, 2)
    with pytest.raises(CheckpointError, match=r"unpacks to 3\.7 GiB from \d+ bytes"):
        read(path)


@pytest.mark.parametrize("saved", ["module", "weights and a class"])
def test_a_pickled_module_is_refused_with_what_to_save(saved: str, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    torch.save(module if saved == "module" else {"model": module, "epoch": 3}, tmp_path / "a.pt")
    match = r"it holds torch\.nn\.modules\.container\.Sequential; save torch\.save\(model\.state_dict\(\), path\)$"
    refused(tmp_path / "a.pt", match)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("weights")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(100))
    for name, match in {
        "pipe": "is a pipe, not a file",
        "link": "is a link to nothing",
        "empty": "is no file of weights, or broken",
        "text": "is no file of weights, or broken",
        "zip": "is no file of weights, or broken",
        "missing": "no such file",
        ".": "best.pt: no such file",
    }.items():
        refused(tmp_path / name, match)


def _in_itself() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _doubled(times: int) -> list[Any]:
    """A list that would print 2^times brackets."""
    made: list[Any] = []
    for _ in range(times):
        made = [made, made]
    return made


STATE = tiny().state
FIRST = "features.0.weight"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "net-number": ({"net": 3}, "`net` must be one of lenet, resnet, classifier, unet, diffusion"),
    "net-unknown": ({"net": "vgg"}, "`net` must be one of"),
    "net-list": ({"net": ["lenet"]}, "`net` must be one of"),
    "options-list": ({"options": [1]}, "`options` must be names with numbers, strings or short lists"),
    "options-key": ({"options": {1: 2}}, "`options` must be names"),
    "options-tensor": ({"options": {"size": torch.tensor(16)}}, "`options` must be names"),
    "options-nan": ({"options": {"size": float("nan")}}, "`options` must be names"),
    "options-cycle": ({"options": {"widths": _in_itself()}}, "`options` must be names"),
    "options-explosion": ({"options": {"widths": _doubled(60)}}, "`options` must be names"),
    "options-download": ({"options": {"weights": "DEFAULT"}}, "its `options` name other weights"),
    "options-unknown": ({"options": {**OPTIONS, "wings": 2}}, "the weights do not fit lenet: .*'wings'"),
    "options-type": ({"options": {**OPTIONS, "size": "big"}}, "`size` must be a whole number, got 'big'"),
    "options-float": ({"options": {**OPTIONS, "hidden": 4.5}}, "`hidden` must be a whole number, got 4.5"),
    "options-bool": ({"options": {**OPTIONS, "classes": True}}, "`classes` must be a whole number, got True"),
    "options-class": ({"options": {**OPTIONS, "conv": "x"}}, "the weights do not fit lenet: "),
    "options-large": (
        {"options": {**OPTIONS, "size": 10**7}},
        r"classifier\.1\.weight is \(4, 3\), not \(4, 18749\d+\)",
    ),
    "options-huge": ({"options": {**OPTIONS, "hidden": 10**400}}, "`hidden` must be at most 2147483647"),
    "state-list": ({"state": list(STATE.values())}, "`state` must be names with tensors"),
    "state-number": ({"state": {**STATE, FIRST: 3}}, r"features\.0\.weight is no plain tensor, but int"),
    "state-nan": ({"state": {**STATE, FIRST: STATE[FIRST] * float("nan")}}, "holds NaN or infinity: the training div"),
    "state-infinite": ({"state": {**STATE, FIRST: STATE[FIRST] / 0}}, "holds NaN or infinity: the training diverged"),
    "state-sparse": ({"state": {**STATE, FIRST: STATE[FIRST].to_sparse()}}, "is sparse, nested, quantized or complex"),
    "state-complex": ({"state": {**STATE, FIRST: STATE[FIRST].to(torch.complex64)}}, "is sparse, nested, quantized or"),
    "state-meta": ({"state": {**STATE, FIRST: STATE[FIRST].to("meta")}}, "has no values"),
    "state-whole": ({"state": {**STATE, FIRST: STATE[FIRST].long()}}, "is of int64, not float32"),
    "state-too-large": ({"state": {**STATE, FIRST: STATE[FIRST].double() + 1e300}}, "holds NaN or infinity"),
    "state-expanded": (
        {"state": {**STATE, FIRST: torch.zeros(1).expand(2, 1, 5, 5)}},
        "has fewer values than its shape says",
    ),
    "state-shape": (
        {"state": {**STATE, FIRST: torch.zeros(2, 1, 3, 3)}},
        r"features\.0\.weight is \(2, 1, 3, 3\), not \(2, 1, 5, 5\)",
    ),
    "state-missing": ({"state": {k: v for k, v in STATE.items() if k != FIRST}}, r"features\.0\.weight is missing"),
    "state-more": ({"state": {**STATE, "x\n": torch.zeros(1)}}, r"there is no x\\n in it"),
    "labels-numbers": ({"labels": [1, 2, 3]}, "`labels` must be a list of strings"),
    "labels-text": ({"labels": "abc"}, "`labels` must be a list of strings"),
    "labels-none": ({"labels": None}, "`labels` must be a list of strings"),
    "labels-few": ({"labels": ["a", "b"]}, "`labels` are 2, of 3 classes"),
    "labels-twice": ({"labels": ["a", "b", "a"]}, "two of the `labels` are the same"),
    "preprocess-list": ({"preprocess": []}, "`preprocess` must be names with values"),
    "preprocess-channels": ({"preprocess": {"channels": 2}}, "of `preprocess`, `channels` must be 1 or 3"),
    "preprocess-bool": ({"preprocess": {"channels": True}}, "of `preprocess`, `channels` must be 1 or 3"),
    "preprocess-size": ({"preprocess": {"size": 10**9}}, "of `preprocess`, `size` must be None or a whole number"),
    "preprocess-text": ({"preprocess": {"size": "28"}}, "of `preprocess`, `size` must be None or a whole number"),
    "preprocess-mean": ({"preprocess": {"mean": ["a"]}}, "of `preprocess`, `mean` must be one number or three"),
    "preprocess-three": (
        {"preprocess": {"mean": [0.5] * 3}},
        "`mean` and `std` must be one number, or one for each of",
    ),
    "preprocess-std": ({"preprocess": {"std": [0.0]}}, "of `preprocess`, `std` must be one positive number or three"),
    "preprocess-ground": ({"preprocess": {"background": "red"}}, "`background` must be white or black"),
    "preprocess-newer": ({"preprocess": {"gamma": 2.2}}, "was written by a newer torchops: .*`gamma`"),
    "training-list": ({"training": [1]}, "`training` must be names with values"),
    "values-text": ({"values": ["0", "1", "2"]}, "`values` must be a list of whole numbers"),
    "values-few": ({"values": [1]}, "`values` are 1, of 3 classes"),
    "values-large": ({"values": [0, 1, 70000]}, "`values` must be a list of whole numbers from 0 to 65535"),
    "colours-large": ({"colours": [[0, 0, 256]] * 3}, "`colours` must be a list of three whole numbers"),
    "colours-flat": ({"colours": [1, 2, 3]}, "`colours` must be a list of three whole numbers"),
    "colours-few": ({"colours": [[0, 0, 0]]}, "`colours` are 1, of 3 classes"),
    "format-newer": (
        {"torchops": 2},
        "was written by a newer torchops: its format is 2, 1 is the latest that is known",
    ),
    "format-text": ({"torchops": "1"}, "is no checkpoint of torchops train$"),
    "field-newer": ({"schedule": 1}, "was written by a newer torchops: `schedule` is unknown"),
}


@pytest.mark.parametrize("name", WRONG)
def test_fields_that_cannot_be(name: str, tmp_path: Path) -> None:
    changed, match = WRONG[name]
    torch.save(content(**changed), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", match)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("unet", {"classes": 3, "width": 10**9}),
        ("unet", {"classes": 3, "depth": 60}),
        ("unet", {"classes": 3, "depth": 10**9}),
        ("unet", {"classes": 3, "depth": 16, "width": 10**6}),
        ("unet", {"classes": 3, "dilations": [10**12]}),
        ("unet", {"classes": 3, "dilations": 3}),
        ("unet", {"classes": 3, "padding_mode": "mirror"}),
        ("lenet", {"classes": 3, "size": 10**7}),
        ("lenet", {"classes": 10**9, "hidden": 10**9}),
        ("diffusion", {"steps": 10**9}),
        ("diffusion", {"steps": 10**12}),
        ("diffusion", {"size": 0}),
        ("diffusion", {"embedding": 3}),
        ("resnet", {"depth": 152, "classes": 10**9}),
        ("resnet", {"depth": [18]}),
    ],
)
def test_options_of_huge_networks_take_no_memory(net: str, options: dict[str, Any]) -> None:
    """What they would take is never there: the process would be killed."""
    with pytest.raises(CheckpointError, match=f"the weights do not fit {net}: ") as caught:
        Checkpoint(net, options, STATE, ["a", "b", "c"], {}).model()
    assert len(str(caught.value)) < 300


def test_weights_of_other_precision_are_taken(tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()}
    Checkpoint("lenet", OPTIONS, half, ["a", "b", "c"], {}).save(tmp_path / "a.pt")
    found = load(tmp_path / "a.pt").state_dict()
    assert found[FIRST].dtype == torch.float32
    assert torch.equal(found[FIRST], STATE[FIRST].half().float())


def test_a_model_does_not_share_its_weights_with_the_checkpoint() -> None:
    checkpoint = tiny()
    one, other = checkpoint.model(), checkpoint.model(layers="torch")
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert torch.equal(other.state_dict()[FIRST], checkpoint.state[FIRST])
    assert checkpoint.state[FIRST].abs().sum() > 0


FULL = """
import resource, signal, sys
from pathlib import Path
from torchops.models import Checkpoint, CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
checkpoint = Checkpoint.load(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    checkpoint.save(path)
except CheckpointError as error:
    print(error)
"""


def test_a_file_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    tiny().save(path)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: cannot be written: File too large; what was saved before is still there\n"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_predict_refuses_hostile_files_in_a_line(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.pt")
    for name in ("labels-numbers", "preprocess-text", "options-type", "state-nan"):
        torch.save(content(**WRONG[name][0]), tmp_path / f"{name}.pt")
    for path in sorted(tmp_path.iterdir()):
        result = CliRunner().invoke(app, ["predict", str(path), "a.png"], catch_exceptions=False)
        assert result.exit_code == 2
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith(f"torchops: {path}: ") or "the weights do not fit" in line
    assert (tmp_path / "a.png").exists() is False
