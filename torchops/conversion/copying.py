"""A copy of a model's structure, for changes that leave the model as it is."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module


def shared_copy(model: Module) -> Module:
    """A copy of the modules, which shares their tensors, and what their hooks write to.

    Raises:
        TypeError: if something in the model refuses to be copied.
    """
    memo: dict[int, Any] = {}
    inside = _Identities(model.modules())
    for module in model.modules():
        for hooks in (value for name, value in vars(module).items() if name.endswith("_hooks") and value):
            memo.update(
                (id(thing), thing) for hook in hooks.values() for thing in _held_by(hook) if thing not in inside
            )
        if isinstance(module, torch.jit.ScriptModule):
            # compiled code that refers to its own tensors: nothing of it will change
            memo[id(module)] = module
            continue
        for value in (*vars(module).values(), *module._parameters.values(), *module._buffers.values()):
            if isinstance(value, Tensor):
                memo[id(value)] = value
    try:
        copied: Module = copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"`model` cannot be copied ({error}); convert with inplace=True needs no copy") from error
    twins = dict(copied.named_modules(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        # torch.fx's modules copy themselves, without these
        if twins[name].training != module.training:
            twins[name].training = module.training
        if isinstance(module, torch.fx.GraphModule):
            hooks = {key: value for key, value in vars(module).items() if key.endswith("_hooks")}
            twins[name].__dict__.update(copy.deepcopy(hooks, memo))
    return copied


class _Identities:
    """A set of objects as such, whether or not they can be hashed or compared."""

    def __init__(self, things: Iterable[Any]) -> None:
        self.ids = set(map(id, things))

    def __contains__(self, thing: object) -> bool:
        return id(thing) in self.ids


def _held_by(hook: Any) -> Iterator[Any]:
    """What a hook holds. Copies of what is not the model's would be told what the model does, instead of it."""
    # as torch wraps those that ask for their module
    hook = getattr(hook, "hook", hook)
    if isinstance(hook, functools.partial):
        held: tuple[Any, ...] = (hook.func, *hook.args, *hook.keywords.values())
    else:
        held = (getattr(hook, "__self__", hook),)
    yield from held
