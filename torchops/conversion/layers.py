"""torch.nn's layers and ours: which can be which, and how one becomes the other.

A layer keeps everything but its `forward`. That is why the class of the object is changed, and no new object made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    FractionalMaxPool2d,
    FractionalMaxPool3d,
    MaxPool2d,
    MaxUnpool2d,
    Module,
    Upsample,
    UpsamplingNearest2d,
)
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from torchops import nn
from torchops.functional.arguments import is_floating
from torchops.functional.sizes import upsampling
from torchops.torch_internals import (
    METHODS,
    AdaptiveAvgPoolNd,
    AdaptiveMaxPoolNd,
    AvgPoolNd,
    ConvNd,
    LPPoolNd,
    MaxPoolNd,
    MaxUnpoolNd,
    pads_of,
    set_pads,
)

COUNTERPARTS: dict[type[Module], type[Module]] = {
    Conv2d: nn.Conv2d,
    ConvTranspose2d: nn.ConvTranspose2d,
    MaxPool2d: nn.MaxPool2d,
    AvgPool2d: nn.AvgPool2d,
    AdaptiveAvgPool2d: nn.AdaptiveAvgPool2d,
    AdaptiveMaxPool2d: nn.AdaptiveMaxPool2d,
    MaxUnpool2d: nn.MaxUnpool2d,
    UpsamplingNearest2d: nn.UpsamplingNearest2d,
    Upsample: nn.Upsample,
}
"""torch.nn's layers, and those of ours that replace them; a class stands before its bases."""
_OURS = (*COUNTERPARTS.values(), nn.MinPool2d, nn.AvgUnpool2d, nn.Sobel)
_KINDS = (
    ConvNd, MaxPoolNd, AvgPoolNd, MaxUnpoolNd, LPPoolNd, AdaptiveAvgPoolNd, AdaptiveMaxPoolNd,
    FractionalMaxPool2d, FractionalMaxPool3d, Upsample,
)  # fmt: skip
"""Layers that a report speaks of, whether we have them or not."""
_NAMES = {base.__name__ for base in COUNTERPARTS}
_OWN: dict[type[Module], tuple[str, ...]] = {
    **dict.fromkeys(COUNTERPARTS, ()), Conv2d: ("activation", "padding_value"), MaxUnpool2d: ("dilation",),
}  # fmt: skip
"""Attributes that ours have and torch.nn's do not."""
_THEIRS = {base: {name: getattr(base, name, None) for name in METHODS} for base in COUNTERPARTS}
"""Methods of which a subclass must have torch.nn's, or its layers compute something else. They are kept as
they were when torchops was imported: some replace them in the class itself."""


def is_of_a_kind(module: Module) -> bool:
    # torch's quantized layers have these names, but are no subclasses
    return isinstance(module, (*_KINDS, *_OURS)) or any(cls.__name__ in _NAMES for cls in type(module).__mro__)


def obstacle(module: Module) -> str | None:
    """Why a layer cannot be swapped; None if it can."""
    cls = type(module)
    if isinstance(module, _OURS):
        return "torchops's already"
    base = next((base for base in COUNTERPARTS if isinstance(module, base)), None)
    if base is None:
        quantized = "quantized" in cls.__module__
        return f"quantized: {cls.__module__}" if quantized else f"torchops has no {_public_name(module)}"
    if getattr(module, "qconfig", None) is not None:
        # torch.ao.quantization would not know what to make of a layer of ours
        return "to be quantized: its qconfig is set"
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return "not initialised yet: run it once, or load its state_dict"
    overridden = [name for name in METHODS if getattr(cls, name, None) is not _THEIRS[base][name]]
    if overridden:
        return f"{cls.__name__} overrides {overridden[0]}"
    if (why := _replaced(module)) is not None:
        return why
    if isinstance(module, Upsample) and (why := refuses(module)) is not None:
        return why
    clash = [name for name in _OWN[base] if hasattr(module, name)]
    if clash:
        return f"it has an attribute `{clash[0]}` of its own"
    for name, parameter in module.named_parameters():
        if parameter.is_meta:
            return f"`{name}` is on the meta device: convert it when it has values"
        if not is_floating(parameter):
            return f"`{name}` is {_described(parameter)}"
    return None


def refuses(layer: Upsample) -> str | None:
    """Why ours does not do what this layer does to images; None if it does."""
    if layer.size is not None:
        return f"its size is {layer.size}: the factors depend on the input"
    try:
        upsampling((1, 1, 1, 1), None, layer.scale_factor, layer.mode, layer.align_corners, antialias=False)
    except ValueError as error:
        return str(error)
    return None


def _replaced(module: Module) -> str | None:
    """What was changed in this one layer, not in its class, in words; None if nothing was."""
    names = [name for name in METHODS if name in vars(module)]
    if names:
        return f"the {names[0]} of this one layer is replaced"
    if not isinstance(module, Conv2d) or module.padding_mode == "zeros" or isinstance(module.padding, str):
        return None
    # torch.nn pads by `pads_of` then, which its constructor made of the padding; ours pads by the padding itself
    return None if pads_of(module) == _twice(module.padding) else "its padding was changed after it was made"


