"""Files of ONNX, and whether onnxruntime computes from them what torch does."""

from __future__ import annotations

import importlib
import logging
import operator
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from torchops.graphs.aten import ATEN
from torchops.ops.cpu.tiles import accumulation_dtype
from torchops.torch_internals import tree_leaves, tree_map_only

from .aten import decomposed

Ints = Sequence[int]
_ours = torch.ops.torchops

OPSET = 18
"""The version of ONNX's operators: the one that torch's translations are written in, and the first with a maximum in its
scatter, which unpooling takes."""

LARGEST = (2 << 30) - (64 << 20)
"""Bytes of weights that fit into one file: protobuf's messages end at 2 GiB."""

_WRONG = 1e-2
"""The difference, by the largest value, from which on an answer is another one: beyond what an order of sums explains."""


@dataclass(frozen=True)
class Written:
    """A file of ONNX, and what was found out about it."""

    path: Path
    opset: int
    nodes: int
    """Operators in its graph."""
    difference: float | None
    """The largest absolute difference of onnxruntime's answers from torch's; None where it was not asked."""
    sizes: tuple[tuple[tuple[int, ...], ...], ...]
    """Of the inputs of every comparison: those of the example, then others, where sizes are dynamic."""


def write_onnx(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    path: str | Path,
    *,
    dynamic_shapes: Any = None,
    check: bool = True,
) -> Written:
    """Write a model or a program as a file of ONNX, and compare what onnxruntime computes from it with what torch does.

    torchops's operators are written in ONNX's, of opset 18. Where a window may hold several equal maxima, or unpooling several
    values for one pixel, the file says which counts, as torchops does. Needs the extra `onnx`.

    Args:
        model: a module, best in eval mode, or a program of `torch.export.export`.
        args: the positional arguments of an example, that the model is traced with and compared on.
        path: of the file. It appears whole or not at all; what was there before is replaced.
        dynamic_shapes: of `torch.export.export`, for a module: which sizes the file is to leave open.
        check: whether to compare, on the example and, where sizes are dynamic, once more with all of them changed.

    Returns:
        Where it was written, its opset and the number of its operators, and the largest absolute difference.

    Raises:
        ModuleNotFoundError: without the extra: `pip install 'torchops[onnx]'`.
        TypeError: if `model` or `args` is of the wrong type, or bfloat16 is to be compared, which onnxruntime does not compute
            on a CPU.
        ValueError: if `dynamic_shapes` are given for a program, which has its own.
        RuntimeError: if onnxruntime's answer is another one: of other sizes, or further off than the order of sums explains.
        OSError: if the file cannot be written.

    Weights of 2 GiB or more are in a second file beside the first, `<path>.data`.

    NaN is no number to ONNX, whose maxima may drop it.

    >>> import tempfile, torch, torchops
    >>> from torchops.export import write_onnx
    >>> layer, image = torchops.nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), torch.rand(1, 1, 8, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_onnx(layer, (image,), f"{folder}/layer.onnx")
    >>> written.difference < 1e-5
    True
    """
    _require("onnx", "onnxscript", *(("onnxruntime",) if check else ()))
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise TypeError(f"`model` must be a module or a torch.export.ExportedProgram, got {type(model).__name__}")
    if not isinstance(args, tuple):
        raise TypeError(f"`args` must be a tuple of arguments, got {type(args).__name__}")
    if isinstance(model, ExportedProgram):
        if dynamic_shapes is not None:
            raise ValueError("`dynamic_shapes` are for a module: a program has its own")
        program = model
    else:
        with torch.no_grad():
            program = torch.export.export(model, args, dynamic_shapes=dynamic_shapes)
    examples = [args]
    if check:
        if any(isinstance(t, Tensor) and t.dtype == torch.bfloat16 for t in tree_leaves((args, program.state_dict))):
            raise TypeError("`check` must be False for bfloat16, which onnxruntime does not compute on a CPU")
        examples += _others(program, args)
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        beside = Path(folder) / path.name
        nodes = _write(decomposed(program, ONNX), args, beside)
        compared = [
            (example, _difference(program, example, beside, other=example is not args)) for example in examples if check
        ]
        # the file that names the other comes last
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == beside):
            os.replace(file, path.parent / file.name)
    answered = [(example, difference) for example, difference in compared if difference is not None]
    sizes = tuple(tuple(tuple(t.shape) for t in _tensors(example)) for example, _ in answered)
    return Written(path, OPSET, nodes, max((d for _, d in answered), default=None), sizes)


