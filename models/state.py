"""What a run goes on from: the state of its training, checked against the run that it is to go on with."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .checkpoints import CheckpointError
from .data import Data
from .runs import Row


def _is_number(value: Any) -> bool:
    """Whether it is finite as a float, which not all whole numbers are."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass
class State:
    """The `training` of a checkpoint to go on from."""

    net: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: dict[str, Any] | None
    rows: list[Row]
    """What every epoch came to that is over."""
    step: int
    """Steps taken in the epoch that is not."""
    loss_sum: float
    """Over these steps."""
    seconds: float
    data: dict[str, Any] = field(default_factory=dict)
    """What it was trained on, by :func:`identity`; checkpoints of before do not say."""

    @staticmethod
    def read(training: object) -> State:
        """From what a checkpoint holds.

        Raises:
            CheckpointError: if a field is missing, or of another kind than it should be.
        """
        if not isinstance(training, dict) or not training:
            raise CheckpointError("holds no state to go on from")
        names = {f.name: f for f in dataclasses.fields(State)}
        missing = [n for n, f in names.items() if f.default_factory is dataclasses.MISSING and n not in training]
        if missing:
            raise CheckpointError(f"holds no state to go on from: {missing[0]} is missing")
        state = State(**{name: training[name] for name in names if name in training})
        rows = isinstance(state.rows, list) and all(isinstance(row, dict) for row in state.rows)
        for name, good in {
            "net": isinstance(state.net, dict),
            "optimizer": isinstance(state.optimizer, dict),
            "scaler": isinstance(state.scaler, dict) and all(map(_is_number, state.scaler.values())),
            "average": state.average is None or isinstance(state.average, dict),
            "rows": rows and _consistent(state.rows),
            "step": _is_count(state.step),
            "loss_sum": _is_number(state.loss_sum),
            "seconds": _is_number(state.seconds) and state.seconds >= 0,
            "data": isinstance(state.data, dict),
        }.items():
            if not good:
                raise CheckpointError(f"cannot be gone on from: its {name} is not what it should be")
        return state

    def check(self, *, key: str, epochs: int, steps: int, data: Mapping[str, Any]) -> None:
        """See that it is of the run that is to go on.

        Args:
            key: the figure that epochs are compared by.
            epochs: as many as were asked for.
            steps: as many as an epoch has.
            data: what is trained on now, by :func:`identity`.

        Raises:
            CheckpointError: if it is of another one.
        """
        if (differs := difference({**data, **self.data}, data, "then", "now")) is not None:
            raise CheckpointError(f"was trained on other data: {differs}")
        if len(self.rows) > epochs:
            raise CheckpointError(f"holds {len(self.rows)} epochs, of {epochs} that were asked for")
        if self.rows and key not in self.rows[0]:
            raise CheckpointError(f"is of another network: its epochs have no {key}")
        if self.step > (steps if len(self.rows) < epochs else 0):
            raise CheckpointError(
                f"stands at step {self.step} of epoch {len(self.rows) + 1}: there are {epochs} epochs of {steps} steps"
            )


def _consistent(rows: list[Row]) -> bool:
    """Whether rows are the epochs in order, of the same figures; held-out ones may have no value."""
    return all(
        row.keys() == rows[0].keys() >= {"epoch", "train_loss", "lr", "seconds"}
        and row["epoch"] == i
        and all(_is_number(v) or (v is None and str(name).startswith("val_")) for name, v in row.items())
        for i, row in enumerate(rows, start=1)
    )


_DATA = {
    "train": "the numbers of training images",
    "val": "the numbers of held-out images",
    "test": "the numbers of images to test on",
    "steps": "the numbers of steps in an epoch",
    "names": "the names of the images",
}


def identity(data: Data, root: str | None, steps: int) -> dict[str, Any]:
    """What is the same whenever the same data are trained on: numbers, and a digest of the names of files below `root`."""
    names = hashlib.blake2b(digest_size=16)
    parts: dict[str, Any] = {"train": data.train, "val": data.val, "test": data.test}
    for part, dataset in parts.items():
        names.update(f"{part}\n".encode())
        for sample in getattr(dataset, "samples", getattr(dataset, "files", ())):
            texts = (str(field).removeprefix(str(root)) for field in sample)
            names.update("\n".join(texts).encode(errors="surrogateescape"))
    counts = {part: 0 if dataset is None else len(dataset) for part, dataset in parts.items()}
    return {**counts, "steps": steps, "names": names.hexdigest()}


def difference(one: Mapping[str, Any], other: Mapping[str, Any], of_one: str, of_other: str) -> str | None:
    """In what data differ, by their :func:`identity`, with a word for each of the two; None if they do not."""
    for name, what in _DATA.items():
        if one[name] != other[name]:
            counts = f": {one[name]} {of_one}, {other[name]} {of_other}" if _is_count(one[name]) else ""
            return f"{what} differ{counts}"
    return None


def fit(kept: Mapping[Any, Any], own: Mapping[str, Tensor], what: str) -> None:
    """See that tensors can take the place of `own` ones.

    Raises:
        CheckpointError: if a name, a shape or a dtype differs.
    """
    for name in {**kept, **own}:
        old, new = kept.get(name), own.get(name)
        if not (isinstance(old, Tensor) and isinstance(new, Tensor)):
            raise CheckpointError(f"does not fit the run: {what} {'has' if new is None else 'lacks'} {name}")
        if old.shape != new.shape or old.dtype != new.dtype:
            raise CheckpointError(
                f"does not fit the run: {name} of {what} is {tuple(old.shape)}, {old.dtype}, "
                f"not {tuple(new.shape)}, {new.dtype}"
            )


def load_moments(optimizer: torch.optim.Optimizer, kept: Mapping[str, Any]) -> None:
    """Give an AdamW its moments back, or an SGD its momentum. Learning rates and the like are the run's own, whatever was kept.

    Raises:
        CheckpointError: if they do not fit.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = kept.get("state")
    if not isinstance(state, dict):
        raise CheckpointError("does not fit the run: the optimizer has no moments")
    for index, moments in state.items():
        if not _is_count(index) or index >= len(parameters) or not isinstance(moments, dict):
            raise CheckpointError("does not fit the run: the optimizer has other parameters")
        like = parameters[index].detach()
        own = (
            {"momentum_buffer": like}
            if isinstance(optimizer, torch.optim.SGD)
            else {"step": torch.zeros((), dtype=torch.float32), "exp_avg": like, "exp_avg_sq": like}
        )
        fit(moments, own, f"the optimizer's parameter {index}")
        if not finite(moments):
            raise CheckpointError(f"does not fit the run: moments of the optimizer's parameter {index} are not finite")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def finite(*states: Mapping[str, Any] | None) -> bool:
    """Whether all numbers of all tensors are numbers."""
    tensors: Iterable[Any] = (t for state in states if state is not None for t in state.values())
    return all(_finite(t) for t in tensors if isinstance(t, Tensor) and t.is_floating_point())


def _finite(tensor: Tensor) -> bool:
    # no sum of NaN or infinity is finite, and a sum takes a twentieth of the time; of finite numbers it may overflow
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


__all__ = ["State", "difference", "finite", "fit", "identity", "load_moments"]
