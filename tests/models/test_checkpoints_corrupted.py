"""A thousand corrupted checkpoints: each is refused in a line, or gives the weights that were saved, or says nothing wrong."""

from __future__ import annotations

import io
import itertools
import pickle
import random
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torchops.models import Checkpoint, CheckpointError

from .test_checkpoints import content

COUNTS = {"bytes": 300, "old bytes": 150, "cuts": 100, "records": 150, "fields": 200, "tensors": 100}
"""How many of each kind: a thousand in all."""
Corrupted = Iterator[bytes]
ORIGINAL = content()


def original(**changed: Any) -> dict[str, Any]:
    """What was saved, to be changed."""
    return {**{k: dict(v) if isinstance(v, dict) else v for k, v in ORIGINAL.items()}, **changed}


def saved(thing: Any, archive: bool = True) -> bytes:
    raw = io.BytesIO()
    torch.save(thing, raw, _use_new_zipfile_serialization=archive)
    return raw.getvalue()


def flipped(raw: bytes, draw: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def changed_bytes(draw: random.Random) -> Corrupted:
    raw = saved(ORIGINAL)
    while True:
        yield flipped(raw, draw)


def changed_old_bytes(draw: random.Random) -> Corrupted:
    """The format before archives has no checksums: the pickles, and the storages behind them."""
    raw = saved(ORIGINAL, archive=False)
    while True:
        yield flipped(raw, draw)


def cut(draw: random.Random) -> Corrupted:
    both = saved(ORIGINAL), saved(ORIGINAL, archive=False)
    while True:
        raw = draw.choice(both)
        end = draw.randrange(len(raw))
        yield draw.choice((raw[:end], raw[end:], raw[:end] + bytes(len(raw) - end), raw[:end] + raw, raw + raw[:end]))


def changed_records(draw: random.Random) -> Corrupted:
    """Records that are swapped, dropped, doubled, renamed, compressed, emptied or replaced, with checksums that are right."""
    with zipfile.ZipFile(io.BytesIO(saved(ORIGINAL))) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    while True:
        changed, compression = list(records), zipfile.ZIP_STORED
        i, j = draw.sample(range(len(records)), 2)
        (name, data), (other, stranger) = records[i], records[j]
        match draw.randrange(8):
            case 0:
                changed[i], changed[j] = (name, stranger), (other, data)
            case 1:
                del changed[i]
            case 2:
                changed.append((name, stranger))
            case 3:
                changed[i] = (name.upper(), data)
            case 4:
                compression = zipfile.ZIP_DEFLATED
                changed[i] = (name, bytes(10**6))
            case 5:
                changed[i] = (name, data[: draw.randrange(len(data))] if data else b"x")
            case 6:
                changed[i] = (name, draw.randbytes(len(data)))
            case 7:
                changed[i] = (f"{draw.choice(('', '/', '../', 'a/b/'))}{name}", data)
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w", compression) as archive:
            for entry, value in changed:
                archive.writestr(zipfile.ZipInfo(entry), value, compression)
        yield raw.getvalue()


def hostile(draw: random.Random) -> Any:
    """A value of any kind, among them some that take for ever to be shown."""
    ring: list[Any] = [1]
    ring.append(ring)
    table: dict[str, Any] = {}
    table["a"] = table
    wide: Any = ["x"]
    for _ in range(50):
        wide = [wide, wide]
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    return draw.choice((
        None, True, -1, 0, 10**30, 1.5, float("nan"), "", "a\nb\x1b[31m", "\ud800", "x" * 10**5, b"abc", [], [None], [[]],
        ["a", 1], {}, {1: 2}, {"a": None}, (), (1, 2), {1, 2}, torch.zeros(3), torch.zeros(()), torch.float32,
        torch.device("cpu"), torch.Size([1]), OrderedDict(a=1), ring, table, wide, deep, 1j,
    ))  # fmt: skip


def changed_fields(draw: random.Random) -> Corrupted:
    while True:
        whole = original(training={"step": 3, "rows": []})
        inner = draw.choice([whole, whole, whole["options"], whole["preprocess"], whole["state"]])
        match draw.randrange(4):
            case 0:
                del inner[draw.choice(list(inner))]
            case 1:
                inner[draw.choice(("x", 3, "", "weights", "conv", "pool"))] = hostile(draw)
            case _:
                inner[draw.choice(list(inner))] = hostile(draw)
        try:
            yield saved(whole)
        except (RecursionError, UnicodeEncodeError):
            continue


class Rebuilt:
    """Pickled as a tensor of any offset, size and stride."""

    def __init__(self, tensor: Tensor, offset: Any, size: Any, stride: Any) -> None:
        self.made = tensor, offset, size, stride

    def __reduce__(self) -> Any:
        tensor, offset, size, stride = self.made
        return torch._utils._rebuild_tensor_v2, (tensor._typed_storage(), offset, size, stride, False, OrderedDict())


def changed_tensors(draw: random.Random) -> Corrupted:
    numbers = (0, 1, 2, 5, -1, 10**6, 2**31, 2**40, 2**62, 2**63 - 1, 1.5, None, "1")
    while True:
        whole = original()
        name = draw.choice(list(whole["state"]))
        tensor = whole["state"][name]
        shape, strides = list(tensor.shape) or [1], list(tensor.stride()) or [1]
        place = draw.randrange(len(shape))
        match draw.randrange(6):
            case 0:
                strides[place] = draw.choice(numbers)
            case 1:
                shape[place] = draw.choice(numbers)
            case 2:
                shape, strides = [draw.choice(numbers)] * 4, [0] * 4
            case 3:
                whole["state"][name] = tensor * draw.choice((float("nan"), float("inf")))
            case 4:
                whole["state"][name] = draw.choice((
                    tensor.to(torch.complex64), tensor.bool(), tensor.to_sparse(), tensor.to("meta"), tensor.half(),
                    torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8), tensor.to(torch.float8_e4m3fn),
                ))  # fmt: skip
            case 5:
                whole["state"][name] = Rebuilt(tensor, draw.choice(numbers), tuple(shape), tuple(strides))
        if whole["state"][name] is tensor:
            whole["state"][name] = Rebuilt(tensor, 0, tuple(shape), tuple(strides))
        yield saved(whole)


