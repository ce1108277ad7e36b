"""A copy of a model's structure, for changes that leave the model as it is."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from torchops.torch_internals import WrappedHook


def shared_copy(model: Module) -> Module:
    """A copy of the modules, which shares their tensors, and what only their hooks hold.

    Raises:
        TypeError: if something in the model refuses to be copied, or copies itself in a way of its own.
    """
    own = reached(model)
    # tensors and scripted modules are shared: compiled code refers to its own tensors, and nothing of it will change
    memo: dict[int, Any] = {
        key: thing for key, thing in own.items() if isinstance(thing, (Tensor, torch.jit.ScriptModule))
    }
    for module in model.modules():
        for hooks in (value for name, value in vars(module).items() if name.endswith("_hooks") and value):
            # what a hook writes to is shared: a copy would be told what the model does, instead of the original
            memo.update(
                (id(thing), thing) for hook in hooks.values() for thing in _held_by(hook) if id(thing) not in own
            )
    try:
        copied: Module = copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"`model` cannot be copied ({error}); convert with inplace=True needs no copy") from error
    twins = dict(copied.named_modules(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        twin = twins.get(name)
        scripted = isinstance(module, torch.jit.ScriptModule)
        if twin is None or (twin is module and not scripted) or not _same_tensors(module, twin):
            raise TypeError(
                f"`model` cannot be copied (the __deepcopy__ in it, at {name!r}, has not copied its modules and left "
                "their tensors); convert with inplace=True needs no copy"
            )
        # torch.fx's modules copy themselves without their mode and their hooks
        if twin.training != module.training:
            twin.training = module.training
        if isinstance(module, torch.fx.GraphModule):
            hooks = {key: value for key, value in vars(module).items() if key.endswith("_hooks")}
            twin.__dict__.update(copy.deepcopy(hooks, memo))
    return copied


def _same_tensors(module: Module, twin: Module) -> bool:
    pairs = (
        *zip(module.parameters(), twin.parameters(), strict=False),
        *zip(module.buffers(), twin.buffers(), strict=False),
    )
    return isinstance(module, torch.jit.ScriptModule) or all(one is other for one, other in pairs)


def reached(thing: Any) -> dict[int, Any]:
    """All that a model or an object holds, but for hooks: modules, tensors, what lies in containers and in other objects."""
    found: dict[int, Any] = {}
    waiting = [thing]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in found:
            found[id(thing)] = thing
            waiting.extend(_held_in(thing))
    return found


def _held_in(thing: Any) -> Iterable[Any]:
    if isinstance(thing, dict):
        return thing.values()
    if isinstance(thing, (list, tuple, set, frozenset)):
        return thing
    if isinstance(thing, Module) and not isinstance(thing, torch.jit.ScriptModule):
        return [value for name, value in vars(thing).items() if not name.endswith("_hooks")]
    if isinstance(thing, (Tensor, Module, type, ModuleType, FunctionType)):
        return ()
    if isinstance(thing, (MethodType, functools.partial)):
        return _held_by(thing)
    return vars(thing).values() if hasattr(thing, "__dict__") else ()


def _held_by(hook: Any) -> Iterator[Any]:
    """The objects that a hook writes to."""
    if isinstance(hook, WrappedHook):
        # torch wraps hooks that ask for their module
        yield from _held_by(hook.hook)
    elif isinstance(hook, functools.partial):
        yield from _held_by(hook.func)
        yield from (*hook.args, *hook.keywords.values())
    else:
        yield getattr(hook, "__self__", hook)
