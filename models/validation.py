"""What the fields of a checkpoint may hold, in a table. What is wrong is said without the values, which may be huge."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from .backbones import NAME
from .weights import HEADS, shown, unusable

LARGEST_IMAGE = 13_377
"""The most rows and columns that images may be brought to, as :class:`torchops.models.data.Preprocess` has it."""
_FLOAT = torch.finfo(torch.float32)
_LONGEST_LIST = 64
_LONGEST_TEXT = 200


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _float(value: Any) -> bool:
    """Whether float32 can hold a number."""
    return _number(value) and -_FLOAT.max <= value <= _FLOAT.max


def _scalar(value: Any) -> bool:
    return value is None or type(value) is bool or _number(value) or (type(value) is str and len(value) < _LONGEST_TEXT)


def _each(value: Any, fits: Callable[[Any], bool], kinds: tuple[type, ...] = (list,)) -> bool:
    return type(value) in kinds and all(map(fits, value))


def _named(value: Any) -> bool:
    return isinstance(value, dict) and all(type(key) is str for key in value)


def _option(value: Any) -> bool:
    return _scalar(value) or (_each(value, _scalar, (list, tuple)) and len(value) <= _LONGEST_LIST)


def _numbers(value: Any) -> bool:
    return _each(value, _float, (list, tuple)) and len(value) in (1, 3)


Check = tuple[Callable[[Any], bool], str]
FIELDS: dict[str, Check] = {
    "options": (
        lambda v: _named(v) and all(map(_option, v.values())),
        "names with numbers, strings or short lists of them",
    ),
    "state": (_named, "names with tensors"),
    "labels": (lambda v: _each(v, lambda label: type(label) is str), "a list of strings"),
    "preprocess": (_named, "names with values"),
    "training": (_named, "names with values"),
    "values": (lambda v: _each(v, lambda n: _whole(n, 0, 65535)), "a list of whole numbers from 0 to 65535"),
    "colours": (
        lambda v: _each(v, lambda c: _each(c, lambda n: _whole(n, 0, 255), (list, tuple)) and len(c) == 3),
        "a list of three whole numbers from 0 to 255 each",
    ),
}
"""The fields of :class:`torchops.models.Checkpoint` but `net`, and what they must be."""
PREPROCESS: dict[str, Check] = {
    "channels": (lambda v: _whole(v, 1, 3) and v != 2, "1 or 3"),
    "size": (lambda v: v is None or _whole(v, 1, LARGEST_IMAGE), f"None or a whole number from 1 to {LARGEST_IMAGE}"),
    "mean": (_numbers, "one number or three"),
    "std": (lambda v: _numbers(v) and min(v) >= _FLOAT.tiny, "one positive number or three"),
    "background": (lambda v: type(v) is str and v in ("white", "black"), "white or black"),
}
"""The fields of :class:`torchops.models.data.Preprocess`, and what they must be."""
NEWER = "was written by a newer torchops"


def what_is_wrong(content: Any, nets: Collection[str], needed: Collection[str], version: int) -> str | None:
    """What a file is, if it is no checkpoint that can be used: in words that follow its name; None if it can.

    Args:
        content: what torch read.
        nets: the networks that there are.
        needed: the fields that every checkpoint has.
        version: the format that is known.
    """
    if not _named(content) or "torchops" not in content:
        return "is no checkpoint of torchops train"
    if _whole(content["torchops"], version + 1, 2**31):
        return f"{NEWER}: its format is {content['torchops']}, {version} is the latest that is known"
    if not _whole(content["torchops"], version, version) or not {"net", *needed} <= content.keys():
        return "is no checkpoint of torchops train"
    if unknown := content.keys() - FIELDS.keys() - {"torchops", "net"}:
        return f"{NEWER}: `{shown(min(unknown))}` is unknown"
    if type(content["net"]) is not str or content["net"] not in nets:
        return f"is no checkpoint of torchops train: `net` must be one of {', '.join(nets)}"
    reason = _first(content, FIELDS) or _of_preprocess(content["preprocess"]) or _of_classes(content)
    if reason is not None:
        return reason if reason.startswith(NEWER) else f"is no checkpoint of torchops train: {reason}"
    if "weights" in content["options"]:
        return "is no checkpoint of torchops train: its `options` name other weights"
    encoder = content["options"].get("encoder")
    if encoder is not None and (type(encoder) is not str or NAME.fullmatch(encoder) is None):
        return "is no checkpoint of torchops train: of `options`, `encoder` must be timm:NAME"
    if content["net"] == "classifier" and (reason := _of_model(content)) is not None:
        return f"is no checkpoint of torchops train: {reason}"
    bad = next(((n, r) for n, t in content["state"].items() if (r := unusable(t)) is not None), None)
    return None if bad is None else f"cannot be used: {shown(bad[0])} {bad[1]}"


def _first(values: dict[str, Any], checks: dict[str, Check]) -> str | None:
    """The first of some values that is not what it must be."""
    for name, (fits, what) in checks.items():
        if name in values and not fits(values[name]):
            return f"`{name}` must be {what}"
    return None


def _of_preprocess(fields: dict[str, Any]) -> str | None:
    if unknown := fields.keys() - PREPROCESS.keys():
        return f"{NEWER}: `preprocess` has an unknown `{shown(min(unknown))}`"
    if (reason := _first(fields, PREPROCESS)) is not None:
        return f"of `preprocess`, {reason}"
    channels = fields.get("channels", 1)
    if any(len(fields.get(name, (0,))) not in (1, channels) for name in ("mean", "std")):
        return f"of `preprocess`, `mean` and `std` must be one number, or one for each of {channels} channels"
    return None


def _of_model(content: dict[str, Any]) -> str | None:
    """Whether another library's model is named, of as many classes as there are labels."""
    model, classes = (content["options"].get(name) for name in ("model", "classes"))
    if type(model) is not str or NAME.fullmatch(model) is None:
        return "of `options`, `model` must be torchvision:NAME or timm:NAME"
    if type(classes) is not int or classes != len(content["labels"]):
        return f"`labels` are {len(content['labels'])}, of other classes than `options` say"
    return None


def _of_classes(content: dict[str, Any]) -> str | None:
    """Whether labels, values and colours are as many as the outputs."""
    labels, head = content["labels"], HEADS.get(content["net"])
    weight = content["state"].get(f"{head}weight")
    if head is not None and isinstance(weight, Tensor) and weight.dim() and len(weight) != len(labels):
        return f"`labels` are {len(labels)}, of {len(weight)} classes"
    if content["net"] in ("lenet", "resnet", "classifier") and len(set(labels)) < len(labels):
        return "two of the `labels` are the same"
    for name in ("values", "colours"):
        if (count := len(content.get(name, ()))) not in (0, len(labels)):
            return f"`{name}` are {count}, of {len(labels)} classes"
    return None