KINDS: dict[str, Callable[[random.Random], Corrupted]] = {
    "bytes": changed_bytes,
    "old bytes": changed_old_bytes,
    "cuts": cut,
    "records": changed_records,
    "fields": changed_fields,
    "tensors": changed_tensors,
}
CHECKED = ("bytes", "cuts")
"""Kinds that are damage, not another content: of archives, which have checksums, the weights that were saved come, or none."""


def outcome(path: Path, wanted: dict[str, Tensor]) -> str:
    """What comes of a file: "refused", "the same", or "other weights", which are finite and of the right shapes."""
    try:
        net = Checkpoint.load(path).model()
    except CheckpointError as error:
        text = str(error).removeprefix(str(path))
        assert len(text.splitlines()) == 1
        assert len(text) < 400
        assert text.isprintable()
        return "refused"
    found = net.state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in wanted.items()}
    assert all(v.isfinite().all() for v in found.values())
    return "the same" if all(torch.equal(v, wanted[k]) for k, v in found.items()) else "other weights"


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*", "ignore:Duplicate name", "ignore:TypedStorage")
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_corrupted_checkpoints(kind: str, tmp_path: Path) -> None:
    path, counts = tmp_path / "a.pt", Counter[str]()
    for raw in itertools.islice(KINDS[kind](random.Random(0)), COUNTS[kind]):
        path.write_bytes(raw)
        came = outcome(path, ORIGINAL["state"])
        assert came != "other weights" or kind not in CHECKED or not raw.startswith(b"PK")
        counts[came] += 1
    # these are shown by pytest -s
    print(f"{kind}: {', '.join(f'{count} {what}' for what, count in counts.most_common())}")
    assert sum(counts.values()) == COUNTS[kind]
    assert counts["refused"] > COUNTS[kind] / 10


def test_it_is_a_thousand() -> None:
    assert sum(COUNTS.values()) == 1000


@pytest.mark.parametrize(
    "raw",
    [
        # a place in the memo for which Python's faster reader makes room: 2^31 places
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x02cbuiltins\nbytearray\n" + b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85R.",
        b"\x80\x02ctorch\nTensor\n" + b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85R.",
        b"\x80\x02ctorch\nFloatStorage\n" + b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85R.",
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"(" * 10**6 + b".",
        b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    ],
    ids=["memo", "text", "bytes", "bytearray", "tensor", "storage", "call", "marks", "depth"],
)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "in-a-row"])
def test_pickles_that_ask_for_memory_or_calls(raw: bytes, archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    if archive:
        with zipfile.ZipFile(path, "w") as written:
            written.writestr("a/data.pkl", raw)
            written.writestr("a/version", "3")
    else:
        old = saved({}, archive=False)
        path.write_bytes(old[: old.index(pickle.dumps({}, 2), 100)] + raw)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    assert len(str(caught.value).splitlines()) == 1
