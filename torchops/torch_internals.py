"""All that torchops asks of torch under a name that torch does not promise to keep, under a name of our own.

No other file of torchops uses what begins with an underscore in torch, but for ATen's operators of such names, and
`compiler_internals.py`, for torch's compilers. Each name says
what it is asked, and why no public one would do. `tests/test_torch_internals.py` asks every one of them, so that a new
torch is a matter of this file and that.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch._functorch.utils
import torch._subclasses.functional_tensor
import torch.fx._symbolic_trace
import torch.utils._python_dispatch
import torch.utils._pytree
import torch.utils._triton
from torch import Tensor, fx, nn
from torch.autograd import forward_ad

CHECKED = "2.11.0", "2.14.1"
"""The versions of torch that have answered as is said here."""

KeySet = torch._C.DispatchKeySet
"""What `key_set` and the like return."""

keys_of: Callable[[Tensor], KeySet] = torch._C._dispatch_keys
"""A tensor's keys. To ask for its device, layout, negation and so on one by one takes longer than a small op."""

keys_in_force: Callable[[], KeySet] = torch._C._dispatch_tls_local_include_set
"""The keys of the thread: modes, tracers, transforms and batched gradients. Nothing public tells of all of them."""


def key(name: str) -> Any:
    """A key by its name. `Library.impl` takes names, but `OpOverload.py_impl`, which tracing looks up, does not."""
    return getattr(torch._C.DispatchKey, name)


def key_set(*names: str) -> KeySet:
    """Several keys by their names. Nothing public makes a set."""
    return functools.reduce(lambda some, more: some | more, (KeySet(key(name)) for name in names))


device_in_keys: Callable[[str], str] = torch._C._dispatch_key_for_device
"""How the names of keys spell a device: "CPU" for "cpu". Nothing public tells."""

plugged_in_device: Callable[[], str] = torch._C._get_privateuse1_backend_name
"""The name of a device that is not torch's own. Publicly it can be given, but not asked."""

AFTER_AUTOGRAD = torch._C._after_autograd_keyset
"""The keys that the dispatcher heeds once autograd is done: where a kernel of autograd's goes on. It has no public name."""

below_autograd = torch._C._AutoDispatchBelowAutograd
"""A block in which calls go past autograd. `no_grad` records nothing, but goes through it."""

without_keys = torch._C._ExcludeDispatchKeyGuard
"""A block in which calls go past all keys of a set: what has lowered the dtypes for autocast must not be asked again. Nothing
public does."""


def schema_of(operator: Any) -> Any:
    """Names and types of an operator's arguments and results. torch has no public way to it."""
    return operator._schema


SingleLevelFunction: Any = torch.autograd.function._SingleLevelFunction
"""An `autograd.Function` for one level of `torch.func`'s transforms. The public one is for all of them at once and must be
called above the dispatcher, which calls a kernel inside it for every level by itself."""

single_level_functions = torch._functorch.utils.enable_single_level_autograd_function
"""A block in which those may be applied under a transform. Only torch's own are allowed to publicly."""

are_transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
"""Whether a transform of `torch.func` is in force. Nothing public tells."""

any_requires_grad: Callable[..., bool] = torch._C._any_requires_grad
"""Whether any of its arguments does. To ask one by one takes a loop in Python, in every call."""


def in_forward_mode() -> bool:
    """Whether a level of forward mode is open, so that tensors may have tangents. Nothing public tells."""
    return forward_ad._current_level >= 0


forward_mode = forward_ad._set_fwd_grad_enabled
"""A block in which tangents are computed, or not. `set_grad_enabled` is for gradients, and has no public twin."""

in_any_autocast: Callable[[], bool] = torch._C._is_any_autocast_enabled
"""Whether autocast is on for any device. `torch.is_autocast_enabled` has to be asked for each."""

without_autocast = torch._C._DisableAutocast
"""A block without it on all devices. `torch.autocast` turns it off for one."""

is_profiling: Callable[[], bool] = torch.autograd._profiler_enabled
"""Whether a profiler is on, which has to see the operators. Nothing public tells."""

count_function_modes: Callable[[], int] = torch.overrides._len_torch_function_stack
"""How many `TorchFunctionMode`s this thread is in. Nothing public tells."""

count_dispatch_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack
"""How many `TorchDispatchMode`s. As above."""

pop_function_mode: Callable[[], Any] = torch.overrides._pop_mode
"""Takes off the innermost, and returns it. A mode's own `__exit__` takes off whatever is innermost, as if it were its own."""

push_function_mode: Callable[[Any], None] = torch.overrides._push_mode
"""Puts it back. Its `__enter__` would begin another block."""

TorchDispatchMode = torch.utils._python_dispatch.TorchDispatchMode
"""Sees every operator that is called. torch documents it where it is, in a private module."""

without_modes: Callable[[], Any] = torch.utils._python_dispatch._disable_current_modes
"""A block without them, in which a compiler that traces with fake tensors can compute with real ones. As above."""

tree_leaves: Callable[[Any], list[Any]] = torch.utils._pytree.tree_leaves
"""What lies in nested containers. torch takes those apart everywhere, in no public module."""

tree_map_only: Callable[..., Any] = torch.utils._pytree.tree_map_only
"""Nested containers with everything of one type replaced. As above."""

has_triton: Any = torch.utils._triton.has_triton_package
"""Whether torch finds Triton. It asks once, and `cache_clear` makes it ask again; nothing public does."""

FakeTensor = torch._subclasses.FakeTensor
"""What `torch.compile` traces with: a subclass that computes nothing, to be told from those that compute something else. It has
no public name."""