def _require(*packages: str) -> None:
    try:
        for package in packages:
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        message = f"write_onnx needs {error.name}: pip install 'torchops[onnx]'"
        raise ModuleNotFoundError(message, name=error.name) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of its own insides."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _write(program: ExportedProgram, args: tuple[Any, ...], path: Path) -> int:
    """Write the file; the number of its operators."""
    with _quietly():
        made = torch.onnx.export(
            program, args, dynamo=True, opset_version=OPSET, verbose=False, custom_translation_table=_translations()
        )
        assert made is not None
        weights = sum(t.numel() * t.element_size() for t in (*program.state_dict.values(), *program.constants.values())
                      if isinstance(t, Tensor))  # fmt: skip
        made.save(path, external_data=weights > LARGEST)
    return len(list(made.model.graph))


def _translations() -> dict[Any, Callable[..., Any]]:
    """What torch translates wrongly: ONNX's division of integers drops the fraction, Python's takes the next lower number."""
    from onnxscript import opset18

    def floordiv(a: Any, b: Any) -> Any:
        # this remainder has the sign of the divisor, as Python's
        return opset18.Div(opset18.Sub(a, opset18.Mod(a, b)), b)

    return {operator.floordiv: floordiv}


def _tensors(args: Any) -> list[Tensor]:
    return [t for t in tree_leaves(args) if isinstance(t, Tensor)]