def _twice(padding: tuple[int, ...]) -> list[int]:
    """The padding of all four sides, in the order of `F.pad`."""
    return [padding[1], padding[1], padding[0], padding[0]]


def _described(t: Tensor) -> str:
    if t.layout != torch.strided:
        return f"of layout {t.layout}"
    return str(t.dtype) if type(t) is torch.nn.Parameter else f"a {type(t).__name__}"


def inexpressible(module: Module) -> str | None:
    """Why a layer cannot be torch.nn's; None if it can."""
    if not isinstance(module, _OURS):
        return "not torchops's"
    if not isinstance(module, tuple(COUNTERPARTS)):
        return f"torch.nn has no {_public_name(module)}"
    if _theirs(plain_class(module)) is None:
        return f"{_public_name(module)} is a subclass of torchops's"
    if "forward" in vars(module):
        return "the forward of this one layer is replaced"
    if isinstance(module, nn.Conv2d):
        if module.activation is not None:
            return f"its activation is {module.activation!r}"
        if module.padding_mode == "constant":
            return f"its padding_mode is {module.padding_mode!r}"
        if isinstance(module.padding, tuple) and len(module.padding) == 4:
            return f"its padding is {module.padding}"
    if isinstance(module, nn.MaxPool2d) and module.return_indices == "offset":
        return "it returns offsets"
    if isinstance(module, nn.MaxUnpool2d) and module.dilation not in (1, (1, 1)):
        return f"its dilation is {module.dilation}"
    return None


ORIGIN = "_torchops_origin"
"""Attribute of a class that was made of another: it holds the class that `revert` makes of it, as the user's of one that was
made at run time."""


def plain_class(module: Module) -> type[Module]:
    """The class of a layer; a parametrized one has a class of its own to hold properties: then the class under that."""
    cls = type(module)
    return cls.__bases__[0] if parametrize.is_parametrized(module) else cls


def _public_name(module: Module) -> str:
    return plain_class(module).__name__


def make_ours(module: Module) -> str:
    """Make a layer of torch.nn's ours; return its new name."""
    base = next(base for base in COUNTERPARTS if isinstance(module, base))
    _change_class(module, lambda cls: _ours(cls, base))
    return f"torchops.nn.{base.__name__}"


def make_theirs(module: Module) -> str:
    """Make a layer of ours what it was; return its new name."""
    _change_class(module, lambda cls: cast(Any, _theirs(cls)))
    # our constructors leave pads and attributes there that torch.nn's do not
    if isinstance(module, Conv2d) and isinstance(module.padding, tuple):
        set_pads(module, _twice(module.padding))
    for name in next(names for base, names in _OWN.items() if isinstance(module, base)):
        module.__dict__.pop(name, None)
    return f"{'torch.nn.' if plain_class(module) in COUNTERPARTS else ''}{_public_name(module)}"


def _change_class(module: Module, changed: Callable[[type[Module]], type[Module]]) -> None:
    plain = changed(plain_class(module))
    if parametrize.is_parametrized(module):
        own = {name: value for name, value in vars(type(module)).items() if name not in ("__dict__", "__weakref__")}
        plain = type(type(module).__name__, (plain,), own)
    # the class is set whatever a `__setattr__` of the layer would make of it
    object.__setattr__(module, "__class__", plain)


def _theirs(cls: type[Module]) -> type[Module] | None:
    """The class of torch.nn or of a user that a class of ours stands for; None if it stands for none."""
    return vars(cls).get(ORIGIN) or next((base for base, ours in COUNTERPARTS.items() if cls is ours), None)


_made: WeakValueDictionary[type[Module], type[Module]] = WeakValueDictionary()
"""Classes made at run time, by the user's class: each lives for as long as a layer has it, and nothing else keeps either."""


def _ours(cls: type[Module], base: type[Module]) -> type[Module]:
    """Our layer for torch.nn's; for a user's subclass, a class that is both."""
    ours = COUNTERPARTS[base]
    if cls is base:
        return ours
    if (made := _made.get(cls)) is not None:
        return made

    def reduce(self: Module, protocol: Any) -> tuple[Any, ...]:
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _revived, (cls, base), state

    own = {"__module__": cls.__module__, "__doc__": cls.__doc__, "__reduce_ex__": reduce, ORIGIN: cls}
    # our methods come before the user's, but for these
    own |= {
        name: getattr(cls, name) for name in ("__init__", "extra_repr") if getattr(cls, name) is not getattr(base, name)
    }
    return _made.setdefault(cls, type(cls.__name__, (_Quiet, ours, cls), own))


class _Quiet:
    """A base that stands before a user's class, which is then not told of a subclass that its user did not write."""

    def __init_subclass__(cls) -> None:
        pass


def _revived(cls: type[Module], base: type[Module]) -> Module:
    """A layer of a class that is made at run time. Pickle calls this, since it can store neither."""
    made = _ours(cls, base)
    return made.__new__(made)
