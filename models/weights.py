"""Weights from a file for a network: found in what they are wrapped in, compared with the network's, and taken over whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchops.files.names import printable

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "params", "state", "ema", "state_dict_ema", "model_ema", "params_ema",
)  # fmt: skip
"""Keys under which programs that train keep the weights; of several, the first."""
PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "network.")
"""What torch.compile, data parallelism, averages and Lightning put before the names of tensors."""
HEADS = {"lenet": "classifier.3.", "resnet": "fc.", "unet": "head."}
"""How the names of the layer begin that has an output for every class, by network."""
_NESTED = 4
_LONGEST = 100


def shown(name: object) -> str:
    """The name of a tensor, however odd, in a message."""
    text = printable(name) if isinstance(name, str) else type(name).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors by the names that their network has for them, from what another program saved.

    Args:
        content: a state_dict, or a dict that holds one under one of `WRAPPERS`, once or nested; its names may all begin with
            some of `PREFIXES`.

    Raises:
        ValueError: if there are no weights in it.
    """
    for _ in range(_NESTED):
        if not isinstance(content, dict) or any(isinstance(value, Tensor) for value in content.values()):
            break
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("no weights are found: save torch.save(model.state_dict(), path)")
    # an average of weights counts what it has seen
    state = {name: value for name, value in content.items() if name != "n_averaged"}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{shown(name)} is no tensor with a name")
    while (prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)) and state:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def unusable(tensor: Any) -> str | None:
    """Why the values of what should be a tensor of weights cannot be used; None if they can."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"is no plain tensor, but {type(tensor).__name__}"
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_complex():
        return "is sparse, nested, quantized or complex"
    if tensor.device.type != "cpu":
        return "has no values"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "has fewer values than its shape says"
    # of the types of 8 bits torch knows no infinity, or no comparison
    if tensor.is_floating_point() and not (tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all():
        return "holds NaN or infinity: the training diverged"
    return None


def fitted(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the dtypes of a network, if they are just what it has.

    Args:
        own: the network's, of which only shapes and dtypes count: they may be on the meta device.
        state: of the file. Counters of batch norms may be missing, as in files of old.

    Raises:
        ValueError: says which tensor does not fit, and why.
    """
    for name, tensor in state.items():
        if name in own and tensor.shape != own[name].shape:
            raise ValueError(_other_shape(name, tensor, own))
    for name in state:
        if name not in own:
            raise ValueError(f"there is no {shown(name)} in it")
    for name in own:
        if name not in state and not name.endswith(".num_batches_tracked"):
            raise ValueError(f"{name} is missing")
    taken = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() != own[name].is_floating_point() or tensor.dtype == torch.bool:
            raise ValueError(f"{name} is of {tensor.dtype}, not {own[name].dtype}".replace("torch.", ""))
        # a large float64 becomes infinite in float32
        taken[name] = tensor.detach().to(own[name].dtype)
        for values in (tensor, taken[name]):
            if (reason := unusable(values)) is not None:
                raise ValueError(f"{name} {reason}")
    return taken


def _other_shape(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> str:
    ours, theirs = tuple(own[name].shape), tuple(tensor.shape)
    first = next((n for n, t in own.items() if t.dim() == 4), None)
    if name == first and len(theirs) == 4 and ours[1] != theirs[1] and ours[2:] == theirs[2:]:
        return f"{name} takes images of {theirs[1]} channels, not {ours[1]}: it is {theirs}, not {ours}"
    return f"{name} is {theirs}, not {ours}"


def take_over(net: nn.Module, state: Mapping[str, Tensor], head: str | tuple[str, ...] | None = None) -> list[str]:
    """Load weights into a network: all, or all but a head of another number of classes.

    Args:
        net: the network, which keeps its own head if the weights have none, or one of another number of classes.
        state: the weights, by the network's names.
        head: how the names of the head's tensors begin, as in `HEADS`, or one of several ways; None if it has none.

    Returns:
        What there is to say of it, in sentences.

    Raises:
        ValueError: if they are those of another network. Nothing is loaded then.
    """
    own = net.state_dict()
    notes = []
    if head is not None:
        ours, theirs = ({k: v for k, v in of.items() if k.startswith(head)} for of in (own, state))
        counts = [next((len(v) for v in of.values() if v.dim()), 0) for of in (ours, theirs)]
        same_inputs = ours.keys() == theirs.keys() and all(v.shape[1:] == ours[k].shape[1:] for k, v in theirs.items())
        if not theirs or (same_inputs and counts[0] != counts[1]):
            had = f"are of {counts[1]} classes, not {counts[0]}" if theirs else "have no head"
            notes.append(f"the weights {had}: the head is a new one")
            state = {**{k: v for k, v in state.items() if k not in theirs}, **ours}
    try:
        net.load_state_dict(fitted(own, state), strict=False)
    except ValueError as error:
        raise ValueError(f"these are weights of another network: {error}") from error
    return notes


def load_backbone(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over all weights of a ResNet but a head of another number of classes.

    Raises:
        ValueError: if they are those of another network.
    """
    take_over(model, unwrapped(state), HEADS["resnet"])
