"""Functions of a student's file that are marked `@triton.jit`: kernels, and what they call."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import linecache
import operator
import textwrap
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from torchops.course.report import Fault, Launch
from torchops.course.report import Program as Id

from .arithmetic import maximum, minimum
from .dtypes import OF_TORCH, DType, PointerType, float32, of_number
from .expressions import Unsupported
from .frame import Frame
from .language import device_print
from .memory import BUDGET, Addresses, Buffer, Memory, NoMemory
from .program import Program, Session, Undefined, run, session, stop
from .races import race
from .tensors import Tensor, number
from .vocabulary import WORDS, constexpr

_OPTIONS = {"num_warps", "num_stages", "num_ctas", "maxnreg", "debug", "enable_fp_fusion", "launch_cooperative_grid"}
"""What a launch can be told for a GPU."""


def _extreme(pick: Callable[..., Any], of_blocks: Callable[[Any, Any], Tensor]) -> Callable[..., Any]:
    def of(*args: Any) -> Any:
        if not any(isinstance(one, Tensor) for one in args):
            return pick(args)
        return functools.reduce(of_blocks, args)

    return of


_PYTHON: dict[str, Any] = {
    "len": len, "list": list, "range": range, "float": float, "int": int, "isinstance": isinstance, "getattr": getattr,
    "hasattr": hasattr, "print": device_print, "min": _extreme(min, minimum), "max": _extreme(max, maximum),
}  # fmt: skip
"""What a kernel may use of Python's own."""


class JITFunction:
    """A function that is marked `@triton.jit`."""

    def __init__(self, function: FunctionType) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.python = function
        self.file = function.__code__.co_filename
        self.signature = inspect.signature(function)
        self.constants = {name for name, one in self.signature.parameters.items() if _is_constant(one.annotation)}
        self._compiled: set[Any] = set()
        self._returned: Any = None

    @functools.cached_property
    def body(self) -> list[ast.stmt]:
        linecache.checkcache(self.file)
        lines, first = inspect.getsourcelines(self.python)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        ast.increment_lineno(tree, first - 1)
        found = tree.body[0]
        assert isinstance(found, ast.FunctionDef)
        return found.body

    @functools.cached_property
    def _arguments(self) -> FunctionType:
        """A function of the same arguments, under the name that Triton has for it."""
        of = self.python
        return FunctionType(of.__code__, {}, "dynamic_func", of.__defaults__, of.__closure__)

    @functools.cached_property
    def returns(self) -> int:
        return sum(isinstance(one, ast.Return) for part in self.body for one in ast.walk(part))

    @functools.cached_property
    def _globals(self) -> dict[str, Any]:
        names = self.python.__code__.co_freevars
        return self.python.__globals__ | {
            name: cell.cell_contents for name, cell in zip(names, self.python.__closure__ or (), strict=True)
        }

    def look_up(self, name: str) -> Any:
        """A name that is not of the function: of its module, or of what a kernel may use of Python's."""
        if name not in self._globals:
            if name not in _PYTHON:
                raise NameError(f"{name} is not defined")
            return _PYTHON[name]
        value = self._globals[name]
        if isinstance(value, constexpr):
            return value.value
        if name in _PYTHON or value is None or isinstance(value, ModuleType | JITFunction | DType) or _is_word(value):
            return value
        if isinstance(value, FunctionType | BuiltinFunctionType):
            raise Unsupported(f"Unsupported function referenced: {value}")
        raise NameError(
            f"Cannot access global variable {name} from within @jit'ed function. Triton kernels can only access global "
            "variables that are instanstiated as constexpr (`x = triton.language.constexpr(42)`). Note that this is "
            "different from annotating a variable as constexpr (`x: triton.language.constexpr = 42`), which is not supported."
        )

    def call(self, function: Any, args: list[Any], more: dict[str, Any], program: Program) -> Any:
        """A call in the body of this function."""
        if not isinstance(function, JITFunction):
            if isinstance(function, FunctionType | BuiltinFunctionType) and not _is_known(function):
                raise Unsupported(f"Unsupported function referenced: {function}")
            return function(*args, **more)
        bound = function.signature.bind(*args, **more)
        bound.apply_defaults()
        return function.carried_out(dict(bound.arguments), program)

    def carried_out(self, scope: dict[str, Any], program: Program) -> Any:
        before, self._returned = self._returned, None
        returned = Frame(self, scope, program).run(self.body)
        last, self._returned = self._returned, before
        if program.compiling:  # it has gone on behind an early return
            return None if last is None else last[0]
        return None if returned is None else returned.value

    def check_returned(self, value: Any) -> None:
        """All that a function returns is of one type."""
        if self._returned is None:
            self._returned = (value,)
            return
        a, b = (one.type if isinstance(one, Tensor) else one for one in (self._returned[0], value))
        if a != b and not isinstance(a, tuple):
            raise TypeError(f"Return type mismatch: {a} and {b}. Note all return types were: [{a}, {b}]")

    def __repr__(self) -> str:
        return f"JITFunction({self.python.__module__}:{self.__name__})"

    def __call__(self, *args: Any, **more: Any) -> Any:
        raise RuntimeError("Cannot call @triton.jit'd outside of the scope of a kernel")

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return functools.partial(self._launch, grid)

    # ---- a launch

    def _launch(self, grid: Any, *args: Any, **more: Any) -> None:
        for name in more:
            if name not in self.signature.parameters and name not in _OPTIONS:
                raise KeyError(f"Keyword argument {name} was specified but unrecognised")
        given = inspect.getcallargs(
            self._arguments, *args, **{n: v for n, v in more.items() if n in self.signature.parameters}
        )
        size = _size(grid(given) if callable(grid) else grid)
        buffers: dict[Any, Buffer] = {}
        scope = {name: self._argument(name, value, name in self.constants, buffers) for name, value in given.items()}
        self._compile(scope, size)
        now = session()
        if now.far:
            now.waiting.append(lambda: self._run(scope, size, Addresses()))
            return
        memory = Memory()
        self._run(scope, size, memory)
        tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        described = {name: _buffer(one, buffers).described() for name, one in tensors.items()}
        now.launches.append(Launch(self.__name__, size, described, memory.accesses()))
        self._judge(memory, now)

    def _argument(self, name: str, value: Any, constant: bool, buffers: dict[Any, Buffer]) -> Any:
        """What a kernel sees of an argument; a 1 is known when it is compiled."""
        if isinstance(value, torch.Tensor):
            buffer = _buffer(value, buffers, name)
            return Tensor(np.int64(value.storage_offset()), PointerType(buffer.dtype), buffer)
        if constant or value is None or isinstance(value, JITFunction) or (type(value) is int and value == 1):
            return value.value if isinstance(value, constexpr) else value
        if isinstance(value, tuple):
            return tuple(self._argument(name, one, False, buffers) for one in value)
        if isinstance(value, bool | int):
            return number(value, of_number(value))
        if isinstance(value, float):
            return number(value, float32)
        raise TypeError(f"failed to specialize argument of type: {type(value).__name__}")

    def _compile(self, scope: dict[str, Any], grid: Id) -> None:
        key = tuple((name, _specialised(value)) for name, value in scope.items())
        if key in self._compiled:
            return
        program = Program(self.__name__, (0, 0, 0), grid, NoMemory(), compiling=True)
        try:
            with run(program):
                self.carried_out(dict(scope), program)
        except Exception as error:  # whatever does not fit
            stop(Fault("compile", program.line, self.__name__, detail=str(error) or repr(error)))
        self._compiled.add(key)

    def _run(self, scope: dict[str, Any], grid: Id, memory: Addresses) -> None:
        now = session()
        for at in _programs(grid, few=now.far, backward=now.order == "backward"):
            program = Program(self.__name__, at, grid, memory)
            try:
                with run(program):
                    self.carried_out(dict(scope), program)
            except Undefined as error:
                stop(Fault("undefined", program.line, self.__name__, detail=str(error)))

    def _judge(self, memory: Memory, now: Session) -> None:
        """What is to be said of a launch that has run to its end."""
        if memory.log is None:
            many = f"a kernel makes more than {BUDGET:,} accesses, of which none is kept"
            now.unchecked += [f"races: {many}", f"loads of what nobody has written: {many}"]
            for address in memory.addresses:
                now.written.forget(address)
            return
        found = race(self.__name__, memory.log)
        if found is not None and not now.order:
            stop(found)
        for one in memory.log:
            if one.kind != "store":
                missing = now.written.missing(one.buffer.address, one.elements, one.buffer.itemsize)
                if missing.size:
                    stop(
                        Fault(
                            "uninitialised", one.line, self.__name__, one.buffer.name, element=int(missing[0]),
                            programs=(one.program,),
                        )
                    )  # fmt: skip
            if one.kind != "load":
                now.written.stored(one.buffer.address, one.elements, one.buffer.itemsize)


