"""A copy of a model's structure, for changes that leave the model as it is."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
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
    for module in model.modules():
        for hooks in (value for name, value in vars(module).items() if name.endswith("_hooks") and value):
            memo.update((id(thing), thing) for hook in hooks.values() for thing in _held_by(hook))
        if isinstance(module, torch.jit.ScriptModule):
            # compiled code that refers to its own tensors: nothing of it will change
            memo[id(module)] = module
            continue
        for value in (*vars(module).values(), *module._parameters.values(), *module._buffers.values()):
            if isinstance(value, Tensor):
                memo[id(value)] = value
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"`model` cannot be copied ({error}): convert it with inplace=True") from error


def _held_by(hook: Any) -> Iterator[Any]:
    """What a hook holds that is not the model's: copies of it would be told what the model does, instead of it."""
    # as torch wraps those that ask for their module
    hook = getattr(hook, "hook", hook)
    if isinstance(hook, functools.partial):
        held: tuple[Any, ...] = (hook.func, *hook.args, *hook.keywords.values())
    else:
        held = (getattr(hook, "__self__", hook),)
    yield from (thing for thing in held if not isinstance(thing, Module))
