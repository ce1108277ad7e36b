"""Classifiers of other libraries: any of torchvision's and timm's, with torchops's layers, and a head of your own classes."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchops.conversion import convert

from .arguments import check_whole
from .weights import shown, take_over

LIBRARIES = ("torchvision", "timm")
NAME = re.compile(rf"({'|'.join(LIBRARIES)}):([A-Za-z0-9_.]+)")
"""What names a model; nothing that a library would look for in a folder, or on the network, is one."""
IMAGENET: dict[str, tuple[float, ...]] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Mean and standard deviation, by channel, of ImageNet's images, whose values lie between 0 and 1."""
TRUNK = 3 / 4
"""The share of a network's layers that makes a part of it the trunk, whose children are its stages."""
_AUXILIARY = {name: {"aux_logits": False} for name in ("googlenet", "inception_v3")}
"""Of models that would give more than one answer while training: their heads beside the last one are left out."""


def classifier(model: str, classes: int = 1000, *, weights: str | None = None, converted: bool = True) -> nn.Module:
    """A classifier by its name, as its library builds it, with torchops's convolutions and pools, and `classes` outputs.

    Args:
        model: "torchvision:NAME" or "timm:NAME", as "timm:resnet18"; timm's names may end in ".TAG", which names weights.
        classes: outputs.
        weights: "DEFAULT" for the library's trained weights, which are downloaded once; None for none. Where they are of
            other classes, the head is a new one.
        converted: False leaves torch.nn's layers.

    Shape:
        (N, 3, H, W) to (N, classes), logits, for the H and W that the model takes.

    Raises:
        TypeError: if `classes` is no whole number, or `model` no text.
        ValueError: if there is no such model, or it has no such weights.
        ModuleNotFoundError: without the library.
        ConnectionError: if the weights cannot be downloaded.

    >>> from torchops.models import classifier
    >>> classifier("torchvision:mobilenet_v3_small", classes=5).classifier[-1]
    Linear(in_features=1024, out_features=5, bias=True)
    """
    check_whole(classes=classes)
    library, name = find(model)
    if weights not in (None, "DEFAULT"):
        raise ValueError(f"`weights` must be a file, a run or DEFAULT, got {shown(weights)}")
    net = untrained(library, name, classes)
    if weights is not None:
        take_over(net, trained(library, name), head(net))
    return convert(net, inplace=True)[0] if converted else net


def find(model: str, argument: str = "model", libraries: Sequence[str] = LIBRARIES) -> tuple[str, str]:
    """The library, one of some, and the name in it that `model`, or another argument, says.

    Raises:
        TypeError, ValueError, ModuleNotFoundError: as :func:`classifier`, by the argument's name.
    """
    wanted = " or ".join(f"{library}:NAME" for library in libraries)
    if not isinstance(model, str):
        raise TypeError(f"`{argument}` must be {wanted}, got {type(model).__name__}")
    if (found := NAME.fullmatch(model)) is None or found[1] not in libraries:
        raise ValueError(f"`{argument}` must be {wanted}, got {shown(model)}")
    library, name = found.groups()
    module = library_of(library, argument)
    known = module.models.list_models(module.models) if library == "torchvision" else module.list_models()
    if name.partition(".")[0] not in known or ("." in name and name not in _tagged(library)):
        close = difflib.get_close_matches(name, [*known, *(_tagged(library) if "." in name else [])])
        meant = f"; it has {', '.join(close)}" if close else ""
        raise ValueError(f"`{argument}` (={model}): {library} has no classifier {name}{meant}")
    return library, name


def statistics(model: str, argument: str = "model") -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation, by channel, of the images that a model's trained weights know; else those of ImageNet."""
    library, name = find(model, argument)
    if library == "timm":
        found = library_of("timm").get_pretrained_cfg(name)
        if found is not None:
            return {"mean": tuple(found.mean), "std": tuple(found.std)}
    return IMAGENET


def head(net: nn.Module) -> tuple[str, ...]:
    """How the names of the tensors begin that the classes come of: timm's models say it; of others it is the last layer."""
    said = getattr(net, "default_cfg", {}).get("classifier") or ()
    names = (said,) if isinstance(said, str) else tuple(said)
    modules = dict(net.named_modules())
    if not names or any(name not in modules for name in names):
        names = (_layers(net)[-1].removesuffix(".weight"),)
    return tuple(f"{name}." for name in names)


