"""All that torchops asks of torch's compilers under a name that torch does not promise to keep.

`torch_internals.py` says the same of the rest of torch. `tests/test_compiler_internals.py` asks every one of these.

What takes long to import is imported where it is used: `import torchops` needs none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import torch
import torch._dispatch.python
import torch._guards
import torch._ops
from torch import fx

OpOverload = torch._ops.OpOverload
"""What a node of a graph of operators calls. Operators are documented; their class has no public name."""


def fake_mode_of(values: Iterable[Any]) -> Any:
    """The mode of fake values, which gives values to what is computed of them; None if none is fake. Publicly a graph is traced
    as a whole."""
    return torch._guards.detect_fake_mode(list(values))


python_dispatcher: Callable[[], Any] = torch._dispatch.python.enable_python_dispatcher
"""A block in which operators that are made of others are taken apart in Python, where sizes may be symbolic."""


def is_transformed(t: torch.Tensor) -> bool:
    """Whether a tensor stands for one inside a transform of torch.func, which can be asked nothing outside of it. Its type does
    not tell."""
    return torch._C._functorch.is_functorch_wrapped_tensor(t)


def size_hint(size: Any) -> int | None:
    """What a size that may be symbolic was in the example that was traced; None if there was none. Publicly, asking makes a
    guard."""
    hint = size.node.hint if isinstance(size, torch.SymInt) else size
    return None if hint is None else int(hint)


def is_marked_static(placeholder: fx.Node) -> bool:
    """Whether Dynamo says of an input of its graph that it stays where it is from call to call, as Parameters and buffers do. A
    compiler is told by a mark in the node's `meta`."""
    return placeholder.meta.get("tensor_dict", {}).get("_dynamo_static_input_type") is not None


def mark_static(placeholder: fx.Node) -> None:
    """Says so, to the compiler that is given the graph next."""
    placeholder.meta.setdefault("tensor_dict", {})["_dynamo_static_input_type"] = "unguarded"


def dynamo_example(placeholder: fx.Node) -> Any:
    """The tensor itself that an input of Dynamo's graph stands for, while it compiles; None if it is not to be had. A compiler
    is given fake ones."""
    argument = placeholder.meta.get("grapharg")
    return None if argument is None else argument.example


def mutated_inputs() -> Container[int]:
    """The numbers of the inputs that are written to after the graph that AOTAutograd hands to a compiler, which has no writes
    itself."""
    context = torch._guards.TracingContext.try_get()
    metadata = None if context is None else context.fw_metadata
    return () if metadata is None else metadata.mutated_inp_runtime_indices


def through_aot_autograd(
    gm: fx.GraphModule, example_inputs: list[Any], compiler: Callable[[fx.GraphModule, list[Any]], Any]
) -> Callable[..., Any]:
    """What runs a graph of Dynamo's for inference, where `compiler` compiles the functional graph that AOTAutograd makes of it.
    torch documents the function where it is, in a private module."""
    from torch._dynamo.backends.common import aot_autograd

    return aot_autograd(fw_compiler=compiler, inference_compiler=compiler)(gm, example_inputs)


def boxed(run: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """The function, marked for AOTAutograd as one that takes its arguments in a list, which it may empty."""
    run._boxed_call = True  # type: ignore[attr-defined]
    return run


@contextlib.contextmanager
def context_of_its_own(example_inputs: list[Any]) -> Iterator[None]:
    """A block in which a compiler is not told of the graph that is being compiled outside of it, whose inputs are others."""
    with torch._guards.tracing(torch._guards.TracingContext(fake_mode_of(example_inputs))):
        yield


def inductor(gm: fx.GraphModule, example_inputs: list[Any], settings: dict[str, Any] | None) -> Callable[..., Any]:
    """What Inductor makes of a graph. Publicly it is a backend by its name, which takes no settings."""
    from torch._inductor.compile_fx import compile_fx

    run: Any = compile_fx(gm, example_inputs, config_patches=settings or None)
    return run


def settings_of_mode(mode: str) -> dict[str, Any]:
    """Inductor's settings for a mode of `torch.compile`. torch documents it where it is, in a private module."""
    import torch._inductor

    return torch._inductor.list_mode_options(mode)


def inductor_settings() -> Container[str]:
    """The names of all its settings. As above."""
    import torch._inductor

    return torch._inductor.list_options()


def compile_package(program: torch.export.ExportedProgram, path: str) -> str:
    """Compiles a program into a package of machine code, for C++ and for `load_package`. As above."""
    import torch._inductor

    return torch._inductor.aoti_compile_and_package(program, package_path=path)


def load_package(path: str) -> Callable[..., Any]:
    """The function that a package computes. As above."""
    import torch._inductor

    return torch._inductor.aoti_load_package(path)