FunctionalTensor = torch._subclasses.functional_tensor.FunctionalTensor
"""What it replaces writes with. As above."""

tracing_state: Callable[[], Any] = torch._C._get_tracing_state
"""What `torch.jit.trace` records to, or None. `torch.jit.is_tracing` takes twice as long to tell, in every call."""


version_of: Callable[[Tensor], int] = operator.attrgetter("_version")
"""How often a tensor was written to. torch documents it by this name."""


onednn_is_enabled: Callable[[], bool] = torch._C._get_mkldnn_enabled
"""Whether ATen may call oneDNN. `torch.backends.mkldnn.enabled` takes six times as long to tell, in every call."""

onednn_precision: Callable[[str, str], str] = torch._C._get_fp32_precision_getter
"""What oneDNN may round float32 to, for "mkldnn" and an op. `torch.backends.mkldnn.conv.fp32_precision` tells it as slowly."""


def onednn_is_exact() -> bool:
    """Whether ATen may call oneDNN, and that does not round the float32 of convolutions."""
    return onednn_is_enabled() and onednn_precision("mkldnn", "conv") in ("none", "ieee")


def asks_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    """Whether ATen calls oneDNN for this convolution, and not a kernel of its own. Nothing public tells."""
    # a bias matters only by its size
    size = None if bias is None else list(bias.shape)
    torch_c: Any = torch._C
    found = torch_c._select_conv_backend(x, weight, bias, stride, padding, dilation, False, (0, 0), groups, size)
    return bool(found == torch_c._ConvBackend.Mkldnn)


TENSOR_CONSTANT = "_tensor_constant"
"""What `torch.fx` calls a tensor that it meets in a trace and keeps on the module. It tells nobody."""


@contextlib.contextmanager
def functions_wrapped() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A block in which functions that `torch.fx.wrap` was told of, and those of `math`, are recorded if they are given what a
    trace records; it yields what has them so in further globals. `Tracer.trace` alone does that publicly."""
    known = {id(function) for name, function in vars(math).items() if not name.startswith("_") and callable(function)}
    with fx._symbolic_trace._new_patcher() as patcher:

        def wrap_in(namespace: dict[str, Any]) -> None:
            fx._symbolic_trace._autowrap_check(patcher, namespace, known)

        fx._symbolic_trace._patch_wrapped_functions(patcher)
        wrap_in(vars(math))
        yield wrap_in


def thread_traces_by_fx() -> contextlib.AbstractContextManager[None]:
    """A block in which torch knows that this thread traces by torch.fx, so that what is compiled refuses to take part. torch
    2.11 can only say so of all threads, and so it is not told. `Tracer.trace` alone does that publicly."""
    said: Any = getattr(fx._symbolic_trace, "_is_fx_tracing_context", None)
    return contextlib.nullcontext() if said is None else said(True)


call_as_is: Callable[..., Any] = nn.Module._call_impl
"""What a call of a module runs, hooks and forward, whatever it was told to run instead. A public call asks for that first."""


def call_instead(module: nn.Module, function: Callable[..., Any] | None) -> None:
    """Has calls of this one module run something else, or what they did before. `Module.compile` does that publicly, but only
    with what it compiles."""
    vars(module)["_compiled_call_impl"] = function


def parameters_in(module: nn.Module, kind: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Has a module keep its parameters in another kind of dictionary, which is asked for each that is read as an attribute.
    Publicly they can only be listed."""
    vars(module)["_parameters"] = kind(vars(module)["_parameters"])


ConvNd = nn.modules.conv._ConvNd
"""What every convolution is, transposed or not, of any number of dimensions. Their public classes have no public base; nor have
those of the kinds that follow."""

MaxPoolNd = nn.modules.pooling._MaxPoolNd
"""What every max pool is."""

AvgPoolNd = nn.modules.pooling._AvgPoolNd
"""What every average pool is."""

MaxUnpoolNd = nn.modules.pooling._MaxUnpoolNd
"""What every max unpool is."""

LPPoolNd = nn.modules.pooling._LPPoolNd
"""What every power-average pool is."""

AdaptiveAvgPoolNd = nn.modules.pooling._AdaptiveAvgPoolNd
"""What every adaptive average pool is."""

AdaptiveMaxPoolNd = nn.modules.pooling._AdaptiveMaxPoolNd
"""What every adaptive max pool is."""

BatchNorm = nn.modules.batchnorm._BatchNorm
"""What every batch norm is, across processes or not."""

METHODS = ("forward", "__call__", "_call_impl", "_conv_forward", "_output_padding")
"""What layers compute with, which a subclass or a user may have replaced. Only the first two are public."""

HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip
"""Where a module keeps what watches its calls. It has methods to add hooks, and none to ask for them."""

WrappedHook = nn.modules.module._WrappedHook
"""What a module makes of a hook that asks for the module itself: the hook is its attribute. As above."""


def pads_of(layer: nn.Module) -> list[int]:
    """What a convolution pads by before it computes, if its border is not zeros, in the order of `F.pad`: its constructor makes
    it of `padding`, which is not asked again. Nothing public tells."""
    found: list[int] = layer._reversed_padding_repeated_twice  # type: ignore[assignment]
    return list(found)


def set_pads(layer: nn.Module, sides: list[int]) -> None:
    """Sets that, as the layer's constructor does."""
    layer._reversed_padding_repeated_twice = sides  # type: ignore[assignment]


nn_builtins: Any = torch._C._nn
"""What `torch.nn.functional` calls for pads and interpolations, under the names that a function mode and Dynamo see."""

gpu_sleep: Callable[[int], None] = torch.cuda._sleep
"""Keeps the current GPU busy for so many cycles, while work is queued behind. torch has no public kernel that waits."""