def stages(net: nn.Module, ends: tuple[str, ...] | None = None) -> Iterator[list[nn.Parameter]]:
    """Parameters from the image to the classes, by stage: the children of the trunk, what comes before and after it, the head.

    The trunk is the innermost module that holds more than `TRUNK` of the layers; norms belong to the layers before them.

    Args:
        net: the network.
        ends: how the names of the tensors begin that are the last stage, if these are others than the head's.
    """
    ends = head(net) if ends is None else ends
    layers = [name for name in _layers(net) if not name.startswith(ends)]
    trunk = ""
    while True:
        inside = [name[len(trunk) :].partition(".") for name in layers if name.startswith(trunk)]
        parts = [part for part, dot, rest in inside if rest and rest != "weight"]
        largest = max(parts, key=parts.count, default="")
        if parts.count(largest) <= TRUNK * len(layers):
            break
        trunk += f"{largest}."

    def part(name: str) -> str:
        return trunk + name[len(trunk) :].partition(".")[0] if name.startswith(trunk) else name.rpartition(".")[0]

    with_layers, here = {part(name) for name in layers}, ""
    found: list[list[nn.Parameter]] = [[]]
    for name, parameter in net.named_parameters():
        if name.startswith(ends):
            continue
        if part(name) in with_layers and part(name) != here:
            # what comes before the first layer belongs to it
            if here:
                found.append([])
            here = part(name)
        found[-1].append(parameter)
    yield from found
    yield [parameter for name, parameter in net.named_parameters() if name.startswith(ends)]


def check_scores(net: nn.Module, classes: int, size: int) -> None:
    """See that a network takes images of a size, and has one score for each class.

    Raises:
        ValueError: if it does not.
    """
    training = net.training
    try:
        with torch.no_grad():
            scores: Any = net.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"`size` (={size}): the model takes no such images: {str(error).splitlines()[0]}") from error
    finally:
        net.train(training)
    if not isinstance(scores, Tensor) or scores.shape != (1, classes):
        what = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"`model` must give (N, {classes}) scores, gives {what}")


class OnMeta(TorchFunctionMode):
    """Tensors without memory, but for the rows of numbers that libraries compute widths and rates of."""

    def __enter__(self) -> OnMeta:
        self.device = torch.device("meta")
        self.device.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.device.__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.arange, torch.linspace, torch.tensor):
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def _layers(net: nn.Module) -> list[str]:
    """Names of the weights that are no norm's."""
    return [name for name, p in net.named_parameters() if p.dim() > 1 and name.endswith(".weight")]


def library_of(name: str, argument: str = "model") -> Any:
    """The library, which an argument needs."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"`{argument}` needs {error.name}: pip install {name}", name=error.name) from error


def _tagged(library: str) -> list[str]:
    """Names of timm with the tags of their weights."""
    return list(library_of("timm").list_pretrained()) if library == "timm" else []


def untrained(library: str, name: str, classes: int) -> nn.Module:
    """A library's model with random weights."""
    net: nn.Module
    if library == "timm":
        net = library_of("timm").create_model(name, pretrained=False, num_classes=classes)
    else:
        drawn = {"init_weights": True, **_AUXILIARY[name]} if name in _AUXILIARY else {}
        net = library_of("torchvision").models.get_model(name, weights=None, num_classes=classes, **drawn)
    return net


def trained(library: str, name: str) -> dict[str, Tensor]:
    """The weights that a library has of a model.

    Raises:
        ValueError: if it has none.
        ConnectionError: if they cannot be downloaded.
    """
    module = library_of(library)
    if library == "timm" and name not in {*_tagged("timm"), *(n.partition(".")[0] for n in _tagged("timm"))}:
        raise ValueError(f"`weights` (=DEFAULT): timm has no weights of {name}")
    try:
        if library == "timm":
            net: nn.Module = module.create_model(name, pretrained=True)
        else:
            net = module.models.get_model(name, weights="DEFAULT", **_AUXILIARY.get(name, {}))
    except Exception as error:  # each of the libraries' ways to a server has errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionError(
            f"`weights` (=DEFAULT): {library}'s weights of {name} cannot be downloaded ({shown(reason)}): "
            "get them elsewhere and pass the file as `weights`"
        ) from error
    return net.state_dict()