def _others(program: ExportedProgram, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The arguments of an example once more, with every dynamic size changed; none where there is no such size."""
    inputs = set(program.graph_signature.user_inputs)
    fakes = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    shapes, tensors = [fake.shape for fake in fakes if isinstance(fake, Tensor)], _tensors(args)
    changed: dict[Any, int] = {}
    for shape, t in zip(shapes, tensors, strict=True):
        for n, actual in zip(shape, t.shape, strict=True):
            if not isinstance(n, int):
                changed |= _changed(n.node.expr, actual, program.range_constraints)
    if not changed:
        return []
    sizes = [[n if isinstance(n, int) else int(n.node.expr.subs(changed)) for n in shape] for shape in shapes]
    resized = iter([_resized(t, size) for t, size in zip(tensors, sizes, strict=True)])
    return [tree_map_only(Tensor, lambda _: next(resized), args)]


def _changed(size: Any, actual: int, ranges: Mapping[Any, Any]) -> dict[Any, int]:
    """Another value for the symbol of a size, a multiple of it or more: one more than in the example, or one less."""
    if len(size.free_symbols) != 1:
        return {}
    (symbol,) = size.free_symbols
    begin, after = size.subs(symbol, 0), size.subs(symbol, 1)
    value = int((actual - begin) / (after - begin))
    bounds = ranges.get(symbol)
    return {symbol: value + 1 if bounds is None or value + 1 <= bounds.upper else max(value - 1, int(bounds.lower))}


def _resized(t: Tensor, size: Ints) -> Tensor:
    """t again and again, up to that size: values of a kind that the model is made for."""
    for dim, n in enumerate(size):
        t = t.index_select(dim, torch.arange(n, device=t.device) % max(t.shape[dim], 1))
    return t


def _difference(program: ExportedProgram, args: tuple[Any, ...], path: Path, *, other: bool) -> float | None:
    """The largest absolute difference of onnxruntime's answer from torch's; None where torch has none, for other sizes.

    Raises:
        RuntimeError: if the answer is another one.
    """
    import onnxruntime

    with torch.no_grad():
        try:
            expected = _tensors(program.module()(*args))
        except (AssertionError, RuntimeError, ValueError):
            if other:
                return None
            raise
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        feed = {name: t.detach().cpu().numpy() for name, t in zip(names, _tensors(args), strict=True)}
        found = [torch.from_numpy(out) for out in session.run(None, feed)]
    except Exception as error:  # onnxruntime's are of no common class
        raise RuntimeError(f"onnxruntime refuses the file: {str(error).splitlines()[0]}") from error
    largest = 0.0
    for a, e in zip(found, expected, strict=True):
        if a.shape != e.shape:
            raise RuntimeError(
                f"onnxruntime's answer is of shape {tuple(a.shape)}, torch's of {tuple(e.shape)}, for inputs of "
                f"{', '.join(str(tuple(t.shape)) for t in _tensors(args))}"
            )
        if e.numel() == 0:
            continue
        difference = float((a.double() - e.cpu().double()).abs().max())
        scale = max(1.0, float(e.double().abs().max()))
        if not difference <= _WRONG * scale:
            raise RuntimeError(
                f"onnxruntime's answer differs by {difference:.2e} from torch's, whose largest value is {scale:.2e}"
            )
        largest = max(largest, difference)
    return largest


#
# What ONNX has no word for, or torch's translation gets wrong, in other operators of ATen's.


def _avg_pool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, size: Ints, mean: str, divisor: int, channels_last: bool
) -> Tensor:
    """The translation leaves out a divisor of one's own: such pools are sums, of a convolution with ones."""
    if mean != "fixed":
        pooled: Tensor = ATEN[_ours.avg_pool2d.default](
            x, kernel_size, stride, padding, size, mean, divisor, channels_last
        )
        return pooled
    n, c, h, w = x.shape
    (r, s), (u, v), (top, left), (p, q) = kernel_size, stride, padding, size
    image = F.pad(x, (left, (q - 1) * v + s - w - left, top, (p - 1) * u + r - h - top)).to(accumulation_dtype(x.dtype))
    ones = torch.ones((1, 1, r, s), dtype=image.dtype, device=x.device)
    y = torch.conv2d(image.reshape(n * c, 1, image.shape[2], image.shape[3]), ones, None, (u, v))
    return (y.view(n, c, p, q) / divisor).to(x.dtype)


def _windows(pixels: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """First pixels of the windows of an adaptive pool along a dimension, and what follows their last."""
    number = torch.arange(count, device=device)
    return number * pixels // count, ((number + 1) * pixels + (count - 1)) // count


def _share(pixels: int, count: int, like: Tensor) -> Tensor:
    """What every pixel along a dimension adds to the mean of every window: (count, pixels)."""
    first, end = (t.unsqueeze(1) for t in _windows(pixels, count, like.device))
    pixel = torch.arange(pixels, device=like.device)
    return ((pixel >= first) & (pixel < end)).to(like.dtype) / (end - first).to(like.dtype)


def _adaptive_avg_pool2d(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> Tensor:
    """The translation holds for images of one size. Two products of matrices hold for any; an infinite pixel makes them NaN."""
    if transposed or tuple(size) == (1, 1) or all(isinstance(n, int) for n in x.shape[2:]):
        y: Tensor = ATEN[_ours.adaptive_avg_pool2d.default](x, size, transposed, channels_last)
        return y
    wide = x.to(accumulation_dtype(x.dtype))
    rows, cols = (_share(n, count, wide) for n, count in zip(x.shape[2:], size, strict=True))
    return torch.matmul(torch.matmul(rows, wide), cols.t()).to(x.dtype)


def _adaptive_max_pool2d(x: Tensor, size: Ints) -> tuple[Tensor, Tensor]:
    """There is a translation for windows that tile an image of one size. Otherwise every window is read, pixel by pixel."""
    if all(isinstance(n, int) and n % count == 0 for n, count in zip(x.shape[2:], size, strict=True)):
        y, indices = ATEN[_ours.adaptive_max_pool2d.default](x, size)
        return y, indices
    taps = []
    for n, count in zip(x.shape[2:], size, strict=True):
        first, end = _windows(n, count, x.device)
        # no window has more; what lies behind its end is its last pixel once more, which cannot be the first maximum
        tap = first.unsqueeze(1) + torch.arange(n // count + 2, device=x.device)
        taps.append(torch.minimum(tap, end.unsqueeze(1) - 1))
    rows, cols = taps
    (n, c, _, width), (p, q) = x.shape, size
    read = x[:, :, rows][..., cols].permute(0, 1, 2, 4, 3, 5).reshape(n, c, p, q, -1)
    y, tap = read.max(-1)
    positions = (rows[:, None, :, None] * width + cols[None, :, None, :]).reshape(1, 1, p, q, -1)
    return y, positions.expand(n, c, p, q, positions.shape[-1]).gather(-1, tap.unsqueeze(-1)).squeeze(-1)


ONNX: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        **ATEN,
        _ours.avg_pool2d.default: _avg_pool2d,
        _ours.adaptive_avg_pool2d.default: _adaptive_avg_pool2d,
        _ours.adaptive_max_pool2d.default: _adaptive_max_pool2d,
    }
)
"""Every operator of torchops as a function that calls such of ATen's as can be said in ONNX."""
