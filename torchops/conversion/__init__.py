"""Layers of a model to torchops's and back: Parameters, names, hooks and state_dict stay what they are.

layers.py       which layer can be which, and how one becomes the other
selection.py    the layers that `include` and `exclude` mean
copying.py      a copy of a model that shares its Parameters
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import Module
from torch.nn.modules.lazy import LazyModuleMixin

from torchops.graphs.reports import table

from . import layers
from .copying import shared_copy
from .selection import Selection, selection

__all__ = ["Report", "Row", "Selection", "check_model", "convert", "revert", "selection", "shared_copy"]


@dataclass(frozen=True)
class Row:
    """What became of one layer."""

    name: str
    """Its name in the model, as `named_modules` has it; a layer of two names has two rows."""
    layer: str
    """Its class, before."""
    swapped: bool
    note: str
    """Its class now, or why it was kept."""


@dataclass(frozen=True)
class Report:
    """What a conversion did to every convolution and pool of a model; `print` it."""

    rows: tuple[Row, ...]

    @property
    def swapped(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.swapped)

    @property
    def kept(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.swapped)

    def __str__(self) -> str:
        cells = [
            (row.name or "(model)", row.layer, "swapped" if row.swapped else "kept", row.note) for row in self.rows
        ]
        return f"{table(('name', 'layer', '', ''), cells)}\n{len(self.swapped)} swapped, {len(self.kept)} kept"


def convert(
    model: Module, include: Selection = None, exclude: Selection = None, inplace: bool = False
) -> tuple[Module, Report]:
    """Swap the convolutions and pools of a model for torchops's, and say what became of each.

    Swapped are `Conv2d`, `ConvTranspose2d`, `MaxPool2d`, `AvgPool2d`, `AdaptiveAvgPool2d`, `AdaptiveMaxPool2d`, `MaxUnpool2d`
    and, where they enlarge by whole factors, `Upsample` and `UpsamplingNearest2d` of torch.nn, and subclasses that do not
    override their forward. Parameters and buffers are the same objects, before and after: an optimizer goes on, tied layers
    stay tied, the state_dict is the same. So are hooks, parametrizations, training flags, devices and memory formats.

    Args:
        model: any module. Its forward is not looked at: functions that it calls, as `torch.nn.functional.max_pool2d`, are for
            :class:`torchops.override` or :func:`torchops.fuse`.
        include: the layers to swap; None for all. Names as `named_modules` has them, patterns as "layer*.conv2", classes, or
            several of these; each stands for all that is inside too.
        exclude: layers to keep, likewise.
        inplace: change `model` itself; otherwise a copy of its structure, which shares its Parameters and buffers. What moves
            or casts those of one (`half`, `cuda`) moves them for both: do that first.

    Returns:
        The model, and a :class:`torchops.conversion.Report`. Kept, with the reason, is what torchops has no op for: layers of
        other dimensions, scripted, quantized or prepared for it, complex, sparse, on the meta device, or not initialised yet.
        Integers, which torch's pools take, ours refuse when they run.

    `torch.ao.quantization` knows torch.nn's very classes alone: convert a model after `prepare` or `prepare_qat`, which raise
    at a convolution of ours, unless its `qconfig` is None. `prepare_fx` and `prepare_qat_fx` look at no layer that they do
    not know: they leave it in floating point without a word.

    Raises:
        TypeError: if an argument is of the wrong type, or the model cannot be copied.
        ValueError: if `include` or `exclude` names nothing in the model.

    >>> import torch, torchops
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.LPPool2d(2, 2))
    >>> model, report = torchops.convert(model)
    >>> print(report)
    name  layer
    0     Conv2d    swapped  torchops.nn.Conv2d
    2     LPPool2d  kept     torchops has no LPPool2d
    1 swapped, 1 kept
    """
    check_model(model)
    refused = selection(model, include, exclude)
    if not inplace:
        model = shared_copy(model)
    on_meta = all(t.is_meta for t in model.parameters()) and any(True for _ in model.parameters())

    def obstacle(module: Module) -> str | None:
        if on_meta and not isinstance(module, LazyModuleMixin):
            return "on the meta device: convert it when it has values"
        return layers.obstacle(module)

    return model, Report(tuple(_changed(model, refused, obstacle, layers.make_ours)))


def revert(model: Module, inplace: bool = False) -> tuple[Module, Report]:
    """Undo :func:`convert`: every layer of torchops that torch.nn can express becomes torch.nn's.

    Args:
        model: any module.
        inplace: change `model` itself; otherwise a copy of its structure, which shares its Parameters and buffers.

    Returns:
        The model, and a :class:`torchops.conversion.Report`. Kept is what torch.nn has no word for: layers with an activation,
        a constant border or a padding of four sides, pools that return offsets, `MinPool2d`, `AvgUnpool2d`, `Sobel`.

    Raises:
        TypeError: if an argument is of the wrong type, or the model cannot be copied.
    """
    check_model(model)
    if not inplace:
        model = shared_copy(model)

    changed = _changed(model, lambda name, module: None, layers.inexpressible, layers.make_theirs)
    return model, Report(tuple(changed))


def check_model(model: Module) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")


def _changed(
    model: Module, refused: Callable[[str, Module], str | None], obstacle: Callable[[Module], str | None],
    swap: Callable[[Module], str],
) -> Iterator[Row]:  # fmt: skip
    """Swap every layer that nothing speaks against, and yield a row for each layer of a kind that we know."""
    done: dict[int, tuple[str, bool, str]] = {}
    scripted: list[str] = []
    # a layer of several names is wanted only if each of its names is
    unwanted = {
        id(module): why
        for name, module in model.named_modules(remove_duplicate=False)
        if (why := refused(name, module))
    }
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if any(name.startswith(f"{outer}.") or not outer for outer in scripted):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            scripted.append(name)
            yield Row(name, str(module.original_name), False, "scripted: its code is compiled")
        elif layers.is_of_a_kind(module):
            if id(module) not in done:
                layer = type(module).__name__
                why = unwanted.get(id(module)) or obstacle(module)
                try:
                    done[id(module)] = (layer, False, why) if why else (layer, True, swap(module))
                except Exception as error:
                    # a class may refuse to have subclasses
                    done[id(module)] = (layer, False, f"{layer}: {error}")
            yield Row(name, *done[id(module)])