# what Python and torch call it where they complain about it
JITFunction.__module__ = "triton.runtime.jit"


def _size(grid: Any) -> Id:
    """A grid as Triton's launcher takes it: up to three whole numbers of 32 bits."""
    x, y, z, *_ = (*(operator.index(n) for n in (grid[0], *grid[1 : len(grid)])), 1, 1)
    if max(x, y, z) >= 1 << 31:
        raise OverflowError("signed integer is greater than maximum")
    return x, y, z


def _is_constant(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "constexpr" in annotation
    return annotation is constexpr


def _is_word(value: Any) -> bool:
    return any(value is one for one in WORDS.values())


def _is_known(function: Any) -> bool:
    return _is_word(function) or any(function is one for one in _PYTHON.values())


def _buffer(tensor: torch.Tensor, buffers: dict[Any, Buffer], name: str = "") -> Buffer:
    """The memory of a tensor, which it may share with another."""
    if tensor.device.type == "meta" and not session().far:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    if tensor.device.type not in ("cpu", "meta"):
        raise ValueError(f"kernels run on the CPU here, and `{name}` is on {tensor.device}")
    if tensor.dtype not in OF_TORCH:
        raise TypeError(f"`{name}` is of {tensor.dtype}, of which a kernel knows nothing")
    key = tensor.untyped_storage()._cdata, tensor.dtype
    if key not in buffers:
        buffers[key] = Buffer(name, tensor)
    return buffers[key]


def _specialised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.type
    return tuple(map(_specialised, value)) if isinstance(value, tuple) else (type(value), repr(value))


def _programs(grid: Id, few: bool, backward: bool) -> Iterator[Id]:
    """The programs of a launch, x first; or the first, the middle and the last ones of every axis."""
    axes = [sorted({0, n // 2, n - 1}) if few and n else range(n) for n in grid]
    found = ((x, y, z) for z, y, x in itertools.product(*reversed(axes)))
    return iter(list(found)[::-1]) if backward else found
